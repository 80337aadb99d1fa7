"""Who has a referral: claims that lapse, handing over by name, two doctors at once, a clock that was put back."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest

from hub_server import charts, claim_locks, consults, erasure, people
from hub_server.claim_locks import Lock
from hub_server.consults import Done
from hub_server.people import Person, Role
from sync_protocol.change import PersonId, RecordId
from sync_protocol.errors import HealthSyncError, InvalidValue, NeedsPerson
from sync_protocol.referral import Status
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import PATIENCE_S
from tests.hub.test_consults import Ward
from tests.hub.test_consults import node as node
from tests.hub.test_consults import ward as ward

LAPSE_MS = 30 * 60_000


def claim(ward: Ward, login: str, name: RecordId, at_ms: int, **more: bool) -> Done:
    random = os.urandom(consults.RANDOM_BYTES)
    doctor = ward.doctors[login]
    return consults.claim(ward.world.store, doctor, name, at_ms, random, lapse_ms=LAPSE_MS, **more)


def hand_over(ward: Ward, login: str, name: RecordId, to: str, at_ms: int) -> Done:
    store = ward.world.store
    return consults.hand_over(store, ward.doctors[login], name, ward.doctors[to], at_ms, lapse_ms=LAPSE_MS)


def add(ward: Ward, login: str, specialties: tuple[str, ...] = (), role: Role = Role.DOCTOR) -> Person:
    person = PersonId(people.fresh_id(NOW_MS, os.urandom(10)))
    with ward.world.database.transaction() as connection:
        made = people.add(connection, Person(person, login, f"Dr. {login.title()}", role, specialties, "", "KMC-9"))
    ward.doctors[login] = made
    return made


def refused(ward: Ward, login: str, name: RecordId, at_ms: int) -> str:
    with pytest.raises(HealthSyncError) as caught:
        claim(ward, login, name, at_ms)
    return caught.value.code


def open_claims(ward: Ward, name: RecordId) -> list[PersonId]:
    chart = ward.chart(name)
    return [charts.author(one) for one in chart.about("claim") if one.view().get("released") is not True]


# -- lapsing -----------------------------------------------------------------------------------------------------------


def test_a_claim_keeps_others_away_until_it_lapses_and_then_the_next_one_releases_it(
    ward: Ward, node: BareNode
) -> None:
    name, _ = ward.refer(node)
    begun = ward.tick()
    claim(ward, "rao", name, begun)
    (row,) = ward.queue(statuses=charts.WAITING)
    assert row.held_by(begun + LAPSE_MS - 1, LAPSE_MS) == ward.doctors["rao"].id
    assert row.held_by(begun + LAPSE_MS, LAPSE_MS) is None
    assert refused(ward, "nair", name, begun + LAPSE_MS - 1) == "E_CLAIMED"
    assert claim(ward, "nair", name, begun + LAPSE_MS).verdict == "claimed"
    assert open_claims(ward, name) == [ward.doctors["nair"].id]
    assert ward.chart(name).progress.claimed_by == ward.doctors["nair"].id


def test_whatever_its_doctor_does_keeps_a_claim(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    begun = ward.tick()
    claim(ward, "rao", name, begun)
    store, rao = ward.world.store, ward.doctors["rao"]
    consults.keep_claim(store, rao, name, begun + 20 * 60_000)
    assert refused(ward, "nair", name, begun + 49 * 60_000) == "E_CLAIMED"
    consults.ask(store, rao, name, "Since when?", begun + 45 * 60_000, os.urandom(consults.RANDOM_BYTES))
    assert refused(ward, "nair", name, begun + 74 * 60_000) == "E_CLAIMED"
    claim(ward, "rao", name, begun + 74 * 60_000)
    assert refused(ward, "nair", name, begun + 103 * 60_000) == "E_CLAIMED"
    consults.keep_claim(store, ward.doctors["nair"], name, begun + 103 * 60_000)  # it is not hers
    assert claim(ward, "nair", name, begun + 105 * 60_000).verdict == "claimed"


def test_who_lost_a_lapsed_claim_cannot_answer_over_the_other(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    begun = ward.tick()
    claim(ward, "rao", name, begun)
    claim(ward, "nair", name, begun + LAPSE_MS)
    ward.world.now_ms = begun + LAPSE_MS + 1
    with pytest.raises(NeedsPerson) as caught:
        ward.reply("rao", name)
    assert caught.value.code == "E_CLAIMED"
    assert ward.reply("nair", name).verdict == "answered"


def test_of_two_doctors_at_once_one_gets_what_has_lapsed(ward: Ward, node: BareNode) -> None:
    add(ward, "shah")
    names = [ward.refer(node)[0] for _ in range(4)]
    begun = ward.tick()
    for name in names:
        claim(ward, "rao", name, begun)
    verdicts: list[str] = []
    barrier = threading.Barrier(2)

    def hurry(login: str) -> None:
        for name in names:
            barrier.wait(PATIENCE_S)
            try:
                verdicts.append(claim(ward, login, name, begun + LAPSE_MS).verdict)
            except NeedsPerson as error:
                verdicts.append(error.code)

    hurried = [threading.Thread(target=hurry, args=(login,)) for login in ("nair", "shah")]
    for one in hurried:
        one.start()
    for one in hurried:
        one.join(PATIENCE_S)
    assert sorted(verdicts) == ["E_CLAIMED"] * 4 + ["claimed"] * 4
    assert all(len(open_claims(ward, name)) == 1 for name in names)


@pytest.mark.parametrize(
    ("claimed_ms", "touched_ms", "lapsed"),
    [
        (NOW_MS, 0, False),
        (NOW_MS - LAPSE_MS, 0, True),
        (NOW_MS - LAPSE_MS, NOW_MS - LAPSE_MS + 1, False),
        (NOW_MS + 86_400_000, 0, True),  # written before this machine's clock was put back
        (NOW_MS - LAPSE_MS, NOW_MS + 86_400_000, True),
    ],
)
def test_a_time_to_come_keeps_nobody_away(claimed_ms: int, touched_ms: int, lapsed: bool) -> None:
    assert Lock(touched_ms=touched_ms).has_lapsed(claimed_ms, NOW_MS, LAPSE_MS) is lapsed


def test_a_claim_of_a_clock_that_was_put_back_since_is_taken_without_force(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    begun = ward.tick()
    claim(ward, "rao", name, begun + 365 * 86_400_000)
    assert claim(ward, "nair", name, begun).verdict == "claimed"
    assert len(open_claims(ward, name)) == 1


def test_what_waits_for_another_is_not_handed_on_by_a_third(ward: Ward, node: BareNode) -> None:
    add(ward, "shah")
    name, _ = ward.refer(node)
    begun = ward.tick()
    claim(ward, "rao", name, begun)
    hand_over(ward, "rao", name, "nair", begun)
    with pytest.raises(NeedsPerson) as caught:
        hand_over(ward, "shah", name, "rao", begun + 1)
    assert caught.value.code == "E_HANDED_OVER"
    assert hand_over(ward, "nair", name, "shah", begun + 2).verdict == "handed_over"
    assert hand_over(ward, "rao", name, "nair", begun + 2 + LAPSE_MS).verdict == "handed_over", (
        "it is everybody's again"
    )


# -- handing over ------------------------------------------------------------------------------------------------------


def test_what_is_handed_over_waits_for_that_doctor_and_then_is_everybodys(ward: Ward, node: BareNode) -> None:
    add(ward, "shah")
    name, _ = ward.refer(node)
    begun = ward.tick()
    claim(ward, "rao", name, begun)
    done = hand_over(ward, "rao", name, "nair", begun + 1000)
    assert (done.verdict, len(done.changes)) == ("handed_over", 1)
    chart = ward.chart(name)
    assert (chart.progress.status, open_claims(ward, name)) == (Status.RECEIVED, [])
    (row,) = ward.queue(statuses=charts.WAITING)
    assert row.held_by(begun + 2000, LAPSE_MS) == ward.doctors["nair"].id
    assert row.lock.handed_by == ward.doctors["rao"].id
    assert refused(ward, "shah", name, begun + 2000) == "E_HANDED_OVER"
    assert refused(ward, "rao", name, begun + 2000) == "E_HANDED_OVER"  # it was given away
    assert claim(ward, "nair", name, begun + 3000).verdict == "claimed"
    assert ward.chart(name).lock == Lock()
    assert ("person rao", "hand over") in ward.noted()
    other, _ = ward.refer(node)
    later = ward.tick()
    hand_over(ward, "rao", other, "nair", later)  # nobody's yet
    assert refused(ward, "shah", other, later + LAPSE_MS - 1) == "E_HANDED_OVER"
    assert claim(ward, "shah", other, later + LAPSE_MS).verdict == "claimed"


def test_what_was_handed_to_somebody_can_be_taken_with_force_or_answered_by_them(ward: Ward, node: BareNode) -> None:
    first, _ = ward.refer(node)
    second, _ = ward.refer(node)
    begun = ward.tick()
    for name in (first, second):
        claim(ward, "rao", name, begun)
        hand_over(ward, "rao", name, "nair", begun + 1)
    assert claim(ward, "rao", first, begun + 2, take_over=True).verdict == "claimed"
    with pytest.raises(NeedsPerson) as caught:
        ward.reply("rao", second)
    assert caught.value.code == "E_HANDED_OVER"
    assert ward.reply("nair", second).verdict == "answered"


def test_a_referral_is_handed_only_to_a_doctor_at_work_who_sees_its_specialty(ward: Ward, node: BareNode) -> None:
    add(ward, "skin", ("dermatology",))
    add(ward, "officer", role=Role.DISTRICT_OFFICER)
    ward.doctors["gone"] = replace(add(ward, "gone"), disabled_ms=NOW_MS)
    add(ward, "ent", ("ent",))
    name, _ = ward.refer(node, specialty="ent")
    for login in ("skin", "officer", "gone", "rao"):
        with pytest.raises(InvalidValue) as caught:
            hand_over(ward, "rao", name, login, ward.tick())
        assert caught.value.code == "E_CANNOT_TAKE"
    assert hand_over(ward, "rao", name, "ent", ward.tick()).verdict == "handed_over"


def test_what_another_has_or_what_is_answered_is_not_handed_over(ward: Ward, node: BareNode) -> None:
    add(ward, "shah")
    name, _ = ward.refer(node)
    begun = ward.tick()
    claim(ward, "nair", name, begun)
    with pytest.raises(NeedsPerson) as caught:
        hand_over(ward, "rao", name, "shah", begun + 1)
    assert caught.value.code == "E_CLAIMED"
    ward.reply("nair", name)
    with pytest.raises(NeedsPerson) as caught:
        hand_over(ward, "nair", name, "shah", ward.tick())
    assert caught.value.code == "E_ANSWERED"


# -- what is kept ------------------------------------------------------------------------------------------------------


def rows(ward: Ward) -> int:
    with ward.world.database.transaction() as connection:
        return int(connection.execute("SELECT count(*) FROM claim_lock").fetchall()[0][0])


def test_an_erasure_takes_along_what_is_known_of_claims(ward: Ward, node: BareNode) -> None:
    name, (patient, _, _) = ward.refer(node)
    claim(ward, "rao", name, ward.tick())
    consults.keep_claim(ward.world.store, ward.doctors["rao"], name, ward.tick() + 120_000)
    assert rows(ward) == 1
    erasure.erase(ward.world.store, patient.patient, "operator root", ward.tick())
    assert rows(ward) == 0


def test_what_has_lapsed_by_any_setting_is_dropped(ward: Ward, node: BareNode) -> None:
    name, _ = ward.refer(node)
    handed = ward.tick()
    hand_over(ward, "rao", name, "nair", handed)
    for at_ms, left in ((handed + claim_locks.MAX_LAPSE_MS, 1), (handed + claim_locks.MAX_LAPSE_MS + 1, 0)):
        with ward.world.database.transaction() as connection:
            claim_locks.drop_lapsed(connection, at_ms)
        assert rows(ward) == left
