"""Who is subscribed: by registering, by the patient's card, by a request that is granted, by links; and no longer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from hub_server import people, subscriptions
from hub_server.people import Person, Role
from hub_server.receiving import Incoming
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, PatientId, PersonId, RecordId
from sync_protocol.errors import NeedsPerson
from sync_protocol.merge import Held
from sync_protocol.schema import Writer
from sync_protocol.subscription import Card, State
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import HubWorld

SECRET = b"0123456789"


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> HubWorld:
    world = HubWorld.make(database_url, tmp_path / "keys")
    for code in ("HWC1", "HWC2", "HWC3"):
        world.facility(code)
    return world


@pytest.fixture
def home(hub: HubWorld) -> BareNode:
    return hub.node("HWC1")


@pytest.fixture
def guest(hub: HubWorld) -> BareNode:
    return hub.node("HWC2")


@pytest.fixture
def officer(hub: HubWorld) -> Person:
    with hub.database.transaction() as connection:
        return people.add(connection, Person(PersonId(os.urandom(16)), "officer", "An Officer", Role.DISTRICT_OFFICER))


def take(hub: HubWorld, node: BareNode, *changes: Change) -> None:
    with hub.database.transaction() as connection:
        hub.store.receive(connection, [Incoming(node.facility, one, Writer.CENTRE, NOW_MS) for one in changes], NOW_MS)
    subscriptions.settle(hub.store, NOW_MS)


def registered(hub: HubWorld, node: BareNode) -> PatientId:
    change = node.write("patient", {"name": "Sita"})
    take(hub, node, change, node.write("case", {"plan": "rest"}, patient=change.record))
    return PatientId(change.record)


def names(hub: HubWorld, facility: str, patient: PatientId) -> set[ChangeId]:
    with hub.database.transaction() as connection:
        return {held.change.id for _, held in hub.store.changes(connection, facility, [patient])}


def in_step(hub: HubWorld, *facilities: str) -> bool:
    with hub.database.transaction() as connection:
        return len({hub.store.digest(connection, facility) for facility in facilities}) == 1


def states(hub: HubWorld) -> list[State]:
    with hub.database.transaction() as connection:
        return [one.state for one in subscriptions.asked(connection, everything=True)]


def ask(node: BareNode, patient: PatientId, **writes: str) -> Change:
    return node.write("subscription", {**writes}, patient=patient)


def test_a_card_subscribes_at_once_and_the_home_centre_sees_it(hub: HubWorld, home: BareNode, guest: BareNode) -> None:
    patient = registered(hub, home)
    card = Card(patient, SECRET)
    take(hub, home, home.write("patient_card", {"secret": card.secret_text}, patient=patient))
    take(hub, guest, ask(guest, patient, card="WR0NGS3CRET"))
    assert states(hub) == [State.ASKED]
    assert len(names(hub, "HWC2", patient)) == 1
    take(hub, guest, ask(guest, patient, card=card.secret_text))
    assert states(hub) == [State.ASKED, State.BY_CARD] or states(hub) == [State.BY_CARD, State.ASKED]
    assert names(hub, "HWC2", patient) == names(hub, "HWC1", patient)
    assert len(names(hub, "HWC1", patient)) == 5
    assert in_step(hub, "HWC1", "HWC2")
    later = home.write("case", {"plan": "refer"}, patient=patient)
    take(hub, home, later)
    assert later.id in names(hub, "HWC2", patient)
    assert not names(hub, "HWC3", patient)


def test_a_card_may_arrive_after_the_request_and_be_taken_back(hub: HubWorld, home: BareNode, guest: BareNode) -> None:
    patient = registered(hub, home)
    secret = Card(patient, SECRET).secret_text
    take(hub, guest, ask(guest, patient, card=secret))
    assert states(hub) == [State.ASKED]
    card = home.write("patient_card", {"secret": secret}, patient=patient)
    take(hub, home, card)
    assert states(hub) == [State.BY_CARD]
    marked: dict[str, Value] = {"entered_in_error": {"hidden": True, "shown": [card.id]}}
    wrong = home.write("patient_card", marked, record=card.record, patient=patient)
    take(hub, home, wrong)
    assert states(hub) == [State.ASKED]
    later = home.write("case", {"plan": "refer"}, patient=patient)
    take(hub, home, later)
    assert later.id not in names(hub, "HWC2", patient)


def test_a_request_waits_for_a_person_who_grants_or_refuses(
    hub: HubWorld, home: BareNode, guest: BareNode, officer: Person
) -> None:
    patient = registered(hub, home)
    asked = ask(guest, patient, reason="moved here with her son")
    take(hub, guest, asked)
    with hub.database.transaction() as connection:
        (waiting,) = subscriptions.asked(connection)
    assert (waiting.facility, waiting.home, waiting.patient) == ("HWC2", "HWC1", patient)
    assert subscriptions.reason(hub.store, waiting, officer.actor, NOW_MS) == "moved here with her son"

    def decide(granted: bool, said: str = "") -> State:
        record, chance = RecordId(asked.record), os.urandom(10)
        done = subscriptions.decide(
            hub.store, record, officer, granted=granted, said=said, now_ms=NOW_MS, randomness=chance
        )
        return done.state

    assert decide(False, "who is she?") is State.REFUSED
    assert len(names(hub, "HWC2", patient)) == 2, "the centre reads the decision, and nothing of the patient"
    officer_said = len(names(hub, "HWC1", patient))
    assert decide(False) is State.REFUSED
    assert len(names(hub, "HWC1", patient)) == officer_said, "repeating it repeats nothing"
    assert decide(True) is State.GRANTED
    assert names(hub, "HWC2", patient) == names(hub, "HWC1", patient)
    assert in_step(hub, "HWC1", "HWC2")

    before = names(hub, "HWC2", patient)
    ended = guest.write("subscription", {"ended": True}, record=asked.record, patient=patient)
    take(hub, guest, ended)
    take(hub, home, home.write("case", {"plan": "refer"}, patient=patient))
    assert names(hub, "HWC2", patient) == before | {ended.id}
    assert states(hub) == [State.ENDED]
    with pytest.raises(NeedsPerson):
        decide(True)
    with hub.database.transaction() as connection:
        verbs = [row[0] for row in connection.execute("SELECT verb FROM audit ORDER BY seq").fetchall()]
    assert {"read subscription", "refuse subscription", "grant subscription", "subscribe", "unsubscribe"} <= set(verbs)


def test_linked_patients_share_subscriptions_and_unlinking_gives_back_what_was(
    hub: HubWorld, home: BareNode, guest: BareNode
) -> None:
    ours, theirs = registered(hub, home), registered(hub, guest)
    third = registered(hub, hub.node("HWC3"))
    link = home.write("patient_link", {"other": theirs, "relation": "same_person"}, patient=ours)
    take(hub, home, link)
    assert names(hub, "HWC1", theirs) == names(hub, "HWC2", theirs)
    assert names(hub, "HWC2", ours) == names(hub, "HWC1", ours)
    take(hub, guest, guest.write("patient_link", {"other": third, "relation": "same_person"}, patient=theirs))
    assert all(names(hub, code, one) for code in ("HWC1", "HWC2", "HWC3") for one in (ours, theirs, third))
    unlinked = home.write(
        "patient_link", {"relation": "not_the_same"}, record=link.record, patient=ours, shown={"relation": [link.id]}
    )
    take(hub, home, unlinked)
    case = guest.write("case", {"plan": "refer"}, patient=theirs)
    take(hub, guest, case)
    assert case.id not in names(hub, "HWC1", theirs)
    assert case.id in names(hub, "HWC2", theirs) & names(hub, "HWC3", theirs)


def test_who_wrote_first_of_a_patient_hands_it_to_who_registers_it(
    hub: HubWorld, home: BareNode, guest: BareNode
) -> None:
    patient = PatientId(os.urandom(16))
    case = guest.write("case", {"plan": "rest"}, patient=patient)
    take(hub, guest, case)
    name = home.write("patient", {"name": "Sita"}, record=patient)
    take(hub, home, name)
    later = home.write("case", {"plan": "refer"}, patient=patient)
    take(hub, home, later)
    assert names(hub, "HWC1", patient) == {case.id, name.id, later.id}
    assert names(hub, "HWC2", patient) == {case.id}
    with hub.database.transaction() as connection:
        assert connection.execute("SELECT facility FROM patient WHERE patient = %s", (patient,)).fetchone() == ("HWC1",)
        assert hub.store.record(connection, "HWC1", patient, name.key) is not None


def given_back(hub: HubWorld, node: BareNode, history: Iterable[Held]) -> None:
    """What a node of another facility brings to a hub that was put back, in an order of its own."""
    with hub.database.transaction() as connection:
        hub.store.receive(
            connection,
            [Incoming(node.facility, one.change, one.origin, one.receipt_ms or 0, vouched=True) for one in history],
            NOW_MS + 5_000,
        )
    subscriptions.settle(hub.store, NOW_MS + 5_000)


def test_a_hub_that_was_put_back_derives_it_again_and_knows_whose_patient_it_is(
    hub: HubWorld, home: BareNode, guest: BareNode, database_url: str
) -> None:
    patient = registered(hub, home)
    card = Card(patient, SECRET)
    take(hub, home, home.write("patient_card", {"secret": card.secret_text}, patient=patient))
    take(hub, guest, ask(guest, patient, card=card.secret_text))
    with hub.database.transaction() as connection:
        history = hub.store.history(connection, patient)
        digest = hub.store.digest(connection, "HWC1")
        for table in ("item", "patient", "subscription", "subscription_request", "own_subscriber"):
            connection.execute(f"DELETE FROM {table}".encode())
        connection.execute("UPDATE feed SET position = 0, hash = %s", (bytes(16),))
    hub = HubWorld.make(database_url, hub.folder)
    given_back(hub, guest, reversed(history))
    assert names(hub, "HWC1", patient) == names(hub, "HWC2", patient) == {one.change.id for one in history}
    with hub.database.transaction() as connection:
        assert hub.store.digest(connection, "HWC1") == hub.store.digest(connection, "HWC2") == digest
        assert connection.execute("SELECT facility FROM patient").fetchall() == [("HWC1",)]
    assert states(hub) == [State.BY_CARD]


def test_the_earliest_receipt_that_a_node_shows_counts_in_every_feed(
    hub: HubWorld, home: BareNode, guest: BareNode
) -> None:
    change = home.write("patient", {"name": "Sita"})
    take(hub, home, change)
    with hub.database.transaction() as connection:
        before = hub.store.digest(connection, "HWC1")
    given_back(hub, guest, [Held(change, NOW_MS - 9_000), Held(change, NOW_MS + 9_000)])
    for facility in ("HWC1", "HWC2"):
        with hub.database.transaction() as connection:
            receipts = [
                row[0]
                for row in connection.execute(
                    "SELECT receipt_ms FROM item WHERE facility = %s ORDER BY position", (facility,)
                ).fetchall()
            ]
            assert min(receipts) == NOW_MS - 9_000
            assert len(receipts) == (2 if facility == "HWC1" else 1)
            assert hub.store.digest(connection, "HWC1") == hub.store.digest(connection, facility) != before
    assert in_step(hub, "HWC1", "HWC2")
