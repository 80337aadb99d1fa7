"""A referral at the pages: its own page from saved to seen, messages, the answer, and an emergency that does not leave."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hwc_node import membership, outbox
from hwc_node.engine import begin_write
from sync_protocol.change import PatientId, PersonId
from sync_protocol.documents import id_text, parse_id
from sync_protocol.merge import is_visible
from sync_protocol.schema import Writer
from tests.node.enrolled_home import NOW_MS, arrive, fresh_id, give_positions
from tests.node.paged_centre import Centre, CentreWindow
from tests.pages.window import hidden, name_of, words

DOCTOR = PersonId(b"Dr Rao of a hub:")
MINUTE_MS = 60_000


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre.begin(tmp_path)


@pytest.fixture
def window(centre: Centre) -> CentreWindow:
    return centre.window_of()


@dataclass
class Hurried:
    """In the place of the background sync: notes that somebody asked for an exchange."""

    asked: int = 0
    running: bool = False
    next_in_s: float | None = None
    steps: tuple[int, int] | None = None
    noted: list[str] = field(default_factory=list)

    def hurry(self) -> None:
        self.asked += 1


def referred(window: CentreWindow, **fields: str) -> tuple[str, str]:
    """(the patient's page, the referral's page)."""
    patient = window.register()
    return patient, window.refer(patient, window.visit(patient), **fields)


def answer(centre: Centre, patient: str, referral: str, position: int = 50, **fields: object) -> bytes:
    """A doctor's reply arrives; its id."""
    arrive(
        centre.store, "person", {"name": "Dr Kavita Rao", "role": "doctor"}, position, record=DOCTOR, patient=DOCTOR,
        origin=Writer.HUB,
    )  # fmt: skip
    writes: dict[str, object] = {
        "referral": parse_id(name_of(referral)),
        "diagnosis": {"text": "Viral fever"},
        "advice": "Fluids.",
        "mode": "audio",
        "first": True,
        "doctor": "Dr Kavita Rao",
        "registration_number": "KMC 51234",
        "prescription": [{"drug": "Paracetamol", "dose": "500 mg", "frequency": "three times a day", "days": 5}],
        **fields,
    }
    key = arrive(
        centre.store, "reply", writes, position + 1, patient=parse_id(name_of(patient)), origin=Writer.DOCTOR,
        person=DOCTOR, now_ms=NOW_MS + 60 * MINUTE_MS,
    )  # fmt: skip
    return bytes(key.record)


def test_a_referral_is_saved_with_what_it_asks_and_hurries_if_it_is_an_emergency(centre: Centre) -> None:
    centre.premises.syncing = hurried = Hurried()
    window = centre.window_of()
    patient = window.register()
    case = window.visit(patient)
    path = window.refer(patient, case, specialty="other", other_specialty="Burns", urgency="emergency", reason="burns")
    (kept,) = centre.records("referral")
    assert kept.record.view() == {
        "at": NOW_MS,
        "case": parse_id(case),
        "specialty": "Burns",
        "urgency": "emergency",
        "reason": "burns",
        "question": "What to give?",
    }
    assert hurried.asked == 1
    shown = window.shown(path)
    assert "Saved on this computer" in shown
    assert "Emergency" in shown


def test_what_is_missing_in_a_referral_is_told(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    path = f"{patient}/cases/{window.visit(patient)}/refer"
    refused = window.send(path, {"question": " "})
    assert refused.status_code == 422
    text = words(refused.text)
    for said in ("Choose a specialty", "Choose how urgent it is", "Say why you refer, or what you ask"):
        assert text.count(said) == 2, said
    unnamed = window.send(path, {"specialty": "other", "urgency": "routine", "question": "?"})
    assert "Name the specialty" in words(unnamed.text)
    assert not centre.records("referral")


def test_each_step_of_a_referral_has_its_time(centre: Centre, window: CentreWindow) -> None:
    patient, path = referred(window)
    assert "Sent not yet" in window.shown(path)
    (kept,) = centre.records("referral")
    with begin_write(centre.store.engine) as connection:
        connection.exec_driver_sql(
            "UPDATE change SET sent_ms = ? WHERE record = ?", (NOW_MS + MINUTE_MS, kept.key.record)
        )
    give_positions(centre.store, kept.key, 10)
    arrive(
        centre.store, "claim", {"referral": kept.key.record}, 40, patient=kept.patient, origin=Writer.DOCTOR,
        person=DOCTOR, now_ms=NOW_MS + 10 * MINUTE_MS,
    )  # fmt: skip
    answer(centre, patient, path)
    shown = window.shown(path)
    assert "Sent 2 Feb 2026, 8:11" in shown
    assert "Received by the hub 2 Feb 2026, 8:10" in shown
    assert "Claimed by Dr Kavita Rao 2 Feb 2026" in shown
    assert "Answered by Dr Kavita Rao 2 Feb 2026" in shown
    assert "Answer read not yet" in shown


def test_the_answer_is_shown_read_and_closed(centre: Centre, window: CentreWindow) -> None:
    patient, path = referred(window)
    answer(centre, patient, path)
    assert "Answered, not read" in window.shown("/referrals")
    assert "1 answer of a doctor is not read" in window.shown("/")
    shown = window.shown(path)
    for text in ("Viral fever", "Fluids.", "Paracetamol, 500 mg, three times a day, 5 days", "KMC 51234", "Audio"):
        assert text in shown, text
    window.saved(f"{path}/read", {}, page=path)
    (read,) = centre.records("acknowledgement")
    assert read.record.view()["seen"] is True
    assert "not read" not in window.shown("/referrals")
    window.saved(f"{path}/read", {"outcome": "well again"}, page=path)
    assert len(centre.records("acknowledgement")) == 1
    assert "well again" in window.shown(path)
    assert "Closed" in window.shown("/referrals")


@pytest.mark.parametrize("outcome", ["", "well again"])
def test_a_correction_of_an_answer_that_was_read_is_to_be_read_too(
    centre: Centre, window: CentreWindow, outcome: str
) -> None:
    patient, path = referred(window)
    wrong = answer(centre, patient, path)
    page = window.get(path).text
    window.saved(f"{path}/read", {"outcome": outcome, "only": "read"}, page=path)
    assert "I have read the answer" not in window.shown(path)
    answer(centre, patient, path, 60, advice="Half the dose.", corrects=wrong, correction_reason="wrong dose")
    for _ in range(2):
        assert "1 answer of a doctor is not read" in window.shown("/")
        assert "Answered, not read" in window.shown("/referrals")
        shown = window.shown(path)
        assert "This corrects an earlier answer: wrong dose" in shown
        assert "I have read the answer" in shown
        assert outcome in shown
        window.post(f"{path}/read", hidden(page))  # of a page that showed the first answer
    window.saved(f"{path}/read", {}, page=path)
    assert "is not read" not in window.shown("/")
    assert ("Closed" in window.shown("/referrals")) is bool(outcome)
    assert len(centre.records("acknowledgement")) == 2


def test_what_the_doctor_had_not_seen_stands_beside_the_answer(centre: Centre, window: CentreWindow) -> None:
    patient, path = referred(window)
    for at, kind in enumerate(("patient", "case", "referral")):
        give_positions(centre.store, centre.records(kind)[0].key, 10 + at)
    arrive(
        centre.store, "patient", {"allergies/penicillin": {"present": True}}, 30, record=parse_id(name_of(patient)),
        patient=parse_id(name_of(patient)), now_ms=NOW_MS + MINUTE_MS,
    )  # fmt: skip
    answer(centre, patient, path, seen_positions={"HWC000001": 20})
    shown = window.shown(path)
    assert "The doctor had not seen" in shown
    assert "penicillin" in shown


def test_messages_go_both_ways_and_one_sent_twice_is_one(centre: Centre, window: CentreWindow) -> None:
    patient, path = referred(window)
    page = window.get(path).text
    sent = {**hidden(page), "text": "She is worse."}
    for _ in range(2):
        assert window.post(f"{path}/message", sent).status_code == 303
    assert len(centre.records("message")) == 1
    arrive(
        centre.store, "message", {"referral": parse_id(name_of(path)), "text": "Send a photo.", "at": NOW_MS}, 9,
        patient=parse_id(name_of(patient)), origin=Writer.DOCTOR, person=DOCTOR,
    )  # fmt: skip
    shown = window.shown(path)
    assert "She is worse." in shown
    assert "Send a photo." in shown
    empty = window.send(f"{path}/message", {"text": " "}, page=path)
    assert (empty.status_code, "Write what you want to say" in words(empty.text)) == (422, True)


def test_a_message_typed_when_the_page_locked_itself_stands_in_its_box_again_until_it_is_saved(centre: Centre) -> None:
    window = centre.window_of()
    _, referral = referred(window)
    secret, made = window.csrf, hidden(window.get(referral).text)["message_id"]
    window.post("/lock", {"csrf": secret})
    window.post(f"{referral}/message", {"csrf": secret, "message_id": made, "text": "She walks again"})
    window = centre.window_of()
    assert f'href="{referral}"' in window.get("/").text
    page = window.get(referral).text
    assert ">She walks again</textarea>" in page
    assert hidden(page)["message_id"] == made
    window.send(f"{referral}/message", {"message_id": made, "text": "She walks again"}, page=referral)
    assert ">She walks again</textarea>" not in window.get(referral).text
    assert "go on" not in window.get("/").text


def test_a_withdrawn_referral_says_why_and_waits_no_more(centre: Centre, window: CentreWindow) -> None:
    _, path = referred(window)
    assert window.send(f"{path}/withdraw", {"why": ""}, page=path).status_code == 422
    window.saved(f"{path}/withdraw", {"why": "went to the city"}, page=path)
    assert "Withdrawn" in window.shown(path)
    assert "Waiting for an answer" not in window.shown("/referrals")


def test_an_emergency_that_the_hub_has_not_received_after_ten_minutes_tells_to_phone(centre: Centre) -> None:
    window = centre.window_of()
    _, path = referred(window, urgency="emergency")
    _, calm = referred(window, urgency="urgent")
    centre.clock.now_ms += 10 * MINUTE_MS - 1
    assert "Phone" not in window.shown(path)
    centre.clock.now_ms += 1
    assert "Phone now" in window.shown(path)
    assert "No number to call is known here" in window.shown(path)
    assert "1 emergency has not reached the hub" in window.shown("/")
    contacts = {"duty_contacts/any": {"present": True, "details": {"name": "Control room", "phone": "0821 242 1234"}}}
    arrive(centre.store, "facility", {"name": "Rampur", **contacts}, 90, origin=Writer.HUB)
    for page in (path, "/"):
        assert "Call Control room: 0821 242 1234" in window.shown(page)
    assert '<section class="app-alarm">' not in window.get(calm).text, "that one is not what is to be phoned for"
    for kept in centre.records("referral"):
        give_positions(centre.store, kept.key, 10)
    assert "Phone now" not in window.shown(path)
    assert "has not reached the hub" not in window.shown("/")


def test_a_referral_that_is_not_here_is_no_page(window: CentreWindow) -> None:
    for path in (f"/referrals/{id_text(fresh_id())}", "/referrals/none"):
        assert window.get(path).status_code == 404


def test_the_first_departure_of_a_referral_is_noted_and_stays(centre: Centre, window: CentreWindow) -> None:
    _, path = referred(window, urgency="emergency")
    (kept,) = centre.records("referral")
    out = outbox.pack(centre.store, NOW_MS + MINUTE_MS)
    assert centre.records("referral")[0].sent_ms is None
    outbox.left(centre.store, out, [one.id for one in out.segments], nothing=False, smaller=False)
    assert centre.records("referral")[0].sent_ms == NOW_MS + MINUTE_MS
    with begin_write(centre.store.engine) as connection:
        outbox.drop(connection, [one.id for one in out.segments])
        membership.put(connection, {membership.HELLO_ALONE: False})
    again = outbox.pack(centre.store, NOW_MS + 5 * MINUTE_MS)
    outbox.left(centre.store, again, [one.id for one in again.segments], nothing=False, smaller=False)
    assert centre.records("referral")[0].sent_ms == NOW_MS + MINUTE_MS
    assert is_visible(kept.record)
    assert PatientId(kept.patient)
    assert "Sent 2 Feb 2026" in window.shown(path)
