"""The cookies of the hub's pages: the session, a sign-in under way, the page to go back to, the language.

All are for this server alone: no script reads them, and no page of another site makes a browser send them. Behind a TLS
proxy they are for HTTPS only, and the first three begin with ``__Host-``: a browser takes such a name from this very host
alone, so that a neighbour below the same domain cannot plant a session of its own here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import Request, Response

SESSION: Final = "hub_session"
PENDING: Final = "hub_pending"
BACK: Final = "hub_back"
LANGUAGE: Final = "language"
YEAR_S: Final = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Cookies:
    """secure: the pages are reached by HTTPS only."""

    secure: bool

    def name_of(self, name: str) -> str:
        """As the browser has it."""
        return f"__Host-{name}" if self.secure and name != LANGUAGE else name

    def read(self, request: Request, name: str) -> str:
        """Empty where there is none."""
        return request.cookies.get(self.name_of(name), "")

    def set(self, response: Response, name: str, value: str, max_age_s: int | None = None) -> None:
        """max_age_s: None until the browser is closed."""
        response.set_cookie(
            self.name_of(name), value, max_age=max_age_s, httponly=True, samesite="strict", secure=self.secure
        )

    def drop(self, response: Response, name: str) -> None:
        response.delete_cookie(self.name_of(name), httponly=True, samesite="strict", secure=self.secure)
