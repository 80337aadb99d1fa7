"""Patients of other centres: their cards, asking to receive what is written about them, and ending that.

A request is a record like any other: it is sent when there is a link, the hub derives from it who is subscribed
(PROTOCOL.md §10.2), and the patient's home centre sees it. Each centre asks once for a patient; asking again alters
the same record.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwc_node import edits
from hwc_node.edits import SHOWN
from hwc_node.store import Store
from sync_protocol import subscription
from sync_protocol.canonical import Value
from sync_protocol.change import FacilityCode, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.errors import InvalidValue
from sync_protocol.merge import Record
from sync_protocol.subscription import SECRET_BYTES, Card, Request, State

CARD = "patient_card"
SUBSCRIPTION = "subscription"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and whom it is about. ours: this centre asks; else another one asks for a patient of ours."""

    patient: PatientId
    request: Request
    ours: bool


def card(store: Store, person: PersonId, patient: PatientId, record: RecordId, secret: bytes, now_ms: int) -> Card:
    """The patient's card: the one there is, else a new one with this record's id and secret.

    secret: SECRET_BYTES random bytes. Raises InvalidValue (``E_NO_SUCH_RECORD``) for a patient that is not here.
    """
    records = _of(store, patient)
    if not any(one.key.kind == "patient" for one in records):
        raise InvalidValue("There is no such patient here.", field="patient", code="E_NO_SUCH_RECORD")
    there = _card_in(patient, records)
    if there is not None:
        return there
    made = Card(patient, secret[:SECRET_BYTES])
    with store.writing(now_ms) as tx:
        tx.author(person, RecordKey(CARD, record), patient, {"secret": made.secret_text}, {})
    return made


def card_of(store: Store, patient: PatientId) -> Card | None:
    """The card that there is; None where none was made."""
    return _card_in(patient, _of(store, patient))


def _card_in(patient: PatientId, records: list[Record]) -> Card | None:
    found = (subscription.secret_of(text) for text in subscription.secrets(records))
    return next((Card(patient, one) for one in found if one is not None), None)


def ask(
    store: Store, person: PersonId, patient: PatientId, record: RecordId, now_ms: int, *, card: Card | None, reason: str
) -> Asked:
    """Ask the hub for this patient's history, and for what comes. record: a fresh id, if this centre never asked."""
    here = store.membership.facility
    before = next((one for one in _asked(store, patient) if one.ours), None)
    key = RecordKey(SUBSCRIPTION, before.request.record if before is not None else record)
    writes: dict[str, Value] = {"card": card.secret_text} if card is not None else {}
    writes |= {"reason": reason} if reason else {}
    if before is not None and before.request.state is State.ENDED:
        writes["ended"] = False
    with store.writing(now_ms) as tx:
        edit = edits.edit(tx.record(key), writes, person, SHOWN)
        if edit.writes:
            tx.author(person, key, patient, edit.writes, edit.shown)
    return next(one for one in _asked(store, patient) if one.request.facility == here)


def end(store: Store, person: PersonId, record: RecordId, now_ms: int) -> Asked:
    """Receive nothing more of the patient; what is here stays. Raises InvalidValue (``E_NO_SUCH_RECORD``)."""
    key = RecordKey(SUBSCRIPTION, record)
    with store.writing(now_ms) as tx:
        there = tx.record(key)
        if there is None:
            raise InvalidValue(
                "There is no such subscription here.",
                code="E_NO_SUCH_RECORD",
                next_step="'hwc subscriptions list' shows them",
            )
        edit = edits.edit(there, {"ended": True}, person, SHOWN)
        if edit.writes:
            tx.author(person, key, there.patient, edit.writes, edit.shown)
    return next(one for one in _asked(store, there.patient) if one.request.record == record)


def everything(store: Store) -> list[Asked]:
    """All requests that this node knows of, by its own centre and by others for its patients, the oldest first."""
    patients = sorted({kept.patient for kept in store.records(kind=SUBSCRIPTION)})
    found = [one for patient in patients for one in _asked(store, patient)]
    return sorted(found, key=lambda one: (one.request.asked_ms, one.request.record))


def _asked(store: Store, patient: PatientId) -> list[Asked]:
    here: FacilityCode = store.membership.facility
    return [Asked(patient, one, one.facility == here) for one in subscription.requests(_of(store, patient))]


def _of(store: Store, patient: PatientId) -> list[Record]:
    return [kept.record for kept in store.patient_records(patient)]
