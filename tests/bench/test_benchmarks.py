"""Each benchmark runs, with real parts and tiny sizes, and tells its figures. No time is asserted."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import exchange, find, grow, ingest, memory, pages, places
from bench.figures import Figure
from tests.databases import Databases
from tests.databases import databases as databases  # the fixtures
from tests.databases import postgres_cluster as postgres_cluster


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own, which PostgreSQL's user cannot pass through where this runs as root."""
    made = Path(tempfile.mkdtemp(prefix="health-sync-bench-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def given(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hubs have databases of the worker's PostgreSQL instead of a PostgreSQL each."""
    with ExitStack() as stack:
        monkeypatch.setattr(places, "database_given", lambda: stack.enter_context(databases.migrated()))
        yield


@pytest.fixture
def warm(warm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands start at once (`tests.warm`), but for those whose memory is looked at. A hub's is none of theirs."""
    monkeypatch.setattr(places, "BIN", warm_folder)


def told(figures: list[Figure]) -> dict[str, Figure]:
    for one in figures:
        assert {"bench", "figure", "value", "unit"} <= set(json.loads(one.as_json()))
    return {one.figure: one for one in figures}


def test_exchange_answers_every_node_and_admits_everything(folder: Path) -> None:
    found = told(exchange.run(folder, 1, count=12))
    assert found["answered"].value > 0
    assert found["answered"].ratio is not None
    assert found["told to come later"].value == 0
    peaks = told(memory.of_hub("exchange", folder))
    assert peaks["hub, exchange"].value > 20  # a Python with its libraries holds more


@pytest.mark.usefixtures("warm", "given")
def test_ingest_goes_on_behind_records_that_are_stored_already(folder: Path) -> None:
    found = told(ingest.run(folder, 1, 400, stored=800))
    assert found["behind 800 records"].baseline == found["admitted and readable"].value


@pytest.mark.usefixtures("warm", "given")
def test_grow_measures_each_size_against_the_smallest(folder: Path) -> None:
    found = told(grow.run(folder, sizes=(60, 200), turns=2))
    for what in ("a sync with 50 new records", "one record saved", "one patient found"):
        assert found[f"{what}, at 60"].ratio == 1
        assert found[f"{what}, at 200"].value > 0
    assert found["1,000 consultations at the hub"].value > 0


@pytest.mark.usefixtures("warm", "given")
def test_find_finds_everybody_by_their_own_name(folder: Path) -> None:
    found = told(find.run(folder, patients=60, searches=20))
    assert found["median among 60"].value > 0
    assert found["median among 60"].ratio is not None


@pytest.mark.usefixtures("warm", "given")
def test_memory_watches_each_command_of_a_node(folder: Path) -> None:
    found = told(memory.run(folder, records=100, large=300))
    assert len(found) == 8
    assert all(one.value > 20 for one in found.values())


@pytest.mark.usefixtures("warm", "given")
def test_pages_are_asked_for_at_a_centre_and_at_a_hub(folder: Path) -> None:
    found = told(pages.run(folder, patients=20, records=120, stored=200, turns=3))
    for page in ("find", "patient", "save", "home", "report"):
        assert found[f"{page}, median, 20 patients, 120 records"].value > 0
    for page in ("queue", "a specialist's queue", "case", "claim", "the service by state"):
        assert found[f"{page}, 99 of 100, hub of 200 records"].ratio is not None
    assert found["hwc serve, the most it held"].value > 20
