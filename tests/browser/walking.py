"""A day's work at the centre by its forms, sent as a browser sends them, for tests that look at what comes after."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import APIResponse, Page

from tests.pages.window import hidden


@dataclass
class Walk:
    """page: of somebody who is in. url: of the server."""

    page: Page
    url: str

    def get(self, path: str) -> APIResponse:
        return self.page.request.get(self.url + path, max_redirects=0)

    def send(self, path: str, fields: dict[str, str], at: str = "") -> str:
        """Fill the form on a page and send it; where the answer leads. at: the page, if it is another one."""
        shown = self.get(at or path)
        assert shown.status == 200, f"{at or path}: {shown.status}"
        form: Any = {
            name: value if isinstance(value, str) else value[0] for name, value in hidden(shown.text()).items()
        } | fields
        answer = self.page.request.post(self.url + path, form=form, max_redirects=0)
        assert answer.status == 303, f"{path}: {answer.status} {re.findall(r'error-message[^<]*', answer.text())}"
        return urlsplit(answer.headers["location"]).path

    def register(self, name: str, **fields: str) -> str:
        """The new patient's page."""
        given = {"name": name, "sex": "F", "age": "34", "given": "yes", "new": "yes", "then": "stay", **fields}
        return self.send("/register", given).removesuffix("/visit")

    def visit(self, patient: str, **fields: str) -> str:
        """The visit's case id."""
        form: Any = hidden(self.get(f"{patient}/visit").text())
        answer = self.page.request.post(
            f"{self.url}{patient}/visit", form={**form, "complaints": "fever", **fields}, max_redirects=0
        )
        assert answer.status == 303, answer.status
        return str(form["case"])

    def refer(self, patient: str, case: str, **fields: str) -> str:
        """The referral's page."""
        given = {"specialty": "general-medicine", "urgency": "routine", "question": "What to give?", **fields}
        return self.send(f"{patient}/cases/{case}/refer", given)
