"""What every request passes before a page sees it and every answer before it leaves, as ASGI: the same on both sides.

The rules are `guarding`; here they are carried out, without any framework. A foreign host and another site's form are
refused before anything is read, each request gets its nonce, each answer its headers, and a page that failed is answered
like any other. A form is bounded while it is read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from sync_protocol.errors import TooLarge
from sync_protocol.pages.forms import MAX_FIELDS, Form
from sync_protocol.pages.guarding import FORM_TYPE, MAX_BODY_BYTES, NOT_KEPT, is_here, is_ours, policy
from sync_protocol.pages.language import choose, words_of
from sync_protocol.words import N_

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

NOT_THAT_HOST: Final = N_("These pages are not to be found under this name. Use the address that their computer shows.")
NOT_FROM_HERE: Final = N_("This form was sent by another site. Nothing was changed.")


class Guard:
    """headers: of an answer to this request. draw: a new nonce. broken: the answer where a page failed; the error goes on
    to the server's log. apart: paths that are no pages, and with a slash at the end all below. hosts: further names of
    this machine; ``*`` where a proxy's certificate vouches.
    """

    def __init__(
        self,
        app: Application,
        headers: Callable[[Scope], Mapping[str, str]],
        draw: Callable[[], str],
        broken: Callable[[Scope, Exception], Application],
        apart: Sequence[str] = (),
        hosts: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._headers = headers
        self._draw = draw
        self._broken = broken
        self._apart = tuple(apart)
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_apart(scope["path"]):
            await self._app(scope, receive, send)
            return
        nonce, begun = self._draw(), False
        scope.setdefault("state", {})["nonce"] = nonce
        own = dict(self._headers(scope))

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = _with(message.get("headers", ()), own, policy(nonce))
            await send(message)

        refused = self._refused(scope)
        if refused is not None:
            await refused(scope, receive, guarded)
            return
        try:
            await self._app(scope, receive, guarded)
        except Exception as error:
            if not begun:
                await self._broken(scope, error)(scope, receive, guarded)
            raise

    def _is_apart(self, path: str) -> bool:
        return any(path.startswith(one) if one.endswith("/") else path == one for one in self._apart)

    def _refused(self, scope: Scope) -> Application | None:
        if not is_here(header(scope, b"host"), self._hosts):
            return _plain(421, NOT_THAT_HOST)
        if not is_ours(scope["method"], header(scope, b"sec-fetch-site")):
            return _plain(403, NOT_FROM_HERE)
        return None


def _with(given: Any, own: Mapping[str, str], content_policy: str) -> list[tuple[bytes, bytes]]:
    """An answer's headers with those of every answer; a page may say itself what it loads, and how long it is kept."""
    named = {name.encode(): value.encode() for name, value in own.items()}
    kept = [(bytes(name), bytes(value)) for name, value in given if bytes(name).lower() not in named]
    there = {name.lower() for name, _ in kept}
    for name, value in ((b"content-security-policy", content_policy), (b"cache-control", NOT_KEPT)):
        if name not in there:
            kept.append((name, value.encode()))
    return [*kept, *named.items()]


def header(scope: Scope, wanted: bytes) -> str:
    """The first of that name; empty where there is none."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _plain(status: int, text: str) -> Application:
    """A sentence, in the language that the browser asks for."""

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        words = words_of(choose(None, header(scope, b"accept-language")))
        body = f"{words.gettext(text)}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


async def form_in(content_type: str, parts: AsyncIterator[bytes]) -> Form:
    """What a form sent, bounded. Raises TooLarge (``E_TOO_LARGE``)."""
    if not content_type.startswith(FORM_TYPE):
        return Form()
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(N_("The form is larger than any that these pages have."))
    text = bytes(body).decode("utf-8", "replace")
    try:
        return Form.of(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise TooLarge(N_("The form has more fields than any that these pages have.")) from None


def page_at(path: str, is_page: Callable[[str], bool]) -> str:
    """The page that a form's path belongs to: the path itself, or the nearest above it that may be asked for."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isascii() and path.isprintable()
    while inside and path and not is_page(path):
        path = path.rpartition("/")[0]
    return path if inside and path else "/"
