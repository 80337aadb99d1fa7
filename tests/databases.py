"""Databases for tests: of one private cluster a test worker, made by ``hub_server.postgres`` itself, without fsync, since
durability is not what these tests look at.

Each test that asks for ``database_url`` has a database with the schema and no content. It is a copy of one that was
migrated once, or one that another test has used and that was emptied since: copying takes longer than many a test. One
whose schema a test has changed is dropped. Tests of the migrations ask for ``empty_database_url``.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg
import pytest

from hub_server.config import load
from hub_server.database import Database
from hub_server.postgres import Running, ensure_running

THROWAWAY_SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "autovacuum": "off",  # a worker of it, which is PostgreSQL's own, would keep a test's database from being dropped
}

EMPTY: Final = "template1"  # PostgreSQL's own
LARGE_BYTES: Final = 64 * 1024
_SCHEMA: Final = """
SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
    (SELECT sum(relnatts * 7 + relchecks * 5 + relhastriggers::integer) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace),
    (SELECT count(*) FROM pg_constraint WHERE connamespace = 'public'::regnamespace),
    (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
    (SELECT count(*) FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())),
    (SELECT min(version_num) FROM alembic_version)
"""
"""What tells that a test has made or changed a table, an index, a rule of one, or how a database is opened."""

_numbers = itertools.count(1)


@contextmanager
def throwaway_folder() -> Iterator[Path]:
    """A folder that the server's user can pass through, which pytest's own, of mode 0700, does not allow."""
    folder = Path(tempfile.mkdtemp(prefix="hub-test-")).resolve()
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Databases:
    """Of one cluster. Those that are free are empty."""

    def __init__(self, cluster: Running, owner: psycopg.Connection) -> None:
        """owner: a connection to another database of the cluster, to make and drop these by."""
        self._cluster = cluster
        self._owner = owner
        self._free: list[str] = []
        owner.execute("CREATE DATABASE migrated")
        database = Database(self.url_of("migrated"))
        database.migrate()
        database.close()
        with psycopg.connect(self.url_of("migrated"), autocommit=True) as connection:
            self._schema = connection.execute(_SCHEMA).fetchone()
            self._tables = [
                name
                for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
                if name != "alembic_version"
            ]

    def url_of(self, name: str) -> str:
        """Usable by psycopg and SQLAlchemy."""
        return urlsplit(self._cluster.url)._replace(path=f"/{name}").geturl()

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """The URL of one with the schema and no content."""
        name = self._free.pop() if self._free else self._make("migrated")
        yield self.url_of(name)
        if self._is_emptied(name):
            self._free.append(name)
        else:
            self._drop(name)

    @contextmanager
    def bare(self) -> Iterator[str]:
        """The URL of one in which nothing was done yet."""
        name = self._make(EMPTY)
        yield self.url_of(name)
        self._drop(name)

    def _make(self, template: str) -> str:
        name = f"test_{next(_numbers)}"
        self._owner.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
        return name

    def _drop(self, name: str) -> None:
        self._owner.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())

    def _is_emptied(self, name: str) -> bool:
        """Whether it can be used again: its schema is as it was, and now there is nothing in it."""
        self._owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            with psycopg.connect(self.url_of(name), autocommit=True) as connection:
                if connection.execute(_SCHEMA).fetchone() != self._schema:
                    return False
                self._empty(connection)
        except psycopg.Error:
            return False  # the test dropped it, or a part of it, or lets nobody in
        return True

    def _empty(self, connection: psycopg.Connection) -> None:
        """No rows, and numbers begin anew."""
        some = " UNION ALL ".join(f"(SELECT '{name}' FROM \"{name}\" LIMIT 1)" for name in self._tables)
        used = [name for (name,) in connection.execute(some.encode())]
        for name in used:
            connection.execute(f'DELETE FROM "{name}"'.encode())  # of few rows: a thirtieth of what truncating takes
        large = "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND pg_relation_size(oid) > %s"
        for (name,) in connection.execute(large, (self._tables, LARGE_BYTES)).fetchall():
            connection.execute(f'TRUNCATE "{name}"'.encode())  # what was deleted takes its place, and is read over
        connection.execute(
            "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences"
            " WHERE last_value IS NOT NULL"
        )


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Running]:
    """The worker's cluster, stopped and removed at the end. Leave its database ``hub`` alone."""
    with throwaway_folder() as folder:
        config = load(folder / "home", {}, {"pg_folder": folder / "pg"})
        with ensure_running(config, THROWAWAY_SETTINGS) as running:
            yield running


@pytest.fixture(scope="session")
def databases(postgres_cluster: Running) -> Iterator[Databases]:
    with psycopg.connect(postgres_cluster.url, autocommit=True) as owner:
        yield Databases(postgres_cluster, owner)


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A database for one test."""
    with databases.migrated() as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """One in which nothing was done yet."""
    with databases.bare() as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(databases: Databases) -> Iterator[str]:
    """One for the tests of a module together."""
    with databases.migrated() as url:
        yield url
