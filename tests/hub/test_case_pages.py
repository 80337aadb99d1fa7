"""The case page: what the hub knows, as of when and what differs; hostile text; questions; a patient of others."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hub_server.web import showing
from sync_protocol.documents import id_text
from sync_protocol.schema import KINDS, FieldType
from tests.hub.bare_node import BareNode
from tests.hub.paged_hub import PagedHub
from tests.hub.ward_pages import ANSWER, make, record, refer, send, send_from, sign
from tests.pages.window import Window, hidden, words

HOSTILE = "<script>alert(1)</script>\u202e'\"><img src=x onerror=alert(2)>{{ 1234*5678 }}\u0000=1+1 𐍈"


@pytest.fixture(scope="module")
def hub(module_database_url: str, module_folder: Path) -> PagedHub:
    return make(module_database_url, module_folder)


@pytest.fixture
def node(hub: PagedHub) -> BareNode:
    return hub.world.node("HWC1")


@pytest.fixture
def rao(hub: PagedHub) -> Window:
    return hub.window_of("rao")


def case(window: Window, name: str) -> str:
    answer = window.get(f"/cases/{name}")
    assert answer.status_code == 200, answer.text
    return answer.text


# -- what the hub knows ------------------------------------------------------------------------------------------------


def test_allergies_stand_on_top_and_again_over_the_prescription(hub: PagedHub, node: BareNode, rao: Window) -> None:
    allergic = {"allergies/penicillin": {"present": True, "details": {"text": "Penicillin"}}}
    name, _ = refer(hub, node, allergic | {"allergies_status": "none_known"})
    page = words(case(rao, name))
    assert page.index("Allergies: Penicillin") < page.index("Which drops?")
    assert page.count("Allergies: Penicillin") == 2
    assert "(somebody also wrote that none are known)" in page
    other, _ = refer(hub, node)
    assert "Allergies: Not asked" in words(case(rao, other))


def test_measurements_are_drawn_told_and_marked_where_unusual(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, patient = refer(hub, node)
    pressures = ((120, 80), (60, 40))
    send(
        hub,
        node,
        *(
            node.write(
                "vitals",
                {
                    "blood_pressure": {"systolic_mmhg": high, "diastolic_mmhg": low},
                    "pulse_bpm": 80,
                    "at": at * 86_400_000,
                },
                patient=patient,
            )
            for at, (high, low) in enumerate(pressures, 19_000)
        ),
    )
    page = case(rao, name)
    assert page.count("<svg") == 2
    assert "Course of: Blood pressure" in page
    assert "60/40 mmHg (unusual)" in words(page)
    assert "120/80 mmHg (unusual)" not in words(page)
    assert "style=" not in page


def test_what_could_not_be_measured_is_told_in_its_row_and_does_not_read_as_blank(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, patient = refer(hub, node)
    there = {"present": True}
    writes = {
        "not_measured/blood_pressure": there,
        "not_measured/pulse_bpm": {"present": True, "details": {"text": "no watch"}},
        "not_measured/spo2_percent": {"present": False},
        "not_measured/weight_kg": there,
        "not_measured/grip": there,
        "weight_kg": 51,
        "at": 19_000 * 86_400_000,
    }
    send(hub, node, node.write("vitals", writes, patient=patient))
    page = case(rao, name)
    heads = re.findall(r'<th scope="col"[^>]*>([^<]*)<', page)
    row = [words(cell) for cell in re.findall(r'<td class="nhsuk-table__cell">(.*?)</td>', page, re.DOTALL)]
    assert dict(zip(heads[1:], row, strict=True)) == {
        "Blood pressure": "Could not be measured",
        "Pulse": "Could not be measured: no watch",
        "Weight": "51 kg",
        "Could not be measured": "grip, Weight",
    }


def test_a_history_that_is_cut_says_so_and_is_shown_whole_where_one_asks(
    hub: PagedHub, node: BareNode, rao: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, patient = refer(hub, node)
    visits = [node.write("case", {"history": f"visit {at:03}."}, patient=patient) for at in range(23)]
    pulses = [node.write("vitals", {"pulse_bpm": 60 + at, "at": at}, patient=patient) for at in range(13)]
    send(hub, node, *visits, *pulses)
    page = case(rao, name)
    assert "3 older visits are not shown." in words(page)
    assert "1 older row of measurements is not shown." in words(page)
    assert ("visit 002." in page, "visit 003." in page) == (False, True)
    assert page.count(f'href="/cases/{name}?all=yes"') == 2
    whole = case(rao, f"{name}?all=yes")
    assert "not shown" not in words(whole)
    assert ("visit 000." in whole, "60 /min" in words(whole)) == (True, True)
    assert "?all=yes" not in whole
    monkeypatch.setattr(showing, "MOST_WHOLE", 22)
    assert "1 older visit is not shown." in words(case(rao, f"{name}?all=yes")), "and that is bounded"


def test_days_are_written_as_the_language_writes_them(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, patient = refer(hub, node)
    births = ({"date": "1990-08-15", "precision": "day"}, {"age_years": 35, "said_on": "2026-02-03"})
    rivals = [node.write("patient", {"birth": birth}, record=patient) for birth in births]
    due = node.write("follow_up", {"due": "2026-03-01"}, patient=patient)
    send(hub, node, *rivals, due, node.write("follow_up", {"due": "2026-03-02"}, record=due.record, patient=patient))
    page = words(case(rao, name))
    assert "15 Aug 1990" in page
    assert "about 35 years, said on 3 Feb 2026" in page
    assert re.search(r"Due: [12] Mar 2026 \([^)]*\) · [12] Mar 2026", page)
    assert not re.search(r"\d{4}-\d\d-\d\d", page)


def test_what_was_entered_in_error_or_corrected_is_not_shown(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, patient = refer(hub, node)
    wrong = node.write("vitals", {"pulse_bpm": 171}, patient=patient)
    send(hub, node, wrong)
    assert "171" in words(case(rao, name))
    right = node.write(
        "vitals", {"pulse_bpm": 71, "corrects": wrong.record, "correction_reason": "typed wrong"}, patient=patient
    )
    hidden = node.write("case", {"history": "of somebody else"}, patient=patient)
    send(hub, node, right, hidden)
    assert "of somebody else" in case(rao, name)
    error = {"hidden": True, "reason": "wrong patient", "shown": [bytes(hidden.id)]}
    send(hub, node, node.write("case", {"entered_in_error": error}, record=hidden.record, patient=patient))
    page = words(case(rao, name))
    assert "71 /min" in page
    assert "171" not in page
    assert "of somebody else" not in page


def test_both_values_of_a_field_in_conflict_are_shown(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, patient = refer(hub, node)
    sex = {"sex": "M"}
    send(hub, node, node.write("patient", sex, record=patient))
    page = words(case(rao, name))
    assert "Written differently by two people; the centre decides" in page
    assert re.search(r"Sex: (Female|Male) \([^)]*\) · (Female|Male) \(", page)


def test_follow_ups_attachments_consent_and_other_referrals_are_there(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, patient = refer(hub, node)
    assert "The hub has no consent of this patient." in words(case(rao, name))
    other = node.write(
        "referral", {"specialty": "surgery", "urgency": "routine", "reason": "old lump"}, patient=patient
    )
    send(
        hub,
        node,
        other,
        node.write("follow_up", {"due": "2026-03-01", "done": True, "note": "came late"}, patient=patient),
        node.write(
            "attachment", {"title": "Ear left", "media_type": "image/jpeg", "size_bytes": 40_123}, patient=patient
        ),
        node.write("consent", {"given": True}, patient=patient),
    )
    sign(rao, id_text(other.record), ANSWER | {"advice": "Nothing to cut."})
    page = words(case(rao, name))
    assert "due 1 Mar 2026 · done · came late" in page
    assert "Ear left (image/jpeg, 41 kB) · not fetched: it lies at the centre" in page
    assert "Consent to be treated at a distance: Yes" in page
    assert "Surgery · Answered" in page
    assert "Nothing to cut." in page, "earlier replies"


@pytest.mark.parametrize(
    ("passed_ms", "word"),
    [
        (0, "fresh"),
        (showing.STALE_MS, "old"),
        (showing.VERY_STALE_MS, "very_old"),
        (None, "very_old"),
    ],
)
def test_how_old_the_hubs_knowledge_is_grows_in_words(passed_ms: int | None, word: str) -> None:
    now_ms = 10**13
    assert showing.staleness(None if passed_ms is None else now_ms - passed_ms, now_ms) == word


def test_the_page_says_as_of_when(hub: PagedHub, node: BareNode) -> None:
    name, _ = refer(hub, node)
    page = words(case(hub.window_of("rao"), name))
    assert re.search(r"As of the centre's last sync, .* ago\.", page)
    assert "Phone the centre" not in page
    hub.world.now_ms += showing.VERY_STALE_MS
    page = words(case(hub.window_of("rao"), name))
    assert "As of the centre's last sync, 5 days ago. What happened since is not known here." in page


# -- what came since ---------------------------------------------------------------------------------------------------


def test_what_came_since_the_page_was_opened_is_told(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, patient = refer(hub, node)
    page = case(rao, name)
    asked = re.search(rf"/cases/{name}/news\?seen=\d+", page)
    assert asked is not None
    assert "Something came" not in rao.get(asked[0]).text
    send(hub, node, node.write("patient", {"allergies/penicillin": {"present": True}}, record=patient))
    assert "Something came since you opened this page." in words(rao.get(asked[0]).text)
    fields = {"csrf": rao.csrf, "positions": _positions(page), "advice": "Typed before."}
    again = rao.post(f"/cases/{name}/reply", fields)
    assert again.status_code == 422
    assert "Changed since you opened this page Patient, Allergy: penicillin: yes" in words(again.text)
    assert "Typed before." in again.text
    assert _positions(again.text) != fields["positions"], "now the doctor was told"


def _positions(page: str) -> str:
    return str(hidden(page)["positions"])


def test_a_doctors_own_question_is_no_news(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, _ = refer(hub, node)
    page = case(rao, name)
    rao.send(f"/cases/{name}/ask", {"text": "Since when?"}, page=f"/cases/{name}")
    again = rao.post(f"/cases/{name}/reply", {"csrf": rao.csrf, "positions": _positions(page)})
    assert "Changed since" not in again.text


# -- messages ----------------------------------------------------------------------------------------------------------


def test_a_question_and_its_answer_stand_in_order(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, patient = refer(hub, node)
    empty = rao.send(f"/cases/{name}/ask", {"text": " "}, page=f"/cases/{name}")
    assert (empty.status_code, "Write what you want to ask" in empty.text) == (422, True)
    assert rao.send(f"/cases/{name}/ask", {"text": "Since when?"}, page=f"/cases/{name}").status_code == 303
    told = {"referral": bytes(record(name)), "text": "Since Tuesday."}
    send(hub, node, node.write("message", told, patient=patient))
    page = words(case(rao, name))
    assert page.index("Since when?") < page.index("Since Tuesday.")


def test_a_question_that_is_sent_twice_is_written_once_and_another_of_the_same_page_too(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    fields = hidden(case(rao, name)) | {"text": "Since when, exactly?"}
    for _ in range(2):
        assert rao.post(f"/cases/{name}/ask", fields).status_code == 303
    assert words(case(rao, name)).count("Since when, exactly?") == 1
    hub.world.now_ms += 1
    assert rao.post(f"/cases/{name}/ask", fields | {"text": "And the other ear?"}).status_code == 303
    assert "And the other ear?" in case(rao, name)
    again = hidden(case(rao, name)) | {"text": "Since when, exactly?"}
    assert rao.post(f"/cases/{name}/ask", again).status_code == 303
    assert words(case(rao, name)).count("Since when, exactly?") == 2, "asked again, from another page"


def test_a_question_that_is_being_typed_is_kept_beside_the_draft_of_the_reply(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    page = f"/cases/{name}"
    for typed in ("Since", "Since when?"):
        assert "Draft kept" in rao.send(f"{page}/ask/draft", {"text": typed}, page=page).text
    assert "Since when?" in case(rao, name)
    rao.send(f"{page}/draft", {"advice": "Half written"}, page=page)
    again = case(rao, name)
    assert "Since when?" in again and "Half written" in again
    rao.send(f"{page}/ask", {"text": "Since when?"}, page=page)
    after = case(rao, name)
    assert after.count("Since when?") == 1, "it was sent, and is typed no more"
    assert "Half written" in after
    rao.send(f"{page}/ask/draft", {"text": "And the other ear?"}, page=page)
    rao.saved(f"{page}/draft/drop", {}, page=page)
    assert "other ear" not in case(rao, name)


def test_a_question_alone_is_no_draft_of_a_correction(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, _ = refer(hub, node)
    assert sign(rao, name, ANSWER | {"advice": "Rest well"}).status_code == 303
    page = f"/cases/{name}"
    rao.send(f"{page}/ask/draft", {"text": "Better now?"}, page=page)
    shown = case(rao, name)
    assert "Better now?" in shown
    assert re.search(r'name="advice"[^>]*>Rest well<', shown)


# -- hostile text ------------------------------------------------------------------------------------------------------


def hostile(kind: str) -> dict[str, Any]:
    """Every field of a kind that holds text, with what should harm nobody."""
    found: dict[str, Any] = {}
    for field in KINDS[kind].fields.values():
        if field.type is FieldType.TEXT:
            found[field.name] = HOSTILE[: field.max_chars]
        elif field.type is FieldType.ELEMENT:
            found[f"{field.name}/{HOSTILE[:30]}"] = {"present": True, "details": {"text": HOSTILE}}
        elif field.type is FieldType.CODED:
            found[field.name] = {"system": HOSTILE, "code": HOSTILE, "text": HOSTILE}
    return {name.replace("\u0000", ""): value for name, value in found.items()}


def test_hostile_text_in_every_field_is_inert(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, patient = refer(hub, node, hostile("patient"), **hostile("referral") | {"specialty": "ent"})
    changes = [
        node.write(kind, hostile(kind) | ({"referral": about} if kind == "message" else {}), patient=patient)
        for about in [bytes.fromhex(name.replace("-", ""))]
        for kind in ("case", "follow_up", "attachment", "consent", "message", "vitals")
    ]
    rivals = [node.write("patient", {"name": f"{HOSTILE}{number}"}, record=patient) for number in (1, 2)]
    send(hub, node, *changes, *rivals)
    sign(rao, name, ANSWER | {"advice": HOSTILE, "diagnosis": HOSTILE, "refer_onward": HOSTILE})
    for path in (f"/cases/{name}", "/", "/queue/rows"):
        page = rao.get(path).text
        read = Elements()
        read.feed(page)
        assert "alert(1)" in read.text or path != f"/cases/{name}"
        assert not [one for one in (read.text, *read.attributes) if "\u202e" in one and one not in read.typed]
        assert [name for name in read.names if name.startswith("on") or name == "style"] == []
        assert read.scripts <= 2
        assert read.images == 0
        assert "7006652" not in read.text


class Elements(HTMLParser):
    """What a browser makes of a page: its text, its attributes, what stands in fields, and what would run."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.scripts, self.images = "", 0, 0
        self.names: list[str] = []
        self.attributes: list[str] = []
        self.typed: list[str] = []
        self._area = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.images += tag == "img"
        self._area = tag == "textarea"
        self.names += [name for name, _ in attrs]
        self.attributes += [value or "" for _, value in attrs]
        self.typed += [value or "" for name, value in attrs if tag == "input" and name == "value"]

    def handle_endtag(self, tag: str) -> None:
        self._area = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._area else data


# -- a patient of others -----------------------------------------------------------------------------------------------


def test_a_doctor_of_another_specialty_is_refused_and_may_open_it_with_a_reason(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    skin, officer = hub.window_of("skin"), hub.window_of("officer")
    refused = skin.get(f"/cases/{name}")
    assert (refused.status_code, "E_NOT_YOURS" in refused.text) == (403, True)
    assert "Asha" not in refused.text
    empty = send_from(skin, refused.text, f"/cases/{name}/open", {"reason": ""})
    assert (empty.status_code, "Say why you have to see this patient" in empty.text) == (422, True)
    opened = send_from(skin, refused.text, f"/cases/{name}/open", {"reason": "Her sister rang, nobody on duty."})
    assert opened.status_code == 303
    page = words(case(skin, name))
    assert "Asha Devi" in page
    assert "You opened this patient of others with a reason" in page
    assert sign(skin, name, ANSWER).status_code == 303
    waiting = officer.get("/openings").text
    assert "Her sister rang, nobody on duty." in waiting
    assert "Asha" not in waiting
    reviewing = re.search(r"/openings/[0-9a-f-]{36}/reviewed", waiting)
    assert reviewing is not None
    assert send_from(officer, waiting, reviewing[0], {}).status_code == 303
    after = words(officer.get("/openings").text)
    assert "Nothing waits for a review." in after
    assert "Reviewed by Name of officer" in after


def test_the_reason_for_opening_a_case_is_kept_while_it_is_typed_and_until_it_is_given(
    hub: PagedHub, node: BareNode
) -> None:
    name, _ = refer(hub, node)
    page, typed = f"/cases/{name}", "Her sister rang, nobody"
    skin, other = hub.window_of("skin"), hub.window_of("officer")
    kept = send_from(skin, skin.get(page).text, f"{page}/open/draft", {"reason": typed})
    assert (kept.status_code, "Draft kept" in kept.text) == (200, True)
    skin = hub.window_of("skin")  # signed in anew
    again = skin.get(page)
    assert (again.status_code, f">{typed}</textarea>" in again.text) == (403, True)
    assert typed not in other.get(page).text
    empty = send_from(skin, again.text, f"{page}/open", {"reason": ""})
    assert (empty.status_code, typed in empty.text) == (422, False)
    assert send_from(skin, again.text, f"{page}/open", {"reason": f"{typed} on duty."}).status_code == 303
    assert typed not in case(skin, name)
    with hub.world.database.transaction() as connection:
        assert connection.execute("SELECT 1 FROM draft WHERE referral = %s", (record(name),)).fetchone() is None
