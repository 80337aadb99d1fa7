"""What every request to the hub's pages passes before a page sees it, and every answer before it leaves
(`sync_protocol.pages.gate`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.routing import Match

from sync_protocol.pages import assets, gate
from sync_protocol.pages.forms import Form
from sync_protocol.pages.gate import Guard
from sync_protocol.pages.guarding import HEADERS, NONCE_BYTES

MAX_PATH_CHARS: Final = 200


def add(
    app: FastAPI, broken: Callable[[Request, Exception], Response], apart: Sequence[str], hosts: Sequence[str]
) -> None:
    """apart: paths that are no pages. hosts: further names of this machine; ``*`` where a proxy's certificate vouches."""
    app.add_middleware(
        Guard,
        headers=lambda _scope: HEADERS,
        draw=lambda: secrets.token_urlsafe(NONCE_BYTES),
        broken=lambda scope, error: broken(Request(scope), error),
        apart=apart,
        hosts=hosts,
    )


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
