"""The hub's people: one login for good, a doctor with a registration number, disabled but never removed."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace

import pytest

from hub_server import people
from hub_server.database import Database
from hub_server.people import Person, Role
from sync_protocol.change import PersonId
from sync_protocol.errors import HealthSyncError, InvalidValue, NeedsPerson

NOW_MS = 1_700_000_000_000


@pytest.fixture
def database(database_url: str) -> Database:
    made = Database(database_url)
    made.migrate()
    return made


def rao(login: str = "dr.rao") -> Person:
    name = PersonId(people.fresh_id(NOW_MS, os.urandom(10)))
    return Person(name, login, "Dr. Sunita Rao", Role.DOCTOR, ("cardiology",), "MBBS, MD", "KMC-12345", NOW_MS)


def test_a_person_is_found_by_login_as_added(database: Database) -> None:
    added = rao()
    with database.transaction() as connection:
        assert people.add(connection, added) == added
        assert people.find(connection, "dr.rao") == added
        assert people.doctor(connection, "dr.rao") == added
        assert people.everyone(connection) == [added]
        assert people.names(connection, [added.id, PersonId(bytes(16))]) == {added.id: "Dr. Sunita Rao"}


def test_adding_again_changes_nothing_and_a_login_is_not_given_away(database: Database) -> None:
    first = rao()
    with database.transaction() as connection:
        people.add(connection, first)
        assert people.add(connection, rao()) == first  # the same particulars, another fresh id
    with database.transaction() as connection, pytest.raises(InvalidValue) as caught:
        people.add(connection, replace(rao(), name="Dr. Another"))
    assert caught.value.code == "E_LOGIN_TAKEN"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"login": "Dr Rao"}, "E_BAD_LOGIN"),
        ({"login": ""}, "E_BAD_LOGIN"),
        ({"login": "r" * 65}, "E_BAD_LOGIN"),
        ({"name": "  "}, "E_BAD_NAME"),
        ({"name": "R\x1b[31m"}, "E_BAD_NAME"),
        ({"name": "R" * 201}, "E_BAD_NAME"),
        ({"specialties": ("a,b",)}, "E_BAD_SPECIALTY"),
        ({"registration_number": ""}, "E_NO_REGISTRATION"),
    ],
)
def test_what_is_no_person_is_refused(database: Database, changed: dict[str, object], code: str) -> None:
    with database.transaction() as connection, pytest.raises(InvalidValue) as caught:
        people.add(connection, replace(rao(), **changed))  # type: ignore[arg-type]
    assert caught.value.code == code


def test_an_operator_needs_no_registration_and_is_no_doctor(database: Database) -> None:
    with database.transaction() as connection:
        people.add(connection, replace(rao("meena"), role=Role.OPERATOR, registration_number=""))
        with pytest.raises(InvalidValue) as caught:
            people.doctor(connection, "meena")
        assert caught.value.code == "E_NOT_A_DOCTOR"


def test_who_is_disabled_may_do_nothing_and_stays_known(database: Database) -> None:
    added = rao()
    with database.transaction() as connection:
        people.add(connection, added)
        assert people.disable(connection, "dr.rao", NOW_MS + 1)
        assert not people.disable(connection, "dr.rao", NOW_MS + 2)
        with pytest.raises(NeedsPerson) as caught:
            people.doctor(connection, "dr.rao")
        assert caught.value.code == "E_PERSON_DISABLED"
        assert people.find(connection, "dr.rao").disabled_ms == NOW_MS + 1
        assert people.names(connection, [added.id]) == {added.id: added.name}


def test_nobody_is_found_under_an_unknown_login(database: Database) -> None:
    for verb in (people.find, people.doctor):
        with database.transaction() as connection, pytest.raises(HealthSyncError) as caught:
            verb(connection, "nobody")
        assert caught.value.code == "E_UNKNOWN_PERSON"


def test_fresh_ids_are_uuids_of_version_7_in_the_order_of_time() -> None:
    made = [people.fresh_id(NOW_MS + at, os.urandom(10)) for at in range(50)]
    assert made == sorted(made)
    assert all(uuid.UUID(bytes=one).version == 7 for one in made)
    assert people.fresh_id(NOW_MS, bytes(10)) != people.fresh_id(NOW_MS, b"\xff" * 10)
