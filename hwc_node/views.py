"""What people and scripts are shown of records: a conflict, a referral, a line of an export. Pure; reads no store.

Rules: values are shown as the merge shows them; nothing here decides. Times are UTC, ids UUIDs, change ids hex (the
shapes of the contract). Whether a patient's name may be shown is the caller's decision: `names_a_person` tells which
fields hold one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hwc_node.store import KeptChange, KeptRecord
from sync_protocol import canonical, documents, referral, schema
from sync_protocol.canonical import Value
from sync_protocol.change import ChangeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.errors import InvalidValue
from sync_protocol.merge import Held, Record, Shown
from sync_protocol.schema import Policy

NAMING_FIELDS: Final = frozenset({("patient", "name"), ("patient", "guardian"), ("consent", "by")})
SEPARATOR: Final = "/"
UNSEEN_KINDS: Final = frozenset({"patient", "case", "vitals", "referral"})
BOOKKEEPING: Final = frozenset({"at", "case", "resolution_note"})  # of no use to who asks what a doctor did not know


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
    """A field with several live writes: the shown one first, the rest latest first. open: a person must decide."""

    key: RecordKey
    patient: PatientId
    field: str
    policy: Policy
    open: bool
    values: tuple[Sibling, ...]
    since_ms: int

    @property
    def id(self) -> str:
        return conflict_id(self.key, self.field)


def conflict_id(key: RecordKey, field: str) -> str:
    """``kind/uuid/field``; the field of a set's element has a separator of its own."""
    return SEPARATOR.join((key.kind, documents.id_text(key.record), field))


def parse_conflict_id(text: str) -> tuple[RecordKey, str]:
    """Raises InvalidValue (``E_BAD_ID``)."""
    kind, _, rest = text.partition(SEPARATOR)
    record, _, field = rest.partition(SEPARATOR)
    if not kind or not record or not field:
        raise InvalidValue(
            "A conflict is named kind/uuid/field.",
            field="id",
            code="E_BAD_ID",
            next_step="'hwc conflicts list' shows them",
        )
    return RecordKey(kind, RecordId(documents.parse_id(record))), canonical.normalise(field)


def conflict(record: Record, field: str, shown: Shown) -> Conflict:
    """The live writes of one field, in conflict or not."""
    siblings = tuple(_sibling(record, field, held) for held in shown.live)
    began = sorted(one.at_ms for one in siblings)
    since_ms = began[1] if len(began) > 1 else began[0]
    return Conflict(record.key, record.patient, field, shown.policy, shown.conflict, siblings, since_ms)


def conflicts(record: Record) -> list[Conflict]:
    """The open conflicts of one record."""
    return [conflict(record, field, shown) for field, shown in record.conflicts().items()]


def _sibling(record: Record, field: str, held: Held) -> Sibling:
    change = held.change
    replaced = tuple(record.changes.get(name, name) for name in record.replaced_by(field, change.id))
    timed = held.receipt_ms is not None
    return Sibling(change.id, change.writes[field], change.person, change.facility, at_ms(held), timed, replaced)


def at_ms(held: Held) -> int:
    """The effective time of a change in milliseconds since 1970."""
    return held.effective >> 16


def conflict_json(one: Conflict, name_of: Callable[[PersonId], str | None]) -> dict[str, Any]:
    """The contract's shape of a conflict; ``person_name`` stands beside each person that is known."""
    row = schema.field_of(one.key.kind, one.field)
    values = [
        {
            "change": sibling.change.hex(),
            "value": documents.to_json(row, sibling.value),
            "person": documents.id_text(sibling.person),
            "person_name": name_of(sibling.person),
            "facility": sibling.facility,
            "at": documents.time_text(sibling.at_ms),
            "timed": sibling.timed,
            "replaced": [_replaced_json(row, one.field, item) for item in sibling.replaced],
        }
        for sibling in one.values
    ]
    return {
        "id": one.id,
        "kind": one.key.kind,
        "record": documents.id_text(one.key.record),
        "patient": documents.id_text(one.patient),
        "field": one.field,
        "policy": one.policy.value,
        "open": one.open,
        "shown": values[0]["value"],
        "values": values,
        "since": documents.time_text(one.since_ms),
    }


def _replaced_json(row: schema.Field | None, field: str, item: Held | ChangeId) -> dict[str, Any]:
    if not isinstance(item, Held):
        return {"change": item.hex()}
    return {
        "change": item.change.id.hex(),
        "value": documents.to_json(row, item.change.writes.get(field)),
        "person": documents.id_text(item.change.person),
        "at": documents.time_text(at_ms(item)),
    }


def names_a_person(kind: str, field: str) -> bool:
    """Whether the field's value is a name that is shown only on request."""
    return (kind, field) in NAMING_FIELDS


# -- export ------------------------------------------------------------------------------------------------------------


def export_line(kept: KeptRecord) -> dict[str, Any]:
    """A record as a line of an export: what is shown, what is in conflict, how far it has travelled."""
    record, kind = kept.record, kept.key.kind
    view = record.view()
    at = view.pop("at", None)
    return {
        "kind": kind,
        "id": documents.id_text(kept.key.record),
        "facility": kept.facility,
        "patient": documents.id_text(kept.patient),
        "at": documents.time_text(at) if type(at) is int else None,
        "fields": documents.writes_to_json(kind, view),
        "conflicts": {name: _siblings_json(kind, name, shown) for name, shown in record.conflicts().items()},
        "sync": kept.sync.value,
    }


def _siblings_json(kind: str, name: str, shown: Shown) -> list[dict[str, Any]]:
    row = schema.field_of(kind, name)
    return [
        {
            "value": documents.to_json(row, held.change.writes[name]),
            "person": documents.id_text(held.change.person),
            "at": documents.time_text(at_ms(held)),
            "change": held.change.id.hex(),
        }
        for held in shown.live
    ]


def change_line(kept: KeptChange) -> dict[str, Any]:
    """A change as a line of the raw history."""
    held, change = kept.held, kept.held.change
    return {
        "id": change.id.hex(),
        "kind": change.kind,
        "record": documents.id_text(change.record),
        "patient": documents.id_text(change.patient),
        "facility": change.facility,
        "node": documents.id_text(change.node),
        "person": documents.id_text(change.person),
        "hlc": change.hlc,
        "after": documents.time_text(change.after),
        "writes": documents.writes_to_json(change.kind, change.writes),
        "supersedes": {name: [one.hex() for one in ids] for name, ids in sorted(change.supersedes.items())},
        "receipt": documents.time_text(held.receipt_ms) if held.receipt_ms is not None else None,
        "origin": held.origin.value,
        "sync": kept.sync.value,
    }


# -- referrals ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unseen:
    """A live write that the hub did not have when the doctor answered."""

    key: RecordKey
    field: str
    value: Value
    at_ms: int


@dataclass(frozen=True, slots=True)
class ReferralView:
    """A referral as its centre sees it. unseen: None where there is no reply, or it does not say what was seen."""

    record: Record
    facility: str
    progress: referral.Progress
    reply: Record | None
    unseen: tuple[Unseen, ...] | None


def unseen_by_doctor(
    about: Record, reply: Record, others: Sequence[Record], positions: Mapping[ChangeId, int | None], facility: str
) -> tuple[Unseen, ...] | None:
    """What was written of the patient, the case and its vitals, and was not on the feed where the doctor looked.

    positions: of changes on the feed of ``facility``; a change without one was not there. None where the reply does
    not say for this feed what was seen: then nobody knows, which is not the same as nothing.
    """
    seen = reply.shown("seen_positions")
    looked_at = seen.value.get(facility) if seen is not None and type(seen.value) is dict else None
    if type(looked_at) is not int:
        return None
    case = about.shown("case")
    case_id = case.value if case is not None else None
    found = []
    for one in (about, *(other for other in others if other.key != about.key)):
        if one.key.kind not in UNSEEN_KINDS or not _belongs(one, about, case_id):
            continue
        for field in one.fields:
            for name, held in one.live[field].items():
                position = positions.get(name)
                if field not in BOOKKEEPING and (position is None or position > looked_at):
                    found.append(Unseen(one.key, field, held.change.writes[field], at_ms(held)))
    return tuple(sorted(found, key=lambda item: (item.at_ms, item.key.kind, item.key.record, item.field)))


def _belongs(one: Record, about: Record, case_id: Value) -> bool:
    kind = one.key.kind
    if kind == "vitals":
        of = one.shown("case")
        return case_id is not None and of is not None and bool(of.value == case_id)
    if kind == "case":
        return bool(one.key.record == case_id)
    return kind == "patient" or one.key == about.key


def referral_json(view: ReferralView, name_of: Callable[[PersonId], str | None]) -> dict[str, Any]:
    """The contract's line of a referral."""
    record, progress = view.record, view.progress
    shown = documents.writes_to_json("referral", record.view())
    line: dict[str, Any] = {
        "id": documents.id_text(record.key.record),
        "patient": documents.id_text(record.patient),
        "case": shown.get("case"),
        "facility": view.facility,
        "specialty": shown.get("specialty"),
        "urgency": shown.get("urgency"),
        "status": progress.status.value,
        "withdrawn": progress.withdrawn,
        "saved_at": documents.time_text(progress.saved_ms),
        "received_at": _time(progress.received_ms),
        "claimed_by": documents.id_text(progress.claimed_by) if progress.claimed_by else None,
        "claimed_by_name": name_of(progress.claimed_by) if progress.claimed_by else None,
        "claimed_at": _time(progress.claimed_ms),
        "answered_at": _time(progress.answered_ms),
        "seen_at": _time(progress.seen_ms),
    }
    if view.reply is not None:
        line["reply"] = {
            "id": documents.id_text(view.reply.key.record),
            "person": documents.id_text(progress.answered_by) if progress.answered_by else None,
            "person_name": name_of(progress.answered_by) if progress.answered_by else None,
            **documents.writes_to_json("reply", view.reply.view()),
        }
        line["not_seen_known"] = view.unseen is not None
    line["not_seen_by_doctor"] = [_unseen_json(item) for item in view.unseen or ()]
    return line


def _unseen_json(item: Unseen) -> dict[str, Any]:
    return {
        "kind": item.key.kind,
        "id": documents.id_text(item.key.record),
        "field": item.field,
        "value": documents.to_json(schema.field_of(item.key.kind, item.field), item.value),
        "at": documents.time_text(item.at_ms),
    }


def _time(ms: int | None) -> str | None:
    return documents.time_text(ms) if ms is not None else None
