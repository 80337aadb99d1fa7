"""Merging: a field's state is every write anyone knows, minus those that some write names as superseded.

Joining is set union, so order, repetition and delay cannot matter (PROTOCOL.md §4). A name may arrive before what it
names: a write that arrives already named is dead on arrival. A name counts only for the same record and field. The
policies say what to *show* when several writes of a field are live; they never make a write disappear.

Knows nothing of storage, of who may write what, or of where a change came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from sync_protocol import canonical, schema
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, PatientId, RecordKey
from sync_protocol.hlc import effective_ms
from sync_protocol.schema import Policy, Writer

DIGEST_BITS: Final = 128
DIGEST_LABEL: Final = b"health-sync digest 1\x00"
_DIGEST_MASK: Final = (1 << DIGEST_BITS) - 1


class Held(msgspec.Struct, frozen=True, gc=False):
    """A change as a replica holds it. receipt_ms: the hub's time of keeping the first segment that brought it."""

    change: Change
    receipt_ms: int | None = None
    origin: Writer = Writer.CENTRE

    @property
    def effective(self) -> int:
        """Effective time in stamp units (PROTOCOL.md §2)."""
        return effective_ms(self.change.hlc, self.change.after, self.receipt_ms)  # type: ignore[arg-type]

    @property
    def order(self) -> tuple[int, int, bytes]:
        """Later is greater: effective time, then stamp, then change id."""
        return self.effective, self.change.hlc, self.change.id


@dataclass(frozen=True, slots=True)
class Shown:
    """What a field shows. live: every live write, the shown one first, the rest latest first.

    conflict: a person must decide. not_yet_timed: the shown write has no receipt yet.
    """

    value: Value
    live: tuple[Held, ...]
    policy: Policy
    conflict: bool

    @property
    def not_yet_timed(self) -> bool:
        return self.live[0].receipt_ms is None

    @property
    def names(self) -> tuple[ChangeId, ...]:
        """What a person who is shown this field is shown: the ids of all its live writes."""
        return tuple(held.change.id for held in self.live)


@dataclass(slots=True)
class Record:
    """All that a replica knows of one record. Change it only through `fold` and `join`."""

    key: RecordKey
    changes: dict[ChangeId, Held] = field(default_factory=dict)
    named: dict[str, set[ChangeId]] = field(default_factory=dict)
    live: dict[str, dict[ChangeId, Held]] = field(default_factory=dict)

    @property
    def patient(self) -> PatientId:
        """The patient of its earliest change: what a later change says cannot move a record."""
        return first_change(self).change.patient

    @property
    def fields(self) -> list[str]:
        """The fields that have a live write, sorted."""
        return sorted(self.live)

    @property
    def dangling(self) -> int:
        """How many names point at changes that have not arrived."""
        return sum(1 for names in self.named.values() for name in names if name not in self.changes)

    def shown(self, name: str) -> Shown | None:
        """What the field shows by its policy, or None if it has no live write."""
        writes = self.live.get(name)
        return (
            _show(schema.policy_of(self.key.kind, name), self.key.kind, name, list(writes.values())) if writes else None
        )

    def view(self) -> dict[str, Value]:
        """Field → shown value, for all fields with a live write."""
        return {name: shown.value for name in self.fields if (shown := self.shown(name)) is not None}

    def conflicts(self) -> dict[str, Shown]:
        """The fields that a person must decide."""
        found = {}
        for name in self.fields:
            if len(self.live[name]) > 1:
                shown = self.shown(name)
                if shown is not None and shown.conflict:
                    found[name] = shown
        return found

    def replaced_by(self, name: str, by: ChangeId) -> tuple[ChangeId, ...]:
        """What a change's write to a field named as superseded."""
        held = self.changes.get(by)
        return tuple(held.change.supersedes.get(name, ())) if held else ()


def _add(record: Record, held: Held) -> None:
    change = held.change
    before = record.changes.get(change.id)
    if before is not None:
        held = _better_timed(before, held)
        if held is before:
            return
        record.changes[change.id] = held
        for name in change.writes:
            if change.id in record.live.get(name, ()):
                record.live[name][change.id] = held
        return
    record.changes[change.id] = held
    for name, ids in change.supersedes.items():
        record.named.setdefault(name, set()).update(ids)
        writes = record.live.get(name)
        if writes:
            for superseded in ids:
                writes.pop(superseded, None)
            if not writes:
                del record.live[name]
    for name in change.writes:
        if change.id not in record.named.get(name, ()):
            record.live.setdefault(name, {})[change.id] = held


def _better_timed(left: Held, right: Held) -> Held:
    """Of one change held twice: the one with a receipt, and of two receipts the earlier. Commutative by design."""
    if right.receipt_ms is None or (left.receipt_ms is not None and left.receipt_ms <= right.receipt_ms):
        return left
    return right


def fold(key: RecordKey, changes: Iterable[Held]) -> Record:
    """The record that these changes make, in whatever order and however often they come.

    Changes of other records are left alone: a name counts only for the same record.
    """
    record = Record(key)
    for held in changes:
        if held.change.record == key.record and held.change.kind == key.kind:
            _add(record, held)
    return record


def join(record: Record, changes: Iterable[Held]) -> Record:
    """The record with more changes joined in. The given record is not altered."""
    joined = Record(
        record.key,
        dict(record.changes),
        {name: set(ids) for name, ids in record.named.items()},
        {name: dict(writes) for name, writes in record.live.items()},
    )
    for held in changes:
        if held.change.record == record.key.record and held.change.kind == record.key.kind:
            _add(joined, held)
    return joined


def _show(policy: Policy, kind: str, name: str, writes: list[Held]) -> Shown:
    ordered = sorted(writes, key=lambda held: held.order, reverse=True)
    if len(ordered) == 1:
        return Shown(ordered[0].change.writes[name], tuple(ordered), policy, False)
    chosen, conflict = _CHOOSE[policy](kind, name, ordered)
    rest = tuple(held for held in ordered if held is not chosen)
    return Shown(chosen.change.writes[name], (chosen, *rest), policy, conflict)


def _distinct(name: str, writes: Iterable[Held]) -> int:
    return len({canonical.encode(held.change.writes[name]) for held in writes})


def _latest(_kind: str, _name: str, ordered: list[Held]) -> tuple[Held, bool]:
    return ordered[0], False


def _is_present(value: Value) -> bool:
    return type(value) is dict and value.get("present") is True


def _present(_kind: str, name: str, ordered: list[Held]) -> tuple[Held, bool]:
    there = [held for held in ordered if _is_present(held.change.writes[name])]
    return (there[0], _distinct(name, there) > 1) if there else (ordered[0], False)


def _most_cautious(kind: str, name: str, ordered: list[Held]) -> Held:
    row = schema.field_of(kind, name)
    order = row.order if row else ()
    ranked = [held for held in ordered if type(held.change.writes[name]) is str and held.change.writes[name] in order]
    if not ranked:
        return ordered[0]
    return max(ranked, key=lambda held: (order.index(held.change.writes[name]), held.order))


def _highest(kind: str, name: str, ordered: list[Held]) -> tuple[Held, bool]:
    return _most_cautious(kind, name, ordered), False


def _review(kind: str, name: str, ordered: list[Held]) -> tuple[Held, bool]:
    return _most_cautious(kind, name, ordered), _distinct(name, ordered) > 1


_CHOOSE: Final = {
    Policy.LATEST: _latest,
    Policy.PRESENT: _present,
    Policy.HIGHEST: _highest,
    Policy.REVIEW: _review,
}


@dataclass(frozen=True, slots=True)
class Hiding:
    """A record that was entered in error. changed_since: somebody wrote what the hiding person had not been shown."""

    by: Held
    reason: str
    changed_since: bool


def hiding(record: Record) -> Hiding | None:
    """Whether the record is hidden, by whom, and whether it must be shown again (PROTOCOL.md §4)."""
    shown = record.shown("entered_in_error")
    if shown is None or type(shown.value) is not dict or shown.value.get("hidden") is not True:
        return None
    by = shown.live[0]
    listed = shown.value.get("shown")  # arrived by sync, so it may be of any type
    seen = {name for name in listed if type(name) is bytes} if type(listed) is list else set()
    seen |= set(shown.names)
    live = {name for writes in record.live.values() for name in writes}
    return Hiding(by, str(shown.value.get("reason", "")), bool(live - seen))


def is_visible(record: Record) -> bool:
    """Not entered in error, or changed since by somebody who had not been shown that."""
    hidden = hiding(record)
    return hidden is None or hidden.changed_since


def first_change(record: Record) -> Held:
    """The change that began the record, as far as it is here."""
    return min(record.changes.values(), key=lambda held: held.order)


def contribution(held: Held, live_fields: Mapping[str, object] | None = None) -> int:
    """What one change adds to a digest: 0 without a receipt or a live write (PROTOCOL.md §8).

    live_fields: the fields of this change that are live, None for all of them. The digest is summed by change, with
    the fields that are dead in the hash: as strong as a sum by write, and one hash instead of ten for a new record.
    """
    if held.receipt_ms is None:
        return 0
    change = held.change
    dead: list[str] = []
    if live_fields is not None:
        dead = sorted(name for name in change.writes if name not in live_fields)
    if len(dead) == len(change.writes):
        return 0
    hashed = DIGEST_LABEL + change.id + held.receipt_ms.to_bytes(8, "big")
    for name in dead:
        text = name.encode()
        hashed += len(text).to_bytes(2, "big") + text
    return int.from_bytes(hashlib.sha256(hashed).digest()[:16], "big")


def digest(record: Record) -> int:
    """The record's part of the digest: the sum modulo 2^128 over its changes that have a live write and a receipt."""
    total = 0
    for name, held in record.changes.items():
        if held.receipt_ms is not None:
            total += contribution(
                held, {written: 1 for written in held.change.writes if name in record.live.get(written, ())}
            )
    return total & _DIGEST_MASK


def digests_by_patient(key: RecordKey, changes: Iterable[Held]) -> dict[PatientId, int]:
    """A record's parts of its patients' digests: mostly one. The changes that name a patient are folded by themselves,
    since another replica may hold that patient and not the other (PROTOCOL.md §8)."""
    of_patient: dict[PatientId, list[Held]] = {}
    for held in changes:
        of_patient.setdefault(held.change.patient, []).append(held)
    return {patient: digest(fold(key, held)) for patient, held in of_patient.items()}


def add_digests(parts: Iterable[int]) -> int:
    """The digest of several records, patients or facilities together."""
    return sum(parts) & _DIGEST_MASK


def digest_text(value: int) -> str:
    """32 hex digits, as people compare them."""
    return f"{value:032x}"


def keys_of(changes: Iterable[Change]) -> Iterator[RecordKey]:
    """The records that these changes are of, each once, in order of first appearance."""
    seen = set()
    for change in changes:
        key = change.key
        if key not in seen:
            seen.add(key)
            yield key
