"""What people at a centre are shown of records: a conflict with its siblings, a referral, a line of an export.

The JSON shapes of the contract are `sync_protocol.exports`'; here stands what only a node knows beside them: how far a
change has travelled, and the views that the clinic's verbs hand to the command line. Pure; reads no store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hwc_node.store import KeptChange, KeptRecord
from sync_protocol import exports, referral
from sync_protocol.canonical import Value
from sync_protocol.change import ChangeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.exports import Unseen
from sync_protocol.merge import Held, Record, Shown


@dataclass(frozen=True, slots=True)
class Sibling:
    """One live write of a field in conflict. at_ms: its effective time. replaced: what its author had been shown."""

    change: ChangeId
    value: Value
    person: PersonId
    facility: str
    at_ms: int
    timed: bool
    replaced: tuple[Held | ChangeId, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field of a record as the merge shows it. open: a person must decide."""

    record: Record
    field: str
    shown: Shown

    @property
    def key(self) -> RecordKey:
        return self.record.key

    @property
    def patient(self) -> PatientId:
        return self.record.patient

    @property
    def id(self) -> str:
        return exports.conflict_id(self.record.key, self.field)

    @property
    def open(self) -> bool:
        return self.shown.conflict

    @property
    def since_ms(self) -> int:
        return exports.since_ms(self.shown)

    @property
    def values(self) -> tuple[Sibling, ...]:
        """The live writes: the shown one first, the rest latest first."""
        return tuple(self._sibling(held) for held in self.shown.live)

    def _sibling(self, held: Held) -> Sibling:
        change, record = held.change, self.record
        replaced = tuple(record.changes.get(name, name) for name in record.replaced_by(self.field, change.id))
        timed, at_ms = held.receipt_ms is not None, exports.at_ms(held)
        return Sibling(change.id, change.writes[self.field], change.person, change.facility, at_ms, timed, replaced)


def conflicts(record: Record) -> list[Conflict]:
    """The open conflicts of one record."""
    return [Conflict(record, field, shown) for field, shown in record.conflicts().items()]


def conflict_json(one: Conflict, name_of: Callable[[PersonId], str | None]) -> dict[str, Any]:
    """The contract's shape of a conflict; ``person_name`` stands beside each person that is known."""
    return exports.conflict_json(one.record, one.field, one.shown, name_of)


def export_line(kept: KeptRecord) -> dict[str, Any]:
    """A record as a line of an export: what is shown, what is in conflict, how far it has travelled."""
    return exports.export_line(kept.record, kept.sync.value)


def change_line(kept: KeptChange) -> dict[str, Any]:
    """A change as a line of the raw history."""
    return exports.change_line(kept.held) | {"sync": kept.sync.value}


@dataclass(frozen=True, slots=True)
class ReferralView:
    """A referral as its centre sees it. unseen: None where there is no reply, or it does not say what was seen. sent_ms:
    when it first left this computer, None where it has not, or another one of this centre sent it. asked: the doctor's
    message that nobody has answered yet."""

    record: Record
    progress: referral.Progress
    reply: Record | None
    unseen: tuple[Unseen, ...] | None
    sent_ms: int | None = None
    asked: RecordId | None = None

    @property
    def facility(self) -> str:
        return exports.facility_of(self.record)


def referral_json(view: ReferralView, name_of: Callable[[PersonId], str | None]) -> dict[str, Any]:
    """The contract's line of a referral."""
    return exports.referral_json(view.record, view.progress, view.reply, view.unseen, name_of)
