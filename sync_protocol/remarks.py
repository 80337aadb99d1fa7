"""What a person should be told of a record beside its values: nothing here refuses or alters anything (PROTOCOL.md §4).

Strict checks are for what a person enters (`replica.author`). What arrives by sync is kept whatever it says, since
dropping it would lose somebody's work; what is odd about it is derived here, each time it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sync_protocol import limits, schema
from sync_protocol.merge import Held, Record

ALLERGIES: Final = "allergies/"


@dataclass(frozen=True, slots=True)
class Remark:
    """field: of the record, empty for the whole. said: in plain words, without the value."""

    field: str
    said: str


def remarks(record: Record) -> list[Remark]:
    """Everything odd about what the record shows, by field."""
    return [*_values(record), *_contradiction(record), *_clocks(record)]


def _values(record: Record) -> Iterator[Remark]:
    for name in record.fields:
        row, shown = schema.field_of(record.key.kind, name), record.shown(name)
        if row is None or shown is None:
            continue  # a later program's field: it is shown as unknown
        why = limits.problem(row, shown.value)
        if why is None and name == schema.AT.name:
            why = limits.odd_time(shown.value, shown.live[0].receipt_ms)
        if why:
            yield Remark(name, why)


def _contradiction(record: Record) -> Iterator[Remark]:
    status = record.shown("allergies_status")
    if status is None or status.value != "none_known":
        return
    for name in record.fields:
        shown = record.shown(name) if name.startswith(ALLERGIES) else None
        if shown is not None and type(shown.value) is dict and shown.value.get("present") is True:
            yield Remark("allergies_status", f"says that none is known, beside {name.removeprefix(ALLERGIES)}")


def _clocks(record: Record) -> Iterator[Remark]:
    """Clocks decide nothing that matters; that one was wrong explains the order in which a screen shows things."""
    wrong = sorted({why for held in record.changes.values() if (why := _clock(held))})
    yield from (Remark("", why) for why in wrong)


def _clock(held: Held) -> str:
    odd = limits.odd_time(held.change.hlc >> 16, held.receipt_ms)
    return f"written by a device whose clock was wrong: its time {odd}" if odd else ""
