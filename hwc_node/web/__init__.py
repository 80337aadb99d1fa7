"""The centre's pages: what a community health officer works in all day, with or without a link to the hub.

The pages hold no rules of their own: a form becomes a verb of `clinic` or `visiting`, a list is read from `overview`.
They work without scripts, which only make them quicker. `make_app` puts the parts together; each part is a router over
one subject. The only room of the node that knows FastAPI.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.exceptions import HTTPException

from hwc_node.web import (
    cards,
    certificate,
    consenting,
    correcting,
    faults,
    finding,
    guards,
    lists,
    papers,
    patients,
    referring,
    registering,
    reports,
    unlocking,
    visits,
)
from hwc_node.web.desk import LOCK_SCREEN, NotIn, words_of
from hwc_node.web.premises import Premises
from sync_protocol.documents import id_text
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import assets, clinical, language
from sync_protocol.pages.rendering import Renderer
from sync_protocol.words import N_

SERVICE_NAME: Final = "Health Sync"
PARTS: Final = (
    unlocking,
    certificate,
    finding,
    registering,
    patients,
    consenting,
    cards,
    visits,
    correcting,
    referring,
    papers,
    lists,
    reports,
)

log = structlog.get_logger("hwc.web")


def make_app(premises: Premises, hosts: Sequence[str] = ()) -> FastAPI:
    """The pages' application. hosts: names by which a TLS proxy is called. Raises OurFault (``E_NO_ASSETS``)."""
    assets.assets()
    app = FastAPI(title="hwc", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.premises = premises
    app.state.renderer = _renderer()
    guards.add(app, _broken, hosts)
    app.add_api_route("/static/{digest}/{name}", guards.asset, methods=["GET"])
    app.add_api_route("/healthz", _alive, methods=["GET"])
    for part in PARTS:
        app.include_router(part.router)
    app.add_exception_handler(NotIn, _to_the_lock_screen)
    app.add_exception_handler(HealthSyncError, _refused)
    app.add_exception_handler(HTTPException, _not_there)
    return app


@cache
def _renderer() -> Renderer:
    """One for all apps of a process: it knows nothing of whose pages they are."""
    return Renderer(
        "hwc_node.web",
        {
            "service_name": SERVICE_NAME,
            "asset": assets.address,
            "languages": language.LANGUAGES,
            "clinical": clinical,
            "id_text": id_text,
        },
    )


def _alive() -> Response:
    return PlainTextResponse("ok\n")


def _to_the_lock_screen(request: Request, _error: Exception) -> Response:
    """And back again to the page."""
    response: Response = RedirectResponse(LOCK_SCREEN, 303)
    if request.headers.get("hx-request"):
        response = Response(status_code=204, headers={"hx-redirect": LOCK_SCREEN})
    unlocking.remember_way_back(response, request)
    return response


def _refused(request: Request, error: Any) -> Response:
    log.warning("refused", code=error.code)
    return _told(request, faults.status_of(error), lambda: faults.said_of(error), getattr(error, "next_step", ""))


def _not_there(request: Request, error: Any) -> Response:
    missing = error.status_code in (404, 405)
    text = N_("There is no such page.") if missing else N_("This cannot be done.")
    return _told(request, error.status_code, lambda: language.said(text))


def _broken(request: Request, error: Exception) -> Response:
    """A mistake of this program. Its text may quote a person, so only its type is logged."""
    log.error("broken", code="E_BUG", type=type(error).__name__, at=_place_of(error))
    text = N_("Something went wrong in this program. What was saved is safe. [E_BUG]")
    return _told(request, 500, lambda: language.said(text))


def _place_of(error: BaseException) -> str:
    """The file and line that it comes from, without what stood there."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _told(request: Request, status: int, text: Callable[[], str], next_step: str = "") -> Response:
    words = words_of(request)
    with language.speaking(words):
        said = text()
    renderer: Renderer = request.app.state.renderer
    page = renderer.page("told", words, nonce=request.state.nonce, said=said, next_step=next_step, csrf="")
    return HTMLResponse(page, status)
