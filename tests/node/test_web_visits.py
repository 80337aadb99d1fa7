"""A visit at the pages: limits, warnings, what could not be measured, the same as last time; and putting it right."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwc_node import drafts
from hwc_node.engine import begin_write
from sync_protocol import merge
from sync_protocol.documents import id_text
from tests.node.enrolled_home import NOW_MS, PERSON, PERSON_NAME
from tests.node.paged_centre import SECOND_NAME, SECOND_PASSPHRASE, Centre, CentreWindow
from tests.pages.window import field_value, hidden, words

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre.begin(tmp_path)


@pytest.fixture
def window(centre: Centre) -> CentreWindow:
    return centre.window_of()


def test_a_visit_is_one_save_of_case_measurements_and_follow_up(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    fields: dict[str, str | list[str]] = {
        "complaints": "Fever, dry cough",
        "duration_days": "3",
        "systolic_mmhg": "120",
        "diastolic_mmhg": "80",
        "temperature_c": "39,2",
        "pulse_bpm": "९८",
        "danger_signs": ["chest pain", "made up"],
        "not_measured": ["height_cm", "temperature_c", "made up"],
        "history": "since Monday",
        "provisional_diagnosis": "Viral fever",
        "return_days": "7",
    }
    assert window.saved(f"{patient}/visit", fields) == patient
    (case,) = centre.records("case")
    assert case.record.view() == {
        "at": NOW_MS,
        "mode": "in_person",
        "complaints/fever": {"present": True, "details": {"text": "Fever"}},
        "complaints/dry cough": {"present": True},
        "danger_signs/chest pain": {"present": True},
        "duration_days": 3,
        "history": "since Monday",
        "provisional_diagnosis": {"text": "Viral fever"},
    }
    (vitals,) = centre.records("vitals")
    assert vitals.record.view() == {
        "at": NOW_MS,
        "case": case.key.record,
        "blood_pressure": {"systolic_mmhg": 120, "diastolic_mmhg": 80},
        "temperature_c": 39.2,
        "pulse_bpm": 98,
        "not_measured/height_cm": {"present": True},
    }
    (due,) = centre.records("follow_up")
    assert due.record.view() == {"case": case.key.record, "due": "2026-02-09"}
    shown = window.shown(patient)
    for text in ("Fever", "Chest pain", "120/80 mmHg", "39.2 °C", "could not be measured: Height", "Due 9 Feb 2026"):
        assert text in shown, text


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"systolic_mmhg": "19", "diastolic_mmhg": "10"}, "systolic_mmhg", "from 20 to 350"),
        ({"systolic_mmhg": "351", "diastolic_mmhg": "80"}, "systolic_mmhg", "from 20 to 350"),
        ({"systolic_mmhg": "120", "diastolic_mmhg": "251"}, "diastolic_mmhg", "from 5 to 250"),
        ({"systolic_mmhg": "120"}, "diastolic_mmhg", "Enter both numbers"),
        ({"diastolic_mmhg": "80"}, "systolic_mmhg", "Enter both numbers"),
        ({"systolic_mmhg": "120.5", "diastolic_mmhg": "80"}, "systolic_mmhg", "must be a whole number"),
        ({"temperature_c": "380"}, "temperature_c", "from 25 to 46"),
        ({"temperature_c": "warm"}, "temperature_c", "must be a number"),
        ({"temperature_c": "nan"}, "temperature_c", "must be a number"),
        ({"spo2_percent": "101"}, "spo2_percent", "from 20 to 100"),
        ({"weight_kg": "0"}, "weight_kg", "from 0.3 to 400"),
        ({"duration_days": "-1"}, "duration_days", "from 0 to 36,500"),
        ({"return_days": "0"}, "return_days", "in 1 to 730 days"),
        ({"return_days": "9999999999"}, "return_days", "must be a number"),
        ({"history": "x" * 8_001}, "history", "at most 8,000 characters"),
        ({"complaints": "x" * 61}, "complaints", "at most 60 letters"),
    ],
)
def test_what_cannot_be_is_refused_beside_its_field(
    centre: Centre, window: CentreWindow, fields: dict[str, str], field: str, said: str
) -> None:
    patient = window.register()
    answer = window.send(f"{patient}/visit", {"complaints": "fever", "plan": "rest", **fields})
    assert answer.status_code == 422
    assert f'href="#{field}"' in answer.text
    assert f'id="{field}-error"' in answer.text
    assert said in words(answer.text)
    assert all(field_value(answer.text, name) == value for name, value in {"plan": "rest", **fields}.items())
    assert not centre.records("case")


def test_a_visit_that_says_nothing_is_not_saved(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    answer = window.send(f"{patient}/visit", {"complaints": " , "})
    assert answer.status_code == 422
    assert not centre.records("case")


def test_a_patient_in_shock_is_asked_about_once_and_saved_as_measured(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    fields = {"complaints": "faint", "systolic_mmhg": "60", "diastolic_mmhg": "40"}
    asked = window.send(f"{patient}/visit", fields)
    assert asked.status_code == 409
    assert "Systolic pressure 60 mmHg" in words(asked.text)
    assert "mostly from 70 to 300" in words(asked.text)
    assert not centre.records("case")
    other = {**hidden(asked.text), **fields, "systolic_mmhg": "50"}
    assert window.post(f"{patient}/visit", other).status_code == 409, "another value is asked about anew"
    assert window.post(f"{patient}/visit", {**hidden(asked.text), **fields}).status_code == 303
    (vitals,) = centre.records("vitals")
    assert vitals.record.view()["blood_pressure"] == {"systolic_mmhg": 60, "diastolic_mmhg": 40}


@pytest.mark.parametrize(("systolic", "status"), [("70", 303), ("69", 409), ("300", 303), ("301", 409), ("20", 409)])
def test_the_warning_stands_outside_70_to_300(window: CentreWindow, systolic: str, status: int) -> None:
    patient = window.register()
    fields = {"complaints": "x", "systolic_mmhg": systolic, "diastolic_mmhg": "5" if systolic == "20" else "60"}
    assert window.send(f"{patient}/visit", fields).status_code == status


def test_a_visit_sent_twice_is_one_visit(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    fields = {
        **hidden(window.get(f"{patient}/visit").text),
        "complaints": "fever",
        "weight_kg": "50",
        "return_days": "7",
    }
    for _ in range(2):
        assert window.post(f"{patient}/visit", fields).status_code == 303
    assert [len(centre.records(kind)) for kind in ("case", "vitals", "follow_up")] == [1, 1, 1]


def test_last_values_stand_beside_their_fields_and_the_last_visit_comes_back(
    centre: Centre, window: CentreWindow
) -> None:
    patient = window.register()
    window.visit(
        patient, complaints="fever, cough", weight_kg="50.5", systolic_mmhg="120", diastolic_mmhg="80", plan="rest",
        provisional_diagnosis="Viral fever",
    )  # fmt: skip
    centre.clock.now_ms += DAY_MS
    window = centre.window_of()
    page = window.get(f"{patient}/visit").text
    assert "last 50.5 kg, 2 Feb" in words(page)
    assert "last 120/80 mmHg, 2 Feb" in words(page)
    same = window.post(f"{patient}/visit", {**hidden(page), "same": "all", "plan": "more rest"}).text
    assert {one.strip() for one in field_value(same, "complaints").split(",")} == {"fever", "cough"}
    assert field_value(same, "provisional_diagnosis") == "Viral fever"
    assert field_value(same, "plan") == "more rest"
    assert field_value(same, "weight_kg") == "", "what is measured is measured anew"


def test_an_entry_begun_long_before_it_is_saved_is_of_when_it_was_begun(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    page = window.get(f"{patient}/visit").text
    window.post("/draft", {**hidden(page), "complaints": "fever"})
    centre.clock.now_ms += 20 * HOUR_MS
    window = centre.window_of()
    assert field_value(window.get(f"{patient}/visit").text, "complaints") == "fever"
    window.saved(f"{patient}/visit", {"complaints": "fever"})
    (case,) = centre.records("case")
    assert case.record.view()["at"] == NOW_MS


def test_what_was_typed_before_a_visit_was_saved_and_comes_after_it_is_no_draft_of_the_next(
    centre: Centre, window: CentreWindow
) -> None:
    patient = window.register()
    typed = {**hidden(window.get(f"{patient}/visit").text), "complaints": "fever", "weight_kg": "50"}
    assert window.post(f"{patient}/visit", typed).status_code == 303
    assert window.post("/draft", typed).status_code == 204
    assert drafts.of_person(centre.store, PERSON) == []
    with begin_write(centre.store.engine) as connection:  # one that an older program kept
        fields = msgspec.msgpack.encode({"case": [typed["case"]], "complaints": ["fever"]})
        connection.exec_driver_sql(
            "INSERT INTO draft VALUES (?, ?, NULL, ?, ?)", (PERSON, f"{patient}/visit", fields, 1)
        )
    page = window.get(f"{patient}/visit").text
    assert field_value(page, "complaints") == ""
    assert hidden(page)["case"] != typed["case"]
    assert drafts.of_person(centre.store, PERSON) == []
    window.visit(patient, complaints="cough")
    assert len(centre.records("case")) == 2


def test_somebody_elses_entry_is_not_shown(centre: Centre, window: CentreWindow) -> None:
    centre.add_second()
    patient = window.register()
    window.post("/draft", {**hidden(window.get(f"{patient}/visit").text), "complaints": "secret"})
    other = centre.window_of(SECOND_NAME, SECOND_PASSPHRASE)
    assert field_value(other.get(f"{patient}/visit").text, "complaints") == ""
    other.saved(f"{patient}/visit", {"complaints": "cough"})
    (case,) = centre.records("case")
    assert merge.first_change(case.record).change.person == b"Meena, a person:"
    assert PERSON_NAME not in other.shown(patient)


# -- putting right -----------------------------------------------------------------------------------------------------


def test_a_visit_is_edited_by_what_was_shown(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    case = window.visit(patient, complaints="fever, cough", history="two days", plan="rest", danger_signs="chest pain")
    path = f"{patient}/cases/{case}/edit"
    page = window.get(path).text
    assert field_value(page, "history") == "two days"
    sent = {"complaints": "fever", "history": "", "plan": "more rest", "outcome": "recovered"}
    assert window.saved(path, sent) == patient
    (kept,) = centre.records("case")
    view = kept.record.view()
    assert view["complaints/cough"] == {"present": False}
    assert view["danger_signs/chest pain"] == {"present": False}
    assert (view["history"], view["plan"], view["outcome"]) == (None, "more rest", "recovered")
    assert not kept.record.conflicts()
    assert "two days" not in window.shown(patient)


def test_a_wrong_measurement_is_corrected_by_another_that_says_why(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    window.visit(patient, weight_kg="500"[:2], systolic_mmhg="120", diastolic_mmhg="80")
    (first,) = centre.records("vitals")
    path = f"{patient}/vitals/{id_text(first.key.record)}/correct"
    page = window.get(path).text
    assert field_value(page, "systolic_mmhg") == "120"
    refused = window.send(path, {"weight_kg": "55"})
    assert refused.status_code == 422
    assert "Say what was wrong" in words(refused.text)
    fields = {"weight_kg": "55", "systolic_mmhg": "120", "diastolic_mmhg": "80", "correction_reason": "read wrongly"}
    sent = {**hidden(page), **fields}
    for _ in range(2):
        assert window.post(path, sent).headers["location"] == patient
    assert len(centre.records("vitals")) == 2
    shown = window.shown(patient)
    assert "Weight 55 kg" in shown
    assert "Weight 50 kg" not in shown
    assert "corrected: read wrongly" in shown


def test_what_was_entered_in_error_is_hidden_with_a_reason_and_shown_again(
    centre: Centre, window: CentreWindow
) -> None:
    patient = window.register()
    case = window.visit(patient, complaints="of somebody else")
    path = f"{patient}/records/case/{case}/error"
    assert window.send(path, {"hidden": "yes"}).status_code == 422
    assert window.saved(path, {"hidden": "yes", "reason": "another patient's"}) == patient
    shown = window.shown(patient)
    assert "of somebody else" not in shown
    assert "Entered in error (hidden)" in shown
    assert "another patient's" in window.shown(path)
    assert PERSON_NAME in window.shown(path)
    window.saved(path, {"hidden": "no", "reason": "it was right"})
    assert "of somebody else" in window.shown(patient)


def test_another_patients_record_is_none_of_this_one(window: CentreWindow) -> None:
    first, second = window.register("Asha"), window.register("Govind", sex="M")
    case = window.visit(first)
    for path in (f"{second}/cases/{case}/edit", f"{second}/records/case/{case}/error"):
        assert window.get(path).status_code == 404
