"""Feeds under concurrency, on a real PostgreSQL, with barriers in the place of luck."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from hub_server import feed, subscriptions
from hub_server.database import Connection
from hub_server.intake import Admitter
from hub_server.receiving import Incoming
from sync_protocol.change import Change, FacilityCode, PatientId
from sync_protocol.feed_page import Cursor, next_hash
from sync_protocol.schema import Writer
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import PATIENCE_S, HubWorld, wait_until


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> HubWorld:
    world = HubWorld.make(database_url, tmp_path / "keys")
    for code in ("HWC1", "HWC2"):
        world.facility(code)
    return world


def incoming(facility: str, *batch: Change) -> list[Incoming]:
    return [Incoming(FacilityCode(facility), change, Writer.CENTRE, NOW_MS) for change in batch]


def positions(hub: HubWorld, facility: str) -> list[tuple[int, bytes]]:
    with hub.database.transaction() as connection:
        return [(one.position, one.change) for one in feed.after(connection, facility, 0, 10_000)]


def test_a_late_committer_cannot_make_a_reader_skip_a_position(hub: HubWorld) -> None:
    """The first writer takes position 1 and dawdles: the second waits for it, and no reader sees 2 before 1."""
    node = hub.node("HWC1")
    first, second = node.write("patient", {"name": "A"}), node.write("patient", {"name": "B"})
    with ThreadPoolExecutor(1) as pool:
        with hub.database.transaction() as slow:
            hub.store.receive(slow, incoming("HWC1", first), NOW_MS)

            def hurry() -> None:
                with hub.database.transaction() as quick:
                    hub.store.receive(quick, incoming("HWC1", second), NOW_MS)

            hurried = pool.submit(hurry)
            wait_until(hub.somebody_waits)
            assert positions(hub, "HWC1") == []
        hurried.result(PATIENCE_S)
    assert positions(hub, "HWC1") == [(1, first.id), (2, second.id)]


def test_a_writer_that_fails_leaves_no_gap(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    lost, kept = node.write("patient", {"name": "A"}), node.write("patient", {"name": "B"})

    def fail_after_writing() -> None:
        with hub.database.transaction() as connection:
            hub.store.receive(connection, incoming("HWC1", lost), NOW_MS)
            connection.execute("SELECT 1/0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        fail_after_writing()
    with hub.database.transaction() as connection:
        hub.store.receive(connection, incoming("HWC1", kept), NOW_MS)
    assert positions(hub, "HWC1") == [(1, kept.id)]


def test_two_workers_admitting_at_once_lose_and_repeat_nothing(hub: HubWorld) -> None:
    """Two nodes send the same patients' changes, some of them twice; two workers start together, many times over."""
    nodes = [hub.node("HWC1"), hub.node("HWC1"), hub.node("HWC2")]
    sent: dict[str, set[bytes]] = {"HWC1": set(), "HWC2": set()}
    for turn in range(12):
        node = nodes[turn % 3]
        batch = [node.write("patient", {"name": f"P{turn}-{number}"}) for number in range(20)]
        sent[node.facility] |= {change.id for change in batch}
        for half in (batch, batch[:10]):
            hub.exchange(node, [node.pack(half).envelope.raw])
    barrier = threading.Barrier(2)

    def work() -> int:
        worker = Admitter(hub.store)
        barrier.wait(PATIENCE_S)
        total = 0
        while (done := worker.admit_once(NOW_MS, limit=3)).segments:
            total += done.changes
        return total

    with ThreadPoolExecutor(2) as pool:
        totals = [running.result(PATIENCE_S) for running in [pool.submit(work), pool.submit(work)]]
    assert sum(totals) == 240
    for facility, names in sent.items():
        found = positions(hub, facility)
        assert [position for position, _ in found] == list(range(1, len(found) + 1))
        assert {change for _, change in found} == names
        assert len(found) == len(names)


def test_the_running_hash_is_that_of_the_tags(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    with hub.database.transaction() as connection:
        hub.store.receive(
            connection, incoming("HWC1", *[node.write("patient", {"name": "A"}) for _ in range(3)]), NOW_MS
        )
        cursor = Cursor()
        for one in feed.after(connection, "HWC1", 0, 10):
            cursor = Cursor(one.position, next_hash(cursor.hash, one.tag))
            assert feed.holds(connection, "HWC1", cursor)
        assert feed.head(connection, "HWC1") == cursor
        assert not feed.holds(connection, "HWC1", Cursor(cursor.position, bytes(16)))


def subscribing(hub: HubWorld, patient: PatientId) -> Callable[[], int]:
    def subscribe() -> int:
        with hub.database.transaction() as connection:
            return hub.store.subscribe(connection, patient, FacilityCode("HWC2"), NOW_MS)

    return subscribe


def admitting(hub: HubWorld, change: Change) -> Callable[[], object]:
    def admit() -> object:
        with hub.database.transaction() as connection:
            return hub.store.receive(connection, incoming("HWC1", change), NOW_MS)

    return admit


def a_patient(hub: HubWorld, node: BareNode) -> Change:
    change = node.write("patient", {"name": "A"})
    admitting(hub, change)()
    return change


def test_subscribing_while_a_change_is_admitted_loses_nothing(hub: HubWorld) -> None:
    """Admission first, subscribing waits for it, and takes the change along."""
    node = hub.node("HWC1")
    patient = a_patient(hub, node)
    edit = node.write("patient", {"village": "V"}, record=patient.record)
    with ThreadPoolExecutor(1) as pool:
        with hub.database.transaction() as connection:
            hub.store.receive(connection, incoming("HWC1", edit), NOW_MS)
            running = pool.submit(subscribing(hub, PatientId(patient.record)))
            wait_until(hub.somebody_waits)
        assert running.result(PATIENCE_S) == 2
    assert [change for _, change in positions(hub, "HWC2")] == [patient.id, edit.id]


def test_a_change_admitted_while_subscribing_goes_to_the_new_feed(hub: HubWorld) -> None:
    """Subscribing first, admission waits for it, and serves the new feed too; both feeds have one digest."""
    node = hub.node("HWC1")
    patient = a_patient(hub, node)
    edit = node.write("patient", {"village": "V"}, record=patient.record)
    with ThreadPoolExecutor(1) as pool:
        with hub.database.transaction() as connection:
            assert hub.store.subscribe(connection, PatientId(patient.record), FacilityCode("HWC2"), NOW_MS) == 1
            running = pool.submit(admitting(hub, edit))
            wait_until(hub.somebody_waits)
        running.result(PATIENCE_S)
    assert [change for _, change in positions(hub, "HWC2")] == [patient.id, edit.id]
    with hub.database.transaction() as connection:
        assert hub.store.digest(connection, "HWC1") == hub.store.digest(connection, "HWC2") != 0


def test_two_facilities_that_meet_a_patient_at_once_agree_whose_it_is(hub: HubWorld) -> None:
    """Both write about a patient nobody has seen: who registers it is its home, and the home's feed has both writes."""
    ours, theirs = hub.node("HWC1"), hub.node("HWC2")
    left = ours.write("patient", {"name": "A"})
    right = theirs.write("case", {"plan": "rest"}, patient=left.record)
    barrier = threading.Barrier(2)

    def meet(facility: str, change: Change) -> None:
        barrier.wait(PATIENCE_S)
        with hub.database.transaction() as connection:
            hub.store.receive(connection, incoming(facility, change), NOW_MS)

    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(meet, "HWC1", left), pool.submit(meet, "HWC2", right)]:
            running.result(PATIENCE_S)
    subscriptions.settle(hub.store, NOW_MS)
    with hub.database.transaction() as connection:
        home = one(connection, "SELECT facility FROM patient WHERE patient = %s", left.record)
    assert home == "HWC1"
    own = {"HWC1": left.id, "HWC2": right.id}
    assert {change for _, change in positions(hub, home)} == {left.id, right.id}
    for facility, name in own.items():
        assert name in {change for _, change in positions(hub, facility)}


def one(connection: Connection, query: str, *arguments: object) -> str:
    row = connection.execute(query.encode(), arguments).fetchone()
    assert row is not None
    return str(row[0])
