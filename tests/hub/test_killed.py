"""The hub killed at any moment of its work, and begun again: nothing is lost, nothing is there twice.

`hub serve` really runs and is really killed (SIGKILL); see `killing_hub` for what a moment is. The moments before a
commit are those in the middle of a transaction, the one after a keep's commit lies between keeping and admitting, those
of an answer's transaction between admitting and answering, and the one after it leaves the answer unsent.
"""

from __future__ import annotations

import http.client
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub_server import feed, nodes
from sync_protocol import keys, merge, wire
from sync_protocol.change import Change, FacilityCode, PatientId
from sync_protocol.envelope import EnvelopeId
from sync_protocol.feed_page import Cursor, Position, Reference, next_hash
from sync_protocol.merge import Held
from sync_protocol.schema import Writer
from sync_protocol.segment import Packed
from tests.hub.bare_node import BareNode
from tests.hub.served_hub import ServedHub
from tests.moments import numbers

BROKEN = (OSError, http.client.HTTPException)
FEWEST_MOMENTS = 30  # of one visit: what is fewer was not looked at closely
ENTRIES = 1  # what the hub tells a centre of itself once it is enrolled stands first in its feed
ADMITTED = "SELECT count(*) = 0 FROM arrival WHERE node = %s AND state <> 'admitted'"
ARRIVALS = "SELECT segment, received_ms FROM arrival WHERE node = %s ORDER BY segment"
ITEMS = (
    "SELECT position, change, receipt_ms, tag, hash, segment, payload, patient FROM item"
    " WHERE facility = %s ORDER BY position"
)


@pytest.fixture(scope="module")
def hub(module_database_url: str, module_folder: Path) -> Iterator[ServedHub]:
    home = module_folder / "home"
    home.mkdir()
    with ServedHub(home, module_database_url) as served:
        yield served


@dataclass
class Centre:
    """A node that keeps what it was not told to be admitted, and asks again after every break."""

    hub: ServedHub
    node: BareNode
    request: bytes = field(init=False)
    certificate: bytes = b""
    written: list[Change] = field(default_factory=list)
    live: dict[EnvelopeId, Packed] = field(default_factory=dict)
    held: set[EnvelopeId] = field(default_factory=set)
    grant_known: bool = False

    def __post_init__(self) -> None:
        world = self.hub.world
        with world.database.transaction() as connection:
            now_ms = time.time_ns() // 1_000_000
            code = nodes.new_code(
                connection, world.vault, self.node.facility, "http://127.0.0.1:1", valid_ms=600_000, now_ms=now_ms
            )
        self.request = self.node.enrolment(code.secret)

    def record(self, *batch: Change) -> None:
        packed = self.node.pack(batch)
        assert packed.changes == batch
        self.written += batch
        self.live[packed.envelope.id] = packed

    def enrol(self) -> None:
        answer = self.hub.ask("POST", "/v1/enrol", self.request)
        assert answer.status == 200, answer.body
        certificate = bytes(msgspec.msgpack.decode(answer.body)[0])
        assert self.certificate in (b"", certificate)
        self.certificate = certificate

    def sync(self) -> None:
        """One request and its answer; what was sent is admitted then."""
        sending = [packed for name, packed in self.live.items() if name not in self.held]
        asked = self.node.session([name for name in self.live if name in self.held])
        grants = [] if self.grant_known else [self.node.grant_frame()]
        answer = self.hub.sync(b"".join(asked.request(grants, [packed.envelope.raw for packed in sending])))
        assert answer.status == 200, answer.body
        heads = self.node.read(asked, answer.body)
        self.grant_known = heads.grants_missing == []
        self.held = self.live.keys() & set(wire.split_ids(heads.held))
        for name in wire.split_ids(heads.admitted):
            self.live.pop(name, None)
        self.hub.wait(ADMITTED, self.node.node)

    @property
    def returned(self) -> int:
        """How many of its own changes have come back; before them the hub has told the centre of itself."""
        return self.node.cursor.position - ENTRIES

    def visit(self) -> None:
        """A consultation, then two people's edits of one field; until nothing is left to send or receive."""
        if not self.certificate:
            self.enrol()
        if not self.written:
            self.record(*consultation(self.node))
        self.settle(len(self.written))
        if len(self.written) == 3:
            self.record(*rivals(self.node, self.written[0]))
        self.settle(5)

    def settle(self, items: int) -> None:
        while self.live or self.returned < items:
            self.sync()


def consultation(node: BareNode) -> list[Change]:
    patient = node.write("patient", {"name": "Asha Devi", "sex": "F"})
    case = node.write("case", {"history": "fever for 3 days"}, patient=patient.record)
    referral = node.write(
        "referral", {"case": case.record, "specialty": "ent", "urgency": "urgent"}, patient=patient.record
    )
    return [patient, case, referral]


def rivals(node: BareNode, patient: Change) -> list[Change]:
    shown = {"name": [bytes(patient.id)]}
    return [node.write("patient", {"name": name}, record=patient.record, shown=shown) for name in ("Asha D", "A. Devi")]


def check(hub: ServedHub, centre: Centre) -> None:
    """Everything is there once, in order, and the hub's derived rows say the same."""
    node, facility = centre.node, centre.node.facility
    received = {bytes(name): at for name, at in hub.rows(ARRIVALS, node.node)}
    assert len(received) == 2
    entry, *items = hub.rows(ITEMS, facility)
    assert [row[0] for row in (entry, *items)] == [1, 2, 3, 4, 5, 6]
    assert {bytes(row[1]) for row in items} == {change.id for change in centre.written}
    cursor = Cursor(Position(1), next_hash(Cursor().hash, bytes(entry[3])))
    for position, name, receipt_ms, tag, hashed, segment, *_ in items:
        cursor = Cursor(position, next_hash(cursor.hash, bytes(tag)))
        assert bytes(hashed) == cursor.hash
        assert receipt_ms == received[bytes(segment)]
        assert hub.world.vault.holds_tag(bytes(name), 0, receipt_ms, bytes(tag))
    by_name = {bytes(row[1]): row for row in items}
    patient = PatientId(centre.written[0].record)
    with hub.world.database.transaction() as connection:
        assert feed.head(connection, facility) == cursor == node.cursor
        records = hub.world.store.patient_records(connection, facility, patient)
        everything = [*records, *hub.world.store.patient_records(connection, facility, PatientId(bytes(entry[7])))]
        assert hub.world.store.digest(connection, facility) == merge.add_digests(map(merge.digest, everything))
        assert {name: held for record in records for name, held in record.changes.items()} == {
            change.id: Held(change, by_name[change.id][2], Writer.CENTRE) for change in centre.written
        }
        conflicts = [(record.key.kind, *record.conflicts()) for record in records if record.conflicts()]
        assert conflicts == [("patient", "name")]
    told, *own = node.items
    assert isinstance(told.body, Change) and told.body.id == bytes(entry[1])
    assert [item.body for item in own] == [Reference(EnvelopeId(bytes(row[5])), at) for row, at in named(items)]
    for query, expected in (
        ("SELECT count(*) FROM arrival WHERE state <> 'admitted'", 0),
        ("SELECT count(*) FROM quarantine", 0),
        ("SELECT count(*) FROM node WHERE facility = %s", 1),
        ("SELECT count(*) FROM enrolment_code WHERE facility = %s AND used_by IS NOT NULL", 1),
        ("SELECT count(*) FROM referral WHERE facility = %s AND status = 'received'", 1),
        ("SELECT sum(fields) FROM conflicted WHERE facility = %s", 1),
        ("SELECT count(*) FROM subscription WHERE facility = %s", 1 + ENTRIES),
    ):
        assert hub.value(query, *[facility] * query.count("%s")) == expected, query


def named(items: list[tuple[Any, ...]]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Items with their rows in their segments: both segments were admitted in order."""
    for number, row in enumerate(items):
        yield row, number if number < 3 else number - 3


def restart(hub: ServedHub, centre: Centre) -> None:
    """Begin the killed hub again; what it had kept and admitted stands unaltered."""
    assert hub.ended() == -signal.SIGKILL
    arrivals, items = hub.rows(ARRIVALS, centre.node.node), hub.rows(ITEMS, centre.node.facility)
    hub.start()
    while centre.live or len(centre.written) < 5 or centre.returned < 5:
        centre.visit()
    assert set(arrivals) <= set(hub.rows(ARRIVALS, centre.node.node))
    assert hub.rows(ITEMS, centre.node.facility)[: len(items)] == items
    check(hub, centre)


def test_killed_at_any_moment_of_its_work_it_loses_and_repeats_nothing(hub: ServedHub) -> None:
    hub.start()
    for moments in numbers():
        facility = hub.world.facility(f"HWC{moments}")
        centre = Centre(hub, BareNode(hub.world.vault, facility))
        hub.light_fuse(moments)
        try:
            centre.visit()
            survived = hub.put_out()
        except BROKEN:
            survived = False
        if survived:
            check(hub, centre)
            break
        restart(hub, centre)
    assert moments > FEWEST_MOMENTS
    assert hub.stop() == 0


def test_killed_while_it_reads_a_request_it_has_kept_what_came_whole(hub: ServedHub) -> None:
    hub.start()
    facility = FacilityCode(hub.world.facility("HWC-READ"))
    centre = Centre(hub, BareNode(hub.world.vault, facility))
    centre.enrol()
    node = centre.node
    first, second = consultation(node), node.write("patient", {"name": "Ravi Kumar"})
    centre.record(*first)
    centre.record(second)
    asked = node.session()
    pieces = asked.request([node.grant_frame()], [packed.envelope.raw for packed in centre.live.values()])
    body = b"".join(pieces)
    with socket.create_connection((hub.host, hub.port)) as link:
        head = f"POST /v1/sync HTTP/1.1\r\nHost: hub\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        link.sendall(head + body[: len(body) - len(pieces[-1]) // 2])
        hub.wait("SELECT count(*) FROM item WHERE facility = %s", facility, expected=3 + ENTRIES)
        assert hub.kill() == -signal.SIGKILL
    before = hub.rows(ITEMS, facility)
    hub.start()
    centre.settle(4)
    items = hub.rows(ITEMS, facility)
    assert items[: 3 + ENTRIES] == before
    assert [(row[0], bytes(row[1])) for row in items[ENTRIES:]] == [
        (at, change.id) for at, change in enumerate([*first, second], ENTRIES + 1)
    ]
    assert hub.value("SELECT count(*) FROM arrival WHERE node = %s", node.node) == 2
    assert hub.value("SELECT count(*) FROM quarantine") == 0
    assert hub.stop() == 0


def test_the_code_of_a_killed_enrolment_is_no_other_nodes(hub: ServedHub) -> None:
    """The certificate was given and lost with the hub: the same node asks again and gets it, another does not."""
    hub.start()
    facility = hub.world.facility("HWC-CODE")
    centre = Centre(hub, BareNode(hub.world.vault, facility))
    hub.light_fuse(4)  # the two writes of an enrolment, before and after their commit
    with pytest.raises(BROKEN):
        centre.enrol()
    assert hub.ended() == -signal.SIGKILL
    hub.start()
    centre.enrol()
    first = centre.certificate
    centre.enrol()
    assert centre.certificate == first
    known = keys.read_document(first, keys.Certificate)[0]
    assert (known.node, known.facility) == (centre.node.node, facility)
    assert hub.value("SELECT count(*) FROM node WHERE facility = %s", facility) == 1
    assert hub.stop() == 0
