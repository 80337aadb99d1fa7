"""Stories of many commands: their programs start at once, and a hub for the tests of a module together, on a database of
the worker's own PostgreSQL. What a hub's own PostgreSQL does is looked at in `tests.hub.test_postgres`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.places import HubPlace
from tests.databases import databases as databases  # the fixtures
from tests.databases import module_database_url as module_database_url
from tests.databases import postgres_cluster as postgres_cluster
from tests.databases import throwaway_folder
from tests.world.centres import serving


@pytest.fixture(scope="module", autouse=True)
def quick_commands(warm_programs: None) -> None:
    """See `tests.warm`."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with throwaway_folder() as made:
        yield made


@pytest.fixture(scope="module")
def hub(folder: Path, module_database_url: str) -> Iterator[HubPlace]:
    with serving(folder, module_database_url) as place:
        yield place
