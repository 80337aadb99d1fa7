"""Browsers that are watched: a request to another host, an error in the console or a finding of axe fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, expect, sync_playwright

from bench import places
from tests.browser import chromium
from tests.browser.stage import PASSPHRASE, Stage
from tests.databases import Databases, throwaway_folder
from tests.databases import databases as databases  # the fixtures
from tests.databases import postgres_cluster as postgres_cluster

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "screenshots"
AXE = Path(__file__).parent / "static" / "axe.min.js"
PATIENCE_MS = 90_000  # some pages take a second on an idle machine; the rest is for what else runs beside
EXPECTED = ("status of 409", "status of 422", "status of 403", "status of 404")
"""What the browser says of a form that came back with what is wrong in it, and of a page that is refused."""


@dataclass
class Watched:
    """A browser window of one person, and what went wrong in it."""

    page: Page
    hosts: frozenset[str] = frozenset({"127.0.0.1"})
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.context.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(one in message.text for one in EXPECTED):
            self.wrong.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in self.hosts:
            self.wrong.append(f"request to {parts.hostname}")

    def look(self, name: str) -> None:
        """Keep a screenshot, and have axe look at the page."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        self.wrong += [
            f"axe on {name}: {one['id']} at {[node['target'] for node in one['nodes']][:3]}"
            for one in found["violations"]
        ]

    def too_wide(self) -> list[str]:
        """What goes beyond the window's right edge, but for what scrolls by itself."""
        found: list[str] = self.page.evaluate(
            """() => [...document.querySelectorAll("body *")]
                 .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1)
                 .filter((one) => !one.closest(".app-table-scroll, .nhsuk-u-visually-hidden, thead, option"))
                 .map((one) => one.outerHTML.slice(0, 160))"""
        )
        return found

    def unlock(self, url: str, name: str, passphrase: str = PASSPHRASE) -> None:
        """Come in at the centre."""
        self.page.goto(url)
        self.page.get_by_label(name).check()
        self.page.locator("#passphrase").fill(passphrase)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("nav.app-nav")

    def sign_in(self, stage: Stage, login: str) -> None:
        """Come in at the hub."""
        self.page.goto(stage.hub.url)
        self.page.locator("#login").fill(login)
        self.page.locator("#password").fill(PASSPHRASE)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#code")
        self.page.locator("#code").fill(stage.doctors[login].code())
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("nav.app-nav")


Opening = Callable[..., Watched]


expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module", autouse=True)
def quick_commands(warm_programs: None) -> None:
    """See `tests.warm`."""


@pytest.fixture(scope="session")
def stage(warm_folder: Path, databases: Databases) -> Iterator[Stage]:
    with throwaway_folder() as folder, databases.migrated() as url:
        made = Stage.below(folder, url)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(places, "BIN", warm_folder)
                made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """Of these tests alone: as long as it runs, this thread has an event loop that others must not meet."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    opened = playwright.chromium.launch(**chromium.launch())
    yield opened
    opened.close()


@pytest.fixture
def opening(browser: Browser) -> Iterator[Opening]:
    """Opens windows of different people; what went wrong in any of them fails the test."""
    opened: list[Watched] = []

    def open_window(width: int = 900, *, language: str = "en-IN", scripts: bool = True) -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, locale=language, java_script_enabled=scripts
        )
        opened.append(Watched(context.new_page()))
        return opened[-1]

    yield open_window
    for one in opened:
        one.page.context.close()
    wrong = [text for one in opened for text in one.wrong]
    assert not wrong, "\n".join(wrong)
