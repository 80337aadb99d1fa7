"""The keyboard alone, at the centre: a new patient with a first visit, a follow-up, and how many keys each takes.

The figures to stay below are those that Simple publishes of its app: 80 seconds for a new patient, 20 for a follow-up.
They are not timed here: the keys, fields and pages are counted, and printed at the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opening
from tests.browser.keys import Keyboard
from tests.browser.stage import CHO, Stage

NEW_PATIENT_S, FOLLOW_UP_S = 80, 20
Telling = Callable[[str, object], None]


def is_focused(page: Page, name: str) -> None:
    """The field of this name has the focus, as soon as the page is drawn."""
    expect(page.locator(f'[name="{name}"]:focus')).to_have_count(1)


def found_for(page: Page, typed: str) -> None:
    """Wait until what is shown was found for all that is typed: for a part of it, it would still be exchanged."""
    page.locator(f'#found [name="typed"][value="{typed}"]').wait_for(state="attached")


def test_a_new_patient_with_a_first_visit_and_a_follow_up(
    stage: Stage, opening: Opening, record_property: Telling
) -> None:
    centre = opening()
    page = centre.page
    centre.unlock(stage.node_url, CHO)
    first = Keyboard(page)
    is_focused(page, "typed")
    first.type("Savitri Bai")
    found_for(page, "Savitri Bai")
    button = page.get_by_role("button", name="Register as new")
    first.tab_to(button)
    first.enter("#age")
    is_focused(page, "sex")
    first.choose()
    first.press("Tab")
    first.type("41")
    first.tab_to(page.locator("#village"))
    first.type("Nallur")
    first.tab_to(page.locator("#given"))
    first.choose()
    first.enter("#complaints")
    is_focused(page, "complaints")
    first.type("fever, cough")
    first.tab_to(page.locator("#systolic_mmhg"))
    for value in ("120", "80"):
        first.type(value)
        first.press("Tab")
    first.tab_to(page.locator("#temperature_c"))
    first.type("38.5")
    first.enter("h1:text-is('Savitri Bai')")
    record_property("keystrokes", first.told("a new patient with a first visit", NEW_PATIENT_S))
    assert first.keys <= 90, "more keys than before"
    assert first.seconds <= NEW_PATIENT_S

    page.goto(stage.node_url)
    again = Keyboard(page)
    again.type("savi")
    found_for(page, "savi")
    link = page.get_by_role("link", name="New visit of Savitri Bai")
    again.tab_to(link)
    again.enter("#complaints")
    again.tab_to(page.get_by_role("button", name="Same as last time"), back=True)
    again.enter("#complaints")
    expect(page.locator("#complaints")).to_have_value("cough, fever")
    again.tab_to(page.locator("#systolic_mmhg"))
    again.type("118")
    again.press("Tab")
    again.type("76")
    again.enter("h1:text-is('Savitri Bai')")
    record_property("keystrokes", again.told("a follow-up", FOLLOW_UP_S))
    assert again.keys <= 30, "more keys than before"
    assert again.seconds <= FOLLOW_UP_S


@pytest.mark.parametrize("path", ["/", "/referrals", "/decisions", "/sync", "/register"])
def test_every_control_is_reached_and_seen_and_the_first_tab_skips_to_the_content(
    stage: Stage, opening: Opening, path: str
) -> None:
    centre = opening()
    page = centre.page
    centre.unlock(stage.node_url, CHO)
    page.goto(stage.node_url + path)
    page.evaluate("document.body.tabIndex = -1; document.body.focus(); window.scrollTo(0, 0)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#maincontent"
    wanted = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")]
             .filter((one) => one.checkVisibility() && one.tabIndex >= 0)
             .filter((one) => !one.closest("details:not([open]) > :not(summary)"))
             .filter((one) => one.type !== "radio" || one === document.querySelector(`[name="${one.name}"]`)).length"""
    )
    hidden = []
    for number in range(wanted + 5):
        at = page.evaluate(
            """() => { const one = document.activeElement, box = one.getBoundingClientRect(); one.dataset.reached = "";
                 return [one.outerHTML.slice(0, 200), box.bottom > 0 && box.top < innerHeight] }"""
        )
        if not at[1]:
            hidden.append(f"{number}: {at[0]}")
        page.keyboard.press("Tab")
    assert hidden == []
    assert page.locator("[data-reached]").count() >= wanted
