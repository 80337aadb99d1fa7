"""Nodes with long backlogs: enrolled at a running hub, filled by real imports, everything sealed and stored to be sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from bench.places import HubPlace, hold
from bench.visits import Visits
from hwc_node import config as settings
from hwc_node import enrolment, membership, outbox
from hwc_node.engine import begin_write
from hwc_node.line_import import BATCH_LINES, ImportRules, LineImport, Verdict
from hwc_node.store import Store
from sync_protocol import segment
from sync_protocol.segment import Link
from sync_protocol.session import NodeSession

PASSPHRASE: Final = "monsoon lamp river stone"
RECORDS_A_CONSULTATION: Final = 4.2
QUICK_LINK: Final = Link(segment.MAX_SEGMENT_BYTES, segment.MAX_REQUEST_BYTES / segment.AIRTIME_AHEAD_S)


@dataclass(frozen=True, slots=True)
class Backlog:
    """A node that has not synced yet. body: its whole first request."""

    facility: str
    store: Store
    records: int
    documents: list[dict[str, Any]]
    body: bytes
    segment_bytes: int


def enrolled(hub: HubPlace, folder: Path, facility: str) -> tuple[Store, bytes]:
    """A new facility's first node, and its person's id."""
    hub.run("facility", "add", facility, f"Centre {facility}")
    code = hub.ask("enrol", facility)["code"]
    config = settings.load(folder / facility.lower(), {})
    made = enrolment.enrol(
        config, code, person_name="Sunita Devi", passphrase=PASSPHRASE, now_ms=time.time_ns() // 1_000_000
    )
    return Store.open(config, made.store_key), made.person


def fill(store: Store, person: bytes, number: int, records: int) -> list[dict[str, Any]]:
    """Import made-up visits until the node holds about so many records; the documents."""
    visits = Visits(number, seed=9)
    documents = list(visits.documents(round(records / RECORDS_A_CONSULTATION)))
    importing = LineImport(store, person, ImportRules(any_facility=True))  # type: ignore[arg-type]  # its bytes
    lines = ((at, json.dumps(one).encode()) for at, one in enumerate(documents, 1))
    while batch := list(islice(lines, BATCH_LINES)):
        results = importing.take(batch, time.time_ns() // 1_000_000)
        hold(all(one.verdict is Verdict.CREATED for one in results), "a line was not taken")
    return documents


def sealed(store: Store) -> tuple[bytes, int]:
    """Everything that is pending as one request over a quick link: (its body, bytes of segments)."""
    with begin_write(store.engine) as connection:
        membership.put(connection, membership.link_values(QUICK_LINK))
    outgoing = outbox.pack(store, time.time_ns() // 1_000_000)
    pieces = NodeSession(outgoing.view).request(outgoing.frames, [one.raw for one in outgoing.segments])
    return b"".join(pieces), sum(len(one.raw) for one in outgoing.segments)


def backlogs(hub: HubPlace, folder: Path, first: int, count: int, records: int) -> Iterator[Backlog]:
    """Nodes of new facilities from a number on, each with its share of so many records."""
    for number in range(first, first + count):
        facility = f"HWC{number:06d}"
        store, person = enrolled(hub, folder, facility)
        documents = fill(store, person, number, records // count)
        with begin_write(store.engine) as connection:
            held = connection.exec_driver_sql("SELECT count(*) FROM change").scalar() or 0
        body, segment_bytes = sealed(store)
        yield Backlog(facility, store, held, documents, body, segment_bytes)
