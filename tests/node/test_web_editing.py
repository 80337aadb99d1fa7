"""Forms that edit what is there: what was not touched is not written, whatever the record holds; births as known."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_protocol import exports, limits, schema
from sync_protocol.canonical import Value, normalise
from sync_protocol.documents import id_text
from sync_protocol.schema import Field, FieldType
from tests.node.enrolled_home import PERSON, arrive, write
from tests.node.paged_centre import Centre
from tests.pages.window import as_sent, field_value, words

ANSWERS = re.compile(r'<input[^>]*name="take"[^>]*value="(?P<value>[^"]*)"')
CODED = "allergies/http://snomed.info/sct|7980"
PENICILLIN = {
    "present": True,
    "details": {"system": "http://snomed.info/sct", "code": "7980", "text": "Penicillin", "criticality": "high"},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Centre:
    return Centre.begin(tmp_path_factory.mktemp("editing"))


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre.begin(tmp_path)


def imported(centre: Centre, **fields: object) -> tuple[bytes, str]:
    """A patient as an import writes one: its id and its page's path."""
    key = write(centre.store, PERSON, "patient", {"name": "Lakshmi Devi", "sex": "F", **fields})
    return bytes(key.record), f"/patients/{id_text(key.record)}"


def edited(centre: Centre, path: str, **altered: str | list[str]) -> None:
    """Open a form, alter these of its fields, save it."""
    window = centre.window_of()
    sent = as_sent(window.get(path).text, path)
    answer = window.post(path, {**sent, **altered})
    assert answer.status_code == 303, words(answer.text)[:1500]


def kept(centre: Centre, kind: str, record: bytes) -> dict[str, Value]:
    (one,) = [found for found in centre.records(kind) if found.key.record == record]
    return one.record.view()


def test_a_new_phone_number_leaves_a_coded_allergy_as_it_was(centre: Centre) -> None:
    record, path = imported(centre, **{CODED: PENICILLIN})
    assert field_value(centre.window_of().get(f"{path}/edit").text, "allergies") == "Penicillin"
    edited(centre, f"{path}/edit", phone="9876543210", allergies="Penicillin, dust")
    view = kept(centre, "patient", record)
    assert view[CODED] == PENICILLIN
    assert view["allergies/dust"] == {"present": True}
    assert "allergies/penicillin" not in view
    edited(centre, f"{path}/edit", allergies="dust")
    assert kept(centre, "patient", record)[CODED] == {"present": False}


def test_what_the_form_cannot_show_is_shown_beside_it_and_left_alone(centre: Centre) -> None:
    comma = {"present": True, "details": {"text": "Nuts, all kinds"}}
    record, path = imported(centre, **{"allergies/nuts": comma, "allergies/dust": {"present": True}})
    page = centre.window_of().get(f"{path}/edit").text
    assert field_value(page, "allergies") == "dust"
    assert "Allergies that are known as well: Nuts, all kinds" in words(page)
    edited(centre, f"{path}/edit", allergies="")
    view = kept(centre, "patient", record)
    assert (view["allergies/nuts"], view["allergies/dust"]) == (comma, {"present": False})


def test_a_visit_keeps_the_code_of_its_diagnosis_and_a_danger_sign_of_its_own_words(centre: Centre) -> None:
    record, path = imported(centre)
    diagnosis = {"system": "icd-11", "code": "1F40", "text": "Malaria"}
    writes = {
        "provisional_diagnosis": diagnosis,
        "danger_signs/snake bite": {"present": True},
        "danger_signs/chest pain": {"present": True, "details": {"since": "Monday"}},
        "plan": "rest",
    }
    case = write(centre.store, PERSON, "case", writes, patient=record)
    form = f"{path}/cases/{id_text(case.record)}/edit"
    assert "snake bite" in centre.window_of().shown(form)
    edited(centre, form, plan="more rest")
    assert kept(centre, "case", case.record) == {**writes, "plan": "more rest"}
    edited(centre, form, danger_signs=[], provisional_diagnosis="Dengue")
    view = kept(centre, "case", case.record)
    assert (view["danger_signs/snake bite"], view["danger_signs/chest pain"]) == ({"present": True}, {"present": False})
    assert view["provisional_diagnosis"] == {"text": "Dengue"}


# -- for any record ----------------------------------------------------------------------------------------------------

_TEXT = st.text(
    st.sampled_from(string.ascii_letters + " ,;\n\té๓ु<&\"'") | st.characters(codec="utf-8"), min_size=1, max_size=30
)
_DAY = st.sampled_from(["1990", "1990-05", "1990-05-06"])
_LETTERS = st.sampled_from(["text", "code", "system", "criticality"])


def _of(row: Field) -> st.SearchStrategy[Value]:
    match row.type:
        case FieldType.CHOICE:
            return st.sampled_from(row.choices)
        case FieldType.INTEGER | FieldType.NUMBER:
            return st.integers(int(row.low or 0) + 1, int(row.high or 0))
        case FieldType.BOOLEAN:
            return st.booleans()
        case FieldType.DATE:
            return _DAY
        case FieldType.CODED:
            return st.dictionaries(st.sampled_from(["text", "code", "system"]), _TEXT, min_size=1)
        case FieldType.OBJECT:
            return st.fixed_dictionaries({}, optional={part.name: _of(part) for part in row.parts})
        case FieldType.ELEMENT:
            details = st.dictionaries(_LETTERS, _TEXT, max_size=3)
            return st.fixed_dictionaries({"present": st.booleans()}, optional={"details": details})
        case _:
            return _TEXT


@st.composite
def records(draw: st.DrawFn, kind: str) -> dict[str, Value]:
    """Any record of a kind that somebody at a centre may write, as an import does."""
    writes: dict[str, Value] = {}
    for row in schema.KINDS[kind].fields.values():
        if row.name in ("entered_in_error", "at"):
            continue
        if row.type is FieldType.ELEMENT:
            for key in draw(st.lists(_TEXT | st.sampled_from(["chest pain", "Fever", "fever"]), max_size=3)):
                writes[f"{row.name}/{key}"] = draw(_of(row))
        elif draw(st.booleans()):
            writes[row.name] = draw(_of(row))
    found = normalise(writes or {"mode": "text"} if kind == "case" else {"name": "x", **writes})
    assert isinstance(found, dict)
    return {
        name: value
        for name, value in found.items()
        if (known := schema.field_of(kind, name)) is not None and limits.problem(known, value) is None
    }


SOME = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SOME
@given(writes=records("patient"))
def test_a_patients_form_that_is_saved_as_it_was_opened_writes_nothing(
    shared: Centre, writes: dict[str, Value]
) -> None:
    key = write(shared.store, PERSON, "patient", writes)
    edited(shared, f"/patients/{id_text(key.record)}/edit")
    assert kept_changes(shared, "patient", key.record) == 1


@SOME
@given(writes=records("case"))
def test_a_visits_form_that_is_saved_as_it_was_opened_writes_nothing(shared: Centre, writes: dict[str, Value]) -> None:
    patient = write(shared.store, PERSON, "patient", {"name": "Asha"})
    key = write(shared.store, PERSON, "case", writes or {"mode": "text"}, patient=patient.record)
    edited(shared, f"/patients/{id_text(patient.record)}/cases/{id_text(key.record)}/edit")
    assert kept_changes(shared, "case", key.record) == 1


def kept_changes(centre: Centre, kind: str, record: bytes) -> int:
    (one,) = [found for found in centre.records(kind) if found.key.record == record]
    return len(one.kept)


# -- births ------------------------------------------------------------------------------------------------------------

YEAR, MONTH = {"year": 1990, "precision": "year"}, {"date": "1980-05", "precision": "month"}


@pytest.mark.parametrize(("typed", "birth"), [("1990", YEAR), ("१९९०", YEAR), ("1980-05", MONTH)])
def test_a_year_or_a_month_is_taken_as_what_it_is(centre: Centre, typed: str, birth: Value) -> None:
    centre.window_of().register(born=typed, age="")
    (one,) = centre.records("patient")
    assert one.record.view()["birth"] == birth


@pytest.mark.parametrize("birth", [YEAR, MONTH, {"date": "1980-01-01", "precision": "about"}, None])
def test_a_birth_that_is_not_touched_stays_as_it_is_known(centre: Centre, birth: Value) -> None:
    record, path = imported(centre, **({"birth": birth} if birth else {}))
    edited(centre, f"{path}/edit", village="Melur")
    view = kept(centre, "patient", record)
    assert (view["village"], view.get("birth")) == ("Melur", birth)
    edited(centre, f"{path}/edit", born="1990-08-15")
    assert kept(centre, "patient", record)["birth"] == {"date": "1990-08-15", "precision": "day"}


def test_an_age_beside_a_day_of_birth_that_stays_is_not_dropped_in_silence(centre: Centre) -> None:
    _, path = imported(centre, birth={"date": "1990-08-15", "precision": "day"})
    window = centre.window_of()
    sent = as_sent(window.get(f"{path}/edit").text, f"{path}/edit")
    refused = window.post(f"{path}/edit", {**sent, "age": ["40"]})
    assert refused.status_code == 422
    assert words(refused.text).count("Take the day of birth out if this age is to hold") == 2


# -- digits ------------------------------------------------------------------------------------------------------------


def test_digits_of_any_script_are_digits(centre: Centre) -> None:
    centre.window_of().register(phone="९८७६५ ४३२१०", abha="१२-३४५६-७८९०-१२३४", born="१९९०-०८-१५", age="")
    (one,) = centre.records("patient")
    view = one.record.view()
    assert (view["phone"], view["abha"]) == ("9876543210", "12345678901234")
    assert view["birth"] == {"date": "1990-08-15", "precision": "day"}


def test_an_abha_number_that_was_looked_for_stands_in_its_own_field(centre: Centre) -> None:
    window = centre.window_of()
    for typed in ("12345678901234", "१२-३४५६-७८९०-१२३४"):
        window.saved("/register/begin", {"typed": typed}, page="/")
        page = window.get("/register").text
        assert (field_value(page, "abha"), field_value(page, "phone")) == (typed, "")
        window.saved("/draft/drop", {"at": "/register"}, page="/")


# -- what is asked, what is refused ------------------------------------------------------------------------------------


def test_an_unusual_value_is_asked_about_where_a_measurement_is_corrected_too(centre: Centre) -> None:
    record, path = imported(centre, birth={"age_years": 40, "precision": "about", "said_on": "2026-01-01"})
    writes = {
        "weight_kg": 50,
        "pulse_bpm": 150,
        "not_measured/height_cm": {"present": True, "details": {"text": "cast"}},
    }
    vitals = write(centre.store, PERSON, "vitals", writes, patient=record)
    form, window = f"{path}/vitals/{id_text(vitals.record)}/correct", centre.window_of()
    sent = {**as_sent(window.get(form).text, form), "weight_kg": ["5"], "correction_reason": ["misread"]}
    asked = window.post(form, sent)
    assert asked.status_code == 409
    assert "Weight 5 kg" in words(asked.text)
    assert "Pulse 150" not in words(asked.text), "it stands as it was"
    again = {**as_sent(asked.text, form), "correction_reason": ["misread"]}
    assert window.post(form, again).status_code == 303
    (new,) = [one.record.view() for one in centre.records("vitals") if one.key != vitals]
    assert (new["weight_kg"], new["not_measured/height_cm"]) == (5, writes["not_measured/height_cm"])


def test_a_reason_that_is_too_long_is_told_beside_its_field_in_the_readers_language(centre: Centre) -> None:
    window = centre.window_of()
    path = window.register()
    case = window.visit(path)
    referral = window.refer(path, case)
    error = f"{path}/records/case/{case}/error"
    long = "x" * 1_001
    window.client.cookies.set("language", "hi")
    for action, page, name, more in (
        (f"{referral}/withdraw", referral, "why", {}),
        (error, error, "reason", {"hidden": "yes"}),
        ("/elsewhere", "/elsewhere", "why", {"letters": "x"}),
    ):
        answer = window.send(action, {name: long, **more}, page=page)
        assert answer.status_code == 422, action
        assert f'href="#{name}"' in answer.text, action
        assert f'id="{name}-error"' in answer.text, action
        assert "E_INVALID_VALUE" not in answer.text
        assert "अक्षर" in words(answer.text), action


def test_a_note_that_is_too_long_is_told_beside_its_field(centre: Centre) -> None:
    record, path = imported(centre)
    arrive(centre.store, "patient", {"name": "Lakshmi Bai"}, 1, record=record)
    form = f"/decisions/patient/{path.rpartition('/')[2]}/name"
    window = centre.window_of()
    answer = window.send(form, {"take": "1", "note": "x" * 1_001})
    assert answer.status_code == 422
    assert 'href="#note"' in answer.text
    assert "at most 1,000 characters" in words(answer.text)


# -- deciding by typing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "field", "values", "typed", "after"),
    [
        ("patient", "birth", (YEAR, MONTH), {"born": "1985"}, {"year": 1985, "precision": "year"}),
        ("patient", "birth", (YEAR, MONTH), {"born": "१९८५-०२-०३"}, {"date": "1985-02-03", "precision": "day"}),
        (
            "patient",
            "birth",
            (YEAR, MONTH),
            {"age": "40"},
            {"age_years": 40, "precision": "about", "said_on": "2026-02-02"},
        ),
        ("patient", "sex", ("F", "M"), {"take": "other:O"}, "O"),
        ("case", "duration_days", (3, 30), {"other": "१३"}, 13),
        ("case", "provisional_diagnosis", ({"text": "a"}, {"text": "b"}), {"other": "Dengue"}, {"text": "Dengue"}),
        ("follow_up", "due", ("2026-02-03", "2026-03-03"), {"other": "२०२६-०४-०३"}, "2026-04-03"),
        (
            "case",
            "complaints/fever",
            ({"present": True}, {"present": True, "details": {"text": "x"}}),
            {"other": "Fever"},
            {"present": True, "details": {"text": "Fever"}},
        ),
    ],
)
def test_something_else_can_be_typed_for_whatever_is_in_conflict(
    centre: Centre, kind: str, field: str, values: tuple[Value, Value], typed: dict[str, str], after: Value
) -> None:
    key = write(centre.store, PERSON, kind, {field: values[0]})
    arrive(centre.store, kind, {field: values[1]}, 1, record=key.record, patient=key.record)
    path, window = f"/decisions/{exports.conflict_id(key, field)}", centre.window_of()
    page = window.get(path).text
    offered = [found["value"] for found in ANSWERS.finditer(page)]
    assert typed.get("take", "other") in offered, offered
    assert window.saved(path, {"take": "other", **typed}) == path
    assert kept(centre, kind, key.record)[field] == after


def test_what_cannot_be_typed_is_not_offered_to_be_typed(centre: Centre) -> None:
    for kind, field, values in (("consent", "given", (True, False)), ("case", "case", (b"a" * 16, b"b" * 16))):
        kind = "vitals" if field == "case" else kind
        key = write(centre.store, PERSON, kind, {field: values[0]})
        arrive(centre.store, kind, {field: values[1]}, 1, record=key.record, patient=key.record)
        page = centre.window_of().get(f"/decisions/{exports.conflict_id(key, field)}").text
        assert "Something else" not in words(page)


def test_an_empty_birth_is_told_beside_its_field(centre: Centre) -> None:
    key = write(centre.store, PERSON, "patient", {"birth": YEAR})
    arrive(centre.store, "patient", {"birth": MONTH}, 1, record=key.record)
    path = f"/decisions/{exports.conflict_id(key, 'birth')}"
    answer = centre.window_of().send(path, {"take": "other"})
    assert answer.status_code == 422
    assert 'id="age-error"' in answer.text
