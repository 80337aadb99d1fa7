"""A set of a record as one line of a form: its elements with commas between them.

The line shows what it can give back. An element whose name has a comma in it, or that is there a second time under
another code, cannot stand in a line: the page shows it beside the field, and the form leaves it alone. What stands in
the line and is left there is not written again, so its code and its details stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from sync_protocol.canonical import Value
from sync_protocol.documents import element_key
from sync_protocol.errors import InvalidValue
from sync_protocol.pages.forms import Form, as_typed
from sync_protocol.pages.language import said

MAX_ELEMENTS: Final = 20  # new ones of one form
MAX_LINE_CHARS: Final = 4_000  # what is more stands beside the field: a form cuts what is far longer
_SEPARATOR: Final = re.compile(r"[,;\n]")
_NOTHING: Final[Mapping[str, Value]] = {}


def line(view: Mapping[str, Value], family: str) -> str:
    """What the field shows of a set."""
    return ", ".join(label for _, label in _in_line(view, family))


def beside(view: Mapping[str, Value], family: str) -> list[str]:
    """The elements that are there and cannot stand in the line."""
    shown = {name for name, _ in _in_line(view, family)}
    return [label or name for name, label in _there(view, family) if name not in shown]


def split(form: Form, name: str, family: str, label: str, held: Mapping[str, Value] = _NOTHING) -> dict[str, Value]:
    """What a line of things, by commas, says that is new, as the elements of a set. held: what the record shows."""
    found: dict[str, Value] = {}
    known = {_folded(text): (field, text) for field, text in reversed(_there(held, family))}
    for text in _typed(form, name):
        field, before = known.get(_folded(text), ("", ""))
        if field and (text == before or not _is_plain(held[field])):
            continue
        try:
            key = element_key(text)
        except InvalidValue:
            form.wrong(name, said("%(label)s: each, between commas, may have at most 60 letters", label=label))
            continue
        element: dict[str, Value] = {"present": True}
        if key != text:
            element["details"] = {"text": text}
        if _is_plain(held.get(f"{family}/{key}")):
            found[f"{family}/{key}"] = element
    if len(found) > MAX_ELEMENTS:
        form.wrong(name, said("%(label)s: at most %(num)s", label=label, num=MAX_ELEMENTS))
    return found


def left_out(form: Form, name: str, family: str, held: Mapping[str, Value]) -> list[str]:
    """The elements that stood in the line and are not in it any more."""
    typed = {_folded(text) for text in _typed(form, name)}
    return [field for field, label in _in_line(held, family) if _folded(label) not in typed]


def _typed(form: Form, name: str) -> Iterator[str]:
    return (text.strip() for text in _SEPARATOR.split(form.value(name)) if text.strip())


def _there(view: Mapping[str, Value], family: str) -> list[tuple[str, str]]:
    """The elements that are there: field and what it is called, as a form would send it."""
    found = []
    for field in sorted(view):
        begun, _, key = field.partition("/")
        value = view[field]
        if begun == family and isinstance(value, dict) and value.get("present") is True:
            details = value.get("details")
            text = details.get("text") if isinstance(details, dict) else None
            found.append((field, as_typed(text).strip() if isinstance(text, str) and text.strip() else key))
    return found


def _in_line(view: Mapping[str, Value], family: str) -> list[tuple[str, str]]:
    """Those that the line can give back as they are, each name once; a plain one before a coded one."""
    there = _there(view, family)
    found: dict[str, tuple[str, str]] = {}
    for field, label in sorted(there, key=lambda one: not _is_plain(view[one[0]])):
        if label and label == as_typed(label).strip() and not _SEPARATOR.search(label):
            found.setdefault(_folded(label), (field, label))
    shown, chars = [], 0
    for one in sorted(found.values()):
        chars += len(one[1]) + 2
        if chars <= MAX_LINE_CHARS:
            shown.append(one)
    return shown


def _is_plain(value: Value) -> bool:
    """Whether nothing but its text would be lost where the element is written anew."""
    if not isinstance(value, dict) or value.get("present") is not True:
        return True
    details = value.get("details")
    return details is None or (isinstance(details, dict) and details.keys() <= {"text"})


def _folded(text: str) -> str:
    return as_typed(text).strip().casefold()
