"""The local pages: for now one page of plain text that says how the node is, and a word for who watches it.

Rules: nothing of any patient is shown. Requests that name another host are refused, so that a page on the internet
cannot read this one through somebody's browser. The only module of the node that knows FastAPI.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sync_protocol.errors import HealthSyncError

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1", "[::1]")
GUARDS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def make_app(status_lines: Callable[[], Sequence[str]], hosts: Sequence[str] = ()) -> FastAPI:
    """The pages' application. status_lines: what the page says now. hosts: names by which a TLS proxy is called."""
    app = FastAPI(title="hwc", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL_HOSTS, *hosts], www_redirect=False)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], object]) -> Response:
        answer: Response = await call_next(request)  # type: ignore[misc]  # Starlette's own type is not exported
        answer.headers.update(GUARDS)
        return answer

    @app.get("/", response_class=PlainTextResponse)
    def status_page() -> PlainTextResponse:
        try:
            return PlainTextResponse("\n".join(status_lines()) + "\n")
        except HealthSyncError as error:
            return PlainTextResponse(f"{error.message} [{error.code}]\n", status_code=503)

    @app.get("/healthz", response_class=PlainTextResponse)
    def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    return app
