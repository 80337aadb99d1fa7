"""The merge a second time, deliberately naive, straight from its definition (DESIGN §2): for the tests to compare with.

    A field's state is every write anyone knows, minus those that some write names as superseded.

No state is kept, nothing is incremental, everything is quadratic. It shares the *table* of the schema (policies, cautious
orders) with the product, since that is what both must obey, and no line of its code.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from sync_protocol import schema
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, RecordKey
from sync_protocol.merge import Held


@dataclass(frozen=True)
class NaiveField:
    """live: ids, the shown one first and the rest latest first."""

    value: Value
    live: tuple[ChangeId, ...]
    conflict: bool


def state(everything: Iterable[Held]) -> dict[RecordKey, dict[str, NaiveField]]:
    """Record → field → what it shows, for all fields with a live write."""
    known = _known(everything)
    shown: dict[RecordKey, dict[str, NaiveField]] = {}
    for held, _ in known:
        for name in held.writes:
            live = _live(known, held.kind, held.record, name)
            fields = shown.setdefault(RecordKey(held.kind, held.record), {})
            if live:
                fields[name] = _shown(held.kind, name, live)
    return shown


def _known(everything: Iterable[Held]) -> list[tuple[Change, int | None]]:
    """Each change once, with its earliest receipt."""
    known: dict[bytes, tuple[Change, int | None]] = {}
    for held in everything:
        receipts = [held.receipt_ms]
        if held.change.id in known:
            receipts.append(known[held.change.id][1])
        told = [receipt for receipt in receipts if receipt is not None]
        known[held.change.id] = (held.change, min(told) if told else None)
    return list(known.values())


Write = tuple[Change, int | None]


def _live(known: list[Write], kind: str, record: bytes, name: str) -> list[Write]:
    same_record = [one for one in known if one[0].kind == kind and one[0].record == record]
    named = {one for change, _ in same_record for one in change.supersedes.get(name, [])}
    return [one for one in same_record if name in one[0].writes and one[0].id not in named]


def _time(write: Write) -> tuple[float, int, bytes]:
    """min(max(hlc, after), receipt), with a receipt counting as the end of its millisecond; ties by hlc, then id."""
    change, receipt_ms = write
    claimed = max(change.hlc, change.after * 65_536)
    effective = float("inf") if receipt_ms is None else receipt_ms * 65_536 + 65_535
    return min(claimed, effective), change.hlc, change.id


def _shown(kind: str, name: str, live: list[Write]) -> NaiveField:
    latest_first = sorted(live, key=_time, reverse=True)
    row = schema.KINDS[kind].fields.get(name.split("/")[0]) if kind in schema.KINDS else None
    is_family = row is not None and row.type is schema.FieldType.ELEMENT
    if row is not None and is_family != ("/" in name and name.split("/", 1)[1] != ""):
        row = None
    policy = row.policy.value if row is not None else "review"
    best, conflict = latest_first[0], False
    if len(live) > 1:
        if policy == "present":
            there = [one for one in latest_first if _value(one, name, dict).get("present") is True]
            best = there[0] if there else best
            conflict = len({_bytes(one, name) for one in there}) > 1
        elif policy in ("highest", "review"):
            order = row.order if row is not None else ()
            for value in order:  # from the least to the most cautious: the last that is there wins
                having = [one for one in latest_first if one[0].writes[name] == value]
                best = having[0] if having else best
            conflict = policy == "review" and len({_bytes(one, name) for one in live}) > 1
    rest = [one[0].id for one in latest_first if one is not best]
    return NaiveField(best[0].writes[name], (best[0].id, *rest), conflict)


def _value(write: Write, name: str, kind: type[dict[str, Value]]) -> dict[str, Value]:
    value = write[0].writes[name]
    return value if isinstance(value, kind) else {}


def _bytes(write: Write, name: str) -> bytes:
    return msgspec.msgpack.encode(write[0].writes[name], order="sorted")


def digest(everything: Iterable[Held]) -> int:
    """The sum modulo 2^128 of a hash of each change that has a receipt and a live write, its dead fields included."""
    known = _known(everything)
    total = 0
    for change, receipt_ms in known:
        same_patient = [one for one in known if one[0].patient == change.patient]
        dead = [
            name
            for name in sorted(change.writes)
            if change.id not in {one.id for one, _ in _live(same_patient, change.kind, change.record, name)}
        ]
        if receipt_ms is None or len(dead) == len(change.writes):
            continue
        text = b"health-sync digest 1\0" + change.id + struct.pack(">Q", receipt_ms)
        text += b"".join(struct.pack(">H", len(name.encode())) + name.encode() for name in dead)
        high, low = struct.unpack(">QQ", hashlib.sha256(text).digest()[:16])
        total += high << 64 | low
    return total % 2**128
