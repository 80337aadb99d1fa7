"""How the browser of these tests is started: what Playwright turns off stays off, though more is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from playwright.sync_api import Browser

OFF: Final = "--disable-features="


def test_what_playwright_turns_off_stays_off(browser: Browser) -> None:
    session = browser.new_browser_cdp_session()
    (name,) = [
        one["id"] for one in session.send("SystemInfo.getProcessInfo")["processInfo"] if one["type"] == "browser"
    ]
    words = Path(f"/proc/{name}/cmdline").read_text().split("\0")
    first, last = [set(word.removeprefix(OFF).split(",")) for word in words if word.startswith(OFF)]
    assert first
    assert first <= last, f"add to tests.browser.chromium.PLAYWRIGHTS: {sorted(first - last)}"
