"""What every request to the doctors' pages passes before a page sees it, and every answer before it leaves.

The rules are `sync_protocol.pages.guarding`; here they are carried out. A body is bounded and read whole.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync_protocol.errors import TooLarge
from sync_protocol.pages import assets
from sync_protocol.pages.forms import MAX_FIELDS, Form
from sync_protocol.pages.guarding import (
    FORM_TYPE,
    HEADERS,
    KEPT_FOR_GOOD,
    MAX_BODY_BYTES,
    NONCE_BYTES,
    NOT_KEPT,
    is_here,
    is_ours,
    policy,
)


class Guard:
    """ASGI: refuses foreign hosts and other sites' forms, gives each request its nonce and each answer its headers.

    broken: the answer where a page failed; it is guarded like any other, and the error goes on to the server's log.
    apart: paths that are no pages, and with a slash at the end all below. hosts: further names of this machine; ``*``
    where a proxy's certificate vouches.
    """

    def __init__(
        self,
        app: ASGIApp,
        broken: Callable[[Request, Exception], Response],
        apart: Sequence[str] = (),
        hosts: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._broken = broken
        self._apart = tuple(apart)
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_apart(scope["path"]):
            await self._app(scope, receive, send)
            return
        nonce, begun = secrets.token_urlsafe(NONCE_BYTES), False
        scope.setdefault("state", {})["nonce"] = nonce

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("content-security-policy", policy(nonce))
                headers.setdefault("cache-control", NOT_KEPT)
            await send(message)

        refused = self._refused(scope)
        if refused is not None:
            await refused(scope, receive, guarded)
            return
        try:
            await self._app(scope, receive, guarded)
        except Exception as error:
            if not begun:
                await self._broken(Request(scope), error)(scope, receive, guarded)
            raise

    def _is_apart(self, path: str) -> bool:
        return any(path.startswith(one) if one.endswith("/") else path == one for one in self._apart)

    def _refused(self, scope: Scope) -> Response | None:
        if not is_here(_header(scope, b"host"), self._hosts):
            return PlainTextResponse("This is not that host.\n", status_code=421)
        if not is_ours(scope["method"], _header(scope, b"sec-fetch-site")):
            return PlainTextResponse("This form is not from here.\n", status_code=403)
        return None


def _header(scope: Scope, wanted: bytes) -> str:
    """The first of that name; empty where there is none."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


async def form_of(request: Request) -> Form:
    """What a form sent, bounded. Raises TooLarge (``E_TOO_LARGE``)."""
    if not request.headers.get("content-type", "").startswith(FORM_TYPE):
        return Form()
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge("The form is larger than any that these pages have.")
    text = bytes(body).decode("utf-8", "replace")
    try:
        return Form.of(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise TooLarge("The form has more fields than any that these pages have.") from None


def asset(request: Request) -> Response:
    """A style or a script; its address changes with it, so it may be kept for good."""
    found = assets.at(request.url.path)
    if found is None:
        return PlainTextResponse("not found\n", status_code=404)
    headers = {"cache-control": KEPT_FOR_GOOD, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.zipped, media_type=found.media_type, headers=headers | {"content-encoding": "gzip"})
    return Response(found.body, media_type=found.media_type, headers=headers)
