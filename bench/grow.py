"""`grow`: does work at a node slow down with what it holds? Sync, save and find at 1,000, 10,000 and 100,000 records.

One node of each size, all at one hub, measured in turns: a sync that brings 50 new records to the hub, one record saved,
and everything of one patient looked up, as the page and the commands do. The comparison is the smallest node. Beside it,
what the largest node's and the hub's databases grew by, for each 1,000 consultations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

import psycopg

from bench.backlogs import QUICK_LINK, RECORDS_A_CONSULTATION, enrolled, fill
from bench.figures import Figure
from bench.places import HubPlace, database_url, hold, running_hub
from hwc_node import membership, sync
from hwc_node.engine import begin_read, begin_write
from hwc_node.enrolment import time_ordered_id
from hwc_node.store import Store, WriteRequest
from sync_protocol.change import PatientId, PersonId, RecordId, RecordKey

SIZES: Final = (1_000, 10_000, 100_000)
NEW_RECORDS: Final = 50
TURNS: Final = 15
SAVES_A_TURN: Final = 15
FINDS_A_TURN: Final = 25
FIRST: Final = 500
SEALED: Final = ("arrival",)  # dropped after 35 days
KEPT: Final = ("item", "patient", "subscription", "referral", "conflicted")

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass
class _Grown:
    """A node of a size, everything synced. times_ms: by what was done."""

    size: int
    store: Store
    person: PersonId
    patients: list[PatientId]
    times_ms: dict[str, list[float]] = field(default_factory=lambda: {"sync": [], "save": [], "find": []})


def run(folder: Path, sizes: Sequence[int] = SIZES, turns: int = TURNS) -> list[Figure]:
    grown: list[_Grown] = []
    disk: list[Figure] = []
    with running_hub(folder) as hub, database_url(hub) as url, psycopg.connect(url, autocommit=True) as connection:
        for at, size in enumerate(sizes):
            one, disk = _grown(hub, folder, connection, FIRST + at, size)
            grown.append(one)
        _measure(grown, turns)
        for one in grown:
            one.store.close()
    return [*_figures(grown), *disk]


def _grown(hub: HubPlace, folder: Path, connection: Connection, number: int, size: int) -> tuple[_Grown, list[Figure]]:
    """A node of this size, and what it took on the disks."""
    store, person = enrolled(hub, folder, f"HWC{number:06d}")
    with begin_write(store.engine) as writing:
        membership.put(writing, membership.link_values(QUICK_LINK))

    def sizes() -> tuple[int, int, int]:
        return _node_bytes(store), _hub_bytes(connection, KEPT), _hub_bytes(connection, SEALED)

    before = sizes()
    fill(store, person, number, size)
    _settle(store)
    thousands = round(size / RECORDS_A_CONSULTATION) / 1000
    names = ("at the node", "at the hub", "at the hub for 35 days, sealed")
    disk = [
        Figure("disk", f"1,000 consultations {name}", (now - then) / thousands / 1e6, "MB")
        for name, now, then in zip(names, sizes(), before, strict=True)
    ]
    with begin_read(store.engine) as reading:
        rows = reading.exec_driver_sql("SELECT DISTINCT patient FROM record WHERE kind = 'case'").fetchall()
    patients = sorted(PatientId(bytes(row[0])) for row in rows)
    return _Grown(size, store, PersonId(person), patients), disk


def _settle(store: Store) -> None:
    for _ in range(2):  # what it sent, and then the last acknowledgements
        hold(sync.run(store).pending_changes == 0, "a node still has something to send")


def _node_bytes(store: Store) -> int:
    with begin_read(store.engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
        return int(pages) * int(connection.exec_driver_sql("PRAGMA page_size").scalar() or 0)


def _hub_bytes(connection: Connection, tables: Sequence[str]) -> int:
    row = connection.execute(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r'",
        (list(tables),),
    ).fetchone()
    return int(row[0]) if row else 0


# -- what is measured --------------------------------------------------------------------------------------------------


def _measure(grown: Sequence[_Grown], turns: int) -> None:
    """In turns, so that a slow moment of the machine meets all of them."""
    drawn = Random(1)
    for _ in range(turns):
        for one in grown:
            _write(one, drawn, NEW_RECORDS)
            one.times_ms["sync"].append(_ms(partial(_sync, one)))
        for _ in range(SAVES_A_TURN):
            for one in grown:
                one.times_ms["save"].append(_ms(partial(_write, one, drawn, 1)))
        for _ in range(FINDS_A_TURN):
            for one in grown:
                one.times_ms["find"].append(_ms(partial(_find, one, drawn.choice(one.patients))))
        for one in grown:
            _settle(one.store)


def _ms(deed: Callable[[], None]) -> float:
    began = time.perf_counter()
    deed()
    return (time.perf_counter() - began) * 1000


def _sync(one: _Grown) -> None:
    hold(sync.run(one.store).sent_changes == NEW_RECORDS, "a sync did not send what is new")


def _write(one: _Grown, drawn: Random, count: int) -> None:
    now_ms = time.time_ns() // 1_000_000
    requests = [
        WriteRequest(
            RecordKey("case", RecordId(time_ordered_id(now_ms))),
            drawn.choice(one.patients),
            {"plan": "rest", "history": "fever for three days"},
        )
        for _ in range(count)
    ]
    results = one.store.write(one.person, requests, now_ms)
    hold(not any(isinstance(result, Exception) for result in results), "a record was refused")


def _find(one: _Grown, patient: PatientId) -> None:
    hold(one.store.patient_records(patient), "a patient is not found")


def _figures(grown: Sequence[_Grown]) -> list[Figure]:
    found = []
    names = {"sync": f"a sync with {NEW_RECORDS} new records", "save": "one record saved", "find": "one patient found"}
    for what, name in names.items():
        smallest = median(grown[0].times_ms[what])
        for one in grown:
            taken, against = median(one.times_ms[what]), f"at {grown[0].size:,}"
            found.append(Figure("grow", f"{name}, at {one.size:,}", taken, "ms", smallest, against))
    return found
