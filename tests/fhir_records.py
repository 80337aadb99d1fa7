"""A Hypothesis vocabulary of a patient's records as an export shows them, for what goes out as FHIR and comes back.

Built from the schema's own table, so a new field or kind is drawn as soon as it stands there.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final

from hypothesis import strategies as st

from sync_protocol import canonical, documents, schema
from sync_protocol.fhir import writing
from sync_protocol.fhir.datatypes import Key
from sync_protocol.fhir.leaving import Entry
from sync_protocol.schema import Field, FieldType
from tests.strategies import texts, values

PATIENT: Final = Key("patient", bytes(range(16)))
FACILITY: Final = "HWC000001"
IDS: Final = [bytes([0x19, 0x90, 0, at]) + b"a record id " for at in range(4)]
SAVED_AT: Final = "2026-01-02T03:04:05.678Z"
PATIENTS_KINDS: Final = sorted(kind for kind, table in schema.KINDS.items() if not table.opens_scope)
GOING_OUT: Final = [kind for kind in PATIENTS_KINDS if kind not in writing.LEFT_OUT]
SPOKEN: Final = ["fever", "Penicillin rash", "दर्द", "two\nlines", " padded ", "-", "<b>&amp;</b>"]

ids = st.sampled_from(IDS).map(documents.id_text)
spoken = st.sampled_from(SPOKEN) | texts
coded = st.fixed_dictionaries(
    {},
    optional={
        "system": st.sampled_from(["snomed", "icd10", "http://snomed.info/sct", "local list"]) | texts,
        "code": st.sampled_from(["91936005", "J06.9", "two words", " "]) | texts,
        "text": spoken,
    },
).filter(bool)


def _number(row: Field, whole: bool) -> st.SearchStrategy[Any]:
    low, high = row.low if row.low is not None else 0, row.high if row.high is not None else 1 << 30
    integers = st.integers(math.ceil(low), math.floor(high))
    if whole:
        return integers
    tenths = st.integers(math.ceil(low * 10), math.floor(high * 10)).map(lambda number: number / 10)
    return (integers | tenths | st.floats(low, high, allow_nan=False)).map(canonical.normalise)


def _dates() -> st.SearchStrategy[str]:
    days = st.dates().map(lambda day: day.isoformat())
    return days | days.map(lambda day: day[:7]) | days.map(lambda day: day[:4]) | st.sampled_from(["2024-02-31"])


def _object(row: Field) -> st.SearchStrategy[dict[str, Any]]:
    if not row.parts:
        return st.dictionaries(texts, st.integers(0, 9), max_size=2)
    required = {part.name: valid(part, null=False) for part in row.parts if part.required}
    optional = {part.name: valid(part) for part in row.parts if not part.required}
    return st.fixed_dictionaries(required, optional=optional)


elements = st.fixed_dictionaries(
    {"present": st.booleans()},
    optional={
        "details": coded | st.dictionaries(texts, spoken, max_size=2) | st.just({"text": "Egg", "note": "itches"})
    },
)


@cache  # a strategy that is made for each draw is looked through anew each time
def valid(row: Field, *, null: bool = True) -> st.SearchStrategy[Any]:
    """Values of a field as JSON shows them, within its type and limits."""
    made: dict[FieldType, st.SearchStrategy[Any]] = {
        FieldType.TEXT: spoken.filter(lambda text: not row.required or bool(text.strip())),
        FieldType.CHOICE: st.sampled_from(row.choices or ("none",)),
        FieldType.INTEGER: _number(row, True),
        FieldType.NUMBER: _number(row, False),
        FieldType.BOOLEAN: st.booleans(),
        FieldType.DATE: _dates(),
        FieldType.REFERENCE: ids,
        FieldType.CODED: coded,
        FieldType.LINES: st.deferred(lambda: st.lists(_object(row), max_size=3)),
        FieldType.OBJECT: st.deferred(lambda: _object(row)),
        FieldType.ELEMENT: elements,
        FieldType.CHANGES: st.lists(st.binary(min_size=16, max_size=16).map(lambda raw: raw.hex()), max_size=2),
    }
    found = made.get(row.type)
    if found is None:
        found = spoken
    return found | st.none() if null and not row.required else found


json_of_values = values.map(lambda value: documents.to_json(None, value))
"""What may arrive by sync in the place of any field."""


@cache
def _some_rows(kind: str) -> st.SearchStrategy[list[Field]]:
    rows = [row for row in schema.KINDS[kind].fields.values() if row.name != schema.AT.name]
    return st.lists(st.sampled_from(rows), max_size=6, unique=True)


@cache
def _valid_or_not(row: Field) -> st.SearchStrategy[Any]:
    return valid(row) | json_of_values


_keys: Final = st.lists(st.sampled_from(["fever", "snomed|91936005", "egg"]) | texts.filter(bool), max_size=2)
_unknown: Final = st.dictionaries(texts.filter(lambda name: name != "at"), json_of_values, max_size=2)
_of_an_unknown_kind: Final = st.dictionaries(texts, json_of_values, max_size=3)
_authors: Final = st.sampled_from(["", "Asha", "\x00"])
_records: Final = st.lists(st.sampled_from(IDS), max_size=5)
_kinds: Final = {True: st.sampled_from([*GOING_OUT, "a_kind_of_2030"]), False: st.sampled_from(GOING_OUT)}


def _fields(draw: st.DrawFn, kind: str, wild: bool) -> dict[str, Any]:
    """Some fields of a kind; wild: with values of any type, and fields that this program does not know."""
    found: dict[str, Any] = {}
    for row in draw(_some_rows(kind)):
        if row.type is FieldType.ELEMENT:
            for key in draw(_keys):
                found[f"{row.name}/{key}"] = draw(json_of_values if wild and draw(st.booleans()) else elements)
        else:
            found[row.name] = draw(_valid_or_not(row) if wild else valid(row))
    if wild:
        found |= draw(_unknown)
    return found


times = st.none() | st.sampled_from([0, 1_700_000_000_123, 4_070_908_800_000, -62_135_596_800_000, 253_402_300_799_999])


@st.composite
def entries(draw: st.DrawFn, wild: bool = False) -> list[Entry]:
    """The records of one patient, whose own may be missing, and that name each other or what is not here."""
    keys = [PATIENT] if draw(st.booleans()) else []
    for record in draw(_records):
        keys.append(Key(draw(_kinds[wild]), record))
    made = []
    for key in dict.fromkeys(keys):
        at = draw(times)
        known = key.kind in schema.KINDS
        fields = _fields(draw, key.kind, wild) if known else draw(_of_an_unknown_kind)
        said = documents.time_text(at) if at is not None else None
        fields.pop("at", None)
        made.append(Entry(key, FACILITY, PATIENT, said, fields, SAVED_AT, draw(_authors)))
    return made
