"""A browser of pages that are served in this process: keeps cookies, and sends a form as a browser does."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser

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

    def shown(self, path: str) -> str:
        """A page as people read it: its text, without tags."""
        answer = self.get(path)
        assert answer.status_code == 200, (answer.status_code, path)
        return words(answer.text)

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

    def saved(self, path: str, fields: Fields, page: str | None = None) -> str:
        """The same, for a form that is saved: where the answer leads."""
        answer = self.send(path, fields, page)
        assert answer.status_code == 303, f"{answer.status_code}: {words(answer.text)[:2000]}"
        return str(answer.headers["location"])


def hidden(page: str) -> dict[str, str | list[str]]:
    """The hidden fields of a page's forms."""
    found: dict[str, list[str]] = {}
    for tag in re.findall(r'<input type="hidden"[^>]*>', page):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name is not None and value is not None and html.unescape(value[1]) not in found.get(name[1], []):
            found.setdefault(name[1], []).append(html.unescape(value[1]))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def field_value(page: str, name: str) -> str:
    """What stands in a field of a page."""
    area = re.search(rf'<textarea[^>]* name="{name}"[^>]*>(.*?)</textarea>', page, re.DOTALL)
    if area is not None:
        return html.unescape(area[1])
    tag = re.search(rf'<input[^>]* name="{name}"[^>]*>', page)
    value = re.search(r'value="([^"]*)"', tag[0]) if tag is not None else None
    return html.unescape(value[1]) if value is not None else ""


def words(page: str) -> str:
    """The text of a page."""
    body = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def name_of(path: str) -> str:
    """The id at the end of a page's path."""
    return path.rstrip("/").rpartition("/")[2]


def as_sent(page: str, action: str) -> dict[str, list[str]]:
    """What a browser sends of the form with this action, as it stands: a field of one line without line ends."""
    reader = _FormReader(action)
    reader.feed(page)
    reader.close()
    assert reader.seen, action
    return reader.fields


class _FormReader(HTMLParser):
    def __init__(self, action: str) -> None:
        super().__init__()
        self.action, self.seen, self.inside, self.area = action, False, False, ""
        self.fields: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.inside = given.get("action") == self.action
            self.seen = self.seen or self.inside
        name = given.get("name")
        if not self.inside or not name:
            return
        if tag == "textarea":
            self.area = name
            self.fields[name] = [""]
        elif tag == "input" and (given.get("type") not in ("radio", "checkbox") or "checked" in given):
            self.fields.setdefault(name, []).append(re.sub(r"[\r\n]", "", given.get("value") or ""))

    def handle_data(self, data: str) -> None:
        if self.area:
            self.fields[self.area][0] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self.area:
            text = self.fields[self.area][0]
            self.fields[self.area] = [text.removeprefix("\n").replace("\n", "\r\n")]
            self.area = ""
        if tag == "form":
            self.inside = False
