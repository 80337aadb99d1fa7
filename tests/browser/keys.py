"""A person at the keyboard alone: each key is counted, and so are the fields and pages that have to be thought about.

The time is estimated by the keystroke-level model (Card, Moran and Newell, 1980): 0.28 s a key for a clerk who types
40 words a minute, 1.35 s to think before each field, and half a second for a page to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from playwright.sync_api import Locator, Page

KEY_S: Final = 0.28
THINK_S: Final = 1.35
PAGE_S: Final = 0.5
MOST_TABS: Final = 60


@dataclass
class Keyboard:
    """keys: all that were pressed. fields: those that were filled or chosen. pages: those that were waited for."""

    page: Page
    keys: int = 0
    fields: int = 0
    pages: int = 0

    def type(self, text: str) -> None:
        """Into the field that has the focus."""
        self.fields += 1
        self.keys += len(text)
        self.page.keyboard.type(text)

    def press(self, key: str) -> None:
        self.keys += 1
        self.page.keyboard.press(key)

    def choose(self, times: int = 0) -> None:
        """The radio button that many places behind the one that has the focus."""
        self.fields += 1
        for _ in range(times):
            self.press("ArrowRight")
        if not times:
            self.press("Space")

    def tab_to(self, wanted: Locator, back: bool = False) -> None:
        """Go there by the tabulator; fails where that does not lead there."""
        for _ in range(MOST_TABS):
            if wanted.evaluate("(one) => one === document.activeElement"):
                return
            self.press("Shift+Tab" if back else "Tab")
        raise AssertionError(f"the keyboard does not reach {wanted}")

    def enter(self, appears: str) -> None:
        """Press Enter, and wait for the page on which this is."""
        self.press("Enter")
        self.pages += 1
        self.page.wait_for_selector(appears)

    @property
    def seconds(self) -> float:
        return self.keys * KEY_S + self.fields * THINK_S + self.pages * PAGE_S

    def told(self, what: str, limit_s: int) -> str:
        return (
            f"{what}: {self.keys} keys, {self.fields} fields, {self.pages} pages;"
            f" about {self.seconds:.0f} s by the keystroke-level model, {limit_s} s wanted"
        )
