"""What every request passes before a page sees it, and every answer before it leaves (`sync_protocol.pages.gate`).

A page that comes over the centre's Wi-Fi without encryption gets only the headers that a browser heeds there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.routing import Match

from hwc_node.web import addresses
from sync_protocol.pages import assets, gate
from sync_protocol.pages.forms import Form
from sync_protocol.pages.gate import Guard, Scope
from sync_protocol.pages.guarding import NONCE_BYTES, PLAIN_HEADERS, SEEING_HEADERS, host_name

MAX_PATH_CHARS: Final = 200


def add(app: FastAPI, broken: Callable[[Request, Exception], Response], hosts: Sequence[str]) -> None:
    """hosts: further names of this machine; ``*`` where a proxy's certificate vouches."""
    app.add_middleware(
        Guard,
        headers=_headers,
        draw=lambda: secrets.token_urlsafe(NONCE_BYTES),
        broken=lambda scope, error: broken(Request(scope), error),
        hosts=hosts,
    )


def _headers(scope: Scope) -> Mapping[str, str]:
    trusted = addresses.is_trusted(scope.get("scheme", ""), host_name(gate.header(scope, b"host")))
    return SEEING_HEADERS if trusted else PLAIN_HEADERS


async def form_of(request: Request) -> Form:
    """What a form sent, bounded. Raises TooLarge (``E_TOO_LARGE``)."""
    return await gate.form_in(request.headers.get("content-type", ""), request.stream())


def asset(request: Request) -> Response:
    """A style or a script; its address changes with it, so it may be kept for good."""
    status, body, headers = assets.answer(request.url.path, request.headers.get("accept-encoding", ""))
    return Response(body, status, headers)


def page_at(request: Request, path: str) -> str:
    """The page of this server that a path belongs to, for the way back to where somebody was; no address of elsewhere."""

    def is_page(one: str) -> bool:
        scope = {"type": "http", "method": "GET", "path": one, "headers": [], "root_path": ""}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)

    return gate.page_at(path, is_page) if len(path) <= MAX_PATH_CHARS else "/"
