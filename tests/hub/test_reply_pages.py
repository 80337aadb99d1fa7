"""The reply's form: refusals beside their lines with nothing lost, allergies, drafts, the second factor, corrections."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hub_server import charts
from hub_server.claim_locks import DEFAULT_LAPSE_MS
from hub_server.sign_in.sessions import FRESH_MS
from tests.hub.bare_node import BareNode
from tests.hub.paged_hub import PagedHub
from tests.hub.ward_pages import ANSWER, line, make, record, refer, send, sign
from tests.pages.window import Window, field_value, hidden, words

PENICILLIN = {"allergies/penicillin": {"present": True, "details": {"text": "Penicillin, lips swelled"}}}


@pytest.fixture(scope="module")
def hub(module_database_url: str, module_folder: Path) -> PagedHub:
    return make(module_database_url, module_folder)


@pytest.fixture
def node(hub: PagedHub) -> BareNode:
    return hub.world.node("HWC1")


@pytest.fixture
def rao(hub: PagedHub) -> Window:
    return hub.window_of("rao")


def beside(page: str, field: str) -> str:
    """What is said of a field, beside it; empty for nothing."""
    found = re.search(rf'id="{field}-error"[^>]*>(.*?)</span>\s*<(?:input|textarea|div)', page, re.DOTALL)
    return words(found[1]) if found else ""


def value(page: str, field: str) -> str:
    found = re.search(rf'<input[^>]*id="{field}"[^>]*value="([^"]*)"', page)
    return found[1] if found else ""


def place(page: str, number: int) -> str:
    """What the rules say to a line, in its place beside it."""
    found = re.search(rf'<div id="objected-{number}"[^>]*>(.*?)</div>', page, re.DOTALL)
    return words(found[1]) if found else ""


def readings(hub: PagedHub, name: str) -> int:
    with hub.world.database.transaction() as connection:
        of_this = "SELECT count(*) FROM audit WHERE verb = 'read referral' AND subject = %s"
        return int(connection.execute(of_this, (record(name),)).fetchall()[0][0])


def kept(hub: PagedHub) -> int:
    with hub.world.database.transaction() as connection:
        return int(connection.execute("SELECT count(*) FROM draft").fetchall()[0][0])


# -- the rules ---------------------------------------------------------------------------------------------------------


def test_each_refusal_stands_beside_its_line_and_nothing_typed_is_lost(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    lines = (
        line(1, "ORS") | line(3, "Alprazolam 0.5 mg") | line(4, "Enalapril", advice="at night") | line(5, "Zzyzxine")
    )
    answer = sign(rao, name, ANSWER | lines | {"advice": "Keep this text.", "follow_up_days": "3"})
    assert answer.status_code == 422
    page = answer.text
    assert beside(page, "drug_1") == ""
    assert "Alprazolam cannot be prescribed by telemedicine: it is a psychotropic substance" in beside(page, "drug_3")
    assert "[E_DRUG_PROHIBITED]" in beside(page, "drug_3")
    assert "needs video" in beside(page, "drug_4")
    assert "“Zzyzxine” is not in the table" in beside(page, "drug_5")
    assert 'href="#drug_3"' in page, "and in the summary, with a link"
    assert [value(page, f"drug_{number}") for number in (1, 3, 4, 5)] == [
        "ORS",
        "Alprazolam 0.5 mg",
        "Enalapril",
        "Zzyzxine",
    ]
    assert "Keep this text." in page
    assert (value(page, "advice_4"), value(page, "follow_up_days")) == ("at night", "3")
    assert sign(rao, name, ANSWER | line(1, "ORS") | line(4, "Enalapril") | {"mode": "video"}).status_code == 303


def test_a_drug_that_the_patient_is_allergic_to_asks_for_a_reason(hub: PagedHub, node: BareNode, rao: Window) -> None:
    allergic = {"allergies/penicillin": {"present": True, "details": {"text": "Penicillin, lips swelled"}}}
    name, _ = refer(hub, node, allergic)
    fields = ANSWER | line(2, "Amoxicillin 500 mg") | {"mode": "video"}
    refused = sign(rao, name, fields)
    assert refused.status_code == 422
    said = beside(refused.text, "allergy_reason_2")
    assert "The patient is allergic to “Penicillin, lips swelled”, and Amoxicillin is of that kind." in said
    assert "[E_ALLERGY]" in said
    assert "allergy_reason_1" not in refused.text
    assert sign(rao, name, fields | {"allergy_reason_2": "Tolerated it in May"}).status_code == 303
    assert "In spite of the allergy: Tolerated it in May" in rao.shown(f"/cases/{name}")


def test_what_the_rules_object_to_is_told_together_with_all_other_errors(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node, PENICILLIN)
    fields = line(2, "Amoxicillin") | line(4, "Alprazolam", days="many") | {"first": "yes"}
    refused = sign(rao, name, fields)
    assert refused.status_code == 422
    assert "Choose how you consulted" in beside(refused.text, "mode")
    assert "must be a number" in beside(refused.text, "days_4")
    assert "[E_DRUG_NEEDS_VIDEO]" in beside(refused.text, "drug_2")
    assert "[E_ALLERGY]" in beside(refused.text, "allergy_reason_2")
    assert "[E_DRUG_PROHIBITED]" in beside(refused.text, "drug_4")
    assert place(refused.text, 2) == place(refused.text, 4) == "", "and not once more in the places beside the lines"


def test_a_draft_is_answered_with_what_the_rules_say_to_each_line_once(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node, PENICILLIN)
    path, page = f"/cases/{name}/draft", f"/cases/{name}"
    typed = {"drug_2": "Amoxicillin", "drug_3": "Alprax", "mode": "video"}
    first = rao.send(path, typed, page=page).text
    assert "Draft kept at" in first
    assert "The patient is allergic to “Penicillin, lips swelled”, and Amoxicillin is of that kind." in place(first, 2)
    assert "[E_DRUG_PROHIBITED]" in place(first, 3)
    assert 'id="objected-1"' not in first
    assert 'hx-swap-oob="innerHTML"' in first
    assert 'name="allergy_reason_2"' in first
    assert 'name="allergy_reason_3"' not in first
    typed |= {"told": field_value(first, "told"), "allergy_reason_2": ""}
    assert "objected" not in rao.send(path, typed | {"advice": "More"}, page=page).text, "nothing is read out twice"
    mended = rao.send(path, typed | {"drug_3": "ORS"}, page=page).text
    assert (place(mended, 3), 'id="objected-3"' in mended) == ("", True)
    assert 'id="objected-2"' not in mended
    assert 'name="allergy_reason_2"' not in mended, "what is being typed into it stays"
    typed |= {"told": field_value(mended, "told"), "allergy_reason_2": "Tolerated it in May", "drug_3": "ORS"}
    reasoned = rao.send(path, typed, page=page).text
    assert (place(reasoned, 2), 'id="objected-2"' in reasoned) == ("", True)


def test_what_is_read_for_a_draft_is_noted_and_only_where_a_drug_changed(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node, PENICILLIN)
    page = rao.get(f"/cases/{name}").text
    fields = {**hidden(page), "drug_1": "Amoxicillin"}
    before = readings(hub, name)
    first = rao.post(f"/cases/{name}/draft", fields).text
    assert readings(hub, name) == before + 1
    rao.post(f"/cases/{name}/draft", fields | {"told": field_value(first, "told"), "advice": "More"})
    rao.post(f"/cases/{name}/draft", {**hidden(page), "advice": "More"})
    assert readings(hub, name) == before + 1


@pytest.mark.parametrize("button", ["draft", "more"])
def test_without_scripts_the_rules_stand_beside_the_lines_when_the_form_is_shown_again(
    hub: PagedHub, node: BareNode, rao: Window, button: str
) -> None:
    name, _ = refer(hub, node, PENICILLIN)
    answer = sign(rao, name, {"drug_1": "ORS", "drug_2": "Amoxicillin", "mode": "text", button: "yes"})
    page = answer.text if button == "more" else rao.get(answer.headers["location"]).text
    assert place(page, 1) == ""
    assert "[E_ALLERGY]" in place(page, 2)
    assert "[E_DRUG_NEEDS_VIDEO]" in place(page, 2)
    assert 'name="allergy_reason_2"' in page
    assert "There is a problem" not in page, "nothing is wrong with a form that is not finished"


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"first": "yes", "advice": "x"}, "mode", "Choose how you consulted"),
        ({"mode": "text", "advice": "x"}, "first", "Say whether this is a first consultation"),
        ({"mode": "text", "first": "yes"}, "advice", "Write a diagnosis, advice"),
        (ANSWER | {"drug_1": "ORS"}, "dose_1", "Line 1 needs a drug, a dose and days"),
        (ANSWER | line(1, "ORS", days="many"), "days_1", "must be a number"),
        (ANSWER | {"follow_up_days": "99999"}, "follow_up_days", "must be from"),
        (ANSWER | {"mode": "telepathy"}, "mode", "must be one of"),
    ],
)
def test_what_is_missing_or_wrong_is_told_beside_its_field(
    hub: PagedHub, node: BareNode, rao: Window, fields: dict[str, str], field: str, said: str
) -> None:
    name, _ = refer(hub, node)
    answer = sign(rao, name, fields)
    assert answer.status_code == 422
    assert said in beside(answer.text, field)


def test_more_lines_come_without_a_script_and_keep_what_is_typed(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, _ = refer(hub, node)
    shown = rao.get(f"/cases/{name}").text
    assert 'id="drug_3"' in shown
    assert 'id="drug_4"' not in shown
    more = sign(rao, name, line(1, "ORS") | {"more": "yes"})
    assert more.status_code == 200
    assert 'id="drug_6"' in more.text
    assert value(more.text, "drug_1") == "ORS"


# -- signing -----------------------------------------------------------------------------------------------------------


def test_signing_asks_for_the_second_factor_when_it_was_given_long_ago(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    hub.world.now_ms += FRESH_MS + 1_000
    assert 'id="code"' in rao.get(f"/cases/{name}").text
    without = sign(rao, name, ANSWER)
    assert "Enter the code" in beside(without.text, "code")
    wrong = sign(rao, name, ANSWER | {"code": "000000"})
    assert (wrong.status_code, "000000" in wrong.text) == (422, False)
    assert sign(rao, name, ANSWER | {"code": hub.people["rao"].code()}).status_code == 303


def test_a_signed_answer_is_corrected_by_a_new_one_that_says_why(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, _ = refer(hub, node)
    assert sign(rao, name, ANSWER | line(1, "ORS") | {"advice": "Rest."}).status_code == 303
    page = rao.get(f"/cases/{name}").text
    assert (value(page, "drug_1"), ">Rest.</textarea>" in page) == ("ORS", True), "what was said stands in the form"
    silent = sign(rao, name, ANSWER | line(1, "ORS") | {"advice": "Rest a week."})
    assert "Say why the answer is corrected" in beside(silent.text, "correction_reason")
    better = ANSWER | {"advice": "Rest a week.", "correction_reason": "too short"}
    assert sign(rao, name, better).status_code == 303
    told = rao.shown(f"/cases/{name}")
    assert "corrects: too short" in told
    assert "Advice: Rest." in told, "the first one is not gone"
    assert "Advice: Rest a week." in told


def test_enter_in_a_field_keeps_the_draft_and_signing_is_a_button_of_its_own(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    page = rao.get(f"/cases/{name}").text
    form = page[page.index(f'action="/cases/{name}/reply"') :]
    first = re.search(r"<button[^>]*>", form)  # what a browser presses for Enter
    assert first is not None
    assert 'name="draft" value="yes"' in first[0]
    assert re.search(r"<button(?![^>]* name=)[^>]*>\s*Sign and send", form)


# -- what cannot be sent any more --------------------------------------------------------------------------------------

WRITTEN = ANSWER | line(1, "ORS", days="3") | {"advice": "Boil the water.", "diagnosis": "Dysentery", "mode": "audio"}


def take_from(hub: PagedHub, rao: Window, name: str) -> None:
    """Rao claims the case, does nothing for long, and Nair claims it."""
    assert rao.send(f"/cases/{name}/claim", {}, page=f"/cases/{name}").status_code == 303
    hub.world.now_ms += DEFAULT_LAPSE_MS
    nair = hub.window_of("nair")
    assert nair.send(f"/cases/{name}/claim", {}, page=f"/cases/{name}").status_code == 303


def test_a_reply_that_another_doctors_claim_keeps_back_is_shown_and_kept(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    fields = hidden(rao.get(f"/cases/{name}").text) | WRITTEN
    take_from(hub, rao, name)
    rao = hub.window_of("rao")  # who worked on others meanwhile
    refused = rao.post(f"/cases/{name}/reply", fields | {"csrf": rao.csrf})
    page = words(refused.text)
    assert refused.status_code == 422
    assert "What you wrote was not sent Another doctor has this referral. Draft kept at" in page
    assert "Diagnosis: Dysentery Advice: Boil the water. Line 1: ORS, 1-0-1, 3 days" in page
    assert 'href="#form"' not in refused.text
    assert "[E_CLAIMED]" in page
    later = rao.shown(f"/cases/{name}")
    assert "What you wrote was not sent" in later
    assert "Boil the water." in later
    assert "Boil the water." not in hub.window_of("nair").shown(f"/cases/{name}")
    taken = {"take_over": "yes"}
    assert rao.send(f"/cases/{name}/claim", taken, page=f"/cases/{name}").status_code == 303
    assert value(rao.get(f"/cases/{name}").text, "drug_1") == "ORS", "and goes on in the form"


@pytest.mark.parametrize(
    ("ended", "said"),
    [("withdrawn", "The centre withdrew this referral."), ("closed", "The centre closed this referral.")],
)
def test_a_reply_to_what_the_centre_ended_meanwhile_is_shown_and_kept(
    hub: PagedHub, node: BareNode, rao: Window, ended: str, said: str
) -> None:
    name, patient = refer(hub, node)
    fields = hidden(rao.get(f"/cases/{name}").text) | WRITTEN
    if ended == "closed":
        close(hub, node, name, patient)
    else:
        withdrawn = {"withdrawn": {"withdrawn": True}}
        send(hub, node, node.write("referral", withdrawn, record=record(name), patient=patient))
    refused = rao.post(f"/cases/{name}/reply", fields)
    assert refused.status_code == 422
    assert f"What you wrote was not sent {said} Draft kept at" in words(refused.text)
    assert "Line 1: ORS, 1-0-1, 3 days" in rao.shown(f"/cases/{name}")


def close(hub: PagedHub, node: BareNode, name: str, patient: bytes) -> None:
    """The centre has read what counts as the answer, where there is one, and says what became of the patient."""
    with hub.world.database.transaction() as connection:
        answer = charts.chart(connection, hub.world.store, record(name)).progress.reply
    told = {"referral": record(name), "outcome": "recovered"} | ({"reply": answer, "seen": True} if answer else {})
    send(hub, node, node.write("acknowledgement", told, patient=patient))


def test_a_reply_to_a_case_that_is_not_ones_own_any_more_is_shown_with_nothing_of_the_patient(
    hub: PagedHub, node: BareNode
) -> None:
    name, _ = refer(hub, node)
    skin = hub.window_of("skin")
    opened = {"csrf": skin.csrf, "reason": "Nobody on duty."}
    assert skin.post(f"/cases/{name}/open", opened).status_code == 303
    fields = hidden(skin.get(f"/cases/{name}").text) | WRITTEN
    hub.world.now_ms += 86_400_000
    again = hub.window_of("skin")
    refused = again.post(f"/cases/{name}/reply", fields | {"csrf": again.csrf})
    assert refused.status_code == 403
    assert "This case is not one of yours any more." in words(refused.text)
    assert "Boil the water." in refused.text
    assert "Asha" not in refused.text


def test_who_answered_corrects_the_answer_and_writes_a_message_also_when_the_centre_closed_the_case(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, patient = refer(hub, node)
    assert sign(rao, name, ANSWER | line(1, "ORS") | {"advice": "Ten sachets a day."}).status_code == 303
    close(hub, node, name, patient)
    page = rao.shown(f"/cases/{name}")
    assert "Closed" in page
    assert "Correct the answer" in page
    better = ANSWER | {"advice": "One sachet a day.", "correction_reason": "a slip of the pen"}
    assert sign(rao, name, better).status_code == 303
    asked = rao.send(f"/cases/{name}/ask", {"text": "Please call her at once."}, page=f"/cases/{name}")
    assert asked.status_code == 303
    after = rao.shown(f"/cases/{name}")
    assert "corrects: a slip of the pen" in after
    assert "Please call her at once." in after
    assert "Send the question" in after
    assert "Closed" not in after, "what was corrected is to be read"
    close(hub, node, name, patient)
    others = hub.window_of("nair").shown(f"/cases/{name}")
    assert "Closed" in others
    assert "Correct the answer" not in others
    assert "Send the question" not in others
    assert "What you wrote was not sent" not in others


# -- drafts ------------------------------------------------------------------------------------------------------------


def test_what_is_typed_is_kept_while_it_is_typed_and_found_on_another_machine(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    typed = line(1, "ORS") | line(4, "Zinc") | {"advice": "Half written", "mode": "audio", "code": "123456"}
    answer = rao.send(f"/cases/{name}/draft", typed, page=f"/cases/{name}")
    assert (answer.status_code, "Draft kept at" in answer.text) == (200, True)
    rao.post("/sign-out", {"csrf": rao.csrf})
    other = hub.window_of("rao")
    page = other.get(f"/cases/{name}").text
    assert "Half written" in page
    assert (value(page, "drug_1"), value(page, "drug_4")) == ("ORS", "Zinc")
    assert re.search(r'value="audio"[^>]*checked', page)
    assert "123456" not in page
    assert "your draft" in other.shown("/")
    assert "Half written" not in hub.window_of("nair").get(f"/cases/{name}").text


def test_a_draft_is_kept_by_a_button_without_scripts_and_thrown_away(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    assert sign(rao, name, {"advice": "Half written", "draft": "yes"}).headers["location"] == f"/cases/{name}"
    assert "Half written" in rao.get(f"/cases/{name}").text
    rao.saved(f"/cases/{name}/draft/drop", {}, page=f"/cases/{name}")
    assert "Half written" not in rao.get(f"/cases/{name}").text


def test_a_draft_is_gone_once_the_reply_is_signed(hub: PagedHub, node: BareNode, rao: Window) -> None:
    name, _ = refer(hub, node)
    before = kept(hub)
    rao.send(f"/cases/{name}/draft", {"advice": "Half written"}, page=f"/cases/{name}")
    assert kept(hub) == before + 1
    assert sign(rao, name, ANSWER).status_code == 303
    assert kept(hub) == before


def test_what_was_typed_before_the_answer_and_comes_after_it_is_no_draft_of_its_correction(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    late = {**hidden(rao.get(f"/cases/{name}").text), "advice": "Half wri"}
    assert sign(rao, name, ANSWER).status_code == 303
    before = kept(hub)
    assert rao.post(f"/cases/{name}/draft", late).status_code == 204
    assert kept(hub) == before
    assert "Fluids and rest.</textarea>" in rao.get(f"/cases/{name}").text
    of_correction = {**hidden(rao.get(f"/cases/{name}").text), "advice": "Rest a week."}
    assert rao.post(f"/cases/{name}/draft", of_correction).status_code == 200
    assert "Rest a week.</textarea>" in rao.get(f"/cases/{name}").text
    assert sign(rao, name, ANSWER | {"advice": "Rest.", "correction_reason": "shorter"}).status_code == 303
    assert rao.post(f"/cases/{name}/draft", of_correction).status_code == 204
    assert kept(hub) == before


def test_a_draft_that_is_too_long_is_refused_and_the_form_stays_as_it_is(
    hub: PagedHub, node: BareNode, rao: Window
) -> None:
    name, _ = refer(hub, node)
    long = {f"advice_{number}": "a" * 4_000 for number in range(1, 41)}
    answer = rao.send(f"/cases/{name}/draft", long, page=f"/cases/{name}")
    assert (answer.status_code, "E_DRAFT_TOO_LARGE" in answer.text) == (413, True)
    assert record(name) not in {bytes(row) for row in _drafts(hub)}


def _drafts(hub: PagedHub) -> list[bytes]:
    with hub.world.database.transaction() as connection:
        return [bytes(row[0]) for row in connection.execute("SELECT referral FROM draft").fetchall()]
