"""The only two verbs that move state: `author` makes a change, `receive` joins changes that arrived.

Both take and return plain values; a store's verb is "load, call, keep, commit". Saving, syncing, a doctor's reply and a
conflict's resolution are all one path through here (PROTOCOL.md §4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sync_protocol import change as changes
from sync_protocol import limits, merge, schema
from sync_protocol.canonical import Value, encode, normalise
from sync_protocol.change import Change, ChangeId, FacilityCode, NodeId, PatientId, PersonId, RecordKey
from sync_protocol.errors import InvalidValue, NotAllowed
from sync_protocol.hlc import Hlc
from sync_protocol.merge import Held, Record
from sync_protocol.schema import Writer

MARKS: Final = frozenset({schema.ENTERED_IN_ERROR.name, schema.RESOLUTION_NOTE.name})
"""What may be written about an immutable record: that it is wrong, such as a measurement of another patient."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, where and when. hlc: this save's stamp, from `hlc.tick`. after_ms: the last hub time seen.

    salt: 16 random bytes of this database session and patient.
    """

    writer: Writer
    facility: FacilityCode
    node: NodeId
    person: PersonId
    hlc: Hlc
    after_ms: int
    salt: bytes


def author(
    by: Author,
    key: RecordKey,
    patient: PatientId,
    writes: Mapping[str, Value],
    shown: Mapping[str, Iterable[ChangeId]] | None = None,
    *,
    existing: Record | None = None,
) -> Change:
    """A new change. ``shown``: field → ids of the live writes that the person was shown; they are superseded.

    Raises NotAllowed (``E_NOT_OURS``: this side does not write this kind; ``E_IMMUTABLE``: the record exists and is
    corrected by another record, or marked as entered in error; choosing among values that it was given at two places
    is no change of it),
    InvalidValue (``E_UNKNOWN_KIND``, ``E_UNKNOWN_FIELD``, ``E_INVALID_VALUE``), Malformed or TooLarge. A field of
    ``shown`` that is not written is superseded by nothing and left alone.
    """
    check_writes(by.writer, key.kind, writes)
    superseded = {name: list(ids) for name, ids in (shown or {}).items() if name in writes}
    closed = existing is not None and bool(existing.changes) and schema.KINDS[key.kind].immutable
    if existing is not None and closed and not writes.keys() <= MARKS and not _settles(existing, writes, superseded):
        raise NotAllowed(
            f"a {key.kind} cannot be changed once it is saved",
            code="E_IMMUTABLE",
            next_step=f"save a new {key.kind} with corrects set to this id and a correction_reason",
        )
    return changes.make(
        kind=key.kind,
        record=key.record,
        patient=patient,
        facility=by.facility,
        node=by.node,
        person=by.person,
        hlc=by.hlc,
        after=by.after_ms,
        salt=by.salt,
        writes=dict(writes),
        supersedes=superseded,
    )


def _settles(record: Record, writes: Mapping[str, Value], superseded: Mapping[str, Sequence[ChangeId]]) -> bool:
    """Whether this only decides between values that were written to the record at several places, unseen by each other.

    It says nothing new then: a copied disk may import a measurement twice under one id, and a person has to say which
    it was. A note why may stand beside it.
    """
    for name, value in writes.items():
        if name == schema.RESOLUTION_NOTE.name:
            continue
        said = {encode(held.change.writes[name]) for held in record.changes.values() if name in held.change.writes}
        if len(said) < 2 or encode(normalise(value)) not in said or not superseded.get(name):
            return False
    return bool(superseded)


def check_writes(writer: Writer, kind: str, writes: Mapping[str, Value]) -> None:
    """Raise unless this side may write these values. Strict: for what a person enters, not for what arrives by sync."""
    table = schema.KINDS.get(kind)
    if table is None:
        meant = schema.nearest(kind, list(schema.KINDS))
        raise InvalidValue(
            "the kind of record is unknown", code="E_UNKNOWN_KIND", next_step=f"did you mean {meant}?" if meant else ""
        )
    if writer not in table.writers:
        who = " or ".join(sorted(side.value for side in table.writers))
        raise NotAllowed(f"a {kind} is written by the {who}, not here", code="E_NOT_OURS")
    for name, value in writes.items():
        row = schema.field_of(kind, name)
        if row is None:
            meant = schema.nearest(name, list(table.fields))
            raise InvalidValue(
                f"a {kind} has no such field",
                field=name,
                code="E_UNKNOWN_FIELD",
                next_step=f"did you mean {meant}?" if meant else "hwc schema lists the fields",
            )
        why = limits.problem(row, normalise(value))
        if why:
            raise InvalidValue(f"{row.name} {why}", field=row.name)


def differing(record: Record | None, writes: Mapping[str, Value]) -> dict[str, Value]:
    """Of these writes, those whose value differs from what is shown: what an edit really edits."""
    if record is None:
        return dict(writes)
    different = {}
    for name, value in writes.items():
        shown = record.shown(name)
        if shown is None or shown.conflict or encode(shown.value) != encode(normalise(value)):
            different[name] = value
    return different


def own_writes(record: Record | None, person: PersonId, fields: Iterable[str]) -> dict[str, list[ChangeId]]:
    """What a source that was shown nothing supersedes: its own earlier live writes."""
    if record is None:
        return {}
    return {
        name: [held.change.id for held in record.live.get(name, {}).values() if held.change.person == person]
        for name in fields
    }


class Joined(msgspec.Struct, frozen=True, gc=False):
    """What one record became. digest_delta: to add to its patient's digest, modulo 2^128. conflicts: open ones now.

    record is None where nothing had to be folded: one new change without names, the common case of a backlog.
    """

    key: RecordKey
    patient: PatientId
    record: Record | None
    digest_delta: int
    conflicts: tuple[str, ...]


def receive(held: Mapping[RecordKey, Sequence[Held]], arriving: Iterable[Held]) -> list[Joined]:
    """Join what arrived to what is held, a result for each record touched, in order of first appearance.

    ``held`` has every change already held of each touched record (nothing for a new one). A change that arrives again,
    perhaps now with its receipt, is the same change. Where changes of one record name different patients, which no
    author means to make, there is a result for each: replicas hold whole patients, not the same ones (PROTOCOL.md §8).
    Refuses nothing: checking comes before.
    """
    by_record: dict[tuple[RecordKey, PatientId], list[Held]] = {}
    for item in arriving:
        by_record.setdefault((item.change.key, item.change.patient), []).append(item)
    return [_receive_one(key, held.get(key, ()), items) for (key, _), items in by_record.items()]


def _receive_one(key: RecordKey, known: Sequence[Held], items: list[Held]) -> Joined:
    first = items[0]
    before = [one for one in known if one.change.patient == first.change.patient] if known else ()
    if not before and len(items) == 1 and not first.change.supersedes:
        return Joined(key, first.change.patient, None, merge.contribution(first), ())
    earlier = merge.fold(key, before)
    record = merge.join(earlier, items)
    delta = merge.add_digests((merge.digest(record), -merge.digest(earlier)))
    return Joined(key, record.patient, record, delta, tuple(record.conflicts()))


def allowed(change: Change, origin: Writer) -> bool:
    """Whether this origin may have authored the change: the check of the hub at admission and the node at receipt."""
    return schema.may_write(change.kind, origin)
