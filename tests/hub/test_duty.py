"""Who is on duty, until when and for what; and who is told when nobody is."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from hub_server import duty, hospitals, people
from hub_server.people import Person, Role
from sync_protocol.change import PersonId
from sync_protocol.errors import InvalidValue
from tests.hub.bare_node import NOW_MS
from tests.hub.test_consults import Ward
from tests.hub.test_consults import ward as ward

HOUR_MS = 3_600_000


def go_on(
    ward: Ward, login: str, until_ms: int, now_ms: int = NOW_MS, specialties: tuple[str, ...] = ()
) -> duty.OnDuty:
    with ward.world.database.transaction() as connection:
        return duty.go_on(connection, ward.doctors[login], until_ms, f"person {login}", now_ms, specialties)


def on_duty(ward: Ward, specialty: str, now_ms: int = NOW_MS) -> list[str]:
    with ward.world.database.transaction() as connection:
        return [one.login for one in duty.on_duty(connection, specialty, hospitals.ALL, now_ms)]


def add(ward: Ward, login: str, *specialties: str) -> None:
    person = Person(PersonId(os.urandom(16)), login, "Dr. Who", Role.DOCTOR, specialties, "", "KMC-2")
    with ward.world.database.transaction() as connection:
        ward.doctors[login] = people.add(connection, person)


def test_a_doctor_is_on_duty_until_the_time_that_was_said(ward: Ward) -> None:
    until = NOW_MS + 2 * HOUR_MS
    assert go_on(ward, "rao", until).until_ms == until
    assert on_duty(ward, "ent", until - 1) == ["rao"]
    assert on_duty(ward, "ent", until) == []


def test_a_doctor_is_on_duty_for_what_they_see_or_for_what_they_said(ward: Ward) -> None:
    add(ward, "skin", "dermatology")
    go_on(ward, "rao", NOW_MS + HOUR_MS, specialties=("ent", "cardiology"))
    go_on(ward, "skin", NOW_MS + 2 * HOUR_MS)
    assert on_duty(ward, "ent") == ["rao"]
    assert on_duty(ward, "dermatology") == ["skin"]
    assert on_duty(ward, "surgery") == []
    with pytest.raises(InvalidValue) as caught:
        go_on(ward, "skin", NOW_MS + HOUR_MS, specialties=("ent",))
    assert caught.value.code == "E_OTHER_SPECIALTY"


def test_saying_it_again_replaces_the_time_and_keeps_since_when(ward: Ward) -> None:
    go_on(ward, "rao", NOW_MS + HOUR_MS)
    again = go_on(ward, "rao", NOW_MS + 3 * HOUR_MS, NOW_MS + HOUR_MS // 2)
    assert (again.since_ms, again.until_ms) == (NOW_MS, NOW_MS + 3 * HOUR_MS)
    fresh = go_on(ward, "rao", NOW_MS + 9 * HOUR_MS, NOW_MS + 8 * HOUR_MS)  # hours after it had ended
    assert fresh.since_ms == NOW_MS + 8 * HOUR_MS


@pytest.mark.parametrize("length_ms", [0, -HOUR_MS, 24 * HOUR_MS + 1])
def test_duty_is_neither_over_already_nor_longer_than_a_day(ward: Ward, length_ms: int) -> None:
    with pytest.raises(InvalidValue) as caught:
        go_on(ward, "rao", NOW_MS + length_ms)
    assert caught.value.code == "E_BAD_TIME"


def test_off_duty_is_said_once_and_noted(ward: Ward) -> None:
    go_on(ward, "rao", NOW_MS + HOUR_MS)
    with ward.world.database.transaction() as connection:
        assert duty.go_off(connection, ward.doctors["rao"], "person rao", NOW_MS + 1) is True
        assert duty.go_off(connection, ward.doctors["rao"], "person rao", NOW_MS + 2) is False
    assert on_duty(ward, "ent") == []
    assert [verb for _, verb in ward.noted()] == ["go on duty", "go off duty"]


def test_who_was_disabled_is_on_duty_no_longer_and_a_clock_put_back_leaves_nobody_on_for_years(ward: Ward) -> None:
    go_on(ward, "rao", NOW_MS + HOUR_MS)
    go_on(ward, "nair", NOW_MS + 365 * 24 * HOUR_MS, NOW_MS + 365 * 24 * HOUR_MS - HOUR_MS)
    assert on_duty(ward, "ent") == ["rao"]
    with ward.world.database.transaction() as connection:
        people.disable(connection, "rao", NOW_MS)
    assert on_duty(ward, "ent") == []


def test_what_has_ended_is_dropped(ward: Ward) -> None:
    go_on(ward, "rao", NOW_MS + HOUR_MS)
    with ward.world.database.transaction() as connection:
        assert [duty.drop_over(connection, NOW_MS + passed) for passed in (HOUR_MS - 1, HOUR_MS)] == [0, 1]


def test_who_is_told_is_the_specialtys_own_contact_else_the_hubs(ward: Ward) -> None:
    with ward.world.database.transaction() as connection:
        assert duty.contact_in(duty.contacts_for(connection, hospitals.ALL), "ent") is None
        duty.set_contact(connection, hospitals.ALL, duty.ANY, "Ward 1", "+91 80 2222 1111", "operator root", NOW_MS)
        duty.set_contact(connection, hospitals.ALL, "ent", "Dr. Iyer", "98450 00000", "operator root", NOW_MS)
        found = [duty.contact_in(duty.contacts_for(connection, hospitals.ALL), one) for one in ("ent", "surgery")]
        assert [one.name for one in found if one] == ["Dr. Iyer", "Ward 1"]
        duty.set_contact(connection, hospitals.ALL, "ent", "Dr. Rao", "112", "operator root", NOW_MS)
        assert [one.name for one in duty.contacts(connection)] == ["Ward 1", "Dr. Rao"]
        assert duty.remove_contact(connection, hospitals.ALL, "ent", "operator root", NOW_MS)
        assert not duty.remove_contact(connection, hospitals.ALL, "ent", "operator root", NOW_MS)


@pytest.mark.parametrize(
    ("specialty", "name", "phone", "code"),
    [
        ("Heart!", "Dr. Rao", "112", "E_BAD_SPECIALTY"),
        ("ent", " ", "112", "E_BAD_NAME"),
        ("ent", "a\u202eb", "112", "E_BAD_NAME"),
        ("ent", "a" * 201, "112", "E_BAD_NAME"),
        ("ent", "Dr. Rao", "call me", "E_BAD_PHONE"),
        ("ent", "Dr. Rao", "1" * 30, "E_BAD_PHONE"),
        ("ent", "Dr. Rao", "+91<b>", "E_BAD_PHONE"),
    ],
)
def test_a_contact_has_a_name_and_a_number_that_can_be_called(
    ward: Ward, specialty: str, name: str, phone: str, code: str
) -> None:
    with pytest.raises(InvalidValue) as caught, ward.world.database.transaction() as connection:
        duty.set_contact(connection, hospitals.ALL, specialty, name, phone, "operator root", NOW_MS)
    assert caught.value.code == code


def test_contacts_are_bounded(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duty, "MAX_CONTACTS", 1)
    with pytest.raises(InvalidValue) as caught, ward.world.database.transaction() as connection:
        duty.set_contact(connection, hospitals.ALL, "ent", "A", "112", "operator root", NOW_MS)
        duty.set_contact(connection, hospitals.ALL, "ent", "B", "113", "operator root", NOW_MS)
        duty.set_contact(connection, hospitals.ALL, "eye", "C", "114", "operator root", NOW_MS)
    assert caught.value.code == "E_TOO_MANY_CONTACTS"


@pytest.mark.parametrize(
    ("now", "said", "then"),
    [
        ("2026-03-01T06:00", "18:00", "2026-03-01T12:30"),
        ("2026-03-01T12:30", "18:00", "2026-03-02T12:30"),
        ("2026-03-01T20:00", "6.30", "2026-03-02T01:00"),
    ],
)
def test_a_time_of_day_is_indias_next_one(now: str, said: str, then: str) -> None:
    def ms(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)

    assert duty.next_time(said, ms(now)) == ms(then)


@pytest.mark.parametrize("said", ["", "25:00", "18", "six", "18:0", "१८:००"])
def test_what_is_no_time_of_day_is_refused(said: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        duty.next_time(said, NOW_MS)
    assert caught.value.code == "E_BAD_TIME"
