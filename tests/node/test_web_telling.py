"""What a centre's pages tell without being asked: a doctor's question, an emergency to phone for, what needs a person."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hwc_node import membership, overview
from hwc_node.engine import begin_write
from hwc_node.overview import EMERGENCY_WAITS_MS
from hwc_node.store import KeptRecord
from sync_protocol import exports
from sync_protocol.documents import id_text
from sync_protocol.schema import Writer
from tests.node.enrolled_home import NOW_MS, PERSON, Home, arrive, fresh_id, make_home, write
from tests.node.paged_centre import Centre, CentreWindow
from tests.node.referred import REPLY
from tests.node.test_web_registering import BIDI, HOSTILE
from tests.pages.window import hidden, words

MINUTE_MS = 60_000
PAGES = ("/", "/today", "/register", "/referrals", "/follow-ups", "/decisions", "/sync", "/report", "/elsewhere")
BY_DOCTOR = ("advice", "doctor", "qualification", "registration_number", "refer_onward", "correction_reason")
BY_DRUG = ("drug", "form", "strength", "dose", "route", "frequency", "advice", "allergy_reason")
TOLD = "The hub has not received this emergency. Phone now."


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre.begin(tmp_path)


@pytest.fixture
def window(centre: Centre) -> CentreWindow:
    return centre.window_of()


def heard(centre: Centre) -> None:
    """An exchange told the hub's time of now."""
    with begin_write(centre.store.engine) as connection:
        membership.put(connection, {membership.HUB_TIME_MS: centre.clock.now_ms})


def later(centre: Centre, ms: int = MINUTE_MS) -> CentreWindow:
    centre.clock.now_ms += ms
    return centre.window_of()


def asks(centre: Centre, about: KeptRecord, text: str, position: int = 5) -> None:
    """A doctor's message arrives."""
    said = {"referral": about.key.record, "text": text, "at": centre.clock.now_ms}
    arrive(centre.store, "message", said, position, patient=about.patient, origin=Writer.DOCTOR,
           now_ms=centre.clock.now_ms)  # fmt: skip


def referred(centre: Centre, window: CentreWindow, name: str = "Lakshmi Devi", **fields: str) -> str:
    patient = window.register(name)
    return window.refer(patient, window.visit(patient), **fields)


# -- a doctor asks -----------------------------------------------------------------------------------------------------


def test_a_doctors_question_is_told_on_top_on_the_first_page_and_in_the_navigation(
    centre: Centre, window: CentreWindow
) -> None:
    path = referred(centre, window)
    assert "The doctor asks" not in window.shown("/referrals")
    (kept,) = centre.records("referral")
    asks(centre, kept, "Pulse?\nAnd " + "how is she " * 30)
    page = window.get("/referrals").text
    assert re.search(r"The doctor asks.*Lakshmi Devi.*Pulse\? And how is she.*….*Waiting for an answer", words(page))
    assert f'<a href="{path}">' in page
    assert "how is she " * 20 not in words(page)
    assert "Referrals 1 answered and not read, or a doctor asks" in words(page)
    assert "A doctor asks about 1 referral" in window.shown("/")
    window = later(centre)
    heard(centre)
    window.saved(f"{path}/message", {"text": "72 a minute"}, page=path)
    assert "doctor asks" not in window.shown("/referrals")
    assert "doctor asks" not in window.shown("/")


def test_what_was_written_offline_answers_no_question_that_came_later(centre: Centre, window: CentreWindow) -> None:
    heard(centre)
    path = referred(centre, window)
    (kept,) = centre.records("referral")
    window = later(centre, 10 * MINUTE_MS)
    asks(centre, kept, "Pulse?")
    window = later(centre)
    window.saved(f"{path}/message", {"text": "She has eaten"}, page=path)
    assert "Pulse?" in window.shown("/referrals"), "nobody here had heard of the hub since"


def test_what_a_doctor_said_is_read_and_needs_no_answer(centre: Centre, window: CentreWindow) -> None:
    path = referred(centre, window)
    (kept,) = centre.records("referral")
    assert "Read; nothing to answer" not in window.shown(path)
    asks(centre, kept, "Thank you.")
    window = later(centre)
    heard(centre)
    assert "a doctor, " in window.shown(path), "the name may not have come yet"
    message = hidden(window.get(path).text)["heard"]
    for _ in range(2):  # pressed twice
        window.saved(f"{path}/read", {"heard": message}, page=path)
    assert len(centre.records("acknowledgement")) == 1
    assert "doctor asks" not in window.shown("/")
    assert "Read; nothing to answer" not in window.shown(path)
    assert "Answer read not yet" in window.shown(path)
    asks(centre, kept, "Is she better?", 9)
    assert "A doctor asks about 1 referral" in window.shown("/")
    assert hidden(window.get(path).text)["heard"] != message


def test_reading_the_answer_answers_the_question_before_it(centre: Centre, window: CentreWindow) -> None:
    path = referred(centre, window)
    (kept,) = centre.records("referral")
    asks(centre, kept, "Pulse?")
    window = later(centre)
    reply = {"referral": kept.key.record, "mode": "text", "first": True}
    arrive(centre.store, "reply", reply, 6, patient=kept.patient, origin=Writer.DOCTOR, now_ms=centre.clock.now_ms)
    assert "Referrals 2 answered and not read, or a doctor asks" in window.shown("/")
    window = later(centre)
    heard(centre)
    window.saved(f"{path}/read", {}, page=path)
    assert "doctor asks" not in window.shown("/referrals")
    asks(centre, kept, "And now?", 9)
    assert "And now?" in window.shown("/referrals").partition("Read")[0]


def test_a_message_that_is_not_here_yet_and_a_referral_that_ended_are_no_question(
    centre: Centre, window: CentreWindow
) -> None:
    path = referred(centre, window)
    (kept,) = centre.records("referral")
    asks(centre, kept, "Pulse?")
    window.saved(f"{path}/withdraw", {"why": "She went home"}, page=path)
    assert "doctor asks" not in window.shown("/referrals")
    assert overview.questions(centre.store) == []


def test_an_upgrade_finds_what_doctors_had_asked_before(tmp_path: Path) -> None:
    home: Home = make_home(tmp_path)
    with home.open() as store:
        patient = write(store, PERSON, "patient", {"name": "Sita"}).record
        key = write(store, PERSON, "referral", {"specialty": "ent", "urgency": "urgent", "at": NOW_MS}, patient=patient)
        said = {"referral": key.record, "text": "Pulse?", "at": NOW_MS + 1}
        arrive(store, "message", said, 5, patient=patient, origin=Writer.DOCTOR, now_ms=NOW_MS + 1)
        before = overview.questions(store)
        with begin_write(store.engine) as connection:
            connection.exec_driver_sql("DROP INDEX referral_work_asked")
            connection.exec_driver_sql("ALTER TABLE referral_work DROP COLUMN asked")
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0012'")
    with home.open() as store:
        assert [one.begins for one in before] == ["Pulse?"]
        assert overview.questions(store) == before


# -- an emergency that the hub has not received ------------------------------------------------------------------------


def alarm(text: str) -> str:
    """What the page's own place for the alarm says."""
    found = re.search(r'<div id="sync-alarm"[^>]*>(.*?)(?:<div role="status"|$)', text, re.DOTALL)
    assert found is not None, "there is no place for it"
    return words(found[1])


def test_an_emergency_not_received_is_told_on_every_page_with_whom_to_call(
    centre: Centre, window: CentreWindow
) -> None:
    contacts = {"duty_contacts/any": {"present": True, "details": {"name": "Dr Rao", "phone": "9845012345"}}}
    arrive(centre.store, "facility", {"name": "Rampur", **contacts}, 3, origin=Writer.HUB)
    path = referred(centre, window, urgency="emergency")
    patient = next(iter(re.findall(r'href="(/patients/[^"/]+)"', window.get(path).text)))
    assert alarm(window.get("/").text) == ""
    window = later(centre, EMERGENCY_WAITS_MS)
    for page in (*PAGES, patient, f"{patient}/visit", path):
        told = alarm(window.get(page).text)
        assert TOLD in told, page
        assert "Call Dr Rao: 9845012345" in told
        assert "Lakshmi Devi" in told
        assert "more" not in told
    assert 'role="alert"' in window.get(patient).text


def test_an_open_page_is_told_of_the_emergency_without_a_reload_and_once(centre: Centre, window: CentreWindow) -> None:
    referred(centre, window, urgency="emergency")
    asked = polled(window.get("/today").text)
    window = later(centre, EMERGENCY_WAITS_MS)
    first = window.get(asked)
    assert first.status_code == 200
    assert 'id="sync-alarm" hx-swap-oob="innerHTML"' in first.text
    assert TOLD in alarm(first.text)
    assert window.get(polled(first.text)).status_code == 204
    referred(centre, window, "Sita")
    again = window.get(polled(first.text))
    assert again.status_code == 200
    assert "sync-alarm" not in again.text, "the same alarm is not raised twice"
    with begin_write(centre.store.engine) as connection:
        connection.exec_driver_sql("UPDATE referral_work SET received_ms = 1")
    over = window.get(polled(again.text))
    assert alarm(over.text) == ""


def polled(text: str) -> str:
    """What the line on this page asks for."""
    found = re.search(r'hx-get="(/sync/line[^"]*)"', text)
    assert found is not None
    return found[1].replace("&amp;", "&")


# -- what needs a person -----------------------------------------------------------------------------------------------


def test_what_the_hub_refused_is_counted_and_told_beside_being_offline(centre: Centre, window: CentreWindow) -> None:
    window.register()
    with begin_write(centre.store.engine) as connection:
        connection.exec_driver_sql("UPDATE change SET state = 1, reason = 'E_NOT_ALLOWED' WHERE kind = 'consent'")
        membership.put(connection, {membership.LAST_ERROR: "E_HUB_UNREACHABLE"})
    shown = window.shown("/")
    assert "Decisions 1 needed" in shown
    assert "Offline: records are safe on this computer" in shown
    assert "Needs you: the hub could not take some records" in shown
    assert 'href="/decisions#refused"' in window.get("/").text
    with begin_write(centre.store.engine) as connection:
        membership.put(connection, {membership.LAST_ERROR: ""})
    assert window.shown("/").count("Needs you: the hub could not take some records") == 1


# -- hostile text ------------------------------------------------------------------------------------------------------


def test_hostile_text_of_a_doctor_and_in_what_became_and_why_is_inert_on_each_page(
    centre: Centre, window: CentreWindow
) -> None:
    """Whoever wrote it: a reply and a message that arrive were checked by no form of this centre."""
    text = " ".join(HOSTILE)
    patient = window.register("Lakshmi Devi")
    case = window.visit(patient, temperature_c="39", plan="rest")
    path = window.refer(patient, case)
    (about,) = centre.records("referral")
    asks(centre, about, text)
    said = REPLY | {"referral": about.key.record, **dict.fromkeys(BY_DOCTOR, text), "diagnosis": {"text": text}}
    said |= {"corrects": fresh_id(), "prescription": [dict.fromkeys(BY_DRUG, text)]}
    reply = arrive(centre.store, "reply", said, 6, patient=about.patient, origin=Writer.DOCTOR)
    for page in ("/referrals", path, f"{path}/prescription/{id_text(reply.record)}"):
        assert_inert(window.get(page).text)
    window.saved(f"{path}/read", {"outcome": text}, page=path)
    (seen,) = centre.records("case")
    arrive(centre.store, "case", {"plan": text}, 7, record=seen.key.record, patient=about.patient)
    decided = f"/decisions/{exports.conflict_id(seen.key, 'plan')}"
    assert_inert(window.get(decided).text)
    window.saved(decided, {"take": "other", "other": text, "note": text})
    measured = re.search(r"/vitals/[0-9a-f-]+/correct", window.get(patient).text)
    assert measured is not None
    window.saved(f"{patient}{measured[0]}", {"temperature_c": "38", "correction_reason": text})
    other = window.refer(patient, case)
    window.saved(f"{other}/withdraw", {"why": text}, page=other)
    for page in (path, patient, decided):
        assert_inert(window.get(page).text)
    wrong = f"{patient}/records/case/{case}/error"
    window.saved(wrong, {"reason": text, "hidden": "yes"})
    assert_inert(window.get(wrong).text)
    for page in (other, f"{path}/slip", "/", "/decisions", "/today", "/report"):
        assert_inert(window.get(page).text, shown=False)
    (kept,) = centre.records("acknowledgement")
    assert kept.record.view()["outcome"] == text, "it is saved as it was typed"


def assert_inert(page: str, *, shown: bool = True) -> None:
    """shown: the page has to have it."""
    assert "&lt;script&gt;alert(1)" in page or not shown
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "49" not in re.findall(r"4\d(?= \{%)", words(page))
    assert BIDI not in re.sub(r'value="[^"]*"|<textarea.*?</textarea>', "", page, flags=re.DOTALL)
