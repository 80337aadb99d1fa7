"""Documents as people and scripts write them: read, or refused with a sentence that repeats no value."""

from __future__ import annotations

import json
import unicodedata
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import canonical, documents, schema
from sync_protocol.documents import Document
from sync_protocol.errors import HealthSyncError, InvalidValue
from tests import strategies
from tests.strategies import TIME_NOW_MS

ID = "0190d5f0-7c1e-7abc-8def-0123456789ab"
YEAR_2098_MS = 4_070_908_800_000


def _parse(kind: str, fields: Any, **keys: Any) -> Document:
    line = {"kind": kind, "id": ID, "fields": fields} | keys
    return documents.parse(line, facility="HWC000001", now_ms=TIME_NOW_MS)


# -- ids ---------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=16, max_size=16))
def test_an_id_is_the_same_as_uuid_and_as_crockford(raw: bytes) -> None:
    number, letters = int.from_bytes(raw, "big"), ""
    for _ in range(26):
        number, rest = divmod(number, 32)
        letters = documents.CROCKFORD[rest] + letters
    assert documents.parse_id(documents.id_text(raw)) == raw
    assert documents.parse_id(letters) == raw == documents.parse_id(letters.lower().replace("0", "o"))


@given(st.one_of(st.text(max_size=40), st.none(), st.integers(), st.sampled_from(["Z" * 26, "8" * 26, "U" * 26])))
def test_any_other_id_is_refused(text: Any) -> None:
    try:
        raw = documents.parse_id(text)
    except InvalidValue:
        return
    assert len(raw) == 16


def test_derived_ids_repeat_and_differ() -> None:
    first = documents.derived_id("HWC000001", "a line")
    assert first == documents.derived_id("HWC000001", "a line")
    assert first != documents.derived_id("HWC000002", "a line") != documents.derived_id("HWC000001a", " line")
    assert uuid.UUID(bytes=first).version == 8 and uuid.UUID(bytes=first).variant == uuid.RFC_4122


def test_a_person_is_a_uuid_or_a_source_of_its_facility() -> None:
    assert documents.person_id(ID, "HWC000001") == uuid.UUID(ID).bytes == documents.person_id(ID, "HWC000002")
    assert documents.person_id("cho", "HWC000001") != documents.person_id("cho", "HWC000002")
    assert documents.person_id(" cho ", "HWC000001") == documents.person_id("cho", "HWC000001")


# -- shapes ------------------------------------------------------------------------------------------------------------


def test_older_flat_names_are_taken() -> None:
    vitals = _parse("vitals", {"systolic_mmhg": 120, "diastolic_mmhg": 80, "pulse_bpm": 70})
    assert vitals.writes == {"blood_pressure": {"systolic_mmhg": 120, "diastolic_mmhg": 80}, "pulse_bpm": 70}
    assert _parse("patient", {"birth_year": 1980}).writes == {"birth": {"year": 1980, "precision": "year"}}


def test_lists_become_set_elements_and_removals_too() -> None:
    listed = _parse("patient", {"allergies": ["penicillin", " Latex ", {"system": "s", "code": "c", "text": "Dust"}]})
    assert listed.writes == {
        "allergies/penicillin": {"present": True},
        "allergies/latex": {"present": True, "details": {"text": " Latex "}},
        "allergies/s|c": {"present": True, "details": {"system": "s", "code": "c", "text": "Dust"}},
    }
    assert _parse("patient", {"allergies": {"remove": ["PENICILLIN"]}}).writes == {
        "allergies/penicillin": {"present": False}
    }


@given(st.text(min_size=1, max_size=30))
def test_the_key_of_an_element_is_stable(text: str) -> None:
    try:
        key = documents.element_key(text)
    except InvalidValue:
        return
    assert documents.element_key(key) == key == documents.element_key(f" {text} ")
    assert unicodedata.is_normalized("NFC", key)


def test_consent_becomes_a_record_of_its_own() -> None:
    patient = _parse("patient", {"name": "x", "consent": True}, at=TIME_NOW_MS)
    (consent,) = patient.extra
    assert consent.kind == "consent" and consent.writes == {"given": True, "at": TIME_NOW_MS}
    assert consent.patient == patient.patient and bytes(patient.record) == patient.patient
    assert "consent" not in patient.writes


def test_a_line_without_an_id_is_named_by_its_text() -> None:
    first = documents.parse({"kind": "case", "fields": {}}, facility="F", source_text="one")
    assert first.record == documents.parse({"kind": "case"}, facility="F", source_text="one").record
    assert first.record != documents.parse({"kind": "case"}, facility="F", source_text="two").record


def test_a_status_is_derived_and_not_taken() -> None:
    referral = _parse("referral", {"status": "answered", "urgency": "urgent"})
    assert referral.writes == {"urgency": "urgent"} and len(referral.notes) == 1


@pytest.mark.parametrize(
    ("at", "flagged"),
    [(0, True), (YEAR_2098_MS, True), ("1970-01-01T00:00:00Z", True), (TIME_NOW_MS, False), ("2023-11-14", False)],
)
def test_odd_times_are_taken_and_flagged(at: Any, flagged: bool) -> None:
    parsed = _parse("case", {"plan": "rest"}, at=at)
    assert type(parsed.writes["at"]) is int and bool(parsed.flags) == flagged


@pytest.mark.parametrize("birth", [{"year": 2098}, {"date": "2098-01-01"}, {"date": "2098"}, {"date": "2098-02"}])
def test_a_birth_in_the_future_is_refused(birth: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        _parse("patient", {"birth": birth})
    assert caught.value.code == "E_BIRTH_IN_FUTURE"
    with pytest.raises(InvalidValue):
        _parse("patient", {"birth_year": 2098})


@pytest.mark.parametrize(
    "line",
    [
        None,
        [],
        "text",
        5,
        {},
        {"kind": 5},
        {"kind": "case", "fields": []},
        {"kind": "case", "colour": "red"},
        {"kind": "case", "id": "x"},
        {"kind": "case", "patient": 5},
        {"kind": "case", "at": "soon"},
        {"kind": "case", "at": 1 << 60},
        {"kind": "case", "at": 1.5},
        {"kind": "case", "at": True},
        {"kind": "case", "person": 5},
        {"kind": "case", "person": " "},
        {"kind": "case", "person": "\ud800"},
        {"kind": "case", "base": 5},
        {"kind": "case", "base": {"plan": ["zz"]}},
        {"kind": "case", "base": {"plan": ["00"]}},
        {"kind": "case", "base": {"plan": 5}},
        {"kind": "case", "fields": {"complaints": "cough"}},
        {"kind": "case", "fields": {"complaints": {"remove": "cough"}}},
        {"kind": "case", "fields": {"complaints": [" "]}},
        {"kind": "case", "fields": {"complaints": ["x" * 61]}},
        {"kind": "case", "fields": {"complaints": ["x"] * 41}},
        {"kind": "case", "fields": {"complaints": [{"code": 5}]}},
        {"kind": "case", "fields": {"plan": "\ud800"}},
        {"kind": "case", "fields": {"plan": [[[[[[[[[1]]]]]]]]]}},
        {"kind": "case", "fields": {"plan": float("nan")}},
        {"kind": "case", "fields": {"plan": 1 << 70}},
        {"kind": "vitals", "fields": {"case": "x"}},
        {"kind": "case", "fields": {"entered_in_error": {"hidden": True, "shown": ["zz"]}}},
        {"kind": "case", "fields": {"at": "soon"}},
    ],
    ids=range(34),
)
def test_a_line_that_cannot_be_read_is_refused(line: Any) -> None:
    with pytest.raises(HealthSyncError) as caught:
        documents.parse(line, facility="HWC000001", source_text="x", now_ms=TIME_NOW_MS)
    assert caught.value.code.startswith("E_") and len(str(caught.value)) < 200


keys_of_a_line = st.sampled_from(["kind", "id", "facility", "patient", "at", "person", "base", "fields"])
names_of_fields = st.sampled_from(
    sorted({name for kind in schema.KINDS.values() for name in kind.fields} | {"consent"})
)
lines = st.dictionaries(keys_of_a_line, strategies.json_values).flatmap(
    lambda line: st.fixed_dictionaries(
        {"kind": st.sampled_from(sorted(schema.KINDS)) | st.text(max_size=5)},
        optional={"fields": st.dictionaries(names_of_fields | st.text(max_size=5), strategies.json_values, max_size=4)},
    ).map(lambda more: line | more)
)


@given(lines)
def test_any_json_is_a_document_or_refused_with_our_own_error(line: dict[str, Any]) -> None:
    try:
        parsed = documents.parse(line, facility="HWC000001", source_text="x", now_ms=TIME_NOW_MS)
        if parsed.person is not None:
            documents.person_id(parsed.person, "HWC000001")
    except HealthSyncError:
        return
    for one in (parsed, *parsed.extra):
        canonical.normalise(one.writes)


@given(strategies.json_values)
def test_any_json_value_is_a_line_or_refused(line: Any) -> None:
    try:
        documents.parse(line, facility="HWC000001", source_text="x")
    except HealthSyncError:
        return


@given(st.sampled_from(sorted(schema.KINDS)), strategies.values)
def test_whatever_arrived_by_sync_can_be_exported(kind: str, value: canonical.Value) -> None:
    """A value of the wrong type or size is kept and shown, so it must print too."""
    writes = dict.fromkeys((*schema.KINDS[kind].fields, "unknown", "allergies/x"), value)
    json.dumps(documents.writes_to_json(kind, writes))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("patient", {"name": "x", "birth": {"age_years": 40, "precision": "about", "said_on": "2024-01-01"}}),
        ("vitals", {"case": ID, "temperature_c": 37.5, "blood_pressure": {"systolic_mmhg": 1, "diastolic_mmhg": 2}}),
        ("case", {"entered_in_error": {"hidden": True, "reason": "x", "shown": ["00" * 16]}}),
    ],
)
def test_what_is_exported_is_imported_again(kind: str, fields: dict[str, Any]) -> None:
    parsed = _parse(kind, fields)
    printed = json.loads(json.dumps(documents.writes_to_json(kind, parsed.writes)))
    assert printed == fields and _parse(kind, printed).writes == parsed.writes


@given(st.integers(-(1 << 70), 1 << 70))
def test_any_time_can_be_printed(ms: int) -> None:
    text = documents.time_text(ms)
    assert text.endswith("Z") and len(text) == 24
