"""A browser of pages that are served in this process: keeps cookies, and sends a form as a browser does."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2
from fastapi.testclient import TestClient

Fields = Mapping[str, str | list[str]]


@dataclass
class Window:
    """home: a page that this browser's person may see, and that has a form."""

    client: TestClient
    home: str = "/"

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, fields: Fields, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, data=dict(fields), headers=named)

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(self.home).text)
        assert found is not None, "this browser's person is not in"
        return found[1]

    def send(self, path: str, fields: Fields, page: str | None = None) -> httpx2.Response:
        """Fill a page's form and send it: what was hidden in it goes along. page: where the form stands."""
        shown = self.get(page or path)
        assert shown.status_code == 200, shown.status_code
        return self.post(path, {**hidden(shown.text), **fields})


def hidden(page: str) -> dict[str, str | list[str]]:
    """The hidden fields of a page's forms."""
    found: dict[str, list[str]] = {}
    for tag in re.findall(r'<input type="hidden"[^>]*>', page):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name is not None and value is not None and html.unescape(value[1]) not in found.get(name[1], []):
            found.setdefault(name[1], []).append(html.unescape(value[1]))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
