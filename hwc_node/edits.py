"""What a save really writes: decided from the record as it is and what the caller was shown. Pure.

Rules (DESIGN §2): only a field whose value differs is written; what is superseded is what the caller was shown, or,
where nobody was shown anything, the source's own earlier writes. Saying the same again says nothing: repeating an
import repeats nothing, also where somebody else's write keeps the field in conflict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sync_protocol import canonical, replica
from sync_protocol.canonical import Value
from sync_protocol.change import ChangeId, PersonId
from sync_protocol.errors import InvalidValue, NeedsPerson
from sync_protocol.merge import Held, Record

RESOLUTION_NOTE = "resolution_note"
SHOWN = "shown"

Base = Mapping[str, list[bytes]] | str | None
"""What the caller was shown: field → change ids, "shown" for what is live now, None for nothing."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Writes of one change, and by field the live writes that their author was shown."""

    writes: dict[str, Value]
    shown: dict[str, list[ChangeId]]


def edit(record: Record | None, writes: Mapping[str, Value], person: PersonId, base: Base) -> Edit:
    """Of these writes, those that say something new."""
    named = _named(record, writes, person, base)
    if record is None:
        return Edit(dict(writes), named)
    different = replica.differing(record, writes)
    news = {
        name: value
        for name, value in different.items()
        if not _said_already(record, name, value, person, named.get(name, []))
    }
    return Edit(news, {name: ids for name, ids in named.items() if name in news and ids})


def _named(
    record: Record | None, writes: Mapping[str, Value], person: PersonId, base: Base
) -> dict[str, list[ChangeId]]:
    if isinstance(base, Mapping):
        return {name: [ChangeId(one) for one in ids] for name, ids in base.items() if name in writes}
    if base == SHOWN:
        return {name: list(record.live.get(name, ())) for name in writes} if record is not None else {}
    return replica.own_writes(record, person, writes)


def _said_already(record: Record, name: str, value: Value, person: PersonId, named: list[ChangeId]) -> bool:
    """Whether this person's own write with this value is live, and there is nothing else for this one to supersede."""
    live = record.live.get(name, {})
    said = canonical.encode(canonical.normalise(value))
    own = {
        change
        for change, held in live.items()
        if held.change.person == person and canonical.encode(held.change.writes[name]) == said
    }
    return bool(own) and not (set(named) & set(live)) - own


def taken(record: Record, field: str, take: str) -> Held:
    """The live write that ``--take`` means: its number in the list, 1 is the one shown, or the start of its change id.

    Raises InvalidValue (``E_NO_SUCH_VALUE``).
    """
    shown = record.shown(field)
    live = shown.live if shown is not None else ()
    if take.isascii() and take.isdecimal() and len(take) <= 4:
        if 1 <= int(take) <= len(live):
            return live[int(take) - 1]
    else:
        meant = [held for held in live if held.change.id.hex().startswith(take.lower())]
        if len(meant) == 1:
            return meant[0]
    raise InvalidValue(
        f"This field has {len(live)} live values, and this names none of them.",
        field="take",
        code="E_NO_SUCH_VALUE",
        next_step="'hwc conflicts show ID' numbers them",
    )


def resolution(
    record: Record, field: str, value: Value, note: str | None, shown: frozenset[ChangeId] | None = None
) -> Edit:
    """The edit that settles a field: one value in the place of all live writes that the person was shown.

    shown: their ids; None for all that are live now. Raises NeedsPerson (``E_NOT_IN_CONFLICT``).
    """
    now = record.shown(field)
    if now is None or not now.conflict:
        raise NeedsPerson(
            "This field is not in conflict.", code="E_NOT_IN_CONFLICT", next_step="'hwc conflicts list' shows what is"
        )
    names = [name for name in now.names if shown is None or name in shown]
    return Edit(*_noted(record, {field: value}, {field: names}, note))


def undoing(record: Record, field: str, note: str | None) -> list[Edit]:
    """The edits that undo the resolution of a field: each value that it replaced is live again, and a person decides.

    Each supersedes the resolution and names the write whose value it brings back. Raises NeedsPerson
    (``E_NOT_RESOLVED``) where the field is in conflict, or its live write replaced no two different values.
    """
    now = record.shown(field)
    if now is not None and now.conflict:
        raise NeedsPerson(
            "This field is in conflict already, so no resolution is in force.",
            code="E_NOT_RESOLVED",
            next_step="'hwc conflicts resolve ID' settles it",
        )
    for held in sorted(record.live.get(field, {}).values(), key=lambda one: one.order, reverse=True):
        before: dict[bytes, Held] = {}
        for name in held.change.supersedes.get(field, ()):
            replaced = record.changes.get(name)
            if replaced is not None and field in replaced.change.writes:
                before.setdefault(canonical.encode(replaced.change.writes[field]), replaced)
        if len(before) > 1:
            earlier = sorted(before.values(), key=lambda one: one.order)
            edits = [
                Edit({field: one.change.writes[field]}, {field: [held.change.id, one.change.id]}) for one in earlier
            ]
            edits[-1] = Edit(*_noted(record, edits[-1].writes, edits[-1].shown, note))
            return edits
    raise NeedsPerson(
        "No resolution of this field is in force, so there is nothing to undo.",
        code="E_NOT_RESOLVED",
        next_step="'hwc conflicts show ID' tells what each value replaced",
    )


def _noted(
    record: Record, writes: dict[str, Value], shown: dict[str, list[ChangeId]], note: str | None
) -> tuple[dict[str, Value], dict[str, list[ChangeId]]]:
    """With the person's note, which replaces the note of an earlier resolution of the record."""
    if not note:
        return writes, shown
    earlier = list(record.live.get(RESOLUTION_NOTE, ()))
    return writes | {RESOLUTION_NOTE: note}, shown | ({RESOLUTION_NOTE: earlier} if earlier else {})
