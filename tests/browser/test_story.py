"""The whole story in two browsers: register, visit, refer with the hub stopped, sync, claim, reply, sync, read, print."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urljoin

from playwright.sync_api import Page, expect

from tests.browser.conftest import Opening, Watched
from tests.browser.stage import CHO, Stage

LONG_MS = 120_000  # a background sync comes every ten seconds


def until(page: Page, there: Callable[[], object]) -> None:
    """Load the page again until it has this."""
    for _ in range(LONG_MS // 1_000):
        if there():
            break
        page.wait_for_timeout(1_000)
        page.reload()


def printed(centre: Watched, link: str, name: str) -> None:
    """A paper as it prints, and its PDF for each size. link: the way to it on the referral's page."""
    page = centre.page
    page.get_by_role("link", name=link).click()
    page.locator(".app-slip").wait_for()
    page.emulate_media(media="print")
    expect(page.locator(".app-slip")).to_be_visible()
    for unread in (".app-header", ".app-foot", "[data-print]"):
        expect(page.locator(unread)).to_be_hidden()
    centre.look(name)
    page.emulate_media(media="screen")
    sizes = page.locator('a[href*="/pdf?size="]')
    expect(sizes).to_have_count(2)
    for one in sizes.all():
        answer = page.request.get(urljoin(page.url, str(one.get_attribute("href"))))
        assert (answer.status, answer.headers["content-type"]) == (200, "application/pdf")
        assert answer.body().startswith(b"%PDF-")


def registers(centre: Watched, stage: Stage) -> None:
    """Comes in, finds nobody of that name, registers her and begins the visit."""
    page = centre.page
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


def refers_without_the_hub(centre: Watched, stage: Stage) -> str:
    """Everything is saved, and the line says so; the referral's address."""
    page = centre.page
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
    page.goto(f"{stage.node_url}/sync")
    page.get_by_role("button", name="Sync now").click()
    page.goto(stage.node_url)
    until(page, lambda: "--offline" in (page.locator(".app-sync-line").get_attribute("class") or ""))
    expect(page.locator(".app-sync-line")).to_contain_text("records are safe on this computer")
    centre.look("centre-offline")
    return referral


def answers(ward: Watched, stage: Stage) -> None:
    """A doctor sees it come, claims it and replies."""
    doctor = ward.page
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


def test_a_referral_made_without_the_hub_travels_and_its_answer_comes_back_to_paper(
    stage: Stage, opening: Opening
) -> None:
    centre, ward = opening(), opening(1100)
    page = centre.page
    registers(centre, stage)
    stage.hub.stop()
    try:
        referral = refers_without_the_hub(centre, stage)
    finally:
        stage.hub.start()
    page.goto(f"{stage.node_url}/sync")
    page.get_by_role("button", name="Sync now").click()
    answers(ward, stage)

    page.goto(f"{stage.node_url}/sync")
    centre.look("centre-sync")
    page.get_by_role("button", name="Sync now").click()
    page.goto(f"{stage.node_url}/referrals")
    until(page, lambda: page.get_by_role("heading", name="Answered, not read").count())
    centre.look("centre-referrals")
    page.goto(referral)
    expect(page.get_by_text("Viral fever")).to_be_visible()
    expect(page.get_by_text("Paracetamol, 500 mg, 5 days")).to_be_visible()
    centre.look("centre-answered")
    page.get_by_role("button", name="I have read the answer").click()
    expect(page.get_by_role("button", name="I have read the answer")).to_have_count(0)
    centre.look("centre-read")
    page.get_by_role("link", name="Referral slip to print").wait_for()
    printed(centre, "Referral slip to print", "centre-slip-printed")
    page.goto(referral)
    printed(centre, "Prescription to print", "centre-prescription-printed")
    page.goto(stage.node_url)
    until(page, lambda: "--synced" in (page.locator(".app-sync-line").get_attribute("class") or ""))
    expect(page.locator(".app-sync-line")).to_have_class(re.compile("--synced"))
