"""Entering at the centre in a real browser: without scripts; with them, nothing that was typed is lost; and a decision."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Locator, expect

from tests.browser.conftest import Opening
from tests.browser.stage import CHO, FACILITY, PASSPHRASE, SECOND_CHO, Stage
from tests.browser.walking import Walk
from tests.pages.window import name_of

LONG_MS = 120_000


def test_all_of_it_works_without_scripts(stage: Stage, opening: Opening) -> None:
    page = opening(scripts=False).page
    page.goto(stage.node_url)
    page.get_by_label(CHO).check()
    page.get_by_label("Passphrase").fill(PASSPHRASE)
    page.get_by_role("button", name="Unlock").click()
    page.locator("#typed").fill("Parvati Oraon")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("button", name="Register as new").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Parvati Oraon")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".nhsuk-error-summary")).to_contain_text("Choose the patient's sex")
    page.get_by_role("link", name="Choose the patient's sex").click()
    assert page.url.endswith("#sex")
    expect(page.get_by_label("Name", exact=True)).to_have_value("Parvati Oraon")
    page.get_by_label("Female").check()
    page.get_by_label("Age in years").fill("28")
    page.get_by_label("Yes").check()
    page.get_by_role("button", name="Save and begin the visit").last.click()
    page.get_by_label("Complaints").fill("headache")
    page.get_by_label("Systolic pressure").fill("60")
    page.get_by_label("Diastolic pressure").fill("40")
    page.get_by_role("button", name="Save and refer").click()
    expect(page.get_by_role("heading", name="Unusual values: are they right?")).to_be_visible()
    page.get_by_role("button", name="They are right: save").click()
    page.get_by_label("Specialty", exact=True).select_option("general-medicine")
    page.get_by_label("Urgent").check()
    page.get_by_label("Reason").fill("Faint since the morning")
    page.get_by_role("button", name="Save the referral").click()
    expect(page.locator("h1")).to_have_text("Referral of Parvati Oraon")
    page.get_by_role("button", name="Lock").click()
    expect(page.get_by_role("heading", name="Unlock")).to_be_visible()


def fill_and_keep(field: Locator, text: str) -> None:
    """Wait until the page has sent what is typed: when the field is left, or before on a slow machine."""
    with field.page.expect_response(re.compile("/draft$")):
        field.fill(text)
        field.press("Tab")


def test_an_entry_under_way_survives_a_reload_and_a_lock(stage: Stage, opening: Opening) -> None:
    centre = opening()
    page = centre.page
    centre.unlock(stage.node_url, CHO)
    patient = Walk(page, stage.node_url).register("Geeta Bai")
    visit = f"{stage.node_url}{patient}/visit"
    page.goto(visit)
    fill_and_keep(page.get_by_label("Complaints"), "fever")
    page.reload()
    expect(page.get_by_label("Complaints")).to_have_value("fever")
    page.get_by_label("History").fill("since yesterday")
    page.get_by_role("button", name="Lock").click()
    page.get_by_label("Passphrase").wait_for()
    centre.unlock(stage.node_url, CHO)
    page.goto(stage.node_url)
    page.get_by_role("link", name=re.compile("go on")).first.click()
    expect(page.get_by_label("Complaints")).to_have_value("fever")
    expect(page.get_by_label("History")).to_have_value("since yesterday")
    page.get_by_role("button", name="Save", exact=True).last.click()
    expect(page.locator("h1")).to_have_text("Geeta Bai")
    assert page.evaluate("Object.keys(localStorage).length") == 0


def test_whatever_leads_away_from_an_entry_leaves_it_kept(stage: Stage, opening: Opening) -> None:
    centre = opening()
    page = centre.page
    centre.unlock(stage.node_url, CHO)
    patient = Walk(page, stage.node_url).register("Sunita Bai")
    visit = f"{stage.node_url}{patient}/visit"
    plan, written = page.get_by_label("Plan"), ""

    def write(more: str) -> None:
        nonlocal written
        written += more
        plan.press("End")
        plan.press_sequentially(more)

    page.goto(visit)
    write("a link,")
    page.get_by_role("link", name="Back to the patient").click()
    page.get_by_role("button", name="New visit").click()
    expect(plan).to_have_value(written)
    write(" a button,")
    page.get_by_role("button", name="हिन्दी").click()
    expect(page.locator("html")).to_have_attribute("lang", "hi")
    page.get_by_role("button", name="English").click()
    expect(plan).to_have_value(written)
    write(" the unlocking,")
    page.request.post(f"{stage.node_url}/lock", form={"csrf": page.locator("[name=csrf]").first.input_value()})
    page.evaluate("htmx.ajax('GET', '/sync/line', {swap: 'none'})")
    page.get_by_label(CHO).check()
    page.get_by_label("Passphrase").fill(PASSPHRASE)
    page.keyboard.press("Enter")
    expect(page).to_have_url(visit)
    expect(plan).to_have_value(written)
    write(" a closed window.")
    other = page.context.new_page()
    page.close()
    for _ in range(LONG_MS // 100):
        other.goto(visit)
        if other.get_by_label("Plan").input_value() == written:
            break
        other.wait_for_timeout(100)
    expect(other.get_by_label("Plan")).to_have_value(written)
    other.get_by_role("button", name="Save", exact=True).last.click()
    expect(other.get_by_text(f"Plan: {written}")).to_be_visible()
    other.goto(visit)
    expect(other.get_by_label("Plan")).to_have_value("")


def test_two_who_wrote_unseen_by_each_other_and_one_who_decides(stage: Stage, opening: Opening) -> None:
    centre = opening()
    page = centre.page
    centre.unlock(stage.node_url, CHO)
    walk = Walk(page, stage.node_url)
    patient = walk.register("Kamala Rao")
    case = walk.visit(patient, plan="rest")
    second = stage.second_node()
    for _ in range(LONG_MS // 1_000):
        walk.send("/sync/now", {}, at="/sync")
        second.run("sync")
        if len(second.lines("export", "--patient", name_of(patient))) >= 2:
            break
    line = {"kind": "case", "id": case, "patient": name_of(patient), "base": "shown", "fields": {"plan": "refer"}}
    second.run("import", "-", given=json.dumps(line) + "\n")
    page.goto(f"{stage.node_url}{patient}/cases/{case}/edit")
    page.get_by_label("Plan").fill("rest and drink")
    page.get_by_role("button", name="Save", exact=True).click()
    second.run("sync")
    page.goto(f"{stage.node_url}/decisions")
    for _ in range(LONG_MS // 1_000):
        if page.get_by_role("link", name="Plan").count():
            break
        walk.send("/sync/now", {}, at="/sync")
        page.wait_for_timeout(1_000)
        page.reload()
    centre.look("centre-decisions")
    page.get_by_role("link", name="Plan").click()
    for text in ("rest and drink", "refer", CHO, SECOND_CHO, FACILITY, "replaced: rest"):
        expect(page.get_by_text(text).first).to_be_visible()
    centre.look("centre-decision")
    page.get_by_role("radio", name="refer").check()
    page.get_by_label("Note (why)").fill("The doctor said so")
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_text("This has been decided.")).to_be_visible()
    centre.look("centre-decided")
    page.get_by_role("button", name="Undo the decision").click()
    page.get_by_role("radio", name="rest and drink").check()
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_text("This has been decided.")).to_be_visible()
    page.goto(f"{stage.node_url}{patient}")
    expect(page.get_by_text("Plan: rest and drink")).to_be_visible()
