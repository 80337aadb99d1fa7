"""What every request passes before a page sees it, and every answer before it leaves.

The rules are `sync_protocol.pages.guarding`; here they are carried out. A body is bounded and read whole.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from urllib.parse import parse_qsl

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hwc_node.web import addresses
from sync_protocol.errors import TooLarge
from sync_protocol.pages import assets
from sync_protocol.pages.forms import MAX_FIELDS, Form
from sync_protocol.pages.guarding import (
    FORM_TYPE,
    KEPT_FOR_GOOD,
    MAX_BODY_BYTES,
    NONCE_BYTES,
    NOT_KEPT,
    PLAIN_HEADERS,
    SEEING_HEADERS,
    host_name,
    is_here,
    policy,
)


class Guard:
    """ASGI: refuses foreign hosts, gives each request its nonce and each answer its headers."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = _header(scope, b"host")
        if not is_here(host, self._hosts):
            await PlainTextResponse("This is not that host.\n", status_code=421)(scope, receive, send)
            return
        trusted = addresses.is_trusted(scope.get("scheme", ""), host_name(host))
        own = SEEING_HEADERS if trusted else PLAIN_HEADERS
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        scope.setdefault("state", {})["nonce"] = nonce

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(own)
                headers.setdefault("content-security-policy", policy(nonce))
                headers.setdefault("cache-control", NOT_KEPT)
            await send(message)

        await self._app(scope, receive, guarded)


def _header(scope: Scope, wanted: bytes) -> str:
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
