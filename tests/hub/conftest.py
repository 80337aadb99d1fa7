"""What the hub's tests stand on: databases of a real cluster (`tests.databases`), throwaway folders, commands that start at
once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import database_url as database_url  # the fixtures
from tests.databases import databases as databases
from tests.databases import empty_database_url as empty_database_url
from tests.databases import module_database_url as module_database_url
from tests.databases import postgres_cluster as postgres_cluster
from tests.databases import throwaway_folder


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
