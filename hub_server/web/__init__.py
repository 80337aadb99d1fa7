"""The hub's pages: the doctors' queue, the case and the reply; the service in numbers for those who look after it.

The pages hold no rules of their own: a form becomes a verb of `consults`, a list is read by `charts`. They work without
scripts, which only make them quicker. `add_pages` puts them into the hub's application, beside the sync edge.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from hub_server.sign_in import SignIn
from hub_server.store import Store
from hub_server.web import cases, faults, guards, queueing, service, signing_in
from hub_server.web.desk import SIGN_IN, MustChange, NotSignedIn, Place, words_of
from sync_protocol.documents import id_text
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import assets, clinical, language
from sync_protocol.pages.rendering import Renderer
from sync_protocol.words import N_

SERVICE_NAME: Final = "Health Sync"
PARTS: Final = (signing_in, queueing, cases, service)

log = structlog.get_logger("hub.web")


def add_pages(app: FastAPI, store: Store, now_ms: Callable[[], int], *, secure: bool) -> None:
    """secure: the pages are reached by HTTPS only, through a proxy. Raises OurFault (``E_NO_ASSETS``)."""
    assets.assets()
    app.state.place = Place(store, SignIn(store.database, store.vault), now_ms, secure)
    app.state.renderer = Renderer(
        "hub_server.web",
        {
            "service_name": SERVICE_NAME,
            "asset": assets.address,
            "languages": language.LANGUAGES,
            "clinical": clinical,
            "id_text": id_text,
        },
    )
    app.add_api_route("/static/{digest}/{name}", guards.asset, methods=["GET"])
    for part in PARTS:
        app.include_router(part.router)
    app.add_exception_handler(NotSignedIn, _to_the_sign_in)
    app.add_exception_handler(MustChange, _to_the_password)
    app.add_exception_handler(HealthSyncError, _refused)
    app.add_exception_handler(HTTPException, _not_there)
    app.add_exception_handler(Exception, _broken)


def _to_the_sign_in(request: Request, _error: Exception) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=204, headers={"hx-redirect": SIGN_IN})
    return RedirectResponse(SIGN_IN, 303)


def _to_the_password(_request: Request, _error: Exception) -> Response:
    return RedirectResponse(signing_in.CHANGE, 303)


def _refused(request: Request, error: Any) -> Response:
    log.warning("refused", code=error.code)
    return _told(request, faults.status_of(error), lambda: faults.said_of(error))


def _not_there(request: Request, error: Any) -> Response:
    missing = error.status_code in (404, 405)
    text = N_("There is no such page.") if missing else N_("This cannot be done.")
    return _told(request, error.status_code, lambda: language.said(text))


def _broken(request: Request, error: Exception) -> Response:
    """A mistake of this program. Its text may quote a person, so only its type and place are logged."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    log.error("broken", code="E_BUG", type=type(error).__name__, at=at)
    return _told(request, 500, lambda: language.said(N_("Something went wrong in this program. [E_BUG]")))


def _told(request: Request, status: int, text: Callable[[], str]) -> Response:
    words = words_of(request)
    with language.speaking(words):
        said = text()
    renderer: Renderer = request.app.state.renderer
    page = renderer.page("told", words, nonce=getattr(request.state, "nonce", ""), said=said, csrf="")
    return HTMLResponse(page, status)
