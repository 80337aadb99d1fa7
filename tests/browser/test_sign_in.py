"""Signing in at the hub in a real browser: the first time by the keyboard alone and without scripts, then the account."""

from __future__ import annotations

import itertools

from playwright.sync_api import Page, expect

from bench.sign_ins import Doctor
from tests.browser.conftest import Opening
from tests.browser.stage import PASSPHRASE, Stage

OWN = "another quiet river song"

_numbers = itertools.count(1)


def newcomer(stage: Stage) -> tuple[Doctor, str]:
    """Somebody who was given a one-time password, and that password."""
    login = f"dr.new{next(_numbers)}"
    stage.hub.run("people", "add", login, "--name", "Dr Anil Nair", "--registration-number", f"TCMC {login}")
    password = stage.hub.ask("people", "password", login)["password"]
    return Doctor(login, "Dr Anil Nair", OWN), str(password)


def tab_to(page: Page, name: str) -> None:
    """Go there by the keyboard alone."""
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.locator(f"#{name}:focus").count():
            return
    raise AssertionError(f"the keyboard does not lead to {name}")


def set_up(page: Page, doctor: Doctor, password: str) -> None:
    """From the sign-in to the first page."""
    tab_to(page, "login")
    page.keyboard.type(doctor.login)
    tab_to(page, "password")
    page.keyboard.type(password)
    page.keyboard.press("Enter")
    doctor.secret = page.locator(".app-letters").inner_text().replace(" ", "")
    tab_to(page, "password")
    page.keyboard.type(OWN)
    tab_to(page, "twice")
    page.keyboard.type(OWN)
    tab_to(page, "code")
    page.keyboard.type(doctor.code())
    page.keyboard.press("Enter")
    page.wait_for_selector("nav.app-nav")


def test_the_second_step_is_whole_on_a_phone(stage: Stage, opening: Opening) -> None:
    window = opening(360)
    page = window.page
    page.goto(stage.hub.url)
    page.locator("#login").fill("officer")
    page.locator("#password").fill(PASSPHRASE)
    page.keyboard.press("Enter")
    page.wait_for_selector("#code")
    window.look("hub-small-sign-in-code")
    assert window.too_wide() == []
    page.locator("#code").fill("000000")
    page.keyboard.press("Enter")
    expect(page.locator(".nhsuk-error-summary")).to_be_visible()
    window.look("hub-small-sign-in-code-refused")
    assert window.too_wide() == []


def test_the_first_sign_in_needs_no_scripts_and_no_mouse(stage: Stage, opening: Opening) -> None:
    doctor, password = newcomer(stage)
    page = opening(360, scripts=False).page
    page.goto(stage.hub.url)
    set_up(page, doctor, password)
    expect(page.get_by_role("link", name="Your account: Dr Anil Nair")).to_be_visible()
    page.get_by_role("button", name="Sign out").press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_pages_of_signing_in_are_whole_and_another_authenticator_takes_over(stage: Stage, opening: Opening) -> None:
    doctor, password = newcomer(stage)
    ward = opening(360)
    page = ward.page
    page.goto(stage.hub.url)
    page.locator("#login").fill(doctor.login)
    page.locator("#password").fill("not this one at all")
    page.keyboard.press("Enter")
    expect(page.locator(".nhsuk-error-summary")).to_be_focused()
    ward.look("hub-sign-in-refused")
    page.locator("#password").fill(password)
    page.keyboard.press("Enter")
    page.wait_for_selector(".app-letters")
    expect(page.locator("img.app-qr")).to_have_js_property("complete", True)
    assert page.locator("img.app-qr").evaluate("drawn => drawn.naturalWidth > 0")
    ward.look("hub-set-up")
    page.goto(stage.hub.url)
    set_up(page, doctor, password)
    page.get_by_role("link", name="Your account").click()
    ward.look("hub-account")
    page.get_by_role("link", name="Set up another one").click()
    page.locator("#code").fill(doctor.code())
    page.keyboard.press("Enter")
    page.wait_for_selector(".app-letters")
    ward.look("hub-second-factor")
    doctor.secret = page.locator(".app-letters").inner_text().replace(" ", "")
    doctor.used = 0
    page.locator("#code").fill(doctor.code())
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("The new authenticator counts from now on.")
    page.get_by_role("link", name="Change the password").click()
    ward.look("hub-password")
    page.locator("#old").fill(OWN)
    page.locator("#password").fill(OWN)
    page.locator("#twice").fill(OWN)
    page.keyboard.press("Enter")
    expect(page.locator("#password-error")).to_contain_text("E_SAME_PASSWORD")


def test_whoever_is_signed_out_elsewhere_does_not_look_at_an_old_queue(stage: Stage, opening: Opening) -> None:
    ward = opening()
    ward.sign_in(stage, "dr.rao")
    expect(ward.page.get_by_role("heading", name="Queue")).to_be_visible()
    stage.hub.run("people", "sign-out", "dr.rao")
    expect(ward.page.get_by_role("heading", name="Sign in")).to_be_visible()
