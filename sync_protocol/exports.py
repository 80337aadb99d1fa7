"""What people and scripts are shown of records, as JSON: a line of an export, a conflict, a referral. Pure.

The shapes are the contract of both command lines, so both sides take them from here. Values are shown as the merge
shows them; nothing here decides. Times are UTC, ids UUID strings, change ids 32 hex digits. Whether a patient's name
may be shown is the caller's decision: `names_a_person` tells which fields hold one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sync_protocol import canonical, documents, remarks, schema
from sync_protocol.canonical import Value
from sync_protocol.change import ChangeId, PersonId, RecordId, RecordKey
from sync_protocol.errors import InvalidValue
from sync_protocol.merge import Held, Record, Shown
from sync_protocol.referral import Progress

NAMING_FIELDS: Final = frozenset({("patient", "name"), ("patient", "guardian"), ("consent", "by")})
SEPARATOR: Final = "/"
UNSEEN_KINDS: Final = frozenset({"patient", "case", "vitals", "referral"})
BOOKKEEPING: Final = frozenset({"at", "case", "resolution_note"})  # of no use to who asks what a doctor did not know

NameOf = Callable[[PersonId], str | None]
"""The name of a member of staff; None for who is not in the directory."""


def at_ms(held: Held) -> int:
    """The effective time of a change in milliseconds since 1970."""
    return held.effective >> 16


def facility_of(record: Record) -> str:
    """The facility of the record's earliest change."""
    return _first(record).change.facility


def _first(record: Record) -> Held:
    return min(record.changes.values(), key=lambda held: held.order)


def names_a_person(kind: str, field: str) -> bool:
    """Whether the field's value is a name that is shown only on request."""
    return (kind, field) in NAMING_FIELDS


# -- export ------------------------------------------------------------------------------------------------------------


def export_line(record: Record, sync: str) -> dict[str, Any]:
    """A record as a line of an export. sync: how far it has travelled, in the contract's word."""
    kind = record.key.kind
    view = record.view()
    at = view.pop("at", None)
    return {
        "kind": kind,
        "id": documents.id_text(record.key.record),
        "facility": facility_of(record),
        "patient": documents.id_text(record.patient),
        "at": documents.time_text(at) if type(at) is int else None,
        "fields": documents.writes_to_json(kind, view),
        "conflicts": {name: _siblings_json(kind, name, shown) for name, shown in record.conflicts().items()},
        "remarks": [{"field": one.field or None, "said": one.said} for one in remarks.remarks(record)],
        "sync": sync,
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


def change_line(held: Held) -> dict[str, Any]:
    """A change as a line of the raw history."""
    change = held.change
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
        "receipt": time_or_none(held.receipt_ms),
        "origin": held.origin.value,
    }


# -- conflicts ---------------------------------------------------------------------------------------------------------


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
            next_step="'conflicts list' shows them",
        )
    return RecordKey(kind, RecordId(documents.parse_id(record))), canonical.normalise(field)


def conflict_json(record: Record, field: str, shown: Shown, name_of: NameOf) -> dict[str, Any]:
    """The contract's shape of a field's live writes: the shown one first, the rest latest first."""
    row = schema.field_of(record.key.kind, field)
    values = [
        {
            "change": held.change.id.hex(),
            "value": documents.to_json(row, held.change.writes[field]),
            "person": documents.id_text(held.change.person),
            "person_name": name_of(held.change.person),
            "facility": held.change.facility,
            "at": documents.time_text(at_ms(held)),
            "timed": held.receipt_ms is not None,
            "replaced": [
                _replaced_json(row, field, record.changes.get(name), name)
                for name in record.replaced_by(field, held.change.id)
            ],
        }
        for held in shown.live
    ]
    return {
        "id": conflict_id(record.key, field),
        "kind": record.key.kind,
        "record": documents.id_text(record.key.record),
        "patient": documents.id_text(record.patient),
        "field": field,
        "policy": shown.policy.value,
        "open": shown.conflict,
        "shown": values[0]["value"],
        "values": values,
        "since": documents.time_text(since_ms(shown)),
    }


def since_ms(shown: Shown) -> int:
    """When the field's live writes became several: the time of the second one."""
    began = sorted(at_ms(held) for held in shown.live)
    return began[1] if len(began) > 1 else began[0]


def _replaced_json(row: schema.Field | None, field: str, held: Held | None, name: ChangeId) -> dict[str, Any]:
    if held is None:
        return {"change": name.hex()}
    return {
        "change": name.hex(),
        "value": documents.to_json(row, held.change.writes.get(field)),
        "person": documents.id_text(held.change.person),
        "at": documents.time_text(at_ms(held)),
    }


# -- referrals ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unseen:
    """A live write that the hub did not have when the doctor answered."""

    key: RecordKey
    field: str
    value: Value
    at_ms: int


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


def referral_json(
    record: Record, progress: Progress, reply: Record | None, unseen: Sequence[Unseen] | None, name_of: NameOf
) -> dict[str, Any]:
    """The contract's line of a referral. unseen: None where it is not known what the doctor had seen."""
    shown = documents.writes_to_json("referral", record.view())
    line: dict[str, Any] = {
        "id": documents.id_text(record.key.record),
        "patient": documents.id_text(record.patient),
        "case": shown.get("case"),
        "facility": facility_of(record),
        "specialty": shown.get("specialty"),
        "urgency": shown.get("urgency"),
        "status": progress.status.value,
        "withdrawn": progress.withdrawn,
        "saved_at": documents.time_text(progress.saved_ms),
        "received_at": time_or_none(progress.received_ms),
        "claimed_by": documents.id_text(progress.claimed_by) if progress.claimed_by else None,
        "claimed_by_name": name_of(progress.claimed_by) if progress.claimed_by else None,
        "claimed_at": time_or_none(progress.claimed_ms),
        "answered_at": time_or_none(progress.answered_ms),
        "seen_at": time_or_none(progress.seen_ms),
    }
    if reply is not None:
        line["reply"] = {
            "id": documents.id_text(reply.key.record),
            "person": documents.id_text(progress.answered_by) if progress.answered_by else None,
            "person_name": name_of(progress.answered_by) if progress.answered_by else None,
            **documents.writes_to_json("reply", reply.view()),
        }
        line["not_seen_known"] = unseen is not None
    line["not_seen_by_doctor"] = [_unseen_json(item) for item in unseen or ()]
    return line


def _unseen_json(item: Unseen) -> dict[str, Any]:
    return {
        "kind": item.key.kind,
        "id": documents.id_text(item.key.record),
        "field": item.field,
        "value": documents.to_json(schema.field_of(item.key.kind, item.field), item.value),
        "at": documents.time_text(item.at_ms),
    }


def time_or_none(ms: int | None) -> str | None:
    """A time as the contract prints it, or null."""
    return documents.time_text(ms) if ms is not None else None
