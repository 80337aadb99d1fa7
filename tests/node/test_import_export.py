"""Lines in, lines out: what an import takes, refuses and flags, and that an export says what is here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwc_node import views
from hwc_node.line_import import ImportRules, LineImport, LineResult, Verdict
from hwc_node.store import Store
from sync_protocol import documents
from sync_protocol.change import PatientId, RecordId, RecordKey
from tests.node.enrolled_home import FACILITY, NOW_MS, PERSON, Home, fresh_id, make_home

PATIENT = documents.id_text(fresh_id())
CASE = documents.id_text(fresh_id())
VITALS = documents.id_text(fresh_id())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("import"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_home(tmp_path).open() as opened:
        yield opened


def take(store: Store, *lines: Any, source: str | None = None, any_facility: bool = False) -> list[LineResult]:
    """Import these lines: objects, or raw bytes where a line is no JSON."""
    importer = LineImport(store, PERSON, ImportRules(source, any_facility))
    raw = [line if isinstance(line, bytes) or line is None else json.dumps(line).encode() for line in lines]
    return importer.take(list(enumerate(raw, 1)), NOW_MS)


def patient(**fields: Any) -> dict[str, Any]:
    return {"kind": "patient", "id": PATIENT, "fields": {"name": "Sunita", "sex": "F", **fields}}


def vitals(**fields: Any) -> dict[str, Any]:
    return {"kind": "vitals", "id": VITALS, "patient": PATIENT, "fields": {"case": CASE, **fields}}


def exported(store: Store) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in map(views.export_line, store.records())}


def verdicts(results: list[LineResult]) -> list[str]:
    return [one.verdict.value for one in results]


def code(result: LineResult) -> str:
    assert result.error is not None
    return result.error.code


# -- what is taken -----------------------------------------------------------------------------------------------------


def test_a_line_is_on_the_disk_when_its_result_is_given(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    with home.open() as store:
        [result] = take(store, patient(phone="+919900000000"))
        assert result.verdict is Verdict.CREATED
        assert result.change is not None
    with home.open() as again:
        line = exported(again)[PATIENT]
    assert line["fields"] == {"name": "Sunita", "phone": "+919900000000", "sex": "F"}
    assert (line["kind"], line["facility"], line["patient"], line["sync"]) == ("patient", FACILITY, PATIENT, "saved")
    assert line["conflicts"] == {}


def test_repeating_an_import_repeats_nothing(store: Store) -> None:
    lines = [
        patient(allergies=["Penicillin"], consent=True),
        {"kind": "case", "patient": PATIENT, "at": 1_769_000_000_000, "fields": {"complaints": ["fever"]}},
    ]
    assert verdicts(take(store, *lines)) == ["created", "created"]
    count = len(list(store.changes()))
    assert verdicts(take(store, *lines)) == ["unchanged", "unchanged"]
    assert len(list(store.changes())) == count


def test_an_export_can_be_imported_again_and_changes_nothing(store: Store) -> None:
    take(
        store,
        patient(birth_year=1980, allergies=["Penicillin", {"system": "snomed", "code": "91936005", "text": "Egg"}]),
        {
            "kind": "case",
            "id": CASE,
            "patient": PATIENT,
            "at": 5,
            "fields": {"plan": "घर पर आराम", "complaints": ["fever"]},
        },
        vitals(systolic_mmhg=120, diastolic_mmhg=80, temperature_c=37.0, glucose_mg_dl=None),
    )
    lines = list(exported(store).values())
    assert set(verdicts(take(store, *lines))) == {"unchanged"}


def test_flat_names_and_lists_become_fields_and_elements(store: Store) -> None:
    take(
        store,
        patient(birth_year=1980, consent=True, allergies=[" Penicillin "], status="open"),
        vitals(systolic_mmhg=120, diastolic_mmhg=80),
    )
    found = exported(store)
    assert found[PATIENT]["fields"]["birth"] == {"precision": "year", "year": 1980}
    assert found[PATIENT]["fields"]["allergies/penicillin"]["present"] is True
    assert found[VITALS]["fields"]["blood_pressure"] == {"diastolic_mmhg": 80, "systolic_mmhg": 120}
    assert found[VITALS]["fields"]["case"] == CASE
    [consent] = [line for line in found.values() if line["kind"] == "consent"]
    assert (consent["fields"]["given"], consent["patient"]) == (True, PATIENT)
    [result] = take(store, patient(status="open"))
    assert result.notes


def test_a_known_id_is_an_edit_of_what_differs_only(store: Store) -> None:
    take(store, patient(village="Rampur"))
    [result] = take(store, patient(village="Melur"))
    assert result.verdict is Verdict.CHANGED
    last = list(store.changes())[-1].held.change
    assert dict(last.writes) == {"village": "Melur"}
    assert exported(store)[PATIENT]["fields"]["village"] == "Melur"


def test_lines_of_one_batch_see_each_other(store: Store) -> None:
    assert verdicts(take(store, patient(village="Rampur"), patient(village="Melur"), patient(village="Melur"))) == [
        "created",
        "changed",
        "unchanged",
    ]
    assert exported(store)[PATIENT]["fields"]["village"] == "Melur"


def test_elements_that_a_list_lacks_are_left_alone_and_remove_removes(store: Store) -> None:
    take(store, patient(allergies=["penicillin", "egg"]))
    take(store, patient(allergies=["sulfa"]))
    assert take(store, patient(allergies={"remove": ["Egg"]}))[0].verdict is Verdict.CHANGED
    fields = exported(store)[PATIENT]["fields"]
    present = {name for name, value in fields.items() if name.startswith("allergies/") and value["present"]}
    assert present == {"allergies/penicillin", "allergies/sulfa"}


def test_an_id_in_crockford_letters_is_the_same_record(store: Store) -> None:
    letters = "01H" + "0" * 22 + "1"
    take(store, {"kind": "patient", "id": letters, "fields": {"name": "Radha"}})
    assert documents.id_text(documents.parse_id(letters)) in exported(store)


def test_odd_times_are_taken_and_flagged(store: Store) -> None:
    for at in ("1970-01-01T00:00:00Z", "2098-01-01T00:00:00Z", 0, 4_039_372_800_000):
        [result] = take(store, {"kind": "case", "patient": PATIENT, "at": at, "fields": {"plan": f"at {at}"}})
        assert result.verdict is Verdict.CREATED
        assert result.flags
    ats = {line["at"] for line in exported(store).values()}
    assert ats == {"1970-01-01T00:00:00.000Z", "2098-01-01T00:00:00.000Z"}


def test_what_a_new_record_should_say_and_does_not_is_flagged(store: Store) -> None:
    [result] = take(store, {"kind": "referral", "patient": PATIENT, "fields": {"specialty": "ent"}})
    assert result.verdict is Verdict.CREATED
    assert result.flags == ("urgency is missing",)


def test_another_answer_about_consent_is_another_record(store: Store) -> None:
    take(store, patient(consent=True))
    assert verdicts(take(store, patient(consent=False, village="Melur"))) == ["changed"]
    assert verdicts(take(store, patient(consent=False, village="Melur"))) == ["unchanged"]
    answers = [line["fields"]["given"] for line in exported(store).values() if line["kind"] == "consent"]
    assert sorted(answers) == [False, True]


# -- what is superseded ------------------------------------------------------------------------------------------------


def test_a_source_that_was_shown_nothing_supersedes_only_its_own_writes(store: Store) -> None:
    take(store, {**patient(name="Sunita"), "person": "register"})
    take(store, {**patient(name="Sunita Devi"), "person": "survey"})
    line = exported(store)[PATIENT]
    assert {one["value"] for one in line["conflicts"]["name"]} == {"Sunita", "Sunita Devi"}
    take(store, {**patient(name="Sunita Kumari"), "person": "survey"})
    line = exported(store)[PATIENT]
    assert {one["value"] for one in line["conflicts"]["name"]} == {"Sunita", "Sunita Kumari"}


def test_saying_the_same_again_in_a_conflict_says_nothing(store: Store) -> None:
    take(store, {**patient(name="Sunita"), "person": "register"})
    again = {**patient(name="Sunita Devi"), "person": "survey"}
    take(store, again)
    assert verdicts(take(store, again, again)) == ["unchanged", "unchanged"]


def test_source_counts_before_person_and_is_named_in_the_directory(store: Store) -> None:
    take(store, {**patient(), "person": "somebody"}, source="register")
    change = next(store.changes()).held.change
    assert change.person == documents.person_id("register", FACILITY)
    kept = store.record(RecordKey("person", RecordId(change.person)))
    assert kept is not None
    assert kept.record.view() == {"name": "register", "role": "source"}


def test_shown_supersedes_what_is_live_and_settles_a_conflict(store: Store) -> None:
    take(store, {**patient(name="Sunita"), "person": "register"})
    take(store, {**patient(name="Sunita Devi"), "person": "survey"})
    settled = {**patient(name="Sunita"), "base": "shown"}
    assert verdicts(take(store, settled, settled)) == ["changed", "unchanged"]
    assert exported(store)[PATIENT]["conflicts"] == {}


def test_base_supersedes_what_it_names_and_nothing_else(store: Store) -> None:
    take(store, {**patient(name="Sunita"), "person": "register"})
    first = next(store.changes(kind="patient")).held.change.id.hex()
    take(store, {**patient(name="Sunita Devi"), "person": "survey"})
    edit = {**patient(name="S. Devi"), "base": {"name": [first]}}
    assert verdicts(take(store, edit, edit)) == ["changed", "unchanged"]
    line = exported(store)[PATIENT]
    assert {one["value"] for one in line["conflicts"]["name"]} == {"Sunita Devi", "S. Devi"}


# -- what is refused ---------------------------------------------------------------------------------------------------

LONG_TEXT = "x" * 1_000_000
REFUSED: list[tuple[Any, str]] = [
    (b"{not json", "E_NOT_JSON"),
    (b'{"kind": "patient", "fields": {"name": NaN}}', "E_NOT_JSON"),
    (b"\xff\xfe{}", "E_NOT_JSON"),
    (b"[" * 100_000, "E_NOT_JSON"),
    (b'{"kind":"patient","fields":{"name":' + b"[" * 60 + b"]" * 60 + b"}}", "E_MALFORMED"),
    (b'{"kind":"patient","fields":{"name":"S"},"kind":"patient"}', "E_KEY_TWICE"),
    (b'{"kind":"patient","fields":{"name":"S","na\\u006de":"T"}}', "E_KEY_TWICE"),
    (b'{"kind":"vitals","fields":{"blood_pressure":{"systolic_mmhg":120,"systolic_mmhg":90}}}', "E_KEY_TWICE"),
    ({"kind": "patient", "fields": {"name": "S", "birth": {"year": 1981}, "birth_year": 1980}}, "E_KEY_TWICE"),
    (vitals(blood_pressure={"systolic_mmhg": 120}, systolic_mmhg=90), "E_KEY_TWICE"),
    (None, "E_TOO_LARGE"),
    ([1], "E_BAD_LINE"),
    ({"kind": 3}, "E_BAD_LINE"),
    ({"kind": "patient", "feilds": {}}, "E_BAD_LINE"),
    ({"kind": "patient", "fields": {}}, "E_MALFORMED"),
    ({"kind": "pateint", "fields": {"name": "S"}}, "E_UNKNOWN_KIND"),
    ({"kind": "patient", "fields": {"vilage": "Rampur"}}, "E_UNKNOWN_FIELD"),
    ({"kind": "patient", "id": "seven", "fields": {"name": "S"}}, "E_BAD_ID"),
    ({"kind": "patient", "fields": {"name": ""}}, "E_INVALID_VALUE"),
    ({"kind": "patient", "fields": {"name": LONG_TEXT}}, "E_INVALID_VALUE"),
    ({"kind": "patient", "fields": {"name": "S", "birth": {"date": "2098-01-01"}}}, "E_BIRTH_IN_FUTURE"),
    ({"kind": "patient", "fields": {"name": "S", "birth_year": 2098}}, "E_BIRTH_IN_FUTURE"),
    ({"kind": "patient", "at": "yesterday", "fields": {"name": "S"}}, "E_INVALID_VALUE"),
    ({"kind": "patient", "base": "seen", "fields": {"name": "S"}}, "E_INVALID_VALUE"),
    ({"kind": "patient", "fields": {"name": 10**40}}, "E_MALFORMED"),
    (vitals(systolic_mmhg=900, diastolic_mmhg=80), "E_INVALID_VALUE"),
    (vitals(blood_pressure={"systolic_mmhg": 120}), "E_INVALID_VALUE"),
    ({"kind": "case", "fields": {"plan": "rest"}}, "E_NO_PATIENT"),
    ({"kind": "patient", "facility": "HWC000002", "fields": {"name": "S"}}, "E_OTHER_FACILITY"),
]


@pytest.mark.parametrize(("line", "expected"), REFUSED, ids=[f"{at}-{one[1]}" for at, one in enumerate(REFUSED)])
def test_a_bad_line_is_refused_by_its_number_and_stops_no_other(home: Home, line: Any, expected: str) -> None:
    with home.open() as store:
        before = len(list(store.changes()))
        good = {"kind": "case", "patient": PATIENT, "fields": {"plan": f"rest {expected} {before}"}}
        results = take(store, good, line, {**good, "id": documents.id_text(fresh_id())})
        assert verdicts(results) == ["created", "refused", "created"]
        assert code(results[1]) == expected
        shape = results[1].as_json()
        assert (shape["line"], shape["error"]) == (2, expected)
        assert len(json.dumps(shape)) < 1_000
        assert len(list(store.changes())) == before + 2


def test_a_key_that_is_there_twice_is_named_unless_it_may_be_anything(store: Store) -> None:
    known, odd = take(store, b'{"kind":"case","kind":"case"}', b'{"+919812345678":1,"+919812345678":2}')
    assert known.as_json()["message"] == "the line says kind twice; leave one of them out"
    assert "9812345678" not in json.dumps(odd.as_json())


def test_the_names_that_were_probably_meant_are_told(store: Store) -> None:
    kind, field = take(
        store,
        {"kind": "pateint", "fields": {"name": "S"}},
        {"kind": "patient", "fields": {"vilage": "Rampur"}},
    )
    assert "did you mean patient" in kind.as_json()["message"]
    assert "did you mean village" in field.as_json()["message"]
    assert "Rampur" not in json.dumps(field.as_json())


def test_a_reply_at_a_centre_is_not_ours_and_no_error(store: Store) -> None:
    [result] = take(store, {"kind": "reply", "patient": PATIENT, "fields": {"advice": "rest"}})
    assert result.verdict is Verdict.NOT_OURS
    assert not list(store.changes())


def test_a_line_of_another_facility_is_taken_when_asked(store: Store) -> None:
    line = {"kind": "patient", "id": PATIENT, "facility": "HWC000002", "fields": {"name": "Sunita"}}
    assert verdicts(take(store, line, any_facility=True)) == ["created"]
    assert exported(store)[PATIENT]["facility"] == FACILITY


def test_an_immutable_record_is_corrected_by_another(store: Store) -> None:
    take(store, vitals(pulse_bpm=70))
    same, other = take(store, vitals(pulse_bpm=70), vitals(pulse_bpm=80))
    assert same.verdict is Verdict.UNCHANGED
    assert code(other) == "E_IMMUTABLE"
    assert "corrects" in other.as_json()["message"]
    correction = {
        "kind": "vitals",
        "patient": PATIENT,
        "fields": {"pulse_bpm": 80, "corrects": VITALS, "correction_reason": "misread"},
    }
    assert verdicts(take(store, correction)) == ["created"]


def test_a_record_stays_with_its_patient(store: Store) -> None:
    take(store, {"kind": "case", "id": CASE, "patient": PATIENT, "fields": {"plan": "rest"}})
    other = documents.id_text(fresh_id())
    moved, silent = take(
        store,
        {"kind": "case", "id": CASE, "patient": other, "fields": {"plan": "walk"}},
        {"kind": "case", "id": CASE, "fields": {"plan": "walk"}},
    )
    assert code(moved) == "E_OTHER_PATIENT"
    assert silent.verdict is Verdict.CHANGED


# -- what is exported --------------------------------------------------------------------------------------------------


def test_an_export_is_narrowed_by_kind_and_patient(store: Store) -> None:
    other = documents.id_text(fresh_id())
    take(
        store,
        patient(),
        {"kind": "case", "id": CASE, "patient": PATIENT, "fields": {"plan": "rest"}},
        {"kind": "patient", "id": other, "fields": {"name": "Hari"}},
    )
    assert {line.key.kind for line in store.records(kind="case")} == {"case"}
    of = PatientId(documents.parse_id(other))
    assert [documents.id_text(one.key.record) for one in store.patient_records(of)] == [other]


def test_the_raw_history_has_every_change_with_what_it_superseded(store: Store) -> None:
    take(store, patient(village="Rampur"), patient(village="Melur"))
    first, second = sorted(map(views.change_line, store.changes()), key=lambda line: int(line["hlc"]))
    assert second["supersedes"] == {"village": [first["id"]]}
    assert second["writes"] == {"village": "Melur"}
    assert first["receipt"] is None
    assert first["record"] == first["patient"] == PATIENT
    assert set(first) >= {
        "id", "kind", "record", "patient", "facility", "node", "person", "hlc", "after", "writes", "supersedes", "receipt",
    }  # fmt: skip
