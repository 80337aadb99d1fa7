"""A browser for programs: one connection that is kept, cookies, and forms that are sent with what is hidden in them."""

from __future__ import annotations

import html
import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final
from urllib.parse import urlencode, urlsplit

from bench.places import StepFailed, hold

TIMEOUT_S: Final = 60.0
FORM: Final = "application/x-www-form-urlencoded"

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """location: where a redirect leads, empty for none."""

    status: int
    text: str
    location: str
    size_bytes: int


@dataclass
class Browser:
    """url: of the server."""

    url: str
    cookies: dict[str, str] = field(default_factory=dict)
    _connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def get(self, path: str, *, script: bool = False) -> Answer:
        """script: as a page's own script asks."""
        return self._ask("GET", path, None, script)

    def post(self, path: str, fields: Fields, *, script: bool = False) -> Answer:
        return self._ask("POST", path, urlencode(fields), script)

    def send(self, path: str, fields: Fields, page: str = "") -> str:
        """Fill the form of a page and send it; where the answer leads. Raises StepFailed where it was not taken."""
        shown = self.get(page or path)
        hold(shown.status == 200, f"{page or path} answered {shown.status}")
        answer = self.post(path, hidden(shown.text) | dict(fields))
        if answer.status != 303:
            wrong = re.findall(r"error-message\"[^>]*>(.*?)</span>\s*([^<]*)", answer.text)
            raise StepFailed(f"{path} answered {answer.status}: {wrong}")
        return answer.location

    def _ask(self, method: str, path: str, body: str | None, script: bool) -> Answer:
        if self._connection is None:
            parts = urlsplit(self.url)
            self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        headers |= {"content-type": FORM} if body is not None else {}
        headers |= {"hx-request": "true"} if script else {}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        raw = answer.read()
        for said in answer.headers.get_all("set-cookie") or []:
            name, _, value = said.partition(";")[0].partition("=")
            self.cookies[name] = value.strip('"')
        return Answer(answer.status, raw.decode("utf-8", "replace"), answer.headers.get("location") or "", len(raw))


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of a page's forms, the first of each name."""
    found: dict[str, str] = {}
    for tag in re.findall(r'<input type="hidden"[^>]*>', page):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name is not None and value is not None:
            found.setdefault(name[1], html.unescape(value[1]))
    return found
