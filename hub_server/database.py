"""The connection to PostgreSQL and the migrations. Others ask here for a transaction, never for a connection string.

Hot paths get the driver's own connection (binary COPY, arrays); the rest uses SQLModel sessions. A database newer than
this program is refused and left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from sync_protocol.errors import NeedsPerson, OurFault

Connection = psycopg.Connection[tuple[Any, ...]]

POOL_SIZE = 8  # the edge's threads and the admitting worker; PostgreSQL is given 50 connections
_LOCK_KEY = 7_461_002  # advisory lock held while migrating: two hubs starting at once migrate once


class Database:
    """One PostgreSQL database. Thread-safe."""

    def __init__(self, url: str, pool_size: int = POOL_SIZE) -> None:
        self._engine: Engine = create_engine(url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """The driver's connection in a transaction: committed at the end, rolled back on any error."""
        pooled = self._pooled()
        try:
            connection: Connection = pooled.driver_connection
            connection.prepare_threshold = 2
            try:
                yield connection
                connection.commit()
            except BaseException:
                if not connection.closed:
                    connection.rollback()
                raise
        finally:
            pooled.close()

    def _pooled(self) -> Any:
        try:
            return self._engine.raw_connection()
        except OperationalError as error:
            raise OurFault(
                f"PostgreSQL cannot be reached ({type(error.orig).__name__})",
                code="E_PG_UNREACHABLE",
                next_step="check that the server runs: hub doctor",
            ) from None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A SQLModel session in a transaction: committed at the end, rolled back on any error."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session
            session.commit()

    def migrate(self) -> None:
        """Bring the schema up to this program. Raises NeedsPerson (``E_DB_NEWER``) for a newer one."""
        config = Config()
        config.set_main_option("script_location", str(resources.files("hub_server").joinpath("migrations")))
        scripts = ScriptDirectory.from_config(config)
        with self._engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            current = MigrationContext.configure(connection).get_current_revision()
            if current is not None and current not in {step.revision for step in scripts.walk_revisions()}:
                raise NeedsPerson(
                    "the database was made by a newer version of this program; nothing was changed",
                    code="E_DB_NEWER",
                    next_step="install that version, or a later one",
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def is_ready(self) -> bool:
        """Whether a query is answered."""
        try:
            with self.transaction() as connection:
                return connection.execute("SELECT 1 FROM setting LIMIT 1") is not None
        except (OurFault, psycopg.Error):
            return False

    def close(self) -> None:
        self._engine.dispose()
