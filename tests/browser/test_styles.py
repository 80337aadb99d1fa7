"""Every component that the styles are built for, in a real browser: readable, reachable, whole on a small screen, and
served by one server alone, under the policy that the centre's pages have.

What is looked at is one page, a specimen, which has all of them; each real page is walked through elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page

from hwc_node.line import LineState
from sync_protocol.pages import assets
from sync_protocol.pages.language import words_of
from sync_protocol.pages.rendering import Renderer

AXE: Final = Path(__file__).parent / "static" / "axe.min.js"
NONCE: Final = "specimen"
POLICY: Final = (
    f"default-src 'none'; script-src 'nonce-{NONCE}'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
REFUSAL: Final = '<div class="nhsuk-error-summary" role="alert"><h2>There is a problem</h2></div>'
SMALL: Final = {"width": 360, "height": 740}  # a cheap phone
SMALLEST: Final = {"width": 320, "height": 640}  # 1280 px at 400 %
LARGE: Final = {"width": 1280, "height": 900}
TARGET_PX: Final = 44
CURRENT_PATH: Final = "htmx-current-path-for-history"
REFUSED: Final = "status of 422"  # the browser complains of each answer that refuses: that is none of the styles


@cache
def specimen() -> bytes:
    renderer = Renderer("tests.browser", {"asset": assets.address, "service_name": "Health sync", "languages": {}})
    states = [state.value for state in LineState]
    page = renderer.page(
        "specimen", words_of("en"), nonce=NONCE, place="HWC Rampur", states=states, long_word="Pneumonoultra" * 12
    )
    return page.encode()


class Answering(BaseHTTPRequestHandler):
    """The specimen, its assets, and a refusal for what is posted."""

    def do_GET(self) -> None:
        found = assets.at(self.path)
        if found is not None:
            self.answer(200, found.media_type, found.body)
        else:
            self.answer(200 if self.path == "/" else 404, "text/html; charset=utf-8", specimen())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(422, "text/html; charset=utf-8", REFUSAL.encode())

    def answer(self, status: int, media_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-security-policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: what fails is seen in the browser."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The specimen. The test fails on any request to another host, and on anything that the browser complains about."""
    with browser.new_context(viewport={"width": LARGE["width"], "height": LARGE["height"]}) as context:
        opened, complaints = context.new_page(), list[str]()
        opened.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on(
            "request", lambda asked: None if asked.url.startswith((url, "data:")) else complaints.append(asked.url)
        )
        opened.goto(url)
        yield opened
        assert [one for one in complaints if REFUSED not in one] == []


def findings(page: Page, within: str = "html", rules: Sequence[str] = ()) -> list[str]:
    """What axe finds wrong, each with the place."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = page.evaluate(
        """([within, rules]) => axe.run(within, {resultTypes: ["violations"], ...(rules.length ? {runOnly: rules} : {})})
             .then((r) => r.violations)""",
        [within, list(rules)],
    )
    return [f"{one['id']}: {node['html'][:160]} {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("size", [LARGE, SMALL], ids=["large", "small"])
def test_axe_finds_nothing(page: Page, size: Any) -> None:
    page.set_viewport_size(size)
    assert findings(page) == []


def test_what_has_the_focus_is_readable_and_seen(page: Page) -> None:
    """The mark of focus changes colours: text and ground must change together."""
    drawn = "(one) => { const s = getComputedStyle(one); return s.boxShadow + s.outline }"
    for place in (
        ".app-header__name",
        ".app-nav__link",
        ".app-link-button",
        ".app-sync-line__link",
        "main a",
        "summary",
    ):
        before = page.eval_on_selector(place, drawn)
        page.focus(place)
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("(place) => document.activeElement.matches(place)", place)
        assert page.eval_on_selector(place, drawn) != before
        assert findings(page, place, ["color-contrast"]) == []


@pytest.mark.parametrize("size", [SMALL, SMALLEST], ids=["360 px", "320 px"])
def test_a_small_screen_shows_all_without_scrolling_sideways(page: Page, size: Any) -> None:
    page.set_viewport_size(size)
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
             .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
             .filter((one) => !one.closest(".nhsuk-u-visually-hidden, .nhsuk-table__head, thead, option"))
             .map((one) => one.outerHTML.slice(0, 120))"""
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_a_thumb_hits_what_is_pressed(page: Page) -> None:
    page.set_viewport_size({"width": SMALL["width"], "height": SMALL["height"]})
    low = page.evaluate(
        """(least) => [...document.querySelectorAll(
               "button, input:not([type=hidden]), select, textarea, summary, .app-header a, .app-nav a, .app-sync-line a, "
               + ".nhsuk-back-link, .nhsuk-breadcrumb__link, .nhsuk-pagination__link, .nhsuk-action-link__link")]
             .filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < least)
             .map((one) => one.outerHTML.slice(0, 120) + one.getBoundingClientRect().height)""",
        TARGET_PX,
    )
    assert low == []


def test_everything_has_letters_of_the_system_that_know_indian_scripts(page: Page) -> None:
    families = page.evaluate(
        """() => [...new Set([...document.querySelectorAll("h1, p, a, td, label, button, input, textarea, text")]
             .map((one) => getComputedStyle(one).fontFamily))]"""
    )
    assert len(families) == 1
    assert all(name in families[0] for name in ("Noto Sans", "Nirmala UI", "Mangal", "system-ui"))
    assert page.evaluate("document.fonts.size") == 0


def test_the_line_of_what_was_sent_stays_in_sight(page: Page) -> None:
    page.set_viewport_size({"width": SMALL["width"], "height": SMALL["height"]})
    page.evaluate("window.scrollTo(0, 500)")
    box = page.locator(".app-sync-line").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] == pytest.approx(SMALL["height"], abs=1)


def test_paper_has_what_is_read_and_no_address(page: Page) -> None:
    page.emulate_media(media="print")
    for unread in (".app-header", ".app-nav", ".app-sync-line", ".nhsuk-button", ".nhsuk-back-link", ".nhsuk-footer"):
        assert not page.locator(unread).first.is_visible(), unread
    assert page.locator(".app-print-only").is_visible()
    assert page.locator(".app-slip").is_visible()
    after = page.evaluate(
        """() => [...document.querySelectorAll("main a")].map((one) => getComputedStyle(one, "::after").content)"""
    )
    assert all("Link" not in one for one in after)
    inks = page.evaluate(
        """() => [...new Set([...document.querySelectorAll(".app-slip *, .app-urgency")]
             .map((one) => getComputedStyle(one).color))]"""
    )
    assert inks == ["rgb(0, 0, 0)"]


def test_who_asked_for_no_motion_gets_none(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    moving = page.evaluate(
        """() => [...document.querySelectorAll("body *")].map((one) => getComputedStyle(one))
             .filter((one) => one.animationName !== "none" || !/^(all|none)( 0s.*)?$/.test(one.transition)).length"""
    )
    assert moving == 0


def test_an_answer_that_refuses_is_shown_and_gets_the_focus(page: Page) -> None:
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector("#answer .nhsuk-error-summary:focus")
    # htmx keeps pages in the browser unless it is told not to; the path of the one that is open stays for the tab's life
    assert page.evaluate("[...Object.keys(localStorage), ...Object.keys(sessionStorage)]") == [CURRENT_PATH]
