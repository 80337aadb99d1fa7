"""The health worker's verbs: save, look at conflicts and settle them, follow a referral.

Rules: every save is one path, *load, decide, author, keep*, in one transaction. What it supersedes is what the person
was shown (`edits`). A resolution is an ordinary change; undoing one brings back the values that it replaced, as a new
conflict: each is written again by who undoes, naming the resolution and the write whose value it is, so that nothing
is lost and a person decides anew. A referral's status is derived, never stored.

It refuses to know SQL, files, clocks and how anything is displayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from hwc_node import edits, views
from hwc_node.edits import Base
from hwc_node.store import KeptRecord, Store
from hwc_node.views import Conflict, ReferralView
from sync_protocol import canonical, documents, exports, referral, schema
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.errors import InvalidValue
from sync_protocol.merge import Record

REFERRAL = "referral"


@dataclass(frozen=True, slots=True)
class Settled:
    """A field that was resolved. left: the conflict that is open still, by what arrived and was not shown."""

    change: Change
    left: Conflict | None


@dataclass(slots=True)
class Clinic:
    """The verbs of one person at one node."""

    store: Store
    person: PersonId
    _names: dict[PersonId, str | None] = field(default_factory=dict)

    # -- saving --------------------------------------------------------------------------------------------------------

    def save(
        self, key: RecordKey, patient: PatientId, writes: Mapping[str, Value], base: Base, now_ms: int
    ) -> Change | None:
        """Save what a form says; None where it says nothing new. base: see `edits.Base`.

        Raises what `replica.author` raises, and the store's errors; then nothing is saved.
        """
        with self.store.writing(now_ms) as tx:
            edit = edits.edit(tx.record(key), writes, self.person, base)
            return tx.author(self.person, key, patient, edit.writes, edit.shown) if edit.writes else None

    # -- conflicts -----------------------------------------------------------------------------------------------------

    def conflicts(self) -> Iterator[Conflict]:
        """All fields that wait for a person's decision."""
        for kept in self.store.conflicts():
            yield from views.conflicts(kept.record)

    def conflict(self, name: str) -> Conflict:
        """The live writes of the field that ``kind/uuid/field`` names, in conflict or not. Raises InvalidValue."""
        key, field_name = exports.parse_conflict_id(name)
        kept = self.store.record(key)
        return _conflict_of(_found(kept.record if kept is not None else None, key), field_name)

    def resolve(
        self, name: str, choose: Callable[[Record, str], Value], note: str | None, now_ms: int,
        shown: frozenset[ChangeId] | None = None,
    ) -> Settled:  # fmt: skip
        """Settle a field by the value that ``choose`` gives for the record as it is in the saving transaction.

        shown: the live writes that the person was shown, None for all that are live now.
        """
        key, field_name = exports.parse_conflict_id(name)
        with self.store.writing(now_ms) as tx:
            record = _found(tx.record(key), key)
            edit = edits.resolution(record, field_name, choose(record, field_name), note, shown)
            change = tx.author(self.person, key, record.patient, edit.writes, edit.shown)
            after = _found(tx.record(key), key)
        left = _conflict_of(after, field_name)
        return Settled(change, left if left.open else None)

    def undo(self, name: str, note: str | None, now_ms: int) -> list[Change]:
        """Undo a field's resolution: the values it replaced are live again. Raises NeedsPerson (``E_NOT_RESOLVED``)."""
        key, field_name = exports.parse_conflict_id(name)
        with self.store.writing(now_ms) as tx:
            record = _found(tx.record(key), key)
            found = edits.undoing(record, field_name, note)
            return [tx.author(self.person, key, record.patient, edit.writes, edit.shown) for edit in found]

    # -- referrals -----------------------------------------------------------------------------------------------------

    def referrals(self) -> Iterator[ReferralView]:
        """All referrals of this centre, with where they stand."""
        here = self.store.membership.facility
        for kept in self.store.records(kind=REFERRAL):
            if kept.facility == here:
                yield self._view(kept)

    def referral(self, name: str) -> ReferralView:
        """One referral, also another centre's. Raises InvalidValue (``E_NO_SUCH_RECORD``)."""
        kept = self.store.record(RecordKey(REFERRAL, RecordId(documents.parse_id(name))))
        if kept is None:
            raise _no_such("referral", "'hwc referrals' lists them")
        return self._view(kept)

    def _view(self, kept: KeptRecord) -> ReferralView:
        beside = self.store.patient_records(kept.patient)
        others = [one.record for one in beside if one.key != kept.key]
        progress = referral.progress(kept.record, others, sent=kept.sent)
        reply = next((one for one in others if one.key.kind == "reply" and one.key.record == progress.reply), None)
        unseen = None
        if reply is not None:
            positions = {name: at for one in beside for name, at in one.positions.items()}
            here = self.store.membership.facility
            unseen = exports.unseen_by_doctor(kept.record, reply, others, positions, here)
        asked = referral.unanswered(kept.record, others)
        return ReferralView(kept.record, progress, reply, unseen, kept.sent_ms, asked)

    # -- names ---------------------------------------------------------------------------------------------------------

    def name_of(self, person: PersonId) -> str | None:
        """The name of a person or source of the directory; None for who is not in it."""
        if person not in self._names:
            self._names[person] = self._shown_name(RecordKey("person", RecordId(person)))
        return self._names[person]

    def patient_name(self, patient: PatientId) -> str | None:
        """A patient's name: only for what a person asked to see."""
        return self._shown_name(RecordKey("patient", RecordId(patient)))

    def _shown_name(self, key: RecordKey) -> str | None:
        kept = self.store.record(key)
        shown = kept.record.shown("name") if kept is not None else None
        return shown.value if shown is not None and isinstance(shown.value, str) else None


def parsed_value(kind: str, field_name: str, value: Value) -> Value:
    """A value from JSON as the field's. Raises InvalidValue or Malformed; the author checks the rest."""
    row = schema.field_of(kind, field_name)
    return canonical.normalise(documents.from_json(row, value) if row is not None else value)


def _found(record: Record | None, key: RecordKey) -> Record:
    if record is None:
        raise _no_such(f"record of kind {key.kind}" if key.kind in schema.KINDS else "record of this kind")
    return record


def _conflict_of(record: Record, field_name: str) -> Conflict:
    shown = record.shown(field_name)
    if shown is None:
        raise _no_such("field of this record")
    return Conflict(record, field_name, shown)


def _no_such(what: str, next_step: str = "'hwc conflicts list' shows what is in conflict") -> InvalidValue:
    return InvalidValue(f"There is no such {what} here.", code="E_NO_SUCH_RECORD", next_step=next_step)
