"""`hwc import --format fhir`: what it takes, answers and refuses, and that no file makes it fall over."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc_node import views
from hwc_node.cli import reading
from hwc_node.cli.reading import MAX_VALUE_LINES
from hwc_node.fhir_import import FhirImport
from hwc_node.line_import import ImportRules
from hwc_node.store import Store
from sync_protocol import documents
from sync_protocol.errors import HealthSyncError
from sync_protocol.fhir import writing
from sync_protocol.fhir.datatypes import Key
from sync_protocol.fhir.leaving import Entry
from sync_protocol.fhir.reading import MAX_BYTES, Reader
from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import FACILITY, NOW_MS, PERSON, Home, make_home
from tests.strategies import json_values

PATIENT = {
    "resourceType": "Patient",
    "id": "7",
    "identifier": [{"system": "https://healthid.ndhm.gov.in", "value": "22-7225-4829-5255"}],
    "name": [{"text": "Planted Kumudini"}],
    "photo": [{"contentType": "image/jpeg"}],
}
PULSE = {
    "resourceType": "Observation",
    "id": "9",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
    "subject": {"reference": "Patient/7"},
    "valueQuantity": {"value": 72, "unit": "/min"},
}
BUNDLE = {
    "resourceType": "Bundle",
    "type": "collection",
    "id": "b",
    "entry": [{"resource": PATIENT}, {"resource": PULSE}, {"resource": {"resourceType": "Media", "id": "3"}}],
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = make_home(tmp_path)
    point_at(made, monkeypatch)
    return made


@pytest.fixture
def hwc(capfdbinary: pytest.CaptureFixture[bytes]) -> Runner:
    return Runner(capfdbinary)


def save(folder: Path, text: str) -> str:
    path = folder / "input.json"
    path.write_text(text, encoding="utf-8")
    return str(path)


def exported(home: Home) -> dict[str, dict[str, Any]]:
    with home.open() as store:
        return {line["id"]: line for line in map(views.export_line, store.records())}


def test_a_bundle_over_several_lines_goes_in(home: Home, hwc: Runner, tmp_path: Path) -> None:
    file = save(tmp_path, json.dumps(BUNDLE, indent=2))
    ended = hwc("import", "--format", "fhir", file)
    assert ended.status == 0, ended.err
    patient, vitals, photo, media = ended.lines
    assert (patient["line"], patient["verdict"], patient["kind"]) == (1, "created", "patient")
    assert (vitals["verdict"], vitals["kind"]) == ("created", "vitals")
    assert photo == {
        "line": 1,
        "verdict": "not_taken",
        "entry": 0,
        "resource": "Patient",
        "path": "photo",
        "reason": "has no place in our records",
    }
    assert (media["verdict"], media["resource"], media["path"], media["entry"]) == ("not_taken", "Media", "", 2)
    assert "4 lines: 2 created, 2 not taken" in ended.err
    held = exported(home)
    assert held[vitals["id"]]["patient"] == patient["id"]
    assert held[vitals["id"]]["fields"] == {"pulse_bpm": 72}
    again = hwc("import", "--format", "fhir", file)
    assert [one["verdict"] for one in again.lines] == ["unchanged", "unchanged", "not_taken", "not_taken"]
    assert exported(home) == held


def test_resources_a_line_know_each_other_and_a_bad_one_stops_no_other(home: Home, hwc: Runner, tmp_path: Path) -> None:
    lines = ["{bad", json.dumps(PATIENT), "", json.dumps(PULSE), '{"kind":"patient","fields":{}}', "[]"]
    ended = hwc("import", "--format", "fhir", save(tmp_path, "\n".join(lines)))
    assert ended.status == 1
    answers = [(one["line"], one["verdict"], one.get("error")) for one in ended.lines]
    assert answers == [
        (1, "refused", "E_NOT_JSON"),
        (2, "created", None),
        (2, "not_taken", None),
        (4, "created", None),
        (5, "refused", "E_NOT_FHIR"),
        (6, "refused", "E_NOT_FHIR"),
    ]
    held = exported(home)
    assert {one["patient"] for one in held.values()} == {ended.lines[1]["id"]}
    assert "Planted" not in ended.err


def test_what_a_value_may_not_be_is_refused_as_on_any_line(home: Home, hwc: Runner, tmp_path: Path) -> None:
    wild = PULSE | {"valueQuantity": {"value": 9_000, "unit": "/min"}}
    [answer] = hwc("import", "--format", "fhir", save(tmp_path, json.dumps(wild))).lines
    assert (answer["verdict"], answer["error"], answer["field"]) == ("refused", "E_INVALID_VALUE", "pulse_bpm")


def test_a_facility_is_not_ours_to_write(home: Home, hwc: Runner, tmp_path: Path) -> None:
    ended = hwc(
        "import", "--format", "fhir", save(tmp_path, '{"resourceType":"Organization","id":"1","name":"UVW Hospital"}')
    )
    assert (ended.status, ended.lines[0]["verdict"]) == (0, "not_ours")


def test_our_own_document_comes_back_unchanged_and_that_of_another_facility_is_refused(
    home: Home, hwc: Runner, tmp_path: Path
) -> None:
    lines = [
        {
            "kind": "patient",
            "id": documents.id_text(bytes(16)),
            "fields": {"name": "Asha", "allergies": ["Penicillin"]},
        },
        {"kind": "case", "patient": documents.id_text(bytes(16)), "at": NOW_MS, "fields": {"complaints": ["fever"]}},
    ]
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert hwc("import", str(path)).status == 0
    patient = Key("patient", bytes(16))

    def written(facility: str) -> str:
        return save(
            tmp_path,
            "".join(
                json.dumps(bundle) + "\n"
                for bundle in writing.bundles(
                    Entry(
                        Key(line["kind"], documents.parse_id(line["id"])),
                        facility,
                        patient,
                        line["at"],
                        line["fields"],
                        "2026-01-02T03:04:05.678Z",
                    )
                    for line in exported(home).values()
                )
            ),
        )

    ended = hwc("import", "--format", "fhir", written(FACILITY))
    assert (ended.status, [one["verdict"] for one in ended.lines]) == (0, ["unchanged", "unchanged"])
    other = hwc("import", "--format", "fhir", written("HWC999999"))
    assert (other.status, {one["error"] for one in other.lines}) == (1, {"E_OTHER_FACILITY"})
    taken = hwc("import", "--format", "fhir", "--any-facility", written("HWC999999"))
    assert (taken.status, {one["verdict"] for one in taken.lines}) == (0, {"unchanged"})


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("not json", "E_NOT_JSON"),
        ('{"resourceType":"Patient",\n"id":', "E_NOT_JSON"),
        ("[" * 100_000, "E_NOT_JSON"),
        ('{"resourceType":"Patient","a":' + "[" * 2_000 + "]" * 2_000 + "}", "E_NOT_JSON"),
        ('{"resourceType":"Patient","id":"1","id":"2"}', "E_KEY_TWICE"),
        ('{"resourceType":7}', "E_NOT_FHIR"),
        ('{"resourceType":"Bundle","entry":[' + "{}," * 5_000 + "{}]}", "E_TOO_LARGE"),
        ('{"resourceType":"Patient",\n"x":"' + "y" * MAX_BYTES + '"}', "E_TOO_LARGE"),
        ('{"resourceType":"Patient","x":"' + "y" * MAX_BYTES + '"}', "E_TOO_LARGE"),
        ('{\n"x":"' + "y\n" * MAX_VALUE_LINES + '"}', "E_TOO_LARGE"),
    ],
)
def test_what_is_no_fhir_is_refused_with_a_code(home: Home, hwc: Runner, tmp_path: Path, text: str, code: str) -> None:
    ended = hwc("import", "--format", "fhir", save(tmp_path, text))
    assert ended.status == 1
    assert [(one["line"], one["verdict"], one["error"]) for one in ended.lines] == [(1, "refused", code)]


@pytest.mark.parametrize("depth", [100, 700, 850, 900, 940, 960, 980, 5_000])
def test_depth_ends_in_an_answer(home: Home, hwc: Runner, tmp_path: Path, depth: int) -> None:
    """Wherever the stack ends: while parsing, naming a resource by its content, or writing a line."""
    nested = "[" * depth + "]" * depth
    field = {"url": "urn:health-sync:field", "extension": [{"url": "name", "valueString": "plan"}]}
    field["extension"].append({"url": "json", "valueString": nested})  # type: ignore[attr-defined]
    case = {"system": "urn:health-sync:record", "value": f"case/{documents.id_text(bytes(16))}"}
    subject = {"reference": "Patient/1"}
    basic = {"resourceType": "Basic", "identifier": [case], "extension": [field], "subject": subject}
    nameless = '{"resourceType":"Encounter","subject":{"reference":"Patient/1"},"x":' + nested + "}"
    ended = hwc("import", "--format", "fhir", save(tmp_path, json.dumps(basic) + "\n" + nameless))
    assert {one["line"] for one in ended.lines} == {1, 2}
    assert "Traceback" not in ended.err


def test_numbers_without_measure_are_not_taken() -> None:
    for value in (10**400, -(10**400), float("inf"), float("nan"), True, "72", None, [72]):
        for unit in ("/min", "[lb_av]"):
            code = {"coding": [{"system": "http://loinc.org", "code": "8867-4" if unit == "/min" else "29463-7"}]}
            read = Reader(FACILITY).read(PULSE | {"code": code, "valueQuantity": {"value": value, "unit": unit}})
            assert read.lines == ()
            assert [one.reason for one in read.not_taken] == ["has no number"]


def test_references_in_circles_lead_nowhere(home: Home, hwc: Runner, tmp_path: Path) -> None:
    def visit(name: str, other: str) -> dict[str, Any]:
        to = {"reference": f"Encounter/{other}"}
        return {"resource": {"resourceType": "Encounter", "id": name, "subject": to, "partOf": to}}

    bundle = {"resourceType": "Bundle", "entry": [visit("1", "2"), visit("2", "1"), visit("3", "3")]}
    ended = hwc("import", "--format", "fhir", save(tmp_path, json.dumps(bundle)))
    assert ended.status == 0
    assert {(one["verdict"], one["path"]) for one in ended.lines} == {("not_taken", "subject")}


TYPES = st.sampled_from(
    "Patient Encounter Condition Observation AllergyIntolerance ServiceRequest MedicationRequest Composition "
    "Practitioner Organization Appointment Basic Bundle DocumentReference Media".split()
)
ELEMENTS = st.sampled_from(
    "id identifier name telecom gender birthDate address contact communication status class subject patient encounter "
    "period diagnosis reasonCode reasonReference code category verificationStatus clinicalStatus note component section "
    "valueQuantity effectiveDateTime performerType priority medicationCodeableConcept dosageInstruction participant "
    "extension entry fullUrl resource text date meta coding system value reference use title start url".split()
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    json_values | st.sampled_from(["Patient/1", "Encounter/1", "http://loinc.org", "8867-4", "urn:health-sync:record"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ELEMENTS, inner, max_size=4),
    max_leaves=20,
)
RESOURCES = st.builds(lambda kind, rest: rest | {"resourceType": kind}, TYPES, st.dictionaries(ELEMENTS, ANYTHING))
BUNDLES = st.builds(
    lambda entries, rest: rest | {"resourceType": "Bundle", "entry": entries},
    st.lists(st.builds(lambda one, url: {"resource": one, "fullUrl": url}, RESOURCES, ANYTHING) | ANYTHING, max_size=4),
    st.dictionaries(ELEMENTS, ANYTHING, max_size=3),
)


@given(BUNDLES | RESOURCES | json_values)
def test_a_hostile_value_raises_nothing_but_our_own_errors(value: Any) -> None:
    try:
        read = Reader(FACILITY).read(value)
    except HealthSyncError:
        return
    for line in read.lines:
        assert {"kind", "id", "fields"} <= line.keys()
    for one in read.not_taken:
        assert one.reason


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with make_home(tmp_path_factory.mktemp("hostile")).open() as opened:
        yield opened


@given(value=BUNDLES | RESOURCES)
def test_a_hostile_value_is_answered_line_by_line(store: Store, value: Any) -> None:

    raw = json.dumps(value).encode()
    answers = FhirImport(store, PERSON, ImportRules()).take([(1, raw)], NOW_MS)
    for answer in answers:
        assert json.dumps(answer.as_json())
    again = FhirImport(store, PERSON, ImportRules()).take([(1, raw)], NOW_MS)
    assert not {one.as_json()["verdict"] for one in again} & {"created", "changed"}


# -- values over lines -------------------------------------------------------------------------------------------------


def values(raw: bytes, limit_bytes: int = 1_000) -> list[tuple[int, bytes | None]]:
    """What `reading.values` gives of a pipe that holds this."""
    read, written = os.pipe()
    with os.fdopen(written, "wb") as pipe:
        pipe.write(raw)
    with os.fdopen(read, "rb", buffering=0) as opened:
        found = list(reading.values(opened, limit_bytes))
    return [(one.number, one.raw) for one in found if isinstance(one, reading.InputLine)]


def test_what_the_first_line_holds_decides() -> None:
    assert values(b'{"a":1}\n\n{"b"\n') == [(1, b'{"a":1}'), (3, b'{"b"')]
    assert values(b'\n{\n"a":1}\n') == [(1, b'{\n"a":1}')]
    resource = b'{"resourceType":"Patient"}'
    assert values(b"{bad\n" + resource) == [(1, b"{bad"), (2, resource)]
    assert values(b"") == []
    assert values(b"{\n" + b"x" * 2_000 + b"\n" + resource) == [(1, None)]
    assert values(b"{" + b"x" * 2_000) == [(1, None)]
