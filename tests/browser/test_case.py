"""A doctor's work on a case in a real browser: live, drafted as it is typed, refused beside the line; opened by another."""

from __future__ import annotations

import json
import uuid
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import Opening
from tests.browser.stage import Stage
from tests.hub.hub_world import hours_away

LIVE_MS = 120_000  # what came since is asked for every twenty seconds


def send(stage: Stage, *lines: dict[str, Any]) -> None:
    """What the centre writes, imported and synced by its commands."""
    stage.node.run("import", "-", given="\n".join(json.dumps(line) for line in lines))
    stage.node.run("sync")


def referral(name: str, **more: Any) -> tuple[str, str, list[dict[str, Any]]]:
    """(referral's id, patient's id, the lines to import)."""
    patient, case, about = (str(uuid.uuid4()) for _ in range(3))
    pressures = ((150, 95, "2026-01-02"), (212, 135, "2026-03-02"))
    return (
        about,
        patient,
        [
            {"kind": "patient", "id": patient, "fields": {"name": name, "sex": "F", "birth_year": 1980} | more},
            {"kind": "case", "id": case, "patient": patient, "fields": {"complaints": ["headache"]}},
            *(
                {
                    "kind": "vitals",
                    "patient": patient,
                    "at": f"{day}T09:00:00Z",
                    "fields": {"systolic_mmhg": high, "diastolic_mmhg": low},
                }
                for high, low, day in pressures
            ),
            {
                "kind": "referral",
                "id": about,
                "patient": patient,
                "fields": {
                    "case": case,
                    "specialty": "general-medicine",
                    "urgency": "emergency",
                    "question": "Which drug?",
                },
            },
        ],
    )


def prescribe(page: Page, drug: str) -> None:
    page.get_by_label("Text").check()
    page.get_by_label("First", exact=True).check()
    for field, text in (("drug_1", drug), ("dose_1", "500 mg"), ("days_1", "5")):
        page.locator(f"#{field}").fill(text)


def test_a_case_is_worked_on_live_and_with_scripts(stage: Stage, opening: Opening) -> None:
    ward, other, office = opening(1100), opening(360), opening()
    page = ward.page
    ward.sign_in(stage, "dr.rao")
    about, patient, lines = referral("Radha Bai", allergies=["Penicillin"])
    send(stage, *lines)
    page.get_by_role("link", name="Radha Bai").click(timeout=LIVE_MS)
    expect(page.locator("svg.app-chart")).to_have_count(1)
    expect(page.get_by_text("212/135 mmHg (unusual)")).to_be_visible()
    page.locator("#advice").press_sequentially("Rest, and")
    page.get_by_role("button", name="Claim").click()
    expect(page.get_by_role("button", name="Give back to the queue")).to_be_visible()
    expect(page.locator("#advice")).to_have_value("Rest, and")
    prescribe(page, "Amoxicillin")
    expect(page.locator("#draft-kept")).to_contain_text("Draft kept at")
    expect(page.locator("#objected-1")).to_contain_text("The patient is allergic to “Penicillin”")
    page.locator("#allergy_reason_1").press_sequentially("Tolerated it", delay=20)
    expect(page.locator("#objected-1")).not_to_contain_text("Penicillin")
    expect(page.locator("#objected-1")).to_contain_text("needs video")
    expect(page.locator("#allergy_reason_1")).to_be_focused()
    expect(page.locator("#allergy_reason_1")).to_have_value("Tolerated it")
    page.locator("#allergy_reason_1").fill("")
    expect(page.locator("#objected-1")).to_contain_text("Penicillin")
    ward.look("hub-case-objected")
    page.reload()
    expect(page.locator("#drug_1")).to_have_value("Amoxicillin")
    expect(page.locator("#objected-1")).to_contain_text("Penicillin")

    send(stage, {"kind": "patient", "id": patient, "base": "shown", "fields": {"allergies": ["Sulfa"]}})
    other.sign_in(stage, "dr.skin")
    other.page.goto(f"{stage.hub.url}/cases/{about}")
    other.look("hub-case-closed")
    other.page.locator("#reason").fill("Her sister rang me.")
    other.page.get_by_role("button", name="Open for 24 hours").click()
    expect(other.page.get_by_role("heading", name="Radha Bai")).to_be_visible()
    other.look("hub-case-opened-small")
    office.sign_in(stage, "officer")
    office.page.get_by_role("link", name="Opened patients").click()
    expect(office.page.get_by_text("Her sister rang me.")).to_be_visible()
    office.look("hub-openings")
    office.page.get_by_role("button", name="Reviewed").click()
    expect(office.page.get_by_text("Nothing waits for a review.")).to_be_visible()

    expect(page.get_by_text("Something came since you opened this page.")).to_be_visible(timeout=LIVE_MS)
    ward.look("hub-case-changed")
    page.get_by_role("button", name="Sign and send").click()
    expect(page.locator(".nhsuk-error-summary")).to_be_focused()
    expect(page.locator("#drug_1-error")).to_contain_text("needs video")
    expect(page.locator("#allergy_reason_1-error")).to_contain_text("The patient is allergic to “Penicillin”")
    expect(page.get_by_role("heading", name="Changed since you opened this page")).to_be_visible()
    ward.look("hub-case-refused")
    prescribe(page, "Paracetamol")
    page.get_by_role("button", name="Sign and send").click()
    expect(page.get_by_role("heading", name="Correct the answer")).to_be_visible()
    page.reload()
    expect(page.locator("#drug_1")).to_have_value("Paracetamol")
    expect(page.get_by_role("button", name="Throw the draft away")).to_have_count(0)
    page.locator("#advice").fill("अ" * 30_000)
    expect(page.locator("#draft-kept")).to_have_text("The form is too long to be saved. [E_TOO_LARGE]")
    ward.look("hub-case-too-long")
    page.locator("#advice").fill("Rest.")
    expect(page.locator("#draft-kept")).to_contain_text("Draft kept at")
    assert ["413" in said for said in ward.wrong] == [True]  # which a browser tells in its console
    ward.wrong.clear()


def test_a_case_is_worked_on_without_scripts_and_with_a_small_screen(stage: Stage, opening: Opening) -> None:
    about, _, lines = referral("Meera Bai")
    send(stage, *lines)
    ward = opening(360, scripts=False)
    page = ward.page
    ward.sign_in(stage, "dr.rao")
    until = hours_away()
    told = {"23:59": "11:59 pm", "11:59": "11:59 am"}[until]
    page.locator("#until").fill(until)
    page.get_by_role("button", name="On duty").press("Enter")
    expect(page.get_by_text(f"You are on duty until {told}.")).to_be_visible()
    page.goto(f"{stage.hub.url}/cases/{about}")
    page.get_by_role("button", name="Claim").press("Enter")
    prescribe(page, "ORS")
    page.locator("#diagnosis").press("Enter")  # signs nothing
    expect(page.locator("#drug_1")).to_have_value("ORS")
    expect(page.get_by_text("Draft kept at")).to_be_visible()
    expect(page.get_by_role("heading", name="Replies")).to_have_count(0)
    page.get_by_role("button", name="Keep as a draft").press("Enter")
    expect(page.locator("#drug_1")).to_have_value("ORS")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.get_by_role("button", name="Sign and send").press("Enter")
    expect(page.get_by_role("heading", name="Replies")).to_be_visible()
