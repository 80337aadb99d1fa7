"""Entries under way in every form that somebody types into: they survive a lock and a reload, and go when they are saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from hwc_node import drafts, erasing
from hwc_node.engine import begin_write, open_engine
from sync_protocol.change import PatientId
from sync_protocol.documents import parse_id
from tests.node.enrolled_home import NOW_MS, PERSON
from tests.node.paged_centre import Centre, CentreWindow
from tests.node.test_web_lists import conflict
from tests.node.test_web_referring import answer, referred
from tests.pages.window import Fields, field_value, hidden, name_of, words


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre.begin(tmp_path)


@pytest.fixture
def window(centre: Centre) -> CentreWindow:
    return centre.window_of()


@contextmanager
def busy(centre: Centre) -> Iterator[None]:
    """Another program holds the database's lock for longer than the centre's pages have patience."""
    centre.store.engine.dispose()
    event.listen(centre.store.engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout = 50"))
    other = open_engine(centre.home.config.database_path, centre.home.key)
    with begin_write(other):
        yield
    other.dispose()


def of_form(page: str, action: str) -> dict[str, str | list[str]]:
    """What is hidden in the form of a page that goes there; it says where its draft is kept."""
    (form,) = [one for one in page.split("<form ") if f'action="{action}"' in one.partition(">")[0]]
    assert 'data-draft="/draft"' in form.partition(">")[0], action
    return hidden(form.partition("</form>")[0])


def test_what_is_typed_into_any_form_of_a_referral_survives_a_lock_and_is_kept_apart(
    centre: Centre, window: CentreWindow
) -> None:
    patient, path = referred(window)
    answer(centre, patient, path)
    typed = {"message": ("text", "She is worse."), "read": ("outcome", "Well again"), "withdraw": ("why", "Gone home")}
    page = window.get(path).text
    for part, (field, text) in typed.items():
        sent = {**of_form(page, f"{path}/{part}"), field: text}
        assert sent["at"] == f"{path}/{part}"
        assert window.post("/draft", sent).status_code == 204
    centre.clock.s += centre.home.config.lock_after_s + 1
    window = centre.window_of()
    page = window.get(path).text
    for field, text in typed.values():
        assert field_value(page, field) == text
    home = window.get("/")
    assert home.text.count(f'href="{path}"') == 1
    assert "Lakshmi Devi: Begun" in words(home.text)
    refused = window.post(f"{path}/message", {**of_form(page, f"{path}/message"), "text": " "})
    assert (refused.status_code, field_value(refused.text, "outcome")) == (422, "Well again")
    window.saved(f"{path}/message", {"text": "She is worse."}, page=path)
    page = window.get(path).text
    assert [field_value(page, field) for field, _ in typed.values()] == ["", "Well again", "Gone home"]
    window.saved(f"{path}/read", {"outcome": "Well again"}, page=path)
    (left,) = drafts.of_person(centre.store, PERSON)
    assert (left.place, left.fields["why"]) == (f"{path}/withdraw", ["Gone home"])
    window.saved("/draft/drop", {"at": path}, page="/")
    assert drafts.of_person(centre.store, PERSON) == []


def test_what_became_of_the_patient_is_said_in_words_or_not_at_all(centre: Centre, window: CentreWindow) -> None:
    patient, path = referred(window)
    answer(centre, patient, path)
    sent: Fields = {**of_form(window.get(path).text, f"{path}/read"), "outcome": " "}
    empty = window.post(f"{path}/read", sent)
    assert empty.status_code == 422
    assert words(empty.text).count("Write what became of the patient") == 2
    assert centre.records("acknowledgement") == []
    long = window.post(f"{path}/read", {**sent, "outcome": "x" * 8_001})
    assert (long.status_code, field_value(long.text, "outcome")) == (422, "x" * 8_001)
    assert window.post(f"{path}/read", {**sent, "only": "read"}).status_code == 303
    (read,) = centre.records("acknowledgement")
    assert (read.record.view()["seen"], read.record.view().get("outcome")) == (True, None)


def test_an_outcome_typed_when_the_page_locked_itself_stands_in_its_box_again(
    centre: Centre, window: CentreWindow
) -> None:
    patient, path = referred(window)
    answer(centre, patient, path)
    sent = {**of_form(window.get(path).text, f"{path}/read"), "outcome": "Well again"}
    centre.clock.s += centre.home.config.lock_after_s + 1
    assert window.post(f"{path}/read", sent).headers["location"] == "/unlock"
    assert field_value(centre.window_of().get(path).text, "outcome") == "Well again"


@pytest.mark.parametrize(("form", "fields"), [
    ("decision", {"other": "wait", "note": "by telephone"}),
    ("error", {"reason": "Another patient's"}),
    ("elsewhere", {"letters": "ABCDE-12345", "why": "Her sister's card"}),
])  # fmt: skip
def test_an_entry_in_any_other_form_survives_a_lock_and_goes_when_it_is_saved(
    centre: Centre, window: CentreWindow, form: str, fields: dict[str, str]
) -> None:
    path = "/elsewhere"
    if form == "decision":
        path, _ = conflict(centre)
    elif form == "error":
        patient = window.register()
        path = f"{patient}/records/case/{window.visit(patient)}/error"
    sent = {**of_form(window.get(path).text, path), **fields}
    assert window.post("/draft", sent).status_code == 204
    centre.clock.s += centre.home.config.lock_after_s + 1
    window = centre.window_of()
    page = window.get(path).text
    assert {name: field_value(page, name) for name in fields} == fields
    if form == "elsewhere":
        return
    sent = {**of_form(page, path), **fields, "take": "other", "hidden": "yes"}
    assert window.post(path, sent).status_code == 303
    assert drafts.of_person(centre.store, PERSON) == []
    assert window.post("/draft", sent).status_code == 204, "late, of the page that was left"
    assert drafts.of_person(centre.store, PERSON) == []


def test_what_is_taken_out_again_is_no_entry_under_way(centre: Centre, window: CentreWindow) -> None:
    _, path = referred(window)
    sent = of_form(window.get(path).text, f"{path}/message")
    for text, kept in (("She", 1), ("", 0)):
        window.post("/draft", {**sent, "text": text})
        assert len(drafts.of_person(centre.store, PERSON)) == kept


def test_an_entry_about_a_patient_is_erased_with_the_patient_on_whatever_page_it_stands(
    centre: Centre, window: CentreWindow
) -> None:
    patient, path = referred(window)
    window.post("/draft", {**of_form(window.get(path).text, f"{path}/message"), "text": "She is worse."})
    decision, key = conflict(centre)
    window.post("/draft", {**of_form(window.get(decision).text, decision), "note": "by telephone"})
    kept = centre.store.record(key)
    assert kept is not None
    for one in (PatientId(parse_id(name_of(patient))), kept.patient):
        with begin_write(centre.store.engine) as connection:
            erasing.obey(connection, one, NOW_MS)
    assert drafts.of_person(centre.store, PERSON) == []


# -- a visit, and a new patient ----------------------------------------------------------------------------------------


def test_an_unusual_visit_that_cannot_be_kept_meanwhile_comes_back_whole(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    sent = {**of_form(window.get(f"{patient}/visit").text, f"{patient}/visit"), "history": "since yesterday"}
    sent |= {"systolic_mmhg": "60", "diastolic_mmhg": "40"}
    with busy(centre):
        asked = window.post(f"{patient}/visit", sent)
        repeated = window.post(f"{patient}/visit", {**sent, "same": "all"})
    assert (asked.status_code, repeated.status_code) == (409, 200)
    for page in (asked.text, repeated.text):
        assert (field_value(page, "history"), field_value(page, "systolic_mmhg")) == ("since yesterday", "60")
        assert "The computer is busy. Wait a moment, then try again. [E_BUSY]" in words(page)
        assert hidden(page)["case"] == sent["case"]
    assert "Unusual values: are they right?" in asked.text
    assert window.post(f"{patient}/visit", {**hidden(asked.text), **sent}).status_code == 303


def test_the_longest_texts_of_a_visit_are_kept(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    long = dict.fromkeys(("history", "examination", "plan"), "\N{DEVANAGARI LETTER KA}" * 8_000)
    sent = {**of_form(window.get(f"{patient}/visit").text, f"{patient}/visit"), **long}
    assert window.post("/draft", sent).status_code == 204
    page = window.get(f"{patient}/visit").text
    assert {name: field_value(page, name) for name in long} == long


def test_a_half_filled_registration_is_not_overwritten_unasked(centre: Centre, window: CentreWindow) -> None:
    begun = {**of_form(window.get("/register").text, "/register"), "name": "Half a name", "village": "Rampur"}
    window.post("/draft", begun)
    asked = window.send("/register/begin", {"typed": "Govind Rao"}, page="/")
    assert asked.status_code == 409
    assert "You had begun to register Half a name" in words(asked.text)
    page = window.get("/register").text
    assert (field_value(page, "name"), field_value(page, "village")) == ("Half a name", "Rampur")
    assert window.saved("/register/begin", {"typed": "Half a name"}, page="/") == "/register"
    assert field_value(window.get("/register").text, "village") == "Rampur"
    assert window.post("/register/begin", hidden(asked.text)).status_code == 303
    page = window.get("/register").text
    assert (field_value(page, "name"), field_value(page, "village")) == ("Govind Rao", "")
    assert window.saved("/register/begin", {"typed": "Sita Bai"}, page="/") == "/register", "nothing more was typed"
    assert field_value(window.get("/register").text, "name") == "Sita Bai"


def test_who_registers_while_the_computer_is_busy_has_the_form_all_the_same(
    centre: Centre, window: CentreWindow
) -> None:
    with busy(centre):
        page = window.send("/register/begin", {"typed": "Govind Rao"}, page="/")
    assert (page.status_code, field_value(page.text, "name")) == (200, "Govind Rao")
    assert "[E_BUSY]" in page.text
    assert of_form(page.text, "/register")["at"] == "/register"
