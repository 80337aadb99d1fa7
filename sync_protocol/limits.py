"""Whether a value is of its field's type and within its limits: the checks behind the schema's table.

Strict where a person enters a value (`replica.check_writes`), and a flag where one arrives by sync, since nothing that
arrives is dropped (PROTOCOL.md §5). No message repeats the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sync_protocol.canonical import Value
from sync_protocol.schema import MAX_LINES, Field, FieldType

_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


IMPLAUSIBLE_BEFORE_MS: Final = 1_262_304_000_000  # 2010-01-01: older than any centre
PLAUSIBLE_AHEAD_MS: Final = 2 * 86_400_000  # no clock that somebody looks at is wrong by two days


def odd_time(ms: int, now_ms: int | None) -> str:
    """Why a time is implausible, in words; empty where it is not. now_ms: a time to compare with, None for none."""
    if ms < IMPLAUSIBLE_BEFORE_MS:
        return "is before 2010"
    return "is in the future" if now_ms is not None and ms > now_ms + PLAUSIBLE_AHEAD_MS else ""


def problem(field: Field, value: Value) -> str | None:
    """Why a value is outside of its field's type or limits, in words without the value; None when it is fine.

    ``null`` says "asked, and not known" and is allowed where the field is not required.
    """
    if value is None:
        return "must not be empty" if field.required else None
    return _CHECKS[field.type](field, value)


def _is_number(value: Value) -> bool:
    return type(value) is int or type(value) is float


def _check_limits(field: Field, value: Value) -> str | None:
    if (field.low is not None and value < field.low) or (field.high is not None and value > field.high):
        return f"must be from {field.low:g} to {field.high:g} {field.unit}".rstrip()
    return None


def _check_text(field: Field, value: Value) -> str | None:
    if type(value) is not str:
        return "must be text"
    if field.required and not value.strip():
        return "must not be empty"
    return f"must be at most {field.max_chars} characters" if len(value) > field.max_chars else None


def _check_choice(field: Field, value: Value) -> str | None:
    return None if value in field.choices and type(value) is str else f"must be one of {', '.join(field.choices)}"


def _check_integer(field: Field, value: Value) -> str | None:
    return "must be a whole number" if type(value) is not int else _check_limits(field, value)


def _check_number(field: Field, value: Value) -> str | None:
    return "must be a number" if not _is_number(value) else _check_limits(field, value)


def _check_boolean(_field: Field, value: Value) -> str | None:
    return None if type(value) is bool else "must be true or false"


def _check_date(_field: Field, value: Value) -> str | None:
    return None if type(value) is str and _DATE.fullmatch(value) else "must be a date as YYYY-MM-DD"


def _check_time(_field: Field, value: Value) -> str | None:
    return None if type(value) is int else "must be milliseconds since 1970"


def _check_reference(_field: Field, value: Value) -> str | None:
    return None if type(value) is bytes and len(value) == 16 else "must be the id of a record"


def _check_coded(field: Field, value: Value) -> str | None:
    if type(value) is not dict or not value:
        return "must be an object with system, code and text"
    for part, text in value.items():
        if part not in ("system", "code", "text"):
            return "has a part other than system, code and text"
        if type(text) is not str or len(text) > field.max_chars:
            return f"{part} must be text of at most {field.max_chars} characters"
    return None


def _check_object(field: Field, value: Value) -> str | None:
    if type(value) is not dict:
        return "must be an object"
    rows = {part.name: part for part in field.parts}
    for name, inner in value.items():
        if rows and name not in rows:
            return f"has an unknown part; known are {', '.join(rows)}"
        if rows and (why := problem(rows[name], inner)):
            return f"{name} {why}"
    for part in field.parts:
        if part.required and part.name not in value:
            return f"lacks {part.name}"
    return None


def _check_lines(field: Field, value: Value) -> str | None:
    if type(value) is not list:
        return "must be a list"
    if len(value) > MAX_LINES:
        return f"must have at most {MAX_LINES} lines"
    return next((why for line in value if (why := _check_object(field, line))), None)


def _check_element(field: Field, value: Value) -> str | None:
    if type(value) is not dict or type(value.get("present")) is not bool or not value.keys() <= {"present", "details"}:
        return "must be {present, details}"
    details = value.get("details")
    if details is not None and (type(details) is not dict or len(str(details)) > field.max_chars):
        return f"details must be an object of at most {field.max_chars} characters"
    return None


def _check_changes(_field: Field, value: Value) -> str | None:
    if type(value) is list and all(type(name) is bytes and len(name) == 16 for name in value):
        return None
    return "must be a list of change ids"


_CHECKS: Final[dict[FieldType, Callable[[Field, Value], str | None]]] = {
    FieldType.TEXT: _check_text,
    FieldType.CHOICE: _check_choice,
    FieldType.INTEGER: _check_integer,
    FieldType.NUMBER: _check_number,
    FieldType.BOOLEAN: _check_boolean,
    FieldType.DATE: _check_date,
    FieldType.TIME: _check_time,
    FieldType.REFERENCE: _check_reference,
    FieldType.CODED: _check_coded,
    FieldType.OBJECT: _check_object,
    FieldType.LINES: _check_lines,
    FieldType.ELEMENT: _check_element,
    FieldType.CHANGES: _check_changes,
}
