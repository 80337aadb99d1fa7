"""Lists, decisions and the sync line at the pages: what waits, what needs a person, what has been sent."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hwc_node import line as sync_line
from hwc_node import membership, overview, questioning
from hwc_node.engine import begin_write
from hwc_node.line import LineFacts, LineState
from sync_protocol import exports
from sync_protocol.change import PatientId, RecordKey
from sync_protocol.documents import id_text
from sync_protocol.subscription import Card
from tests.node.enrolled_home import NOW_MS, PERSON, PERSON_NAME, arrive, fresh_id, give_positions, write
from tests.node.paged_centre import Centre, CentreWindow
from tests.pages.window import hidden, words

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CALM = LineFacts(0, None, NOW_MS, NOW_MS, "", 0, 0, False)


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre.begin(tmp_path)


@pytest.fixture
def window(centre: Centre) -> CentreWindow:
    return centre.window_of()


# -- the sync line -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (CALM, LineState.SYNCED),
        (replace(CALM, last_success_ms=None), LineState.PENDING),
        (replace(CALM, pending=3, oldest_ms=NOW_MS), LineState.PENDING),
        (replace(CALM, pending=3, oldest_ms=NOW_MS - 12 * HOUR_MS), LineState.NOT_SENT),
        (replace(CALM, pending=3, oldest_ms=NOW_MS - 12 * HOUR_MS + 1), LineState.PENDING),
        (replace(CALM, pending=3, oldest_ms=NOW_MS - 5 * DAY_MS), LineState.NOT_SENT_LONG),
        (replace(CALM, error="E_HUB_UNREACHABLE"), LineState.OFFLINE),
        (replace(CALM, error="E_HUB_UNREACHABLE", pending=1, oldest_ms=NOW_MS - 13 * HOUR_MS), LineState.NOT_SENT),
        (replace(CALM, error="E_BAD_SIGNATURE"), LineState.FAILED),
        (replace(CALM, error="E_BAD_SIGNATURE", running=True), LineState.SYNCING),
        (replace(CALM, running=True, pending=1, oldest_ms=NOW_MS - 9 * DAY_MS), LineState.SYNCING),
        (replace(CALM, set_aside=1), LineState.NEEDS_YOU),
        (replace(CALM, questioned=1), LineState.NEEDS_YOU),
        (replace(CALM, error="E_REVOKED", running=True), LineState.NEEDS_YOU),
        (replace(CALM, error="E_UNKNOWN_NODE", pending=1, oldest_ms=NOW_MS - 9 * DAY_MS), LineState.NEEDS_YOU),
        (replace(CALM, pending=1, oldest_ms=NOW_MS + 9 * DAY_MS), LineState.PENDING),
    ],
)
def test_the_line_is_decided_by_precedence(facts: LineFacts, state: LineState) -> None:
    assert sync_line.decide(facts, NOW_MS) is state


@dataclass
class Syncing:
    running: bool = True
    next_in_s: float | None = 90.0
    steps: tuple[int, int] | None = (30, 120)

    def hurry(self) -> None:
        self.steps = (0, 1)


def told(centre: Centre, **values: object) -> None:
    """What the last exchange left behind."""
    names = {
        "success": membership.LAST_SUCCESS_MS,
        "attempt": membership.LAST_ATTEMPT_MS,
        "error": membership.LAST_ERROR,
    }
    with begin_write(centre.store.engine) as connection:
        membership.put(connection, {names[name]: value for name, value in values.items()})


def line(window: CentreWindow) -> tuple[str, str]:
    """(state, text) as the page has it."""
    page = window.get("/").text
    found = re.search(r'<div class="app-sync-line app-sync-line--(\w+)".*?</div>', page, re.DOTALL)
    assert found is not None
    return found[1], words(found[0])


def test_each_state_has_its_words_and_its_sign(centre: Centre, window: CentreWindow) -> None:
    told(centre, success=NOW_MS, error="")
    assert line(window) == ("synced", "✓ Synced at 8:10 am")
    window.register()
    assert line(window) == ("pending", "↑ 2 changes wait to be sent")
    told(centre, error="E_HUB_UNREACHABLE")
    assert line(window)[0] == "offline"
    assert "records are safe on this computer" in line(window)[1]
    told(centre, error="E_BAD_SIGNATURE")
    centre.premises.syncing = Syncing(running=False)
    assert line(window) == ("failed", "✕ The last sync failed (E_BAD_SIGNATURE) · next try in 1 minute")
    centre.premises.syncing = Syncing()
    assert line(window) == ("syncing", "⟳ Syncing: 25 % done · 2 changes wait to be sent")
    centre.premises.syncing = None
    centre.clock.now_ms += 13 * HOUR_MS
    window = centre.window_of()
    assert line(window) == ("not_sent", "! Not sent since Monday, 2 Feb: records are safe on this computer")
    centre.clock.now_ms += 5 * DAY_MS
    window = centre.window_of()
    assert line(window)[0] == "not_sent_long"
    told(centre, error="E_REVOKED")
    assert line(window) == ("needs_you", "? Needs you: the hub has shut this computer out; ask its operator")


def test_a_line_that_says_the_same_is_not_sent_again(centre: Centre, window: CentreWindow) -> None:
    told(centre, success=NOW_MS, error="")
    first = window.get("/sync/line")
    seen = re.search(r"seen=(\w+)", first.text)
    assert seen is not None
    assert window.get(f"/sync/line?seen={seen[1]}").status_code == 204
    window.register()
    assert "2 changes wait" in words(window.get(f"/sync/line?seen={seen[1]}").text)


def test_the_sync_page_tells_details_and_syncs_at_once(centre: Centre, window: CentreWindow) -> None:
    centre.premises.syncing = syncing = Syncing(running=False)
    window.register()
    told(centre, attempt=NOW_MS, error="E_HUB_UNREACHABLE")
    shown = window.shown("/sync")
    for text in ("Rampur (HWC000001)", "failed (E_HUB_UNREACHABLE)", "Next try in 1 minute", "Patient 1", "Consent 1"):
        assert text in shown, text
    assert window.saved("/sync/now", {}, page="/sync") == "/sync"
    assert syncing.steps == (0, 1)


# -- lists -------------------------------------------------------------------------------------------------------------


def test_today_is_a_day_in_india_with_who_was_referred_marked(centre: Centre, window: CentreWindow) -> None:
    patient = window.register("Lakshmi Devi", village="Rampur")
    window.refer(patient, window.visit(patient, complaints="chest pain"))
    window.visit(patient, complaints="itch")
    shown = window.shown("/today")
    assert "Today, 2 Feb 2026" in shown
    assert "2 visits" in shown
    assert shown.count("referred") == 1
    assert re.search(r"chest pain · referred", shown)
    centre.clock.now_ms += 16 * HOUR_MS  # ten past midnight in India
    window = centre.window_of()
    assert "Nobody has come today yet" in window.shown("/today")
    assert "Lakshmi Devi" in window.shown("/"), "the last seen stand on the first page"


def test_follow_ups_stand_overdue_first_and_are_done_at_a_press(centre: Centre, window: CentreWindow) -> None:
    for name, days in (("Asha", "1"), ("Bela", "9"), ("Chitra", "3"), ("Devi", "400")):
        window.visit(window.register(name), return_days=days)
    centre.clock.now_ms += 5 * DAY_MS
    window = centre.window_of()
    shown = window.shown("/follow-ups")
    assert re.search(r"Asha.*Overdue since 3 Feb 2026.*Chitra.*Overdue since 5 Feb 2026.*Bela.*Due 11 Feb 2026", shown)
    assert "Devi" not in shown.partition("Follow-ups")[2].replace("Asha Devi", "")
    assert "2 overdue" in shown
    page = window.get("/follow-ups").text
    done = re.search(r'action="(/patients/[^"]+/done)"', page)
    assert done is not None
    assert window.post(done[1], {**hidden(page), "from": "list"}).headers["location"] == "/follow-ups"
    assert "1 overdue" in window.shown("/follow-ups")


def test_referrals_stand_unread_first_then_by_urgency_and_age(centre: Centre, window: CentreWindow) -> None:
    for name, urgency in (("Asha", "routine"), ("Bela", "emergency"), ("Chitra", "urgent"), ("Deepa", "urgent")):
        patient = window.register(name)
        window.refer(patient, window.visit(patient), urgency=urgency)
        centre.clock.now_ms += 60_000
        window = centre.window_of()
    (asha, *_) = centre.records("referral")
    arrive(centre.store, "reply", {"referral": asha.key.record, "mode": "text", "first": True}, 5, patient=asha.patient)
    shown = window.shown("/referrals").partition("Answered, not read")[2]
    assert re.search(r"Asha.*Waiting for an answer.*Bela.*Chitra.*Deepa", shown)


def test_long_lists_are_turned_page_by_page(centre: Centre, window: CentreWindow) -> None:
    for number in range(overview.PAGE_ROWS + 3):
        patient = write(centre.store, PERSON, "patient", {"name": f"Person {number:03}"})
        case = {"at": NOW_MS - number, "complaints/fever": {"present": True}}
        write(centre.store, PERSON, "case", case, patient=patient.record)
    first, second = window.shown("/today"), window.shown("/today?page=2")
    assert "53 visits" in first
    assert "Page 1 of 2" in first
    assert ("Person 000" in first, "Person 052" in first, "Person 052" in second) == (True, False, True)
    for odd in ("0", "-1", "x", "99999999", "2'"):
        assert window.get(f"/today?page={odd}").status_code == 200


# -- decisions ---------------------------------------------------------------------------------------------------------


def conflict(
    centre: Centre, field: str = "plan", values: tuple[object, object] = ("rest", "refer")
) -> tuple[str, RecordKey]:
    """A field that was written here and elsewhere; (the decision's page, its record)."""
    patient = write(centre.store, PERSON, "patient", {"name": "Lakshmi Devi"})
    key = write(centre.store, PERSON, "case", {field: values[0], "at": NOW_MS}, patient=patient.record)
    arrive(
        centre.store, "case", {field: values[1]}, 1, record=key.record, patient=patient.record, now_ms=NOW_MS - 1_000
    )
    return f"/decisions/{exports.conflict_id(key, field)}", key


def live(centre: Centre, key: RecordKey, field: str) -> list[object]:
    kept = centre.store.record(key)
    assert kept is not None
    return [held.change.writes[field] for held in kept.record.live[field].values()]


def test_both_values_stand_side_by_side_with_who_when_and_what_they_replaced(
    centre: Centre, window: CentreWindow
) -> None:
    path, _ = conflict(centre)
    listed = window.shown("/decisions")
    assert "Plan" in listed
    assert "Lakshmi Devi" in listed
    assert "rest or refer" in listed or "refer or rest" in listed
    assert "1 needed" in listed
    shown = window.shown(path)
    for text in ("rest", "refer", PERSON_NAME, "HWC000001", "2 Feb 2026", "not yet timed by the hub"):
        assert text in shown, text


@pytest.mark.parametrize(
    ("take", "other", "after"),
    [
        ("mine", "", "rest"),
        ("theirs", "", "refer"),
        ("both", "", {"rest\nrefer", "refer\nrest"}),
        ("other", "wait", "wait"),
    ],
)
def test_either_both_or_another_is_kept_and_can_be_undone(
    centre: Centre, window: CentreWindow, take: str, other: str, after: object
) -> None:
    path, key = conflict(centre)
    kept = centre.store.record(key)
    assert kept is not None
    ids = {held.change.writes["plan"]: name.hex() for name, held in kept.record.live["plan"].items()}
    chosen = {"mine": ids["rest"], "theirs": ids["refer"]}.get(take, take)
    assert window.saved(path, {"take": chosen, "other": other, "note": "by telephone"}) == path
    (value,) = live(centre, key, "plan")
    assert value in after if isinstance(after, set) else value == after
    assert "This has been decided" in window.shown(path)
    assert "Nothing needs a decision" in window.shown("/decisions")
    window.saved(path, {"undo": "yes"})
    assert sorted(map(str, live(centre, key, "plan"))) == ["refer", "rest"]


def test_what_was_decided_lately_is_found_again_to_be_undone(centre: Centre, window: CentreWindow) -> None:
    path, _ = conflict(centre)
    assert "Rampur (HWC000001)" in window.shown(path)
    assert "Decided here" not in window.shown("/decisions")
    window.saved(path, {"take": "other", "other": "wait"})
    patient = f"/patients/{id_text(centre.records('patient')[0].key.record)}"
    window.saved(f"{patient}/edit", {"name": "Lakshmi Devi", "village": "Melur"})
    page = window.get("/decisions").text
    assert "Decided here in the last 30 days Plan , to look at or undo Lakshmi Devi Visit · Somebody" in words(page)
    assert page.count(f'href="{path}"') == 1
    window.saved(path, {"undo": "yes"})
    assert "Decided here" not in window.shown("/decisions")
    window.saved(path, {"take": "other", "other": "wait"})
    centre.clock.now_ms += 31 * DAY_MS
    assert "Decided here" not in centre.window_of().shown("/decisions")


def test_a_decision_replaces_only_what_was_shown(centre: Centre, window: CentreWindow) -> None:
    path, key = conflict(centre)
    page = window.get(path).text
    arrive(centre.store, "case", {"plan": "operate"}, 2, record=key.record, patient=None, now_ms=NOW_MS - 500)
    assert window.post(path, {**hidden(page), "take": "other", "other": "wait"}).status_code == 303
    assert sorted(map(str, live(centre, key, "plan"))) == ["operate", "wait"]


def test_what_cannot_hold_is_refused_and_stays_typed(centre: Centre, window: CentreWindow) -> None:
    path, key = conflict(centre, "duration_days", (3, 5))
    for fields in ({}, {"take": "other", "other": ""}, {"take": "other", "other": "-4"}, {"take": "other", "other": "many"},
                   {"take": "f" * 32}):  # fmt: skip
        assert window.send(path, fields).status_code == 422, fields
    window.saved(path, {"take": "other", "other": "4"})
    assert live(centre, key, "duration_days") == [4]


def test_choices_of_a_list_are_offered_and_no_text(centre: Centre, window: CentreWindow) -> None:
    patient = write(centre.store, PERSON, "patient", {"name": "Lakshmi", "sex": "F"})
    arrive(centre.store, "patient", {"sex": "M"}, 1, record=patient.record, now_ms=NOW_MS - 1_000)
    path = f"/decisions/{exports.conflict_id(patient, 'sex')}"
    page = window.get(path).text
    assert 'value="other:O"' in page
    assert 'name="other"' not in page
    window.saved(path, {"take": "other:O"})
    assert live(centre, patient, "sex") == ["O"]


def test_what_the_hub_could_not_take_is_listed_with_the_reason(centre: Centre, window: CentreWindow) -> None:
    window.register("Lakshmi Devi")
    with begin_write(centre.store.engine) as connection:
        connection.exec_driver_sql("UPDATE change SET state = 1, reason = 'E_NOT_ALLOWED' WHERE kind = 'consent'")
    shown = window.shown("/decisions")
    assert "does not take this kind of record from a centre. [E_NOT_ALLOWED]" in shown
    assert "safe on this computer" in shown
    assert line(window)[0] == "needs_you"


def test_news_that_would_hide_much_is_obeyed_only_by_whoever_says_they_asked(
    centre: Centre, window: CentreWindow
) -> None:
    patient = write(centre.store, PERSON, "patient", {"name": "Lakshmi Devi"})
    with begin_write(centre.store.engine) as connection:
        kept = centre.store.record(patient)
        assert kept is not None
        (held,) = kept.record.changes.values()
        connection.exec_driver_sql(
            "INSERT INTO questioned (position, raw, receipt_ms, origin, tag, at_ms, verdict)"
            " VALUES (9, ?, ?, 0, x'', ?, 'open')",
            (held.change.raw, NOW_MS, NOW_MS),
        )
    assert "1 piece of news would hide records" in window.shown("/decisions")
    assert line(window)[0] == "needs_you"
    window.saved("/news", {"news": "obey"}, page="/decisions")
    assert questioning.questioned(centre.store).count == 1
    window.saved("/news", {"news": "keep"}, page="/decisions")
    assert questioning.questioned(centre.store).refused == 1
    window.saved("/news", {"news": "obey", "sure": "yes"}, page="/decisions")
    assert questioning.questioned(centre.store).refused == 0


# -- cards -------------------------------------------------------------------------------------------------------------


def test_a_card_is_made_once_and_finds_its_patient(centre: Centre, window: CentreWindow) -> None:
    patient = window.register("Lakshmi Devi")
    assert "There is no card yet" in window.shown(f"{patient}/card")
    window.saved(f"{patient}/card", {})
    shown = window.shown(f"{patient}/card")
    letters = re.search(r"(?:[0-9A-Z]{5}-){8}[0-9A-Z]{5}", shown)
    assert letters is not None
    window.saved(f"{patient}/card", {})
    assert letters[0] in window.shown(f"{patient}/card")
    assert "<svg" in window.get(f"{patient}/card").text
    for typed in (letters[0], letters[0].lower().replace("-", " "), patient.rpartition("/")[2]):
        assert window.send("/find", {"typed": typed}, page="/").headers["location"] == patient


def test_another_centres_card_asks_for_the_records(centre: Centre, window: CentreWindow, tmp_path: Path) -> None:
    letters = Card(PatientId(fresh_id()), bytes(10)).text()
    page = window.send("/find", {"typed": letters}, page="/").text
    assert "A card of another centre's patient" in page
    assert window.post("/elsewhere", hidden(page)).headers["location"] == "/elsewhere"
    (asked,) = centre.records("subscription")
    assert "asked; somebody at the hub decides" in window.shown("/elsewhere")
    window.saved(f"/elsewhere/{id_text(asked.key.record)}/end", {}, page="/elsewhere")
    assert "ended" in window.shown("/elsewhere")
    wrong = window.send("/elsewhere", {"letters": letters[:-1] + ("0" if letters[-1] != "0" else "1")})
    assert wrong.status_code == 422
    assert "not the letters of a card" in words(wrong.text)


def test_positions_that_come_back_leave_the_lists_as_they_are(centre: Centre, window: CentreWindow) -> None:
    patient = window.register()
    window.refer(patient, window.visit(patient), urgency="urgent")
    (kept,) = centre.records("referral")
    assert "Saved on this computer" in window.shown("/referrals")
    give_positions(centre.store, kept.key, 3)
    assert "Received by the hub" in window.shown("/referrals")
