"""Resolving a conflict on a record that doctors write.

What a doctor may write is the schema's table: a conflict on a record that the centre writes is settled by the centre.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hub_server import audit, charts
from hub_server.charts import Conflict
from hub_server.consults.writing import require_patient
from hub_server.people import Person
from hub_server.store import Entry, Store
from sync_protocol import exports, schema
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, FacilityCode, RecordKey
from sync_protocol.errors import NeedsPerson
from sync_protocol.schema import Writer


def conflicts_of(store: Store, doctor: Person, key: RecordKey, now_ms: int) -> list[Conflict]:
    """The fields of a record that are in conflict, noted as read by a doctor who may see the patient.

    Raises InvalidValue (``E_NO_CONFLICT``) or NotAllowed (``E_NOT_YOURS``).
    """
    with store.database.transaction() as connection:
        _, patient = charts.place_of_conflict(connection, key)
        require_patient(connection, doctor, patient, now_ms)
    return charts.conflicts_of(store, doctor.actor, key, now_ms)


Choose = Callable[[Conflict], Value]
"""The value that a person takes, of a field as it is in the transaction that settles it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A field that was resolved. left: the same field, where it is in conflict still."""

    change: Change
    left: Conflict | None


def resolve(
    store: Store,
    doctor: Person,
    name: str,
    choose: Choose,
    note: str,
    now_ms: int,
    *,
    shown: frozenset[ChangeId] | None = None,
) -> Settled:
    """Settle a field by writing the chosen value over every live write that the doctor was shown.

    shown: of the page that the doctor looked at; None for what is live now. Raises InvalidValue (``E_BAD_ID``,
    ``E_NO_CONFLICT``), NotAllowed (``E_NOT_YOURS``: another doctor's patient), what `replica.author` raises, or
    NeedsPerson (``E_NOT_OURS``: the centre's to decide).
    """
    key, field = exports.parse_conflict_id(name)
    if not schema.may_write(key.kind, Writer.DOCTOR):
        raise NeedsPerson(
            f"A {key.kind} is written by the centre, so the centre decides.",
            code="E_NOT_OURS",
            next_step=f"There: hwc conflicts resolve {name}",
        )
    with store.database.transaction() as connection:
        before = charts.conflict_in(connection, store, key, field, hold=True)
        require_patient(connection, doctor, before.record.patient, now_ms)
        live = [one for one in before.shown.names if shown is None or one in shown]
        writes: dict[str, Value] = {field: choose(before)}
        named = {field: live}
        if note:
            writes["resolution_note"] = note
            named["resolution_note"] = list(before.record.live.get("resolution_note", ()))
        facility = FacilityCode(exports.facility_of(before.record))
        change = store.write_in(
            connection,
            facility,
            [Entry(key, before.record.patient, writes, named)],
            person=doctor.id,
            writer=Writer.DOCTOR,
            now_ms=now_ms,
        )[0]
        record = store.record(connection, before.feed, before.record.patient, key)
        after = record.conflicts().get(field) if record is not None else None
        audit.note(connection, doctor.actor, "resolve conflict", facility, key.record, now_ms)
    if record is None or after is None:
        return Settled(change, None)
    return Settled(change, Conflict(before.feed, record, field, after, before.names))
