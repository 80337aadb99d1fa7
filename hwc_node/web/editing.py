"""Forms that edit what is there: what the person was shown goes with the form, and only what they altered is written.

The form carries the ids of the live writes it was made from (`show`). A write that arrived while it was open was not
shown, so it is not named, lives on, and is shown next (DESIGN §2). It also carries what each of its fields held, as
hashes: a field that comes back as it was shown says nothing, however little of the record it could show. Such a field
is neither written nor found wrong.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from hwc_node.web import sets
from sync_protocol.canonical import Value
from sync_protocol.change import ChangeId
from sync_protocol.merge import Record
from sync_protocol.pages.forms import Form, as_typed

SHOWN: Final = "shown"
WAS: Final = "was"
MAX_SHOWN: Final = 300  # changes of one record that a form may name: a form has at most 400 fields
INPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "birth": ("age", "born"),
    "allergies_status": ("allergies_status", "allergies"),
}
"""By a record's field, those of the form that say it, where they are not one of the same name."""
_CHANGE: Final = re.compile(r"[0-9a-f]{32}")
_HASH_CHARS: Final = 16  # of 64 bits: two texts of one field do not meet in it


def show(form: Form, record: Record) -> None:
    """The form is made from this record as it is now; its fields are filled."""
    form.given[WAS] = [f"{name}:{one}" for name in sorted(form.given) for one in _hashes(form.all(name))]
    live = dict.fromkeys(name for held in record.live.values() for name in held)
    form.given[SHOWN] = [name.hex() for name in live][:MAX_SHOWN]


def shown_in(form: Form) -> frozenset[ChangeId]:
    """The live writes that the form's person was shown."""
    return frozenset(ChangeId(bytes.fromhex(one)) for one in form.all(SHOWN) if _CHANGE.fullmatch(one))


def is_untouched(form: Form, name: str) -> bool:
    """Whether a field of the form came back as it was shown; false in a form that does not say what it showed."""
    was = [one for one in form.all(WAS) if one.startswith(f"{name}:")]
    if not was:
        return bool(form.all(WAS)) and not form.all(name)
    return any(f"{name}:{one}" in was for one in _hashes(form.all(name)))


def _hashes(values: Iterable[str]) -> list[str]:
    """Of what a field holds, as a browser sends it back: a field of one line loses its line ends."""
    text = "\x1f".join(sorted(as_typed(one).strip() for one in values))
    ways = dict.fromkeys((text, text.replace("\n", "")))
    return [hashlib.sha256(way.encode()).hexdigest()[:_HASH_CHARS] for way in ways]


def altered(form: Form, writes: Mapping[str, Value]) -> dict[str, Value]:
    """Of these writes, those of fields that the person altered; what is wrong with any other is forgotten."""
    for name in [one for one in form.errors if is_untouched(form, one)]:
        if not any(name in inputs and not _all_untouched(form, inputs) for inputs in INPUTS.values()):
            del form.errors[name]
    return {name: value for name, value in writes.items() if not _all_untouched(form, _inputs_of(name))}


def _inputs_of(field: str) -> tuple[str, ...]:
    family = field.partition("/")[0]
    return INPUTS.get(family, (family,))


def _all_untouched(form: Form, names: Iterable[str]) -> bool:
    return all(is_untouched(form, name) for name in names)


def base_of(record: Record, form: Form, fields: Iterable[str]) -> dict[str, list[bytes]]:
    """By field, what this form replaces (`edits.Base`)."""
    shown = shown_in(form)
    return {name: [bytes(one) for one in record.live.get(name, ()) if one in shown] for name in fields}


def emptied(record: Record, form: Form, families: Iterable[str]) -> dict[str, Value]:
    """The elements that were shown in these sets' lines and are not in them any more: each is said to be absent."""
    shown, view = shown_in(form), record.view()
    left = [name for one in families if not is_untouched(form, one) for name in sets.left_out(form, one, one, view)]
    return {name: {"present": False} for name in left if shown & set(record.live[name])}


def cleared(record: Record, form: Form, writes: Mapping[str, Value], fields: Iterable[str]) -> dict[str, Value]:
    """The fields that held something when they were shown, and are empty in the form: they hold nothing from now on."""
    view, shown = record.view(), shown_in(form)
    return {
        name: None
        for name in fields
        if view.get(name) not in (None, "")
        and name not in writes
        and name not in form.errors
        and not form.value(name)
        and not is_untouched(form, name)
        and shown & set(record.live.get(name, ()))
    }
