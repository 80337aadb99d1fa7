"""Breaking the glass: a doctor opens a patient who is not theirs to see, for a day, with a reason that is reviewed.

Whoever is refused a referral of another hospital or specialty may say why they have to see this one patient. From then
on, for 24 hours, that patient's referrals are theirs as if they were of their own specialty. It stands in the audit, and
in a list for the officers and operators of the centre's hospital until one of them has marked it as reviewed. The reason
may tell of the patient, so it is sealed under the patient's key and erased with the patient; that it happened stays in
the audit. It refuses to know who may review (`web`, `cli`: by role, never a doctor).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub_server import audit, people
from hub_server.database import Connection
from hub_server.people import Person
from hub_server.store import Store
from sync_protocol.change import FacilityCode, PatientId, PersonId, RecordId
from sync_protocol.errors import InvalidValue, NeedsPerson
from sync_protocol.words import N_

OPEN_MS: Final = 24 * 3_600_000
MAX_REASON_CHARS: Final = 1_000
MAX_A_DAY: Final = 20  # of one doctor; whoever needs more belongs to more specialties
KEPT_MS: Final = 400 * 86_400_000  # reviewed ones: a yearly inspection finds them
RANDOM_BYTES: Final = 22  # an id's ten and a nonce's twelve
MOST_LISTED: Final = 200
_LABEL: Final = b"glass\x00"


@dataclass(frozen=True, slots=True)
class Opening:
    """One time that the glass was broken. name: 16 bytes. facility: of the patient's home; centre: its name. reason: empty,
    like centre, unless it was opened for a reader. reviewed_ms: None while it waits."""

    name: bytes
    facility: FacilityCode
    person: PersonId
    patient: PatientId
    referral: RecordId
    opened_ms: int
    until_ms: int
    reviewed_ms: int | None
    reviewed_by: PersonId | None
    reason: str = ""
    centre: str = ""


_COLUMNS: Final = (
    "g.glass, g.facility, g.person, g.patient, g.referral, g.opened_ms, g.until_ms, g.reviewed_ms, g.reviewed_by"
)


def _opening(row: Sequence[Any], reason: str = "", centre: str = "") -> Opening:
    name, facility, person, patient, referral, opened_ms, until_ms, reviewed_ms, by = row
    return Opening(
        bytes(name),
        FacilityCode(facility),
        PersonId(bytes(person)),
        PatientId(bytes(patient)),
        RecordId(bytes(referral)),
        opened_ms,
        until_ms,
        reviewed_ms,
        PersonId(bytes(by)) if by is not None else None,
        reason,
        centre,
    )


def break_glass(store: Store, doctor: Person, name: RecordId, reason: str, now_ms: int, randomness: bytes) -> Opening:
    """From now on, for a day, this referral's patient is open to the doctor; where that is so already, as it was.

    randomness: RANDOM_BYTES. Raises InvalidValue (``E_NO_SUCH_REFERRAL``, ``E_NO_REASON``), NeedsPerson
    (``E_TOO_MANY_OPENED``).
    """
    said = reason.strip()
    if not 0 < len(said) <= MAX_REASON_CHARS:
        raise InvalidValue(
            N_("Say why you have to see this patient, in at most 1000 characters."), field="reason", code="E_NO_REASON"
        )
    with store.database.transaction() as connection:
        people.hold(connection, doctor.id)
        held = connection.execute(
            "SELECT facility, patient FROM patient WHERE wrapped_key <> '' AND patient ="
            " (SELECT patient FROM referral WHERE referral = %s LIMIT 1) FOR SHARE",
            (name,),
        ).fetchone()
        if held is None:
            raise InvalidValue("The hub has no such referral.", code="E_NO_SUCH_REFERRAL")
        home, patient = FacilityCode(held[0]), PatientId(bytes(held[1]))
        there = open_for(connection, doctor.id, patient, now_ms)
        if there is not None:
            return there
        _require_few(connection, doctor.id, now_ms)
        made = people.fresh_id(now_ms, randomness[:10])
        key = store.keys_of(connection, [patient])[patient]
        sealed = store.vault.seal_text(key, said.encode(), _LABEL + made, randomness[10:22])
        connection.execute(
            "INSERT INTO glass (facility, glass, person, patient, referral, reason, opened_ms, until_ms)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (home, made, doctor.id, patient, name, sealed, now_ms, now_ms + OPEN_MS),
        )
        audit.note(connection, doctor.actor, "break glass", home, patient, now_ms)
    return Opening(made, home, doctor.id, patient, name, now_ms, now_ms + OPEN_MS, None, None)


def _require_few(connection: Connection, doctor: PersonId, now_ms: int) -> None:
    row = connection.execute(
        "SELECT count(*) FROM glass WHERE person = %s AND opened_ms > %s", (doctor, now_ms - OPEN_MS)
    ).fetchone()
    if row is not None and row[0] >= MAX_A_DAY:
        raise NeedsPerson(
            N_("You have opened as many patients of others today as anybody may. Ask the hub's operator."),
            code="E_TOO_MANY_OPENED",
        )


def open_for(connection: Connection, doctor: PersonId, patient: PatientId, now_ms: int) -> Opening | None:
    """What opens this patient to the doctor now. One that ends later than a day from now counts as none: the clock was
    put back."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM glass g WHERE g.patient = %s AND g.person = %s AND g.until_ms > %s AND g.until_ms <= %s"
        " ORDER BY g.until_ms DESC LIMIT 1",
        (patient, doctor, now_ms, now_ms + OPEN_MS),
    ).fetchone()
    return _opening(row) if row is not None else None


# -- reviewing ---------------------------------------------------------------------------------------------------------


def listed(store: Store, reviewer: str, hub: str, now_ms: int, *, reviewed: bool = False) -> list[Opening]:
    """Those that wait for a review, the oldest first, or those that were reviewed, the latest first; with their reasons,
    noted in the audit as read by ``reviewer``. hub: of the reviewer's hospital, empty for all."""
    order = "g.reviewed_ms DESC" if reviewed else "g.opened_ms"
    with store.database.transaction() as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS}, coalesce(f.name, ''), g.reason FROM glass g LEFT JOIN facility f ON f.facility = g.facility"
            f" WHERE (g.reviewed_ms IS NOT NULL) = %(reviewed)s AND (%(hub)s = '' OR coalesce(f.hub, '') IN ('', %(hub)s))"
            f" ORDER BY {order}, g.glass LIMIT %(most)s",
            {"reviewed": reviewed, "hub": hub, "most": MOST_LISTED},
        ).fetchall()
        entries = [audit.Entry(reviewer, "read glass", row[1], bytes(row[3])) for row in rows]
        audit.note_all(connection, entries, now_ms)
    with store.database.transaction() as connection:
        keys = store.keys_of(connection, sorted({PatientId(bytes(row[3])) for row in rows}))
        found = []
        for *columns, centre, sealed in rows:
            key = keys.get(PatientId(bytes(columns[3])))
            if key is not None:  # else erased a moment ago
                reason = store.vault.open_text(key, bytes(sealed), _LABEL + bytes(columns[0])).decode()
                found.append(_opening(columns, reason, centre))
    return found


def count_waiting(connection: Connection, hub: str) -> int:
    """How many wait for a review. hub: of the reviewer's hospital, empty for all."""
    row = connection.execute(
        "SELECT count(*) FROM glass g LEFT JOIN facility f ON f.facility = g.facility WHERE g.reviewed_ms IS NULL"
        " AND (%(hub)s = '' OR coalesce(f.hub, '') IN ('', %(hub)s))",
        {"hub": hub},
    ).fetchone()
    return int(row[0]) if row is not None else 0


def review(store: Store, reviewer: Person, name: bytes, now_ms: int) -> bool:
    """It was reviewed. False where somebody did before. Raises InvalidValue (``E_NO_SUCH_OPENING``)."""
    with store.database.transaction() as connection:
        row = connection.execute(
            "SELECT g.facility, g.patient, coalesce(f.hub, '') FROM glass g LEFT JOIN facility f"
            " ON f.facility = g.facility WHERE g.glass = %s",
            (name,),
        ).fetchone()
        if row is None or not reviewer.is_of(row[2]):
            raise InvalidValue("There is no such opening.", code="E_NO_SUCH_OPENING")
        done = connection.execute(
            "UPDATE glass SET reviewed_ms = %s, reviewed_by = %s WHERE facility = %s AND glass = %s"
            " AND reviewed_ms IS NULL",
            (now_ms, reviewer.id, row[0], name),
        )
        if done.rowcount:
            audit.note(connection, reviewer.actor, "review glass", row[0], bytes(row[1]), now_ms)
    return done.rowcount == 1


def drop_old(connection: Connection, now_ms: int) -> int:
    """Remove those that were reviewed long ago; how many."""
    return connection.execute("DELETE FROM glass WHERE reviewed_ms < %s", (now_ms - KEPT_MS,)).rowcount
