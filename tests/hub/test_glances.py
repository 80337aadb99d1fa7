"""What a queue shows of its patients: noted before it is read, kept while nothing comes, never shown when it has gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub_server import audit, charts, erasure, glances
from hub_server.glances import Glances
from hub_server.ledger import Ledger
from hub_server.scheduler import Clockwork
from hub_server.sign_in import IDLE_MS
from hub_server.vault import PatientKey
from sync_protocol.change import Change, ChangeId, PatientId
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import HubWorld

ACTOR = "person rao"


class Queue:
    """A hub with a centre, and a doctor who looks. opened: how many payloads were opened since it was set to 0."""

    def __init__(self, world: HubWorld, most: int = 100) -> None:
        self.world = world
        self.node: BareNode = world.node("HWC1")
        self.glances = Glances(world.store, most)
        self.opened = 0
        open_payload = world.vault.open_payload

        def counted(key: PatientKey, payload: bytes, name: ChangeId) -> bytes:
            self.opened += 1
            return open_payload(key, payload, name)

        world.vault.open_payload = counted  # type: ignore[method-assign]

    def send(self, *changes: Change) -> None:
        self.world.now_ms += 1000  # the queue is in the order of receipt
        self.world.exchange(self.node, [self.node.pack(changes).envelope.raw])
        self.world.admit()

    def refer(self, name: str, question: str = "Which medicine?") -> tuple[Change, Change]:
        patient = self.node.write("patient", {"name": name, "sex": "F"})
        asked = {"specialty": "ent", "urgency": "routine", "question": question}
        referral = self.node.write("referral", asked, patient=patient.record)
        self.send(patient, referral)
        return patient, referral

    def rows(self) -> list[charts.Queued]:
        with self.world.database.transaction() as connection:
            return charts.queue(connection, statuses=charts.WAITING)

    def look(self, at_ms: int = NOW_MS, rows: list[charts.Queued] | None = None) -> list[glances.Glance]:
        rows = self.rows() if rows is None else rows
        with self.world.database.transaction() as connection:
            noted = glances.note(connection, rows, ACTOR, at_ms)
        self.opened = 0
        found = self.glances.read(noted, at_ms)
        return [found[row.referral] for row in rows]


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> HubWorld:
    world = HubWorld.make(database_url, tmp_path / "keys")
    identity = world.vault.identity
    world.vault.ledger = Ledger(tmp_path / "ledger", identity.signing, identity.environment)
    world.facility("HWC1")
    return world


@pytest.fixture
def queue(hub: HubWorld) -> Queue:
    return Queue(hub)


def noted(world: HubWorld) -> int:
    with world.database.transaction() as connection:
        assert audit.verify(connection).broken_at is None
        return [(one.entry.actor, one.entry.verb) for one in audit.entries(connection)].count((ACTOR, "list referral"))


def test_a_glance_opens_little_and_each_look_is_noted(queue: Queue) -> None:
    queue.refer("Asha Devi")
    (one,) = queue.look()
    assert (one.line.name, one.line.sex, one.line.reason, one.centre) == (
        "Asha Devi",
        "F",
        "Which medicine?",
        "Centre HWC1",
    )
    assert queue.opened == 2
    assert queue.look() == [one]
    assert queue.opened == 0  # nothing came, so nothing is opened
    assert noted(queue.world) == 2


def test_what_comes_is_shown_at_the_next_look_and_only_its_patient_is_opened_anew(queue: Queue) -> None:
    patient, _ = queue.refer("Asha Devi")
    queue.refer("Meena Bai")
    queue.look()
    queue.send(queue.node.write("patient", {"name": "Asha Rani"}, record=patient.record, shown={"name": [patient.id]}))
    assert [one.line.name for one in queue.look()] == ["Asha Rani", "Meena Bai"]
    assert queue.opened == 3  # both changes of the patient, and the referral


def test_a_referral_whose_patient_has_not_arrived_is_shown_and_named_once_it_has(queue: Queue) -> None:
    patient = queue.node.write("patient", {"name": "Asha Devi"})
    queue.send(queue.node.write("referral", {"specialty": "ent", "urgency": "routine"}, patient=patient.record))
    assert [one.line for one in queue.look()] == [glances.Line()]
    queue.send(patient)
    assert [one.line.name for one in queue.look()] == ["Asha Devi"]


def test_what_was_erased_is_neither_shown_nor_kept(queue: Queue) -> None:
    patient, _ = queue.refer("Asha Devi")
    rows = queue.rows()
    queue.look()
    erasure.erase(queue.world.store, PatientId(patient.record), "operator test", NOW_MS)
    assert queue.rows() == []
    assert [one.line for one in queue.look(rows=rows)] == [glances.Line()]  # a page that was under way
    assert not queue.glances.kept


def test_what_nobody_has_looked_at_for_long_is_forgotten_and_the_number_kept_is_bounded(hub: HubWorld) -> None:
    queue = Queue(hub, most=2)
    queue.refer("Asha Devi")
    queue.look()
    assert queue.glances.kept == 1
    assert Clockwork(hub.store, lambda: NOW_MS + IDLE_MS - 1, None, queue.glances).forget_glances() == 1
    assert Clockwork(hub.store, lambda: NOW_MS + IDLE_MS, None, queue.glances).forget_glances() == 0
    for name in ("Meena Bai", "Sita Kumari"):
        queue.refer(name)
    assert [one.line.name for one in queue.look()] == ["Asha Devi", "Meena Bai", "Sita Kumari"]
    assert queue.glances.kept == 2


def test_the_centre_is_the_one_that_referred_wherever_the_patient_is_at_home(hub: HubWorld) -> None:
    queue = Queue(hub)
    patient, _ = queue.refer("Asha Devi")
    hub.facility("HWC2")
    other = hub.node("HWC2")
    asked = {"specialty": "ent", "urgency": "emergency"}
    hub.exchange(other, [other.pack([other.write("referral", asked, patient=patient.record)]).envelope.raw])
    hub.admit()
    assert [(one.line.name, one.centre) for one in queue.look()] == [
        ("Asha Devi", "Centre HWC2"),
        ("Asha Devi", "Centre HWC1"),
    ]
    assert [row.centre for row in queue.rows()] == ["HWC2", "HWC1"]


def test_a_long_reason_is_kept_short(queue: Queue) -> None:
    queue.refer("Asha Devi", "fever " * 300)
    (one,) = queue.look()
    assert len(one.line.reason) == glances.REASON_CHARS
