"""Values, times and counts as a person reads them at a terminal. Pure; what scripts read is made elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sync_protocol import documents, schema
from sync_protocol.canonical import Value
from sync_protocol.schema import Field, FieldType

LONGEST_CELL: Final = 60  # characters of a value in a list; the command that shows one thing has all of it


def said(kind: str, field: str, value: Value) -> str:
    """A field's value in one line."""
    return "; ".join(said_lines(kind, field, value)) or "nothing"


def said_lines(kind: str, field: str, value: Value) -> list[str]:
    """A field's value, a line for each of its items where it is a list; none where there is no value."""
    if value is None:
        return []
    row = schema.field_of(kind, field)
    shape = documents.to_json(row, value)
    if row is not None and row.type is FieldType.LINES and isinstance(shape, list):
        return [_one(row, item) for item in shape]
    return [_one(row, shape)]


def _one(row: Field | None, shape: Any) -> str:
    if isinstance(shape, str):
        return shape
    if isinstance(shape, Mapping) and row is not None:
        if row.type is FieldType.CODED:
            return _coded(shape)
        if row.type is FieldType.ELEMENT:
            details = shape.get("details")
            present = "present" if shape.get("present") is True else "not present"
            return f"{present}, {_coded(details)}" if isinstance(details, Mapping) else present
        order = [part.name for part in row.parts if part.name in shape]
        order += [name for name in shape if name not in order]
        return ", ".join(f"{name} {_one(None, shape[name])}" for name in order)
    return json.dumps(shape, ensure_ascii=False)


def _coded(shape: Mapping[str, Any]) -> str:
    """``Malaria (ICD-10 B54)``"""
    code = " ".join(str(shape[name]) for name in ("system", "code") if shape.get(name))
    rest = [f"{name} {_one(None, part)}" for name, part in shape.items() if name not in ("system", "code", "text")]
    text = shape.get("text")
    named = f"{text} ({code})" if text and code else str(text or code)
    return ", ".join(filter(None, (named, *rest)))


def cell(words: str) -> str:
    """As much as fits into a list."""
    return words if len(words) <= LONGEST_CELL else words[: LONGEST_CELL - 1] + "…"


def time(ms: int | None) -> str:
    """To the minute, in UTC."""
    return "never" if ms is None else documents.time_text(ms)[:16].replace("T", " ") + "Z"


def count(number: int, one: str, many: str = "") -> str:
    """``1 change``, ``2 changes``"""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(size_bytes: int) -> str:
    """``812 bytes``, ``43.9 kB``, ``1.2 MB``"""
    if size_bytes < 1_000:
        return f"{size_bytes} bytes"
    return f"{size_bytes / 1_000:,.1f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1_000_000:,.1f} MB"
