"""Forms that edit what is there: what the person was shown goes with the form, and only that is replaced.

The form carries the ids of the live writes it was made from (`show`). A write that arrived while it was open was not
shown, so it is not named, lives on, and is shown next (DESIGN §2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from sync_protocol.canonical import Value
from sync_protocol.change import ChangeId
from sync_protocol.merge import Record
from sync_protocol.pages.forms import Form

SHOWN: Final = "shown"
MAX_SHOWN: Final = 400  # live writes of one record that a form may name: its fields, each with some siblings
_CHANGE: Final = re.compile(r"[0-9a-f]{32}")


def show(form: Form, record: Record) -> None:
    """The form is made from this record as it is now."""
    form.given[SHOWN] = [name.hex() for held in record.live.values() for name in held][:MAX_SHOWN]


def shown_in(form: Form) -> frozenset[ChangeId]:
    """The live writes that the form's person was shown."""
    return frozenset(ChangeId(bytes.fromhex(one)) for one in form.all(SHOWN) if _CHANGE.fullmatch(one))


def base_of(record: Record, form: Form, fields: Iterable[str]) -> dict[str, list[bytes]]:
    """By field, what this form replaces (`edits.Base`)."""
    shown = shown_in(form)
    return {name: [bytes(one) for one in record.live.get(name, ()) if one in shown] for name in fields}


def emptied(record: Record, form: Form, writes: Mapping[str, Value], families: Iterable[str]) -> dict[str, Value]:
    """The elements of these sets that were shown and are not in the form any more: each is said to be absent."""
    shown, wanted = shown_in(form), tuple(f"{family}/" for family in families)
    return {
        name: {"present": False}
        for name in record.fields
        if name.startswith(wanted) and name not in writes and shown & set(record.live[name])
    }


def cleared(record: Record, form: Form, writes: Mapping[str, Value], fields: Iterable[str]) -> dict[str, Value]:
    """The fields that held something when they were shown, and are empty in the form: they hold nothing from now on."""
    view, shown = record.view(), shown_in(form)
    return {
        name: None
        for name in fields
        if view.get(name) not in (None, "")
        and name not in writes
        and name not in form.errors
        and shown & set(record.live.get(name, ()))
    }
