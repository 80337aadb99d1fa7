"""Two who come at once: nobody waits in a circle, and no verdict is spoken of what has changed in between.

Each test holds the one at the moment that matters until the other has gone as far as it can: to its end, or to a lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hub_server import (
    charts,
    consults,
    drafts,
    duty,
    erasure,
    facilities,
    feed,
    grants,
    hospitals,
    nodes,
    people,
    queue,
    sign_in,
    subscriptions,
    tallies,
)
from hub_server.database import Connection
from hub_server.drafts import Draft
from hub_server.facilities import Facility
from hub_server.ledger import Ledger
from hub_server.people import Person, Role
from hub_server.sign_in import credentials, sessions, tries
from hub_server.store import Store
from sync_protocol.change import Change, FacilityCode, PatientId, PersonId, RecordId
from sync_protocol.envelope import Envelope
from sync_protocol.errors import InvalidValue
from sync_protocol.subscription import Card, State
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.command_line import Terminal, add_doctor
from tests.hub.hub_world import PATIENCE_S, HubWorld, wait_until
from tests.hub.test_cli import hub as hub  # the fixtures
from tests.hub.test_consults import Ward
from tests.hub.test_consults import node as node
from tests.hub.test_consults import ward as ward

Came = TypeVar("Came")
FIELDS = {"advice": ["Drink planted-water."]}


class Other:
    """Somebody else, in a thread of their own."""

    def __init__(self, world: HubWorld, pool: ThreadPoolExecutor) -> None:
        self._world = world
        self._pool = pool

    def goes(self, deed: Callable[[], Came]) -> Future[Came]:
        """As far as they can: they are done, or wait for a lock."""
        going = self._pool.submit(deed)
        wait_until(lambda: going.done() or self._world.somebody_waits())
        return going


@contextmanager
def beside(world: HubWorld) -> Iterator[Other]:
    with ThreadPoolExecutor(1) as pool:
        yield Other(world, pool)


@pytest.fixture
def other(ward: Ward) -> Iterator[Other]:
    with beside(ward.world) as one:
        yield one


@pytest.fixture
def ledger(ward: Ward, tmp_path: Path) -> Ledger:
    """The hub keeps one."""
    identity = ward.world.vault.identity
    ward.world.vault.ledger = Ledger(tmp_path / "ledger", identity.signing, identity.environment)
    return ward.world.vault.ledger


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, room: object, name: str, deed: Callable[[], object], *, behind: bool = False
) -> None:
    """Do this once: before that function is called the first time, or when it has answered."""
    real = getattr(room, name)

    def first(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(room, name, real)
        if not behind:
            deed()
        answer = real(*given, **named)
        if behind:
            deed()
        return answer

    monkeypatch.setattr(room, name, first)


# -- writing and erasing -----------------------------------------------------------------------------------------------


def test_a_doctor_writes_to_a_centre_while_a_patient_of_it_is_erased(
    ward: Ward, node: BareNode, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, (gone, _, _)), (name, _), (known, _) = ward.refer(node), ward.refer(node), ward.refer(node)
    ward.claim("rao", known)  # from now on the centre knows the doctor
    erasing: list[Future[erasure.Done]] = []
    patient, now_ms = PatientId(gone.record), ward.tick()

    def erase() -> None:
        erasing.append(other.goes(lambda: erasure.erase(ward.world.store, patient, "operator test", now_ms)))

    meanwhile(monkeypatch, Store, "receive", erase)
    assert ward.claim("rao", name).verdict == "claimed"
    assert erasing[0].result(PATIENCE_S).verdict == "erased"


def test_a_request_for_a_patient_is_decided_while_a_doctor_claims_a_referral_of_the_same(
    ward: Ward, node: BareNode, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name, (patient, _, _)), (known, _) = ward.refer(node), ward.refer(node)
    ward.claim("rao", known)
    asked = requested(ward, ward.world.node("HWC2"), patient)
    claiming: list[Future[consults.Done]] = []
    meanwhile(monkeypatch, Store, "receive", lambda: claiming.append(other.goes(lambda: ward.claim("rao", name))))
    assert decide(ward, asked) is State.GRANTED
    assert claiming[0].result(PATIENCE_S).verdict == "claimed"


def test_a_centre_is_moved_while_a_patient_of_it_is_erased(
    ward: Ward, node: BareNode, other: Other, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (gone, _, _) = ward.refer(node)
    patient, now_ms = PatientId(gone.record), ward.tick()
    erasing: list[Future[erasure.Done]] = []

    def erase() -> None:
        erasing.append(other.goes(lambda: erasure.erase(ward.world.store, patient, "operator test", now_ms)))

    meanwhile(monkeypatch, queue, "move", erase)
    with ward.world.database.transaction() as connection:
        wanted = Facility("HWC1", "Centre HWC1", "Sehore", "Madhya Pradesh")
        assert facilities.change(connection, ward.world.vault, wanted, now_ms) == "changed"
    assert erasing[0].result(PATIENCE_S).verdict == "erased"
    assert {line.kind for line in ledger.lines()} >= {"facility_changed", "erased"}


def test_centres_are_changed_by_a_list_while_a_node_is_enrolled_at_one_of_them(
    ward: Ward, other: Other, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [(at, {"facility": f"HWC{at}", "name": f"Rampur {at}"}) for at in (1, 2)]
    enrolling: list[Future[BareNode]] = []
    meanwhile(
        monkeypatch,
        facilities,
        "change",
        lambda: enrolling.append(other.goes(lambda: ward.world.node("HWC2"))),
        behind=True,
    )
    taken = facilities.take_list(ward.world.database, ward.world.vault, lines, ward.tick(), changing=True)
    assert [one.verdict for one in taken] == ["changed", "changed"]
    assert enrolling[0].result(PATIENCE_S).facility == "HWC2"


def test_a_list_of_charts_leaves_out_who_was_erased_since_it_was_made(ward: Ward, node: BareNode) -> None:
    (gone, (patient, _, _)), (kept, _) = ward.refer(node), ward.refer(node)
    rows = ward.queue()
    erasure.erase(ward.world.store, PatientId(patient.record), "operator test", ward.tick())
    opened = charts.read_charts(ward.world.store, rows, "operator test", ward.tick())
    assert [one.referral.key.record for one in opened] == [kept]
    with pytest.raises(InvalidValue) as caught:
        charts.read_chart(ward.world.store, rows[0], "operator test", ward.tick())
    assert (rows[0].referral, caught.value.code) == (gone, "E_NO_SUCH_REFERRAL")


def test_a_chart_of_who_is_erased_while_it_is_opened_is_refused(
    ward: Ward, node: BareNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, (gone, _, _) = ward.refer(node)
    patient, now_ms = PatientId(gone.record), ward.tick()

    def erase() -> None:
        erasure.erase(ward.world.store, patient, "operator test", now_ms)

    meanwhile(monkeypatch, charts, "find_queued", erase, behind=True)
    with pytest.raises(InvalidValue) as caught:
        ward.chart(name)
    assert caught.value.code == "E_NO_SUCH_REFERRAL"


# -- who is subscribed -------------------------------------------------------------------------------------------------


def requested(ward: Ward, guest: BareNode, patient: Change) -> RecordId:
    """A request of another centre for this patient, which waits for a person."""
    asked = guest.write("subscription", {"reason": "moved here"}, patient=patient.record)
    ward.send(guest, asked)
    subscriptions.settle(ward.world.store, ward.tick())
    return RecordId(asked.record)


def decide(ward: Ward, asked: RecordId) -> State:
    person = Person(PersonId(os.urandom(16)), "officer", "An Officer", Role.DISTRICT_OFFICER)
    with ward.world.database.transaction() as connection:
        officer = people.add(connection, person)
    store, now_ms, chance = ward.world.store, ward.tick(), os.urandom(10)
    return subscriptions.decide(store, asked, officer, granted=True, said="", now_ms=now_ms, randomness=chance).state


def test_a_decision_is_in_force_when_it_is_told_also_while_another_program_settles(
    ward: Ward, node: BareNode, other: Other
) -> None:
    _, (patient, _, _) = ward.refer(node)
    asked = requested(ward, ward.world.node("HWC2"), patient)
    with ward.world.database.transaction() as settling:
        settling.execute("SELECT pg_advisory_xact_lock(%s)", (subscriptions._LOCK_KEY,))
        deciding = other.goes(lambda: decide(ward, asked))
    assert deciding.result(PATIENCE_S) is State.GRANTED


def test_subscriptions_are_settled_while_days_are_counted(
    ward: Ward, node: BareNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (patient, _, _) = ward.refer(node)
    card = Card(PatientId(patient.record), b"0123456789").secret_text
    ward.send(node, node.write("patient_card", {"secret": card}, patient=patient.record))
    settled: list[int] = []
    now_ms = ward.tick()
    meanwhile(monkeypatch, tallies, "count", lambda: settled.append(subscriptions.settle(ward.world.store, now_ms)))
    tallies.settle(ward.world.database)
    assert settled[0] > 0


def test_a_patient_of_three_centres_is_shared_while_two_of_them_are_written_to(
    ward: Ward, node: BareNode, other: Other
) -> None:
    """Its history goes to the feeds of its authors too: they are locked with the others, in the same order."""
    home, guest = ward.world.node("HWC2"), BareNode(ward.world.vault, ward.world.facility("HWC3"))
    guest.enrol(ward.world.database)
    _, (patient, _, _) = ward.refer(home)
    card = Card(PatientId(patient.record), b"0123456789").secret_text
    ward.send(home, home.write("patient_card", {"secret": card}, patient=patient.record))
    ward.send(node, node.write("case", {"plan": "rest"}, patient=patient.record))
    subscriptions.settle(ward.world.store, ward.tick())
    ward.send(guest, guest.write("subscription", {"card": card}, patient=patient.record))
    now_ms = ward.tick()
    with ward.world.database.transaction() as connection:
        feed.lock(connection, {FacilityCode("HWC1")})
        settling = other.goes(lambda: subscriptions.settle(ward.world.store, now_ms))
        feed.lock(connection, {FacilityCode("HWC2"), FacilityCode("HWC3")})
    assert settling.result(PATIENCE_S) > 0
    with ward.world.database.transaction() as connection:
        kinds = {
            one.change.kind for _, one in ward.world.store.changes(connection, "HWC3", [PatientId(patient.record)])
        }
    assert {"patient", "case"} <= kinds


# -- what doctors have begun -------------------------------------------------------------------------------------------


def test_two_drafts_of_one_case_that_pages_send_by_themselves_do_not_wait_for_each_other(
    ward: Ward, node: BareNode, other: Other
) -> None:
    name, _ = ward.refer(node)
    store, now_ms = ward.world.store, ward.tick()

    def keep(login: str) -> bool:
        doctor, nonce = ward.doctors[login], os.urandom(12)
        return consults.keep_draft(store, doctor, name, FIELDS, now_ms, nonce, corrects=None, by_itself=True)

    with ward.world.database.transaction() as connection:
        assert charts.standing_reply(connection, store, name) is None
        keeping = other.goes(lambda: keep("nair"))
        drafts.keep(store, connection, ward.doctors["rao"].id, name, FIELDS, now_ms, os.urandom(12))
    assert keeping.result(PATIENCE_S)


def test_an_old_draft_that_is_kept_anew_while_another_one_is_begun_does_not_make_room_for_it(
    ward: Ward, node: BareNode, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "MAX_DRAFTS", 2)
    (oldest, _), (middle, _), (fresh, _) = (ward.refer(node) for _ in range(3))
    store, doctor = ward.world.store, ward.doctors["rao"].id

    def keep(connection: Connection, name: RecordId, at_ms: int) -> None:
        drafts.keep(store, connection, doctor, name, FIELDS, NOW_MS + at_ms, os.urandom(12))

    def begin() -> None:
        with ward.world.database.transaction() as connection:
            keep(connection, fresh, 3)

    with ward.world.database.transaction() as connection:
        keep(connection, oldest, 1)
        keep(connection, middle, 2)
    with ward.world.database.transaction() as connection:
        keep(connection, oldest, 4)
        beginning = other.goes(begin)
    beginning.result(PATIENCE_S)
    with ward.world.database.transaction() as connection:
        assert drafts.find(store, connection, doctor, oldest) == Draft(FIELDS, NOW_MS + 4)


def test_old_drafts_are_dropped_but_for_one_that_somebody_comes_back_to(ward: Ward, node: BareNode) -> None:
    (first, _), (second, _) = ward.refer(node), ward.refer(node)
    store, doctor, late_ms = ward.world.store, ward.doctors["rao"].id, NOW_MS + drafts.KEPT_MS + 1
    for name in (first, second):
        with ward.world.database.transaction() as connection:
            drafts.keep(store, connection, doctor, name, FIELDS, NOW_MS, os.urandom(12))
    with ward.world.database.transaction() as coming_back:
        drafts.keep(store, coming_back, doctor, first, FIELDS, late_ms, os.urandom(12))
        with ward.world.database.transaction() as connection:
            connection.execute("SET LOCAL lock_timeout = '1s'")
            assert drafts.drop_old(connection, late_ms) == 1
    with ward.world.database.transaction() as connection:
        assert set(drafts.begun(connection, doctor)) == {first}


def test_who_is_disabled_while_they_go_on_duty_is_on_none(ward: Ward) -> None:
    with ward.world.database.transaction() as connection:
        people.disable(connection, "rao", NOW_MS)
    with ward.world.database.transaction() as connection:
        duty.go_on(connection, ward.doctors["rao"], NOW_MS + 1000, "person rao", NOW_MS)
        assert duty.everyone_on_duty(connection, NOW_MS) == []


# -- who may come in ---------------------------------------------------------------------------------------------------


def test_a_password_is_set_while_what_is_over_is_dropped(ward: Ward, other: Other) -> None:
    rao, vault = ward.doctors["rao"], ward.world.vault
    login, later_ms = tries.of_login(vault, "rao"), NOW_MS + sessions.SESSION_MS + tries.LOGIN.forget_ms
    with ward.world.database.transaction() as connection:
        sessions.open_session(connection, rao.id, NOW_MS, os.urandom(32))
        tries.count(connection, [login], NOW_MS)

    def drop() -> int:
        with ward.world.database.transaction() as connection:
            return sign_in.drop_stale(connection, later_ms)

    with ward.world.database.transaction() as connection:
        sessions.end_sessions(connection, rao.id)  # as whoever sets a password begins
        dropping = other.goes(drop)
        tries.forget(connection, login)
    assert dropping.result(PATIENCE_S) == 0


def test_somebody_is_disabled_while_they_change_their_password(hub: Terminal, database_url: str) -> None:
    add_doctor(hub)
    assert hub("people", "password", "dr.rao").status == 0
    world = hub.world(database_url)
    with beside(world) as other:
        with world.database.transaction() as connection:
            rao = people.find(connection, "dr.rao")
            sessions.open_session(connection, rao.id, NOW_MS, os.urandom(32))
        with world.database.transaction() as connection:
            credentials.hold(connection, rao.id)
            sessions.end_sessions(connection, rao.id)
            disabling = other.goes(lambda: hub("people", "disable", "dr.rao", "--yes"))
            connection.execute("UPDATE setting SET value = value WHERE key = 'ledger'")  # as whoever notes there
        assert disabling.result(PATIENCE_S).out == "disabled\n"


def test_two_operators_who_change_different_things_of_a_person_both_have_their_way(
    hub: Terminal, database_url: str
) -> None:
    add_doctor(hub)
    world = hub.world(database_url)
    assert hub("hospital", "add", "DH-SEHORE", "District Hospital Sehore").status == 0
    with beside(world) as other:
        with world.database.transaction() as connection:
            people.assign(connection, "dr.rao", "", ("ent",))
            moving = other.goes(lambda: hub("people", "assign", "dr.rao", "--hub", "DH-SEHORE"))
        assert moving.result(PATIENCE_S).status == 0
    with world.database.transaction() as connection:
        now = people.find(connection, "dr.rao")
    assert (now.hub, now.specialties) == ("DH-SEHORE", ("ent",))


def test_two_operators_who_change_different_things_of_a_centre_both_have_their_way(
    hub: Terminal, database_url: str
) -> None:
    world = hub.world(database_url)
    world.facility("HWC1")
    assert hub("hospital", "add", "DH-SEHORE", "District Hospital Sehore").status == 0
    with beside(world) as other:
        with world.database.transaction() as connection:
            wanted = Facility("HWC1", "Centre HWC1", hub="DH-SEHORE")
            facilities.change(connection, world.vault, wanted, NOW_MS)
            renaming = other.goes(lambda: hub("facility", "change", "HWC1", "--name", "Rampur"))
        assert renaming.result(PATIENCE_S).status == 0
    with world.database.transaction() as connection:
        (now,) = facilities.find_all(connection, "HWC1")
    assert (now.name, now.hub) == ("Rampur", "DH-SEHORE")


def test_two_who_add_a_hospital_of_one_code_do_not_rename_each_others(ward: Ward, other: Other) -> None:
    def add(name: str) -> str:
        with ward.world.database.transaction() as connection:
            return hospitals.add(connection, "DH-SEHORE", name, NOW_MS)

    with ward.world.database.transaction() as connection:
        assert hospitals.add(connection, "DH-SEHORE", "District Hospital Sehore", NOW_MS) == "created"
        adding = other.goes(lambda: add("Civil Hospital Sehore"))
    with pytest.raises(InvalidValue) as caught:
        adding.result(PATIENCE_S)
    assert caught.value.code == "E_HUB_EXISTS"
    assert add("District Hospital Sehore") == "unchanged"


# -- what nodes bring --------------------------------------------------------------------------------------------------


def sealed(node: BareNode) -> Envelope:
    return node.pack([node.write("patient", {"name": "Asha Devi"})]).envelope


def arrived(ward: Ward, node: BareNode, *brought: Envelope) -> list[nodes.Arrived]:
    with ward.world.database.transaction() as connection:
        known = nodes.find(connection, node.node)
    return [nodes.Arrived(known, one, NOW_MS) for one in brought]


def states(ward: Ward) -> list[tuple[str, str]]:
    with ward.world.database.transaction() as connection:
        return connection.execute("SELECT state, reason FROM arrival ORDER BY seq").fetchall()


def test_a_grant_that_comes_while_its_segment_is_taken_up_opens_it(
    ward: Ward, node: BareNode, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = ward.world
    world.exchange(node, [sealed(node).raw], with_grant=False)

    def bring() -> None:
        with world.database.transaction() as connection:
            grants.keep(connection, world.vault, nodes.find(connection, node.node), node.grant_frame(), NOW_MS)

    bringing: list[Future[None]] = []
    meanwhile(monkeypatch, grants, "of_nodes", lambda: bringing.append(other.goes(bring)), behind=True)
    assert world.admitter.admit_once(world.now_ms).changes == 0
    bringing[0].result(PATIENCE_S)
    assert world.admit() == 1


def test_the_same_segments_may_come_by_two_ways_in_any_order(ward: Ward, node: BareNode, other: Other) -> None:
    both = arrived(ward, node, sealed(node), sealed(node))
    first, second = sorted(both, key=lambda one: one.envelope.id)

    def keep() -> None:
        with ward.world.database.transaction() as connection:
            nodes.keep(connection, [second, first])

    with ward.world.database.transaction() as connection:
        nodes.keep(connection, [first])
        keeping = other.goes(keep)
        nodes.keep(connection, [second])
    keeping.result(PATIENCE_S)
    assert states(ward) == [("kept", "")] * 2


def test_segments_are_taken_up_in_the_order_in_which_they_came(ward: Ward, node: BareNode) -> None:
    came = arrived(ward, node, *(sealed(node) for _ in range(8)))
    with ward.world.database.transaction() as connection:
        nodes.keep(connection, came)
        waiting = nodes.next_kept(connection, 8, 1_000_000)
    assert [one.segment for one in waiting] == [one.envelope.id for one in came]


def test_what_comes_to_its_end_after_its_node_was_revoked_waits_for_a_person(ward: Ward, node: BareNode) -> None:
    """The request began before; and another one began before the revocation was taken back."""
    vault = ward.world.vault
    (began,) = arrived(ward, node, sealed(node))
    with ward.world.database.transaction() as connection:
        nodes.revoke(connection, vault, node.node, "stolen", NOW_MS)
    with ward.world.database.transaction() as connection:
        nodes.keep(connection, [began])
    assert states(ward) == [("quarantined", "E_REVOKED")]
    (late,) = arrived(ward, node, sealed(node))
    assert late.node.revoked
    with ward.world.database.transaction() as connection:
        connection.execute("UPDATE node SET revoked_ms = NULL")
        nodes.keep(connection, [late])
    assert states(ward)[1] == ("kept", "")
