"""`save`: one record at the node, durable when it returns, beside a bare commit of SQLite on the same disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Final

from sqlcipher3 import dbapi2 as sqlcipher  # type: ignore[import-untyped]  # the driver brings no types

from bench.backlogs import enrolled, fill
from bench.figures import Figure
from bench.places import running_hub
from hwc_node.enrolment import time_ordered_id
from sync_protocol.change import PatientId, PersonId, RecordId, RecordKey

TIMES: Final = 500
HELD_RECORDS: Final = 1_000


def run(folder: Path) -> list[Figure]:
    with running_hub(folder) as hub:
        store, person = enrolled(hub, folder, "HWC000400")
    fill(store, person, 400, HELD_RECORDS)
    patient = PatientId(time_ordered_id(_now_ms()))

    def save() -> None:
        with store.writing(_now_ms()) as block:
            key = RecordKey("case", RecordId(time_ordered_id(_now_ms())))
            block.author(PersonId(person), key, patient, {"plan": "rest", "history": "fever for three days"})

    bare = sqlcipher.connect(str(folder / "bare.db"), isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, content BLOB)")

    def commit() -> None:
        bare.execute("INSERT INTO row (content) VALUES (?)", (os.urandom(400),))

    saves, commits = _alternating(save, commit)
    bare.close()
    store.close()
    return [
        Figure("save", "median", _at(saves, 50), "ms", _at(commits, 50), "bare SQLite commit"),
        Figure("save", "99 of 100 within", _at(saves, 99), "ms", _at(commits, 99), "bare SQLite commit"),
    ]


def _alternating(*deeds: Callable[[], None]) -> list[list[float]]:
    """Milliseconds of each, taken in turns, so that a slow moment of the machine meets both."""
    taken: list[list[float]] = [[] for _ in deeds]
    for _ in range(TIMES):
        for deed, times in zip(deeds, taken, strict=True):
            began = time.perf_counter()
            deed()
            times.append((time.perf_counter() - began) * 1000)
    return taken


def _at(times: list[float], percent: int) -> float:
    return quantiles(times, n=100)[percent - 1]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
