"""Who is on duty, and who is told when nobody is.

A doctor says "on duty until 18:00", for all of their specialties or some, and is off again at that time by itself; so
nobody is on duty who forgot to say otherwise, and nobody is for more than a day at a time. For when nobody is, each
hospital has a name and a telephone number for each specialty, and one for all others; where a hospital has none, those
that stand for all hospitals count. Times of day are India's. Who said so is noted in the audit.

It refuses to know referrals, pages, and who is called: it only says whom.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from hub_server import audit, directory_due, hospitals, people
from hub_server.database import Connection
from hub_server.people import MAX_NAME_CHARS, Person, Role
from sync_protocol import directory
from sync_protocol.change import PersonId
from sync_protocol.errors import InvalidValue
from sync_protocol.words import N_

MAX_DUTY_MS: Final = 24 * 3_600_000  # whoever is on for longer has forgotten to say so
MAX_CONTACTS: Final = 100  # of a hospital, whose specialties are some forty
ANY: Final = ""  # of a contact: for all specialties that have none of their own
_INDIA: Final = timezone(timedelta(hours=5, minutes=30))
_TIME_OF_DAY: Final = re.compile(r"([01]?[0-9]|2[0-3])[:.]([0-5][0-9])")
_PHONE: Final = re.compile(r"\+?[0-9](?:[ -]?[0-9]){2,17}")  # 112 is one, and a number with its extension


@dataclass(frozen=True, slots=True)
class OnDuty:
    """A doctor and until when. specialties: empty for all that the doctor sees."""

    doctor: Person
    specialties: tuple[str, ...]
    since_ms: int
    until_ms: int

    def covers(self, specialty: str, hub: str) -> bool:
        """Whether this doctor is on duty for it. hub: the centre's hospital, as `Person.sees` takes it."""
        return self.doctor.sees(specialty, hub) and (not self.specialties or specialty in self.specialties)


@dataclass(frozen=True, slots=True)
class Contact:
    """Who is told. hub: of the hospital, `hospitals.ALL` for all. specialty: ANY for those without one of their own."""

    hub: str
    specialty: str
    name: str
    phone: str
    set_ms: int


# -- on and off --------------------------------------------------------------------------------------------------------


def go_on(
    connection: Connection,
    doctor: Person,
    until_ms: int,
    actor: str,
    now_ms: int,
    specialties: Sequence[str] = (),
) -> OnDuty:
    """On duty from now on until then; what was said before is replaced. specialties: none for all of the doctor's.

    Raises InvalidValue (``E_BAD_TIME``, ``E_OTHER_SPECIALTY``).
    """
    if not now_ms < until_ms <= now_ms + MAX_DUTY_MS:
        raise InvalidValue(N_("Duty ends within a day from now."), field="until", code="E_BAD_TIME")
    chosen = tuple(sorted(set(specialties)))
    if any(not people.is_specialty(one) or not doctor.sees(one, doctor.hub) for one in chosen):
        raise InvalidValue(N_("That is no specialty of this doctor."), field="specialties", code="E_OTHER_SPECIALTY")
    row = connection.execute(
        "INSERT INTO duty (person, specialties, since_ms, until_ms) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (person) DO UPDATE SET specialties = EXCLUDED.specialties, until_ms = EXCLUDED.until_ms,"
        " since_ms = CASE WHEN duty.until_ms > EXCLUDED.since_ms THEN duty.since_ms ELSE EXCLUDED.since_ms END"
        " RETURNING since_ms",
        (doctor.id, ",".join(chosen), now_ms, until_ms),
    ).fetchone()
    audit.note(connection, actor, "go on duty", "", doctor.id, now_ms)
    return OnDuty(doctor, chosen, row[0] if row is not None else now_ms, until_ms)  # disabled or not by now


def go_off(connection: Connection, doctor: Person, actor: str, now_ms: int) -> bool:
    """Off duty. False if they were not on."""
    gone = connection.execute("DELETE FROM duty WHERE person = %s AND until_ms > %s", (doctor.id, now_ms)).rowcount
    if gone:
        audit.note(connection, actor, "go off duty", "", doctor.id, now_ms)
    return gone == 1


def everyone_on_duty(connection: Connection, now_ms: int) -> list[OnDuty]:
    """All doctors who are on duty, those who go first."""
    rows = connection.execute(
        "SELECT person, specialties, since_ms, until_ms FROM duty WHERE until_ms > %s AND until_ms <= %s"
        " ORDER BY until_ms, person",
        (now_ms, now_ms + MAX_DUTY_MS),  # beyond, this machine's clock was put back
    ).fetchall()
    known = people.by_id(connection, [PersonId(bytes(row[0])) for row in rows])
    found = []
    for person, specialties, since_ms, until_ms in rows:
        who = known.get(PersonId(bytes(person)))
        if who is not None and who.disabled_ms is None and who.role is Role.DOCTOR:
            found.append(OnDuty(who, tuple(filter(None, specialties.split(","))), since_ms, until_ms))
    return found


def on_duty(connection: Connection, specialty: str, hub: str, now_ms: int) -> list[Person]:
    """The doctors who are on duty for this specialty at a centre's hospital; those who go first stand first."""
    return [one.doctor for one in everyone_on_duty(connection, now_ms) if one.covers(specialty, hub)]


def drop_over(connection: Connection, now_ms: int) -> int:
    """Remove what has ended; how many."""
    return connection.execute("DELETE FROM duty WHERE until_ms <= %s", (now_ms,)).rowcount


def next_time(text: str, now_ms: int) -> int:
    """When it is 18:00 (as written) in India next. Raises InvalidValue (``E_BAD_TIME``)."""
    found = _TIME_OF_DAY.fullmatch(text.strip())
    if found is None:
        raise InvalidValue(N_("A time of day is written like 18:00."), field="until", code="E_BAD_TIME")
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(_INDIA)
    then = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
    if then <= now:
        then += timedelta(days=1)
    return int(then.timestamp()) * 1000


# -- who is told -------------------------------------------------------------------------------------------------------


def set_contact(
    connection: Connection, hub: str, specialty: str, name: str, phone: str, actor: str, now_ms: int
) -> Contact:
    """Who is told where nobody is on duty for this specialty at this hospital; ANY for all that have none of their own.

    Raises InvalidValue (``E_UNKNOWN_HUB``, ``E_BAD_SPECIALTY``, ``E_BAD_NAME``, ``E_BAD_PHONE``,
    ``E_TOO_MANY_CONTACTS``).
    """
    made = Contact(hub, specialty, name.strip(), phone.strip(), now_ms)
    hospitals.require(connection, hub)
    if specialty != ANY and (not people.is_specialty(specialty) or specialty == directory.ANY):
        raise InvalidValue(
            N_("A specialty is written like general-medicine."), field="specialty", code="E_BAD_SPECIALTY"
        )
    if not 0 < len(made.name) <= MAX_NAME_CHARS or not made.name.isprintable():
        raise InvalidValue(
            N_("A contact has a name of at most 200 printable characters."), field="name", code="E_BAD_NAME"
        )
    if not _PHONE.fullmatch(made.phone):
        raise InvalidValue(
            N_("A telephone number has 3 to 18 digits, with a + before them if need be."),
            field="phone",
            code="E_BAD_PHONE",
        )
    known = {one.specialty for one in contacts(connection, hub)}
    if specialty not in known and len(known) >= MAX_CONTACTS:
        raise InvalidValue(N_("There are too many contacts already."), field="specialty", code="E_TOO_MANY_CONTACTS")
    connection.execute(
        "INSERT INTO duty_contact (hub, specialty, name, phone, set_ms) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (hub, specialty)"
        " DO UPDATE SET name = EXCLUDED.name, phone = EXCLUDED.phone, set_ms = EXCLUDED.set_ms",
        (made.hub, made.specialty, made.name, made.phone, made.set_ms),
    )
    directory_due.mark_hospital(connection, hub)
    audit.note(connection, actor, "set duty contact", "", b"", now_ms)
    return made


def remove_contact(connection: Connection, hub: str, specialty: str, actor: str, now_ms: int) -> bool:
    """False if there was none."""
    gone = connection.execute("DELETE FROM duty_contact WHERE hub = %s AND specialty = %s", (hub, specialty)).rowcount
    if gone:
        directory_due.mark_hospital(connection, hub)
        audit.note(connection, actor, "remove duty contact", "", b"", now_ms)
    return gone == 1


def contacts(connection: Connection, hub: str | None = None) -> list[Contact]:
    """All of them, or a hospital's own: by hospital, those for all specialties first."""
    rows = connection.execute(
        "SELECT hub, specialty, name, phone, set_ms FROM duty_contact WHERE %(hub)s::text IS NULL OR hub = %(hub)s"
        " ORDER BY hub, specialty",
        {"hub": hub},
    ).fetchall()
    return [Contact(*row) for row in rows]


def contacts_for(connection: Connection, hub: str) -> dict[str, Contact]:
    """Specialty → whom a centre of this hospital calls; the hospital's own count before those for all hospitals."""
    return contacts_of(connection, [hub])[hub]


def contacts_of(connection: Connection, hubs: Iterable[str]) -> dict[str, dict[str, Contact]]:
    """The same for several hospitals at once."""
    asked = set(hubs)
    rows = connection.execute(
        "SELECT hub, specialty, name, phone, set_ms FROM duty_contact WHERE hub = ANY(%s)",
        ([*asked, hospitals.ALL],),
    ).fetchall()
    every = [Contact(*row) for row in rows]
    found = {}
    for hub in asked:
        own = {one.specialty: one for one in every if one.hub == hub}
        shared = {} if ANY in own else {one.specialty: one for one in every if one.hub == hospitals.ALL}
        found[hub] = shared | own  # who has one for any specialty has one for whatever is left
    return found


def contact_in(found: Mapping[str, Contact], specialty: str) -> Contact | None:
    """The specialty's own, else the one for any; None where nobody was named."""
    return found.get(specialty) or found.get(ANY)
