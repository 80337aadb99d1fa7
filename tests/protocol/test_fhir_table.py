"""FHIR.md says what the code does: each field in its table has that place, each that is not there goes as an extension."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest

import sync_protocol.fhir
from sync_protocol import documents, schema
from sync_protocol.fhir import names, writing
from sync_protocol.fhir.arriving import ARRIVALS
from sync_protocol.fhir.datatypes import Key
from sync_protocol.fhir.leaving import Entry
from sync_protocol.schema import Field, FieldType
from tests.fhir_records import FACILITY, IDS, PATIENT, SAVED_AT

TEXT: Final = Path(sync_protocol.fhir.__file__).with_name("FHIR.md").read_text(encoding="utf-8")
AT: Final = "2026-01-02T09:00:00.000Z"
CODED: Final = {"system": "icd10", "code": "H66.9", "text": "Otitis media"}
LINE: Final = {"drug": "ORS", "dose": "1", "route": "oral", "frequency": "1-1-1", "days": 3, "advice": "with water"}


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, without its head."""
    part = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def places() -> dict[str, dict[str, list[str]]]:
    """Kind -> field -> the elements it stands in."""
    found: dict[str, dict[str, list[str]]] = {}
    for ours, theirs in table("Fields with a standard place"):
        kind, field, *_ = ours.partition(" ")[0].split(".")
        found.setdefault(kind, {}).setdefault(field, []).append(theirs)
    return found


PLACES: Final = places()
KINDS: Final = sorted(kind for kind in schema.KINDS if kind not in writing.LEFT_OUT)


def probe(row: Field) -> Any:
    """A value of the field that its standard place, if it has one, can say."""
    by_name: dict[str, Any] = {
        "birth": {"date": "1980-05-01", "precision": "day"},
        "blood_pressure": {"systolic_mmhg": 120, "diastolic_mmhg": 80},
        "prescription": [LINE],
        "mode": "in_person" if "in_person" in row.choices else "audio",
        "entered_in_error": {"hidden": True},
        "withdrawn": {"withdrawn": False},
        "seen_positions": {"HWC1": 3},
    }
    by_type: dict[FieldType, Any] = {
        FieldType.CHOICE: row.choices[0] if row.choices else None,
        FieldType.REFERENCE: documents.id_text(IDS[0]),
        FieldType.CODED: CODED,
        FieldType.BOOLEAN: True,
        FieldType.DATE: "2026-02-03",
        FieldType.INTEGER: 60,
        FieldType.NUMBER: 36.5,
    }
    return by_name.get(row.name, by_type.get(row.type, "some words"))


def entry(kind: str, fields: dict[str, Any], at: str | None) -> Entry:
    key = PATIENT if kind == "patient" else Key(kind, IDS[1])
    return Entry(key, FACILITY, PATIENT, at, fields, SAVED_AT, "Asha")


def fields_of(kind: str, chosen: list[Field]) -> dict[str, Any]:
    return {
        (f"{row.name}/otitis" if row.type is FieldType.ELEMENT else row.name): (
            {"present": True} if row.type is FieldType.ELEMENT else probe(row)
        )
        for row in chosen
    }


def carried(bundles: list[dict[str, Any]], key: Key) -> set[str]:
    """The fields of a record that go along as extensions."""
    found = set()
    value = f"{key.kind}/{documents.id_text(key.record)}"
    for bundle in bundles:
        for one in bundle["entry"]:
            identifiers = one["resource"].get("identifier")
            if isinstance(identifiers, list) and any(row.get("value") == value for row in identifiers):
                for extension in one["resource"].get("extension", ()):
                    found.add(extension["extension"][0]["valueString"])
    return found


def at_path(resource: dict[str, Any], path: str) -> Any:
    found: Any = resource
    for name, row in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        if name:
            found = found.get(name) if isinstance(found, dict) else None
        else:
            found = found[int(row)] if isinstance(found, list) and int(row) < len(found) else None
    return found


@pytest.mark.parametrize("kind", sorted(PLACES))
def test_a_field_of_the_table_stands_in_its_element_and_in_no_extension(kind: str) -> None:
    every = schema.KINDS[kind].fields
    assert PLACES[kind].keys() <= every.keys()
    chosen = [row for name, row in every.items() if name in PLACES[kind] and name != "at"]
    one = entry(kind, fields_of(kind, chosen), AT if "at" in PLACES[kind] else None)
    bundles = list(writing.bundles([one]))
    assert carried(bundles, one.key) == set()
    resources = [inner["resource"] for bundle in bundles for inner in bundle["entry"]]
    for paths in PLACES[kind].values():
        for path in paths:
            kind_there = path.partition(".")[0]
            there = [found for found in resources if found["resourceType"] == kind_there]
            assert any(at_path(found, path.removeprefix(kind_there)) is not None for found in there), path


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_is_not_in_the_table_goes_as_an_extension(kind: str) -> None:
    for name, row in schema.KINDS[kind].fields.items():
        if name in PLACES.get(kind, {}):
            continue
        if name == "at":
            one, meant = entry(kind, {}, AT), "at"
        else:
            fields = fields_of(kind, [row])
            one, meant = entry(kind, fields, None), next(iter(fields))
        assert meant in carried(list(writing.bundles([one])), one.key), name


def test_the_measurements_are_those_of_the_code() -> None:
    said = {field: (codes.split(", "), units.split(", ")) for field, codes, units in table("Measurements")}
    assert said == {
        vital.field: (list(vital.codes), [unit.code for unit in vital.units])
        for vital in (*names.VITALS, *names.PRESSURE)
    }


def test_the_types_are_those_of_the_code() -> None:
    assert {row[0] for row in table("What a resource of somebody else becomes")} == ARRIVALS.keys()
