"""What every request passes before a page sees it, and every answer before it leaves.

A request names this machine: an address, ``localhost``, a name in ``.local`` or one that the operator gave; another name
would be a page of the internet that had its own name point here (DNS rebinding). A body is bounded and read whole. An
answer is kept by nobody, loads nothing from elsewhere and runs only the scripts that carry this answer's nonce.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync_protocol.errors import TooLarge
from sync_protocol.pages import assets
from sync_protocol.pages.forms import MAX_FIELDS, Form

MAX_BODY_BYTES: Final = (
    256 * 1024
)  # all texts of a visit at their longest, in a script of three bytes, as a form sends it
FORM_TYPE: Final = "application/x-www-form-urlencoded"
NONCE_BYTES: Final = 16
_ALWAYS: Final = {
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
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
        if not is_here(_header(scope, b"host"), self._hosts):
            await PlainTextResponse("This is not that host.\n", status_code=421)(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        scope.setdefault("state", {})["nonce"] = nonce

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                headers.setdefault("content-security-policy", _POLICY.format(nonce=nonce))
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, guarded)


def is_here(host: str, known: frozenset[str] = frozenset()) -> bool:
    """Whether a Host header can mean this machine. known: further names; ``*`` for any."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    name = name.strip("[]").lower()
    if not name:
        return False
    if "*" in known or name in known or name == "localhost" or name.endswith(".local"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


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
    headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.zipped, media_type=found.media_type, headers=headers | {"content-encoding": "gzip"})
    return Response(found.body, media_type=found.media_type, headers=headers)
