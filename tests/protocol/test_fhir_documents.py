"""What goes out as FHIR R4: it validates with `fhir.resources`, and comes back in unchanged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import documents
from sync_protocol.fhir import names, writing
from sync_protocol.fhir.datatypes import Key
from sync_protocol.fhir.leaving import Entry
from sync_protocol.fhir.reading import Reader
from tests.fhir_records import FACILITY, IDS, PATIENT, SAVED_AT, entries

Records = dict[tuple[str, str], dict[str, Any]]


def meant(every: Sequence[Entry]) -> Records:
    """The records as lines of an import, by kind and id; those that say nothing left out."""
    return {
        (one.key.kind, documents.id_text(one.key.record)): {
            "at": one.at,
            "facility": one.facility,
            "patient": documents.id_text(one.patient.record),
            "fields": dict(one.fields),
        }
        for one in every
        if one.fields or one.at is not None
    }


def came_back(bundles: Sequence[dict[str, Any]]) -> Records:
    """What is read of these documents, once each has been through JSON; a record must be the same in all of them."""
    found: Records = {}
    for bundle in bundles:
        read = Reader(FACILITY).read(json.loads(json.dumps(bundle)))
        assert read.not_taken == ()
        for line in read.lines:
            shape = {name: line.get(name) for name in ("at", "facility", "patient", "fields")}
            assert same(found.setdefault((line["kind"], line["id"]), shape), shape)
    return found


def same(left: Any, right: Any) -> bool:
    """By JSON: in Python True == 1 and 37 == 37.0."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def holds(every: Sequence[Entry]) -> None:
    bundles = list(writing.bundles(every))
    for bundle in bundles:
        Bundle.model_validate(json.loads(json.dumps(bundle)))
        urls = [entry["fullUrl"] for entry in bundle["entry"]]
        assert len(set(urls)) == len(urls)
        assert bundle["entry"][0]["resource"]["resourceType"] == "Composition"
    back = came_back(bundles)
    expected = meant(every)
    assert back.keys() == expected.keys()
    for key, line in expected.items():
        assert same(back[key], line), key


@given(entries())
def test_any_record_goes_out_valid_and_comes_back_unchanged(every: list[Entry]) -> None:
    holds(every)


@given(entries(wild=True))
def test_what_no_schema_allows_does_too(every: list[Entry]) -> None:
    """What arrived by sync is kept whatever it says, so an export meets it."""
    holds(every)


@given(entries())
def test_the_same_records_give_the_same_documents(every: list[Entry]) -> None:
    assert json.dumps(list(writing.bundles(every))) == json.dumps(list(writing.bundles(list(reversed(every)))))


# -- one patient, looked at --------------------------------------------------------------------------------------------

CASE, VITALS, REFERRAL, REPLY = IDS
AT = "2026-01-02T09:00:00.000Z"


def entry(kind: str, record: bytes, fields: dict[str, Any], author: str = "Asha") -> Entry:
    return Entry(Key(kind, record), FACILITY, PATIENT, AT, fields, SAVED_AT, author)


def visit() -> list[Entry]:
    """A visit that was referred and answered."""
    case, referral = documents.id_text(CASE), documents.id_text(REFERRAL)
    line = {"drug": "ORS", "dose": "1 sachet", "frequency": "1-1-1", "days": 3, "advice": "in boiled water"}
    patient = {
        "name": "Sunita",
        "sex": "F",
        "birth": {"year": 1980, "precision": "year"},
        "phone": "+919900000000",
        "allergies/penicillin": {"present": True, "details": {"text": "Penicillin"}},
    }
    measured = {"temperature_c": 37.5, "blood_pressure": {"systolic_mmhg": 120, "diastolic_mmhg": 80}}
    reply = {
        "referral": referral,
        "doctor": "Dr. Rao",
        "qualification": "MBBS",
        "registration_number": "KMC-1",
        "diagnosis": {"system": "icd10", "code": "H66.9", "text": "Otitis media"},
        "prescription": [line, {"drug": "Paracetamol", "dose": "500 mg", "days": 2}],
        "advice": "Rest.",
    }
    asked = {"case": case, "specialty": "ent", "urgency": "emergency", "reason": "ear pain"}
    return [
        entry("patient", PATIENT.record, patient),
        entry("case", CASE, {"mode": "in_person", "plan": "rest <at> home", "complaints/fever": {"present": True}}),
        entry("vitals", VITALS, {"case": case, **measured}),
        entry("referral", REFERRAL, asked),
        entry("reply", REPLY, reply, "hub"),
    ]


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == kind]


def test_a_visit_is_a_consultation_and_its_answer_a_prescription() -> None:
    consultation, prescription = writing.bundles(visit())
    for bundle, profile in ((consultation, "OPConsultRecord"), (prescription, "PrescriptionRecord")):
        [composition] = resources(bundle, "Composition")
        assert composition["meta"]["profile"] == [names.PROFILES + profile]
        assert bundle["meta"]["profile"] == [f"{names.PROFILES}DocumentBundle"]
        assert bundle["type"] == "document"
        urls = {one["fullUrl"] for one in bundle["entry"]}
        listed = [one["reference"] for section in composition["section"] for one in section.get("entry", ())]
        assert listed
        assert set(listed) <= urls
    [request] = resources(consultation, "ServiceRequest")
    assert (request["priority"], request["performerType"]["text"]) == ("stat", "ent")
    [doctor] = resources(prescription, "Practitioner")
    assert doctor["name"] == [{"text": "Dr. Rao"}]
    assert {"KMC-1"} <= {one["value"] for one in doctor["identifier"]}
    assert doctor["qualification"] == [{"code": {"text": "MBBS"}}]
    first, second = resources(prescription, "MedicationRequest")
    assert first["medicationCodeableConcept"]["text"] == "ORS"
    assert first["dosageInstruction"][0]["text"] == "1 sachet, 1-1-1, for 3 days"
    assert second["requester"]["reference"] == f"urn:uuid:{doctor['id']}"
    [diagnosis] = resources(prescription, "Condition")
    assert diagnosis["code"]["coding"][0]["system"] == "http://hl7.org/fhir/sid/icd-10"


def test_measurements_are_standard_observations() -> None:
    consultation, _ = writing.bundles(visit())
    panel, temperature, pressure = resources(consultation, "Observation")
    members = [one["reference"] for one in panel["hasMember"]]
    assert members == [f"urn:uuid:{one['id']}" for one in (temperature, pressure)]
    assert temperature["code"]["coding"][0] == {"system": names.LOINC, "code": "8310-5", "display": "Body temperature"}
    assert temperature["valueQuantity"] == {"value": 37.5, "unit": "Cel", "system": names.UCUM, "code": "Cel"}
    assert [one["valueQuantity"]["value"] for one in pressure["component"]] == [120, 80]
    [encounter] = resources(consultation, "Encounter")
    assert panel["encounter"]["reference"] == temperature["encounter"]["reference"] == f"urn:uuid:{encounter['id']}"


def test_what_has_a_standard_place_needs_no_extension() -> None:
    """So that others read all of it, and the extensions stay the exception."""
    carried = {
        extension["extension"][0]["valueString"]
        for bundle in writing.bundles(visit())
        for one in bundle["entry"]
        for extension in one["resource"].get("extension", ())
        if extension["url"] == names.FIELD
    }
    assert carried == {"at", "plan", "advice"}  # of the patient, the case, the reply


def test_vitals_without_a_case_are_a_wellness_record() -> None:
    lonely = entry("vitals", VITALS, {"weight_kg": 61, "case": None})
    [bundle] = writing.bundles([visit()[0], lonely])
    [composition] = resources(bundle, "Composition")
    assert composition["meta"]["profile"] == [f"{names.PROFILES}WellnessRecord"]
    assert [one["title"] for one in composition["section"]] == ["Allergies", "Vital Signs"]


def test_two_complaints_of_one_wording_stay_two() -> None:
    """Their keys tell them apart, and their details say the same: what was found by drawing records for long."""
    details = {"text": "Egg", "note": "itches"}
    said = {
        "complaints/fever": {"present": False, "details": details},
        "complaints/snomed|91936005": {"present": True, "details": details},
        "complaints/egg": {"present": True, "details": details},
        "complaints/Egg": {"present": True},
    }
    holds([entry("case", CASE, said)])


def test_a_measurement_that_no_reader_takes_is_not_said_as_one() -> None:
    """What arrived by sync may be too great, or a fraction where we count: it goes along exactly, and nothing is left."""
    wild = {"temperature_c": 10**12, "pulse_bpm": 72.5, "spo2_percent": True, "weight_kg": "heavy", "height_cm": None}
    pressure = {"systolic_mmhg": 120.5, "diastolic_mmhg": 80}
    holds([entry("vitals", VITALS, {**wild, "blood_pressure": pressure, "glucose_mg_dl": -1e300})])


def test_the_directory_of_staff_is_no_patients_document() -> None:
    person = Entry(Key("person", CASE), FACILITY, Key("patient", CASE), None, {"name": "Asha"}, SAVED_AT)
    assert list(writing.bundles([person])) == []


@pytest.mark.parametrize(
    ("edited", "before", "after"),
    [
        ("specialty", '"performerType": {"text": "ent"}', '"performerType": {"text": "eye"}'),
        ("plan", '"valueString": "rest <at> home"', '"valueString": "work <at> home"'),
    ],
)
def test_an_edit_elsewhere_is_read_over_what_we_said(edited: str, before: str, after: str) -> None:
    """The extension says a field only where the standard elements do not: what another program corrects counts."""
    consultation, _ = writing.bundles(visit())
    text = json.dumps(consultation)
    assert before in text
    read = Reader(FACILITY).read(json.loads(text.replace(before, after)))
    said = {name: value for line in read.lines for name, value in line["fields"].items()}
    assert said[edited] in ("eye", "work <at> home")


@given(entries(), st.sampled_from(["patient_card", "subscription", "subscription_decision"]))
def test_who_may_see_a_patient_and_the_cards_secret_stand_in_no_document(every: list[Entry], kind: str) -> None:
    secret = Entry(
        Key(kind, b"another record i"), FACILITY, PATIENT, None, {"secret": "S3CRET", "card": "S3CRET"}, "", ""
    )
    assert "S3CRET" not in json.dumps(list(writing.bundles([*every, secret])))
