"""The connection to PostgreSQL and the migrations. Others ask here for a transaction, never for a connection string.

All get the driver's own connection (binary COPY, arrays). The schema is written in SQLModel (`tables`), which only the
migrations load: it is a fifth of what a command loads. A database newer than this program is refused and left alone.
What befalls the server (gone, full, busy) is told as `DatabaseAway`, never in the server's or the driver's words, which
may quote a row or a password.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import psycopg
from sqlalchemy import Connection as SQLConnection
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.pg_programs import reason_of
from sync_protocol.errors import NeedsPerson, OurFault

Connection = psycopg.Connection[tuple[Any, ...]]

POOL_SIZE: Final = 8  # the edge's threads and the admitting worker; PostgreSQL is given 50 connections
POOL_WAIT_S: Final = 20.0  # for one of them to be free: longer than any transaction but a large admission's
CONNECT_TIMEOUT_S: Final = 10
STEPS: Final = Path(str(resources.files("hub_server").joinpath("migrations")))
HEAD: Final = "0012"
"""The newest step. A test holds it to what is in ``migrations/versions``."""
_LOCK_KEY: Final = 7_461_002  # advisory lock held while migrating: two hubs starting at once migrate once

_AGAIN: Final = "try again in a moment; what was acknowledged is kept"
_LOOK: Final = "check that the server runs: hub doctor"
_BUSY: Final = ("E_PG_BUSY", "PostgreSQL gave this up in favour of something else", _AGAIN)
_FAULTS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "53100": ("E_DISK_FULL", "the disk that holds the hub's database is full", "make room on that disk"),
        "53200": ("E_PG_BUSY", "PostgreSQL has no memory left", _AGAIN),
        "53300": ("E_PG_BUSY", "PostgreSQL has no free connection", _AGAIN),
        "25006": ("E_PG_READ_ONLY", "PostgreSQL takes nothing now: it stands by for another", _LOOK),
        "40001": _BUSY,
        "40P01": _BUSY,
        "55P03": _BUSY,
        "57014": _BUSY,
    }
)
"""SQLSTATE -> code, sentence, next step."""
_GONE_CLASSES: Final = ("08", "57", "58")  # connection, an operator's or a crash's stop, the system below PostgreSQL


class DatabaseAway(OurFault, psycopg.OperationalError):
    """The server could not do it now: nothing is wrong with what it was asked, and it can be asked again.

    It is the driver's error too, so that whoever waits for that one, and knows no reason, need not know this one.
    """

    default_code = "E_PG_UNREACHABLE"


def _away(error: BaseException) -> DatabaseAway | None:
    """The project's error for one of the server's condition; None for any other, which says something of the query."""
    if isinstance(error, DatabaseAway):
        return error
    if isinstance(error, PoolTimeout):
        return DatabaseAway("all of the hub's connections to PostgreSQL are in use", code="E_PG_BUSY", next_step=_AGAIN)
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return None
    state = cause.sqlstate or ""
    if known := _FAULTS.get(state):
        return DatabaseAway(known[1], code=known[0], next_step=known[2])
    if not isinstance(cause, psycopg.OperationalError) or (state and state[:2] not in _GONE_CLASSES):
        return None
    reason = reason_of(cause)
    if reason == "it has no free connection":
        return DatabaseAway("PostgreSQL has no free connection", code="E_PG_BUSY", next_step=_AGAIN)
    return DatabaseAway(f"PostgreSQL cannot be reached: {reason}", next_step=_LOOK)


@contextmanager
def _told() -> Iterator[None]:
    """Raise `DatabaseAway` for errors of the server's condition."""
    try:
        yield
    except (psycopg.Error, DBAPIError, PoolTimeout) as error:
        away = _away(error)
        if away is None or away is error:
            raise
        raise away from None


class Database:
    """One PostgreSQL database. Thread-safe."""

    def __init__(self, url: str, pool_size: int = POOL_SIZE, pool_wait_s: float = POOL_WAIT_S) -> None:
        self._url = url
        self._engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=pool_wait_s,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """The driver's connection in a transaction: committed at the end, rolled back on any error.

        Raises DatabaseAway (``E_PG_UNREACHABLE``, ``E_PG_BUSY``, ``E_PG_READ_ONLY``, ``E_DISK_FULL``), whoever in it
        met the reason. Where the commit itself broke off it may have been done: what is done here can be repeated.
        """
        with _told():
            pooled = self._engine.raw_connection()
            try:
                connection: Connection = pooled.driver_connection  # type: ignore[assignment]
                connection.prepare_threshold = 2
                try:
                    yield connection
                    connection.commit()
                except BaseException:
                    if not connection.closed:
                        with suppress(psycopg.Error):  # the first error is the one to tell; the pool sees to the rest
                            connection.rollback()
                    raise
            finally:
                pooled.close()

    @contextmanager
    def outside_transactions(self) -> Iterator[Connection]:
        """A connection of its own, each statement by itself: for what concerns whole databases. Raises DatabaseAway."""
        with _told(), psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            yield connection

    def migrate(self, steps: Path = STEPS, head: str = HEAD) -> None:
        """Bring the schema up to this program. Raises NeedsPerson (``E_DB_NEWER``) for a newer one.

        All that is missing is done in one transaction, so a hub that dies meanwhile leaves the old schema or the new
        one, and the next start goes on from there. A database that is up to date is only looked at: every command
        starts here. steps: the folder of Alembic's ``env.py`` and ``versions``. head: the newest of them.
        """
        with _told(), self._engine.begin() as connection:
            if _version(connection) == head:
                return
        from hub_server.migrations import running  # Alembic takes a sixth of every command's start

        with _told(), self._engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            current = _version(connection)  # anew, with the lock held: two programs starting at once migrate once
            if current is not None and current not in running.known(steps):
                raise NeedsPerson(
                    "the database was made by a newer version of this program; nothing was changed",
                    code="E_DB_NEWER",
                    next_step="install that version, or a later one",
                )
            running.run(steps, connection)

    def is_ready(self) -> bool:
        """Whether a query is answered."""
        try:
            with self.transaction() as connection:
                return connection.execute("SELECT 1 FROM setting LIMIT 1") is not None
        except (OurFault, psycopg.Error):
            return False

    def close(self) -> None:
        self._engine.dispose()


def _version(connection: SQLConnection) -> str | None:
    """The step that the database is at, None for an empty one."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)
