"""People who sign in at the hub's pages: each is given what an operator gives, and comes in the first time by the pages."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from bench.browsing import Browser
from bench.places import HubPlace

STEP_S: Final = 30
DIGITS: Final = 6


@dataclass
class Doctor:
    """Somebody with a login, a password and an authenticator. secret: its letters (base32). used: the last step whose code
    was used, since none works twice."""

    login: str
    name: str
    password: str
    secret: str = ""
    used: int = 0

    def code(self) -> str:
        """A code that was not used yet: of this half minute, else of the next one, which the hub takes too. Whoever asks
        for a third one waits."""
        step = max(int(time.time()) // STEP_S, self.used + 1)
        time.sleep(max(0.0, (step - 1) * STEP_S - time.time()))
        self.used = step
        return self.code_at(step * STEP_S)

    def code_at(self, second: int) -> str:
        """What the authenticator shows at that time."""
        key = base64.b32decode(self.secret + "=" * (-len(self.secret) % 8))
        return TOTP(key, DIGITS, SHA1(), STEP_S).generate(second).decode()  # what authenticators know


def let_in(hub: HubPlace, doctor: Doctor) -> None:
    """An operator gives a one-time password and a second factor; the person comes in with them, and chooses a password."""
    once = hub.ask("people", "password", doctor.login, "--yes")["password"]
    doctor.secret = hub.ask("people", "second-factor", doctor.login, "--yes")["secret"]
    with Browser(hub.url) as browser:
        browser.send("/sign-in", {"login": doctor.login, "password": once})
        browser.send("/sign-in/code", {"code": doctor.code()})
        chosen = {"old": once, "password": doctor.password, "twice": doctor.password}
        browser.send("/password", chosen)


def signed_in(hub: HubPlace, doctor: Doctor) -> Browser:
    """Their browser, signed in."""
    browser = Browser(hub.url)
    browser.send("/sign-in", {"login": doctor.login, "password": doctor.password})
    browser.send("/sign-in/code", {"code": doctor.code()})
    return browser
