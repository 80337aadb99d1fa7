"""Find or register at the pages: what must be filled, what is refused beside its field, who may be the same person."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hwc_node import drafts
from sync_protocol.canonical import Value
from tests.node.enrolled_home import NOW_MS, PERSON, arrive
from tests.node.paged_centre import SECOND_NAME, SECOND_PASSPHRASE, Centre
from tests.pages.window import field_value, hidden, words

BIDI = "\u202e"


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre.begin(tmp_path)


def view_of(centre: Centre) -> dict[str, Value]:
    (one,) = centre.records("patient")
    return one.record.view()


def test_four_fields_are_enough_and_consent_is_kept_with_its_wording_and_language(centre: Centre) -> None:
    window = centre.window_of()
    path = window.saved("/register", {"name": "Lakshmi Devi", "sex": "F", "age": "34", "given": "yes", "then": "visit"})
    assert re.fullmatch(r"/patients/[0-9a-f-]{36}/visit", path)
    assert view_of(centre) == {
        "name": "Lakshmi Devi",
        "sex": "F",
        "birth": {"age_years": 34, "precision": "about", "said_on": "2026-02-02"},
    }
    (consent,) = centre.records("consent")
    said = consent.record.view()
    assert (said["given"], said["language"], said["mode"]) == (True, "en", "in_person")
    assert "sealed, to hub doctors" in str(said["wording"])
    assert consent.patient == centre.records("patient")[0].patient


def test_a_form_sent_twice_saves_once(centre: Centre) -> None:
    window = centre.window_of()
    fields = {
        **hidden(window.get("/register").text),
        "name": "Asha",
        "sex": "F",
        "age": "3",
        "given": "no",
        "then": "stay",
    }
    first, second = window.post("/register", fields), window.post("/register", fields)
    assert first.headers["location"] == second.headers["location"]
    assert len(centre.records("patient")) == 1
    assert len(centre.records("consent")) == 1


def test_what_is_missing_is_told_beside_each_field_and_in_a_summary_with_links(centre: Centre) -> None:
    window = centre.window_of()
    answer = window.send("/register", {"village": "Rampur <b>"})
    assert answer.status_code == 422
    for name, said in (
        ("name", "Enter the patient's name"),
        ("sex", "Choose the patient's sex"),
        ("age", "Enter an age, or a day of birth"),
        ("given", "Choose whether the patient consents"),
    ):
        assert f'href="#{name}"' in answer.text
        assert words(answer.text).count(said) == 2, said
        assert f'id="{name}-error"' in answer.text
    assert "<title>Error: " in answer.text
    assert field_value(answer.text, "village") == "Rampur <b>"
    assert "<b>" not in answer.text
    assert not centre.records("patient")


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("age", "131", "from 0 to 130"),
        ("age", "-1", "from 0 to 130"),
        ("age", "forty", "must be a number"),
        ("age", "4.5", "must be a whole number"),
        ("age", "1e400", "must be a number"),
        ("born", "2099-01-01", "Enter a day of birth that is past"),
        ("born", "1990-02-31", "Enter a day of birth that is past"),
        ("born", "15/08/1990", "Enter a day of birth that is past"),
        ("phone", "12345", "Phone must have ten digits"),
        ("phone", "९८७६५", "Phone must have ten digits"),
        ("abha", "1234", "An ABHA number has 14 digits"),
        ("name", "x" * 201, "at most 200 characters"),
        ("address", "x" * 1_001, "at most 1,000 characters"),
        ("sex", "X", "must be one of those in the list"),
        ("allergies", "y" * 61, "at most 60 letters"),
        ("allergies", ",".join(f"a{number}" for number in range(30)), "at most 20"),
    ],
)
def test_a_bad_input_is_refused_beside_its_field_and_nothing_typed_is_lost(
    centre: Centre, field: str, typed: str, said: str
) -> None:
    window = centre.window_of()
    given = {"name": "Asha", "sex": "F", "age": "34", "given": "yes", "village": "Rampur", field: typed}
    answer = window.send("/register", given)
    assert answer.status_code == 422
    assert words(answer.text).count(said) == 2
    if field != "sex":
        assert field_value(answer.text, field) == typed
    assert field_value(answer.text, "village") == "Rampur"
    assert not centre.records("patient")


@pytest.mark.parametrize(
    ("given", "birth"),
    [
        ({"born": "1990-08-15"}, {"date": "1990-08-15", "precision": "day"}),
        ({"age": "३४"}, {"age_years": 34, "precision": "about", "said_on": "2026-02-02"}),
        ({"age": "0"}, {"age_years": 0, "precision": "about", "said_on": "2026-02-02"}),
        ({"age": "35", "born": "1990-08-15"}, {"date": "1990-08-15", "precision": "day"}),
    ],
)
def test_a_birth_is_a_day_or_an_age_as_it_was_said(centre: Centre, given: dict[str, str], birth: Value) -> None:
    centre.window_of().saved("/register", {"name": "Asha", "sex": "F", "given": "yes", **given})
    assert view_of(centre)["birth"] == birth


def test_allergies_are_elements_and_make_the_status_listed(centre: Centre) -> None:
    centre.window_of().register(allergies="Penicillin, मूंगफली ;  ", allergies_status="none_known")
    view = view_of(centre)
    assert view["allergies_status"] == "listed"
    assert {name for name in view if name.startswith("allergies/")} == {"allergies/penicillin", "allergies/मूंगफली"}
    assert view["allergies/penicillin"] == {"present": True, "details": {"text": "Penicillin"}}


def test_who_may_be_the_same_person_is_shown_before_anything_is_saved(centre: Centre) -> None:
    window = centre.window_of()
    path = window.register("Lakshmi Devi", village="Rampur", phone="98765 43210")
    fields = {"name": "Laxmi Devi", "sex": "F", "age": "35", "given": "yes"}
    answer = window.send("/register", fields)
    assert answer.status_code == 409
    assert "Perhaps registered already" in answer.text
    assert path in answer.text
    assert "Rampur" in words(answer.text)
    assert len(centre.records("patient")) == 1
    window.saved("/register", {**fields, "new": "yes"})
    assert len(centre.records("patient")) == 2
    by_phone = window.send("/register", {**fields, "name": "Sunita", "phone": "+91 98765-43210"})
    assert (by_phone.status_code, path in by_phone.text) == (409, True)
    nobody = window.send("/register", {**fields, "name": "Govind", "sex": "M"})
    assert nobody.status_code == 303


@pytest.mark.parametrize(
    ("name", "sex", "phone", "status"),
    [
        ("Sunita Devi", "F", "", 409),  # a word more
        ("Suneeta", "M", "", 409),  # the very same sound, the other sex
        ("Suniti", "M", "98765 43210", 409),  # near, and the same phone
        ("Suniti", "M", "", 303),
        ("Govind", "M", "98765 43210", 303),  # of one household
        ("Asha", "F", "98765 43210", 409),
    ],
)
def test_a_mistyped_sex_and_a_word_more_warn_too(centre: Centre, name: str, sex: str, phone: str, status: int) -> None:
    window = centre.window_of()
    window.register("Sunita", phone="9876543210")
    given = {"name": name, "sex": sex, "age": "35", "given": "yes", "phone": phone, "then": "stay"}
    assert window.send("/register", given).status_code == status


def test_register_as_new_stands_only_below_the_results(centre: Centre) -> None:
    window = centre.window_of()
    window.register("Lakshmi Devi")
    assert "Register as new" not in window.get("/").text
    for typed in ("Laxmi", "लक्ष्मी", "lakshmi d"):
        page = window.send("/find", {"typed": typed}, page="/").text
        assert page.index("Lakshmi Devi") < page.index("Register as new")
    page = window.send("/find", {"typed": "Govind"}, page="/").text
    assert "Nobody is found" in page
    assert "Register as new" in page


def test_what_was_looked_for_stands_in_the_form_of_who_registers(centre: Centre) -> None:
    window = centre.window_of()
    for typed, field in (("Govind Rao", "name"), ("98765 43210", "phone")):
        assert window.saved("/register/begin", {"typed": typed}, page="/") == "/register"
        assert field_value(window.get("/register").text, field) == typed
        window.saved("/draft/drop", {"at": "/register"}, page="/")


def test_a_script_gets_the_results_alone(centre: Centre) -> None:
    window = centre.window_of()
    window.register("Lakshmi Devi")
    answer = window.client.post("/find", data={"csrf": window.csrf, "typed": "lakshmi"}, headers={"hx-request": "true"})
    assert "Lakshmi Devi" in answer.text
    assert "<html" not in answer.text


def test_what_is_typed_is_in_no_address(centre: Centre) -> None:
    page = centre.window_of().get("/").text
    assert '<form method="post" action="/find"' in page
    assert 'method="get"' not in page


# -- correcting --------------------------------------------------------------------------------------------------------


def test_a_save_replaces_what_was_shown_and_nothing_that_came_meanwhile(centre: Centre) -> None:
    window = centre.window_of()
    path = window.register("Lakshmi Devi", village="Rampur", phone="9876543210", allergies="Penicillin")
    (patient,) = centre.records("patient")
    form = hidden(window.get(f"{path}/edit").text)
    arrive(
        centre.store, "patient", {"name": "Lakshmi Bai", "allergies/sulfa": {"present": True}}, 1,
        record=patient.key.record, now_ms=NOW_MS + 5,
    )  # fmt: skip
    sent = {
        **form,
        "name": "Lakshmi Devi Rao",
        "sex": "F",
        "age": "34",
        "village": "",
        "phone": "9876543210",
        "allergies": "",
    }
    assert window.post(f"{path}/edit", sent).status_code == 303
    (after,) = centre.records("patient")
    record = after.record
    assert set(record.conflicts()) == {"name"}
    assert {held.change.writes["name"] for held in record.live["name"].values()} == {"Lakshmi Devi Rao", "Lakshmi Bai"}
    view = record.view()
    assert view["village"] is None
    assert view["phone"] == "9876543210"
    assert view["allergies/penicillin"] == {"present": False}
    assert view["allergies/sulfa"] == {"present": True}


def test_an_age_that_is_not_altered_stays_as_it_was_said_then(centre: Centre) -> None:
    window = centre.window_of()
    path = window.register("Lakshmi Devi")
    before = view_of(centre)["birth"]
    centre.clock.now_ms += 400 * 86_400_000
    window = centre.window_of()
    given = {"name": "Lakshmi Devi", "sex": "F", "age": "34", "village": "Melur"}
    assert window.saved(f"{path}/edit", given) == path
    assert view_of(centre)["birth"] == before
    window.saved(f"{path}/edit", {**given, "age": "36"})
    assert view_of(centre)["birth"] == {"age_years": 36, "precision": "about", "said_on": "2027-03-09"}


def test_an_edit_that_says_nothing_new_writes_nothing(centre: Centre) -> None:
    window = centre.window_of()
    path = window.register("Lakshmi Devi", village="Rampur")
    page = window.get(f"{path}/edit").text
    same = {name: field_value(page, name) for name in ("name", "age", "village", "phone", "allergies")}
    window.saved(f"{path}/edit", {**same, "sex": "F"})
    (one,) = centre.records("patient")
    assert len(one.kept) == 1


# -- hostile text ------------------------------------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    '=HYPERLINK("http://evil.example")',
    f"Asha{BIDI}ived",
    "😀👩🏽‍⚕️𠮷" * 3,
    "\u00e1\u0301\u0301\u0301",
    "{{ 7*7 }} {% raw %} ${7*7}",
    "' OR 1=1 --",
    "%(name)s %s",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert_on_each_page_and_saved_as_it_was_typed(centre: Centre, text: str) -> None:
    window = centre.window_of()
    path = window.register(text, village=text, guardian=text, allergies=text.replace(",", " "), address=text)
    assert view_of(centre)["name"] == text
    case = window.visit(path, complaints=text, history=text, plan=text, provisional_diagnosis=text)
    referral = window.refer(path, case, reason=text, question=text)
    window.saved(f"{referral}/message", {"text": text}, page=referral)
    for page in (
        "/",
        path,
        f"{path}/edit",
        f"{path}/visit",
        referral,
        "/referrals",
        "/today",
        f"{path}/cases/{case}/edit",
    ):
        shown = window.get(page).text
        assert "<script>alert" not in shown
        assert "<img" not in shown
        outside = re.sub(r'value="[^"]*"|<textarea.*?</textarea>', "", shown, flags=re.DOTALL)
        assert BIDI not in outside, page
        assert "49" not in re.findall(r"4\d(?= \{%)", words(shown))
    assert field_value(window.get(f"{path}/edit").text, "name") == text


def test_controls_and_line_ends_of_browsers_come_out_the_same_however_often_they_are_sent(centre: Centre) -> None:
    window = centre.window_of()
    path = window.register("Asha\x00\x07 Devi", village="Ram\r\npur")
    assert view_of(centre)["name"] == "Asha Devi"
    window.visit(path, history="one\r\ntwo\rthree")
    (case,) = centre.records("case")
    assert case.record.view()["history"] == "one\ntwo\nthree"
    page = window.get(f"{path}/visit").text
    again = window.post(f"{path}/visit", {**hidden(page), "same": "all"}).text
    assert field_value(again, "history") == "one\ntwo\nthree"


# -- entries under way -------------------------------------------------------------------------------------------------


def test_an_entry_survives_a_reload_a_lock_and_a_restart_and_is_its_persons_alone(centre: Centre) -> None:
    centre.add_second()
    window = centre.window_of()
    typed = {"at": "/register", "name": "Half a na", "village": "Rampur"}
    assert window.post("/draft", {**typed, "csrf": window.csrf}).status_code == 204
    assert field_value(window.get("/register").text, "name") == "Half a na"
    centre.clock.s += centre.home.config.lock_after_s + 1
    later = window.post("/register", {**hidden_of(centre, window), "name": "Half a name", "sex": "F"})
    assert later.headers["location"] == "/unlock"
    assert "Half a name" not in window.get("/unlock").text
    again = centre.window_of()
    assert field_value(again.get("/register").text, "name") == "Half a name"
    assert "go on" in again.shown("/")
    other = centre.window_of(SECOND_NAME, SECOND_PASSPHRASE)
    assert field_value(other.get("/register").text, "name") == ""
    restarted = Centre(centre.home, centre.clock)
    assert field_value(restarted.window_of().get("/register").text, "name") == "Half a name"


def hidden_of(centre: Centre, window: object) -> dict[str, str]:
    """What the form of a page that is open has hidden in it, though its session is locked by now."""
    (session,) = centre.premises.sessions._held.values()
    return {"csrf": session.csrf, "at": "/register"}


def test_a_saved_entry_leaves_no_draft(centre: Centre) -> None:
    window = centre.window_of()
    window.post("/draft", {"at": "/register", "csrf": window.csrf, "name": "Asha"})
    window.register("Asha Kumari")
    assert drafts.of_person(centre.store, PERSON) == []
