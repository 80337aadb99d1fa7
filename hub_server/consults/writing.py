"""What every verb of a doctor does around its decision: who may, what came of it, writing and noting it.

A verb is one transaction: hold the patient, read, decide (without effects), write, note. Before a doctor first writes
into a centre's feed, the doctor is put into that centre's directory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hub_server import audit, charts, glass, people
from hub_server.charts import Chart, Queued
from hub_server.database import Connection
from hub_server.people import Person
from hub_server.store import Entry, Store
from sync_protocol.canonical import Value
from sync_protocol.change import Change, FacilityCode, PatientId, RecordId, RecordKey
from sync_protocol.errors import NotAllowed
from sync_protocol.schema import Writer

RANDOM_BYTES: Final = 20  # two record ids' worth


@dataclass(frozen=True, slots=True)
class Done:
    """What a verb came to.

    verdict: claimed, already_yours, released, already_released, handed_over, asked, answered, corrected or unchanged.
    record: the claim, the message or the reply. changes: what was written now; none where there was nothing to do.
    """

    verdict: str
    referral: RecordId
    record: RecordId | None
    facility: FacilityCode
    changes: tuple[Change, ...] = ()
    seen_positions: Mapping[str, int] | None = None


def require_specialty(doctor: Person, one: Queued | Chart) -> None:
    """A doctor sees the referrals of their hospital and specialties (`Person.sees`). Raises NotAllowed
    (``E_NOT_YOURS``)."""
    if not doctor.sees(one.specialty, one.hub):
        raise NotAllowed("This referral is of another hospital or specialty.", code="E_NOT_YOURS")


def require_sight(connection: Connection, doctor: Person, one: Queued | Chart, now_ms: int) -> None:
    """The same, but for a patient whom the doctor opened with a reason (`glass`). Raises NotAllowed (``E_NOT_YOURS``)."""
    if not doctor.sees(one.specialty, one.hub) and glass.open_for(connection, doctor.id, one.patient, now_ms) is None:
        require_specialty(doctor, one)


def require_patient(connection: Connection, doctor: Person, patient: PatientId, now_ms: int) -> None:
    """A doctor sees the patients of the referrals that they see. Raises NotAllowed (``E_NOT_YOURS``)."""
    rows = connection.execute(
        "SELECT DISTINCT r.specialty, r.hub FROM patient p JOIN item i ON i.facility = p.facility"
        " AND i.patient = p.patient AND i.kind = 'referral' JOIN referral r ON r.facility = i.facility"
        " AND r.referral = i.record WHERE p.patient = %s",
        (patient,),
    ).fetchall()
    sees = any(doctor.sees(specialty, hub) for specialty, hub in rows)
    if not sees and glass.open_for(connection, doctor.id, patient, now_ms) is None:
        raise NotAllowed("This patient is of another hospital or specialty.", code="E_NOT_YOURS")


def seen_row(connection: Connection, doctor: Person, name: RecordId, now_ms: int) -> Queued:
    """A referral's row, for a doctor who may see it. Raises InvalidValue (``E_NO_SUCH_REFERRAL``) or NotAllowed."""
    row = charts.find_queued(connection, name)
    require_sight(connection, doctor, row, now_ms)
    return row


def write(
    connection: Connection,
    store: Store,
    before: Chart,
    entries: Sequence[Entry],
    doctor: Person,
    verb: str,
    now_ms: int,
) -> tuple[Change, ...]:
    changes = store.write_in(
        connection, before.facility, entries, person=doctor.id, writer=Writer.DOCTOR, now_ms=now_ms
    )
    audit.note(connection, doctor.actor, verb, before.facility, before.referral.key.record, now_ms)
    return tuple(changes)


def introduce(
    store: Store, doctor: Person, name: RecordId, decide: Callable[[Chart], list[Entry]], now_ms: int
) -> None:
    """Put the doctor into the directory of the centre that is about to be written to; nothing if that is refused.

    A transaction of its own: it holds other feeds than the verb does, and being in a directory harms nothing. Raises
    NotAllowed (``E_NOT_YOURS``) where the referral is not this doctor's to see.
    """
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name)
        require_sight(connection, doctor, before, now_ms)
        if not decide(before):
            return
    scope = PatientId(doctor.id)
    with store.database.transaction() as connection:
        people.hold(connection, doctor.id)
        rows = connection.execute("SELECT facility FROM subscription WHERE patient = %s AND subscribed", (scope,))
        directories = {row[0] for row in rows.fetchall()}
        if before.facility in directories:
            return
        if directories:
            store.subscribe(connection, scope, before.facility, now_ms)
            return
        writes: dict[str, Value] = {
            "name": doctor.name,
            "role": doctor.role.value,
            "qualification": doctor.qualification,
            "registration_number": doctor.registration_number,
        }
        entry = Entry(
            RecordKey("person", RecordId(doctor.id)), scope, {name: said for name, said in writes.items() if said}
        )
        store.write_in(connection, before.facility, [entry], person=doctor.id, writer=Writer.HUB, now_ms=now_ms)
