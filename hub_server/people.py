"""The people of the hub: doctors, district officers and operators, by the login that names them.

A login is for good: it is never given to somebody else, and a person is disabled, never removed, since what they wrote
keeps their id. A doctor has a registration number, because each prescription carries it.

It refuses to know sessions, passwords and what a person wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from hub_server import hospitals
from hub_server.database import Connection
from sync_protocol.change import ID_BYTES, PersonId
from sync_protocol.errors import InvalidValue, NeedsPerson

MAX_NAME_CHARS: Final = 200  # the schema's limit for a short text: the name also travels as a field
_LOGIN: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_SPECIALTY: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")


class Role(str, Enum):
    DOCTOR = "doctor"
    DISTRICT_OFFICER = "district_officer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Person:
    """specialties: empty for all. disabled_ms: None while the person may work. hub: of their hospital, empty for all."""

    id: PersonId
    login: str
    name: str
    role: Role
    specialties: tuple[str, ...] = ()
    qualification: str = ""
    registration_number: str = ""
    created_ms: int = 0
    disabled_ms: int | None = None
    hub: str = hospitals.ALL

    @property
    def actor(self) -> str:
        """As the audit names them."""
        return f"person {self.login}"

    def sees(self, specialty: str, hub: str) -> bool:
        """Whether referrals of this specialty are theirs to answer. hub: of the centre's hospital, empty for none: then
        every hospital's doctors see it, so that nothing waits that nobody sees."""
        return self.is_of(hub) and (not self.specialties or specialty in self.specialties)

    def is_of(self, hub: str) -> bool:
        """Whether they work for this hospital; they do for a centre that has none."""
        return hospitals.ALL in (self.hub, hub) or self.hub == hub


ID_TIME_BYTES: Final = 6
"""How much of such an id is its time; the rest is its randomness."""


def fresh_id(now_ms: int, randomness: bytes) -> bytes:
    """A UUIDv7 of this moment: 16 bytes. randomness: 10 bytes."""
    number = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(randomness[:10], "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return number.to_bytes(ID_BYTES, "big")


def as_noted(person: Person) -> dict[str, str | int]:
    """For the ledger."""
    return {
        "id": person.id.hex(),
        "login": person.login,
        "name": person.name,
        "role": person.role.value,
        "specialties": ",".join(person.specialties),
        "qualification": person.qualification,
        "registration_number": person.registration_number,
        "created_ms": person.created_ms,
        "hub": person.hub,
    }


def noted(said: Mapping[str, Any]) -> Person:
    """What `as_noted` wrote; lines from before there were hospitals have no hub."""
    return Person(
        PersonId(bytes.fromhex(said["id"])),
        said["login"],
        said["name"],
        Role(said["role"]),
        tuple(filter(None, said["specialties"].split(","))),
        said["qualification"],
        said["registration_number"],
        said["created_ms"],
        hub=said.get("hub", hospitals.ALL),
    )


def add(connection: Connection, person: Person) -> Person:
    """A new person. Somebody who is there already, with the same particulars, is returned as they are.

    Raises InvalidValue (``E_BAD_LOGIN``, ``E_BAD_NAME``, ``E_BAD_SPECIALTY``, ``E_NO_REGISTRATION``,
    ``E_UNKNOWN_HUB``, ``E_LOGIN_TAKEN``).
    """
    _check(person)
    hospitals.require(connection, person.hub)
    added = connection.execute(
        "INSERT INTO person (person, login, name, role, specialties, qualification, registration_number, created_ms, hub)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (
            person.id,
            person.login,
            person.name,
            person.role.value,
            ",".join(person.specialties),
            person.qualification,
            person.registration_number,
            person.created_ms,
            person.hub,
        ),
    )
    if added.rowcount == 1:
        return person
    there = find(connection, person.login)
    if _particulars(there) != _particulars(person):
        raise InvalidValue(
            "another person has that login, or the same one with other particulars",
            field="login",
            code="E_LOGIN_TAKEN",
            next_step="'hub people list' shows them; choose another login",
        )
    return there


def _particulars(person: Person) -> tuple[object, ...]:
    return (person.name, person.role, person.specialties, person.qualification, person.registration_number, person.hub)


def assign(connection: Connection, login: str, hub: str, specialties: tuple[str, ...]) -> bool:
    """From now on the person works for this hospital, in these specialties; both empty for all. False if they did.

    Raises InvalidValue (``E_UNKNOWN_PERSON``, ``E_BAD_SPECIALTY``, ``E_UNKNOWN_HUB``).
    """
    there = held(connection, login)
    wanted = replace(there, hub=hub, specialties=specialties)
    _check(wanted)
    hospitals.require(connection, hub)
    connection.execute(
        "UPDATE person SET hub = %s, specialties = %s WHERE login = %s", (hub, ",".join(specialties), login)
    )
    return wanted != there


def is_login(text: str) -> bool:
    """Whether somebody could have this login."""
    return _LOGIN.fullmatch(text) is not None


def is_specialty(text: str) -> bool:
    """Whether a specialty is written so."""
    return _SPECIALTY.fullmatch(text) is not None


def _check(person: Person) -> None:
    if not is_login(person.login):
        raise InvalidValue("a login has 1 to 64 of a-z 0-9 . _ @ -", field="login", code="E_BAD_LOGIN")
    texts = (person.name, person.qualification, person.registration_number)
    if not person.name.strip() or any(len(text) > MAX_NAME_CHARS or not text.isprintable() for text in texts if text):
        raise InvalidValue(
            f"a person has a name; it and the other texts are of at most {MAX_NAME_CHARS} printable characters",
            field="name",
            code="E_BAD_NAME",
        )
    if not all(map(is_specialty, person.specialties)):
        raise InvalidValue("a specialty is written like general-medicine", field="specialties", code="E_BAD_SPECIALTY")
    if person.role is Role.DOCTOR and not person.registration_number.strip():
        raise InvalidValue(
            "a doctor needs a registration number: each prescription carries it",
            field="registration_number",
            code="E_NO_REGISTRATION",
            next_step="give it with --registration-number",
        )


_COLUMNS: Final = (
    "person, login, name, role, specialties, qualification, registration_number, created_ms, disabled_ms, hub"
)


def _person(row: tuple[Any, ...]) -> Person:
    person, login, name, role, specialties, qualification, number, created_ms, disabled_ms, hub = row
    return Person(
        PersonId(bytes(person)),
        str(login),
        str(name),
        Role(role),
        tuple(one for one in str(specialties).split(",") if one),
        str(qualification),
        str(number),
        created_ms,
        disabled_ms,
        str(hub),
    )


def find(connection: Connection, login: str) -> Person:
    """Raises InvalidValue (``E_UNKNOWN_PERSON``)."""
    found = lookup(connection, login)
    if found is None:
        raise InvalidValue(
            "nobody has that login", field="login", code="E_UNKNOWN_PERSON", next_step="'hub people list' shows them"
        )
    return found


def held(connection: Connection, login: str) -> Person:
    """Somebody who is about to be changed: nobody else changes them until the transaction ends. Raises as `find`."""
    connection.execute("SELECT 1 FROM person WHERE login = %s FOR NO KEY UPDATE", (login,))
    return find(connection, login)


def lookup(connection: Connection, login: str) -> Person | None:
    """Disabled people too."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM person WHERE login = %s", (login,)).fetchone()
    return _person(row) if row is not None else None


def by_id(connection: Connection, people: Iterable[PersonId]) -> dict[PersonId, Person]:
    """Those who are people of the hub, disabled ones too."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM person WHERE person = ANY(%s)", (list(people),)).fetchall()
    return {one.id: one for one in map(_person, rows)}


def doctor(connection: Connection, login: str) -> Person:
    """A doctor who may work. Raises InvalidValue (``E_UNKNOWN_PERSON``, ``E_NOT_A_DOCTOR``) or NeedsPerson
    (``E_PERSON_DISABLED``)."""
    person = find(connection, login)
    if person.role is not Role.DOCTOR:
        raise InvalidValue("only a doctor does this", field="login", code="E_NOT_A_DOCTOR")
    return _at_work(person)


def working(connection: Connection, login: str) -> Person:
    """Anybody who may work. Raises InvalidValue (``E_UNKNOWN_PERSON``) or NeedsPerson (``E_PERSON_DISABLED``)."""
    return _at_work(find(connection, login))


def _at_work(person: Person) -> Person:
    if person.disabled_ms is not None:
        raise NeedsPerson("this person was disabled", code="E_PERSON_DISABLED", next_step="ask the hub's operator")
    return person


def doctors_for(connection: Connection, specialty: str, hub: str, limit: int) -> list[Person]:
    """Doctors at work who see this specialty of a centre's hospital (`Person.sees`), by name, at most so many."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM person WHERE role = 'doctor' AND disabled_ms IS NULL"
        " AND (hub = %(all)s OR %(hub)s = %(all)s OR hub = %(hub)s)"
        " AND (specialties = '' OR %(specialty)s = ANY(string_to_array(specialties, ',')))"
        " ORDER BY name, login LIMIT %(most)s",
        {"all": hospitals.ALL, "hub": hub, "specialty": specialty, "most": limit},
    ).fetchall()
    return [_person(row) for row in rows]


def everyone(connection: Connection) -> list[Person]:
    """All people, by login."""
    return [_person(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM person ORDER BY login").fetchall()]


def names(connection: Connection, people: Iterable[PersonId]) -> dict[PersonId, str]:
    """Id → name, for those who are people of the hub."""
    rows = connection.execute("SELECT person, name FROM person WHERE person = ANY(%s)", (list(people),)).fetchall()
    return {PersonId(bytes(person)): str(name) for person, name in rows}


def disable(connection: Connection, login: str, now_ms: int) -> bool:
    """From now on the person can do nothing; what they wrote stays. False if it was so before.

    Raises InvalidValue (``E_UNKNOWN_PERSON``).
    """
    find(connection, login)
    done = connection.execute(
        "UPDATE person SET disabled_ms = %s WHERE login = %s AND disabled_ms IS NULL", (now_ms, login)
    )
    return done.rowcount == 1


def hold(connection: Connection, person: PersonId) -> None:
    """Let nobody else do what is done once for this person, until the transaction ends."""
    connection.execute("SELECT 1 FROM person WHERE person = %s FOR UPDATE", (person,))
