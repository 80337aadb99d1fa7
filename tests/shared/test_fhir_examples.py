"""The shared FHIR examples of NRCeS go in, all of them at one node; what is not taken is listed, and nothing else is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hwc_node import views
from hwc_node.fhir_import import FhirImport
from hwc_node.line_import import ImportRules
from hwc_node.store import Store
from tests.conftest import SHARED
from tests.node.enrolled_home import NOW_MS, PERSON, make_home

FOLDER: Final = SHARED / "data" / "fhir"
TAKEN: Final[dict[str, dict[str, int]]] = {
    "AllergyIntolerance-example-01.json": {"patient": 1},
    "Bundle-OPConsultNote-example-05.json": {"patient": 1, "person": 1, "facility": 1, "case": 1, "follow_up": 3},
    "Bundle-Prescription-example-06.json": {"patient": 1, "person": 1, "case": 1, "follow_up": 2},
    "Bundle-WellnessRecord-example-01.json": {"patient": 1, "person": 1, "facility": 1, "vitals": 8},
    "Condition-example-01.json": {"case": 1},
    "Encounter-example-01.json": {"case": 1},
    "MedicationRequest-example-01.json": {"follow_up": 1},
    "Organization-example-01.json": {"facility": 1},
    "Patient-example-01.json": {"patient": 1},
    "Practitioner-example-01.json": {"person": 1},
    "ServiceRequest-example-01.json": {"follow_up": 1},
}
"""File -> records by kind."""
LEFT: Final[dict[str, set[str]]] = {
    "AllergyIntolerance-example-01.json": {
        "AllergyIntolerance.recordedDate",
        "AllergyIntolerance.recorder",
        "AllergyIntolerance.note",
    },
    "Bundle-OPConsultNote-example-05.json": {
        "Bundle.signature",
        "2 Organization.telecom",
        "5 AllergyIntolerance.recordedDate",
        "5 AllergyIntolerance.recorder",
        "5 AllergyIntolerance.note",
        "6 Appointment.serviceCategory",
        "6 Appointment.serviceType",
        "6 Appointment.appointmentType",
        "6 Appointment.end",
        "6 Appointment.basedOn",
        "6 Appointment.participant[1].status",
        "9 Condition.clinicalStatus",
        "10 Procedure",
        "11 ServiceRequest.category",
        "11 ServiceRequest.requester",
        "12 MedicationStatement",
        "13 MedicationRequest.requester",
        "14 DocumentReference.content[0].attachment",
    },
    "Bundle-Prescription-example-06.json": {
        "Bundle.signature",
        "3 MedicationRequest.requester",
        "4 MedicationRequest.requester",
        "6 Binary.data",
    },
    "Bundle-WellnessRecord-example-01.json": {
        "3 Organization.telecom",
        "6 Observation.interpretation",
        "6 Observation.referenceRange",
        "11 Observation.performer",
        "11 Observation.interpretation",
        "11 Observation.bodySite",
        "11 Observation.component[0].interpretation",
        "11 Observation.component[1].interpretation",
        *(f"{at} Observation" for at in (10, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22)),  # BMI, steps, sleep, diet …
        "23 DocumentReference.content[0].attachment",
    },
    "Condition-example-01.json": set(),
    "Encounter-example-01.json": {"Encounter.class", "Encounter.period.end", "Encounter.hospitalization"},
    "MedicationRequest-example-01.json": {"MedicationRequest.requester", "MedicationRequest.reasonReference"},
    "Organization-example-01.json": {"Organization.telecom"},
    "Patient-example-01.json": set(),
    "Practitioner-example-01.json": set(),
    "ServiceRequest-example-01.json": {"ServiceRequest.requester"},
}
"""File -> what of it is not taken: the resource's number in its Bundle, its type, and the path."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_home(tmp_path).open() as opened:
        yield opened


@pytest.fixture
def filled(store: Store) -> Store:
    """With every example in it."""
    for name in TAKEN:
        take(store, FOLDER / name)
    return store


def take(store: Store, file: Path) -> list[dict[str, Any]]:
    importing = FhirImport(store, PERSON, ImportRules())
    return [answer.as_json() for answer in importing.take([(1, file.read_bytes())], NOW_MS)]


def _place(answer: dict[str, Any]) -> str:
    entry = f"{answer['entry']} " if "entry" in answer else ""
    return f"{entry}{answer['resource']}" + (f".{answer['path']}" if answer["path"] else "")


def test_the_table_names_every_example() -> None:
    assert {file.name for file in FOLDER.glob("*.json")} == TAKEN.keys() == LEFT.keys()


def test_every_example_goes_in_and_what_is_not_taken_is_listed(store: Store) -> None:
    for name, kinds in TAKEN.items():
        answers = take(store, FOLDER / name)
        left = [one for one in answers if one["verdict"] == "not_taken"]
        records = [one for one in answers if one["verdict"] != "not_taken"]
        assert Counter(one["kind"] for one in records) == kinds, name
        for one in records:
            expected = {"not_ours"} if one["kind"] == "facility" else {"created", "changed", "unchanged"}
            assert one["verdict"] in expected, (name, one)
        assert {_place(one) for one in left} == LEFT[name], name
        assert len(left) == len(LEFT[name])
        assert all(one["reason"] for one in left)
        again = take(store, FOLDER / name)
        assert {one["verdict"] for one in again} <= {"unchanged", "not_ours", "not_taken"}


def test_the_order_of_the_files_makes_no_other_records(filled: Store) -> None:
    """The examples contradict each other on the patient's sex, so that field may change, and nothing is made."""
    for name in reversed(TAKEN):
        answers = take(filled, FOLDER / name)
        assert {one["verdict"] for one in answers} <= {"unchanged", "changed", "not_ours", "not_taken"}


def test_what_they_say_is_there(filled: Store) -> None:
    held = list(map(views.export_line, filled.records()))
    patient = next(line for line in held if line["fields"].get("abha") == "22-7225-4829-5255")
    assert patient["fields"]["name"] == "ABC"
    assert patient["fields"]["birth"] == {"date": "1981-01-12", "precision": "day"}
    assert patient["fields"]["allergies_status"] == "none_known"
    assert "chronic_conditions/snomed|46635009" in patient["fields"]
    vitals: dict[str, Any] = {}
    for line in held:
        if line["kind"] == "vitals":
            assert line["patient"] == patient["id"]
            vitals |= line["fields"]
    assert vitals == {
        "respiratory_rate": 26,
        "pulse_bpm": 44,
        "spo2_percent": 95,
        "temperature_c": 36.5,
        "height_cm": 169.9,  # 66.9 in
        "weight_kg": 83.9,  # 185 lb
        "blood_pressure": {"systolic_mmhg": 107, "diastolic_mmhg": 60},
        "glucose_mg_dl": 142,
    }
    visit = next(line for line in held if "complaints/snomed|297142003" in line["fields"])
    assert visit["fields"]["provisional_diagnosis"]["text"] == "Diabetes mellitus type 2"
    asked = [line["fields"]["note"] for line in held if line["kind"] == "follow_up" and line["fields"].get("case")]
    assert "Prescribed: Neomycin 5 microgram/mg cutaneous ointment; Twice a day; Topical route" in asked
    assert "Ordered: Fasting lipid profile" in asked


def test_no_scanned_document_is_kept(filled: Store) -> None:
    for line in map(views.export_line, filled.records()):
        assert "JVBERi0" not in json.dumps(line)  # how every embedded PDF begins
