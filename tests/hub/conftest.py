"""A throwaway PostgreSQL for the hub's tests: a real private cluster, made by ``hub_server.postgres`` itself.

One cluster a test worker (made in about a second, without fsync: durability is not what these tests look at), and a
fresh database for each test that asks for ``database_url``: a copy of one that was migrated once, without content. Tests
of the migrations ask for ``empty_database_url``.
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


@pytest.fixture
def hub_folder() -> Iterator[Path]:
    """A throwaway folder for a hub's home and the private cluster that belongs to it."""
    with throwaway_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    """The same for the tests of one module together."""
    with throwaway_folder() as folder:
        yield folder


@pytest.fixture(scope="module", autouse=True)
def quick_commands(warm_programs: None) -> None:
    """See `tests.warm`."""


@pytest.fixture(scope="session", autouse=True)
def nothing_forgotten() -> Iterator[None]:
    """A hub begun without naming its home would keep a cluster of this user's own: here it is found out instead."""
    with throwaway_folder() as folder, pytest.MonkeyPatch.context() as patch:
        forgotten = folder / "forgotten"
        patch.setenv("HUB_HOME", str(forgotten))
        patch.setenv("HUB_PG_FOLDER", str(forgotten / "pg"))
        yield
        assert not forgotten.exists(), "a test began a hub, or ran a command, without naming a home"


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Running]:
    """The worker's cluster, stopped and removed at the end. Leave its database ``hub`` alone."""
    with throwaway_folder() as folder:
        config = load(folder / "home", {}, {"pg_folder": folder / "pg"})
        with ensure_running(config, THROWAWAY_SETTINGS) as running:
            yield running


def _url_of(cluster: Running, name: str) -> str:
    """The URL of a database of this cluster, usable by psycopg and SQLAlchemy."""
    return urlsplit(cluster.url)._replace(path=f"/{name}").geturl()


@contextmanager
def fresh_database(cluster: Running, template: str = EMPTY) -> Iterator[str]:
    """The URL of a fresh copy of the template; dropped afterwards."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
        yield _url_of(cluster, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def migrated(postgres_cluster: Running) -> str:
    """The name of a database with the schema and no content."""
    with psycopg.connect(postgres_cluster.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrated")
    database = Database(_url_of(postgres_cluster, "migrated"))
    database.migrate()
    database.close()
    return "migrated"


@pytest.fixture
def database_url(postgres_cluster: Running, migrated: str) -> Iterator[str]:
    """A database for one test."""
    with fresh_database(postgres_cluster, migrated) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_cluster: Running) -> Iterator[str]:
    """One in which nothing was done yet."""
    with fresh_database(postgres_cluster) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(postgres_cluster: Running, migrated: str) -> Iterator[str]:
    """One for the tests of a module together."""
    with fresh_database(postgres_cluster, migrated) as url:
        yield url
