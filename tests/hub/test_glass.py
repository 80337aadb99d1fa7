"""Breaking the glass: one patient, one day, with a reason that is sealed, noted and reviewed."""

from __future__ import annotations

import os

import pytest

from hub_server import consults, erasure, glass, hospitals, people
from hub_server.glass import OPEN_MS, Opening
from hub_server.people import Person, Role
from sync_protocol.change import PersonId, RecordId
from sync_protocol.errors import HealthSyncError, InvalidValue, NeedsPerson, NotAllowed
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.test_consults import Ward
from tests.hub.test_consults import node as node
from tests.hub.test_consults import ward as ward

REASON = "Her sister rang: planted chest pain, nobody on duty."


@pytest.fixture(autouse=True)
def staff(ward: Ward) -> None:
    """A doctor of another specialty, and two who may review: of all hospitals, and of one."""
    with ward.world.database.transaction() as connection:
        hospitals.add(connection, "SEHORE", "District Hospital Sehore", NOW_MS)
        for login, role, specialties, hub in (
            ("skin", Role.DOCTOR, ("dermatology",), ""),
            ("officer", Role.DISTRICT_OFFICER, (), ""),
            ("sehore", Role.OPERATOR, (), "SEHORE"),
        ):
            made = Person(PersonId(os.urandom(16)), login, login.title(), role, specialties, "", "KMC-1", hub=hub)
            ward.doctors[login] = people.add(connection, made)


def break_glass(ward: Ward, name: RecordId, reason: str = REASON, now_ms: int = NOW_MS) -> Opening:
    random = os.urandom(glass.RANDOM_BYTES)
    return glass.break_glass(ward.world.store, ward.doctors["skin"], name, reason, now_ms, random)


def may_see(ward: Ward, name: RecordId, now_ms: int) -> bool:
    try:
        with ward.world.database.transaction() as connection:
            chart = ward.chart(name)
            consults.require_sight(connection, ward.doctors["skin"], chart, now_ms)
    except NotAllowed as error:
        assert error.code == "E_NOT_YOURS"
        return False
    return True


def waiting(ward: Ward, login: str = "officer", **more: bool) -> list[Opening]:
    who = ward.doctors[login]
    return glass.listed(ward.world.store, who.actor, who.hub, ward.tick(), **more)


def test_a_reason_opens_one_patient_for_a_day(ward: Ward, node: BareNode) -> None:
    (name, _), (other, _) = ward.refer(node), ward.refer(node)
    assert not may_see(ward, name, NOW_MS)
    made = break_glass(ward, name)
    assert made.until_ms == NOW_MS + OPEN_MS
    assert [may_see(ward, name, NOW_MS + passed) for passed in (0, OPEN_MS - 1, OPEN_MS)] == [True, True, False]
    assert not may_see(ward, other, NOW_MS)
    assert ("person skin", "break glass") in ward.noted()


def test_it_opens_every_referral_of_that_patient_and_to_that_doctor_alone(ward: Ward, node: BareNode) -> None:
    name, (patient, _, _) = ward.refer(node)
    second = node.write("referral", {"specialty": "cardiology", "urgency": "routine"}, patient=patient.record)
    ward.send(node, second)
    break_glass(ward, name)
    assert may_see(ward, second.record, NOW_MS)
    with ward.world.database.transaction() as connection:
        assert glass.open_for(connection, ward.doctors["rao"].id, patient.patient, NOW_MS) is None


def test_a_doctor_who_opened_a_patient_may_answer(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    with pytest.raises(NotAllowed):
        ward.reply("skin", name)
    break_glass(ward, name, now_ms=ward.world.now_ms)
    assert ward.reply("skin", name).verdict == "answered"


def test_again_on_the_same_day_it_is_as_it_was(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    first = break_glass(ward, name)
    assert break_glass(ward, name, "again", NOW_MS + 1000).name == first.name
    assert break_glass(ward, name, "the next day", NOW_MS + OPEN_MS).name != first.name


@pytest.mark.parametrize("reason", ["", "  ", "a" * 1_001])
def test_without_a_reason_nothing_is_opened(ward: Ward, node: BareNode, reason: str) -> None:
    name, _ = ward.refer(node)
    with pytest.raises(InvalidValue) as caught:
        break_glass(ward, name, reason)
    assert (caught.value.code, caught.value.field) == ("E_NO_REASON", "reason")
    assert not may_see(ward, name, NOW_MS)


def test_nobody_opens_patient_after_patient(ward: Ward, node: BareNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glass, "MAX_A_DAY", 2)
    names = [ward.refer(node)[0] for _ in range(3)]
    for name in names[:2]:
        break_glass(ward, name)
    with pytest.raises(NeedsPerson) as caught:
        break_glass(ward, names[2])
    assert caught.value.code == "E_TOO_MANY_OPENED"
    assert break_glass(ward, names[2], now_ms=NOW_MS + OPEN_MS).person == ward.doctors["skin"].id


def test_an_opening_of_a_clock_that_was_put_back_since_opens_nothing(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    break_glass(ward, name, now_ms=NOW_MS + 365 * OPEN_MS)
    assert not may_see(ward, name, NOW_MS)


def test_what_is_unknown_is_not_opened(ward: Ward) -> None:
    with pytest.raises(InvalidValue) as caught:
        break_glass(ward, RecordId(os.urandom(16)))
    assert caught.value.code == "E_NO_SUCH_REFERRAL"


# -- reviewing ---------------------------------------------------------------------------------------------------------


def test_it_waits_for_a_review_with_its_reason_which_stands_nowhere_in_the_clear(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    made = break_glass(ward, name)
    (listed,) = waiting(ward)
    assert (listed.name, listed.reason, listed.person) == (made.name, REASON, ward.doctors["skin"].id)
    assert ("person officer", "read glass") in ward.noted()
    with ward.world.database.transaction() as connection:
        ((sealed,),) = connection.execute("SELECT reason FROM glass").fetchall()
        assert glass.count_waiting(connection, "") == 1
    assert b"planted" not in bytes(sealed)


def test_a_review_is_marked_once_and_noted(ward: Ward, node: BareNode) -> None:
    made = break_glass(ward, ward.refer(node)[0])
    officer, store = ward.doctors["officer"], ward.world.store
    assert [glass.review(store, officer, made.name, ward.tick()) for _ in range(2)] == [True, False]
    assert waiting(ward) == []
    (reviewed,) = waiting(ward, reviewed=True)
    assert (reviewed.reviewed_by, reviewed.reason) == (officer.id, REASON)
    assert [verb for _, verb in ward.noted()].count("review glass") == 1
    with pytest.raises(HealthSyncError) as caught:
        glass.review(store, officer, os.urandom(16), ward.tick())
    assert caught.value.code == "E_NO_SUCH_OPENING"


def test_an_officer_of_another_hospital_neither_sees_nor_reviews_it(ward: Ward, node: BareNode) -> None:
    with ward.world.database.transaction() as connection:
        hospitals.add(connection, "BHOPAL", "Medical College", NOW_MS)
        connection.execute("UPDATE facility SET hub = 'BHOPAL' WHERE facility = 'HWC1'")
    made = break_glass(ward, ward.refer(node)[0])
    assert waiting(ward, "sehore") == []
    with ward.world.database.transaction() as connection:
        assert [glass.count_waiting(connection, hub) for hub in ("SEHORE", "BHOPAL", "")] == [0, 1, 1]
    with pytest.raises(HealthSyncError):
        glass.review(ward.world.store, ward.doctors["sehore"], made.name, ward.tick())
    assert len(waiting(ward)) == 1


def test_it_is_erased_with_the_patient_and_dropped_long_after_its_review(ward: Ward, node: BareNode) -> None:
    (first, (patient, _, _)), (second, _) = ward.refer(node), ward.refer(node)
    break_glass(ward, first)
    made = break_glass(ward, second)
    erasure.erase(ward.world.store, patient.patient, "operator root", ward.tick())
    assert [one.referral for one in waiting(ward)] == [second]
    glass.review(ward.world.store, ward.doctors["officer"], made.name, NOW_MS)
    for passed_ms, gone in ((glass.KEPT_MS, 0), (glass.KEPT_MS + 1, 1)):
        with ward.world.database.transaction() as connection:
            assert glass.drop_old(connection, NOW_MS + passed_ms) == gone
