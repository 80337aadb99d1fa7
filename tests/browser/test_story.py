"""The whole story in two browsers: register, visit, refer, sync, claim, reply, sync, read; with the hub away meanwhile."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Opening
from tests.browser.stage import CHO, Stage

LONG_MS = 40_000  # a background sync comes every ten seconds


def register(page: Page, name: str, *, age: str = "34", village: str = "Rampur") -> None:
    """From the first page to the visit's form."""
    page.locator("#typed").fill(name)
    page.get_by_role("button", name="Register as new").click()
    page.locator("#age").fill(age)
    page.get_by_label("Female").check()
    page.locator("#village").fill(village)
    page.locator("#given").check()
    page.get_by_role("button", name="Save and begin the visit").last.click()
    page.wait_for_selector("#complaints")


def test_a_referral_travels_and_its_answer_comes_back(stage: Stage, opening: Opening) -> None:
    centre, ward = opening(), opening(1100)
    page, doctor = centre.page, ward.page
    page.goto(stage.node_url)
    centre.look("centre-lock-screen")
    centre.unlock(stage.node_url, CHO)
    centre.look("centre-home")
    page.locator("#typed").fill("Lakshmi Devi")
    page.get_by_role("button", name="Register as new").wait_for()
    centre.look("centre-nobody-found")
    page.get_by_role("button", name="Register as new").click()
    expect(page.locator("#name")).to_have_value("Lakshmi Devi")
    centre.look("centre-register")
    page.get_by_label("Female").check()
    page.locator("#age").fill("34")
    page.locator("#village").fill("Rampur")
    page.locator("#allergies").fill("Penicillin")
    page.locator("#given").check()
    page.get_by_role("button", name="Save and begin the visit").last.click()
    page.wait_for_selector("#complaints")
    centre.look("centre-visit")
    page.locator("#complaints").fill("fever, cough")
    page.locator("#systolic_mmhg").fill("120")
    page.locator("#diastolic_mmhg").fill("80")
    page.locator("#temperature_c").fill("39.2")
    page.get_by_role("button", name="Save and refer").click()
    page.wait_for_selector("#specialty")
    centre.look("centre-refer")
    page.locator("#specialty").select_option("general-medicine")
    page.get_by_label("Emergency").check()
    page.locator("#question").fill("Which antibiotic?")
    page.get_by_role("button", name="Save the referral").click()
    expect(page.locator("h1")).to_have_text("Referral of Lakshmi Devi")
    centre.look("centre-referral")
    referral = page.url

    doctor.goto(stage.hub.url)
    ward.look("hub-sign-in")
    ward.sign_in(stage, "dr.rao")
    doctor.get_by_role("link", name="Lakshmi Devi").wait_for(timeout=LONG_MS)  # without reloading
    ward.look("hub-queue")
    doctor.get_by_role("link", name="Lakshmi Devi").click()
    expect(doctor.get_by_text("Which antibiotic?")).to_be_visible()
    expect(doctor.get_by_text("Allergies: Penicillin").first).to_be_visible()
    ward.look("hub-case")
    doctor.get_by_role("button", name="Claim").click()
    doctor.get_by_role("button", name="Give back to the queue").wait_for()
    doctor.get_by_label("Text").check()
    doctor.get_by_label("First").check()
    doctor.locator("#diagnosis").fill("Viral fever")
    doctor.locator("#advice").fill("Fluids. Come back if worse.")
    doctor.locator("#drug_1").fill("Paracetamol")
    doctor.locator("#dose_1").fill("500 mg")
    doctor.locator("#days_1").fill("5")
    ward.look("hub-reply")
    doctor.get_by_role("button", name="Sign and send").click()
    doctor.get_by_role("heading", name="Replies").wait_for()
    ward.look("hub-replied")

    page.goto(f"{stage.node_url}/sync")
    centre.look("centre-sync")
    page.get_by_role("button", name="Sync now").click()
    page.goto(f"{stage.node_url}/referrals")
    for _ in range(LONG_MS // 1_000):
        if page.get_by_role("heading", name="Answered, not read").count():
            break
        page.wait_for_timeout(1_000)
        page.reload()
    centre.look("centre-referrals")
    page.goto(referral)
    expect(page.get_by_text("Viral fever")).to_be_visible()
    expect(page.get_by_text("Paracetamol, 500 mg, 5 days")).to_be_visible()
    centre.look("centre-answered")
    page.get_by_role("button", name="I have read the answer").click()
    expect(page.get_by_role("button", name="I have read the answer")).to_have_count(0)
    centre.look("centre-read")


def test_with_the_hub_away_everything_is_saved_and_sent_later(stage: Stage, opening: Opening) -> None:
    centre = opening()
    page = centre.page
    centre.unlock(stage.node_url, CHO)
    stage.hub.stop()
    try:
        register(page, "Sunita Bai")
        page.locator("#complaints").fill("chest pain")
        page.get_by_role("button", name="Save and refer").click()
        page.locator("#specialty").select_option("cardiology")
        page.get_by_label("Urgent").check()
        page.locator("#reason").fill("For two days")
        page.get_by_role("button", name="Save the referral").click()
        expect(page.locator("h1")).to_have_text("Referral of Sunita Bai")
        page.goto(f"{stage.node_url}/sync")
        page.get_by_role("button", name="Sync now").click()
        page.wait_for_timeout(2_000)
        page.goto(stage.node_url)
        expect(page.locator(".app-sync-line")).to_have_class(re.compile("--offline"))
        expect(page.locator(".app-sync-line")).to_contain_text("records are safe on this computer")
        centre.look("centre-offline")
    finally:
        stage.hub.start()
    page.goto(f"{stage.node_url}/sync")
    page.get_by_role("button", name="Sync now").click()
    page.goto(stage.node_url)
    for _ in range(LONG_MS // 1_000):
        if "--synced" in (page.locator(".app-sync-line").get_attribute("class") or ""):
            break
        page.wait_for_timeout(1_000)
        page.reload()
    expect(page.locator(".app-sync-line")).to_have_class(re.compile("--synced"))
