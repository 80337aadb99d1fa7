"""The hub's pages: the doctors' queue, the case and the reply; the service in numbers for those who look after it.

The pages hold no rules of their own: a form becomes a verb of `consults`, a list is read by `charts`. They work without
scripts, which only make them quicker. `add_pages` puts them into the hub's application, beside the sync edge.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.exceptions import HTTPException

from hub_server.glances import Glances
from hub_server.sign_in import SERVICE_NAME, SignIn
from hub_server.store import Store
from hub_server.web import (
    account,
    attending,
    cases,
    centres,
    deciding,
    faults,
    guards,
    queueing,
    reviewing,
    scanning,
    service,
    signing_in,
)
from hub_server.web.desk import SIGN_IN, MustChange, NotSignedIn, Place, WrongRole, found_signed_in, framed, words_of
from sync_protocol.documents import id_text
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import assets, clinical, language
from sync_protocol.pages.rendering import Renderer
from sync_protocol.words import N_

PARTS: Final = (signing_in, account, queueing, attending, cases, scanning, reviewing, service, centres, deciding)

log = structlog.get_logger("hub.web")


def add_pages(
    app: FastAPI,
    store: Store,
    glances: Glances,
    now_ms: Callable[[], int],
    *,
    secure: bool,
    counted: Callable[[str], None],
    claim_lapse_ms: int,
) -> None:
    """secure: the pages are reached by HTTPS only, through a proxy. counted: is called with each verdict of the sign-in.
    claim_lapse_ms: after how long a doctor's claim keeps nobody away.

    Raises OurFault (``E_NO_ASSETS``).
    """
    assets.assets()
    app.state.place = Place(
        store, SignIn(store.database, store.vault, counted), glances, now_ms, secure, claim_lapse_ms
    )
    app.state.renderer = _renderer()
    app.add_api_route("/static/{digest}/{name}", guards.asset, methods=["GET"])
    for part in PARTS:
        app.include_router(part.router)
    app.add_exception_handler(NotSignedIn, _to_the_sign_in)
    app.add_exception_handler(MustChange, _to_the_password)
    app.add_exception_handler(WrongRole, _wrong_role)
    app.add_exception_handler(HealthSyncError, _refused)
    app.add_exception_handler(HTTPException, _not_there)
    app.add_exception_handler(RequestValidationError, _no_such_page)


@cache
def _renderer() -> Renderer:
    """One for all apps of a process: it knows nothing of whose pages they are."""
    return Renderer(
        "hub_server.web",
        {
            "service_name": SERVICE_NAME,
            "role_words": account.ROLE_WORDS,
            "asset": assets.address,
            "languages": language.LANGUAGES,
            "clinical": clinical,
            "id_text": id_text,
        },
    )


def _to_the_sign_in(request: Request, _error: Exception) -> Response:
    return signing_in.come_back(request, _to(request, SIGN_IN))


def _to_the_password(request: Request, _error: Exception) -> Response:
    return _to(request, signing_in.CHANGE)


def _to(request: Request, path: str) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=204, headers={"hx-redirect": path})
    if "text/event-stream" in request.headers.get("accept", ""):
        return Response(status_code=204)  # by which a browser asks no more
    return RedirectResponse(path, 303)


def _refused(request: Request, error: Any) -> Response:
    log.warning("refused", code=error.code)
    return _told(request, faults.status_of(error), lambda: faults.said_of(error))


def _wrong_role(request: Request, error: Any) -> Response:
    """Friendly: they did nothing wrong, and what they have stands in the frame around it."""
    log.warning("refused", code=error.code)
    return _told(request, 403, lambda: faults.said_of(error), title=N_("Not one of your pages"))


def _not_there(request: Request, error: Any) -> Response:
    if not hasattr(request.state, "nonce"):
        return PlainTextResponse("not found\n", error.status_code)  # a program asked, no browser
    if error.status_code in (404, 405):
        return _no_such_page(request, error)
    return _told(request, error.status_code, lambda: language.said(N_("This cannot be done.")))


def _no_such_page(request: Request, _error: Exception) -> Response:
    """Also for a path that is none by what stands in it: what stands there is not told again."""
    return _told(request, 404, lambda: language.said(N_("There is no such page.")))


def broken(request: Request, error: Exception) -> Response:
    """A mistake of this program. Its text may quote a person, so only its type and place are logged."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    log.error("broken", code="E_BUG", type=type(error).__name__, at=at)
    return _told(request, 500, lambda: language.said(N_("Something went wrong in this program. [E_BUG]")))


def _told(request: Request, status: int, text: Callable[[], str], title: str = N_("This did not work")) -> Response:
    words, signed = words_of(request), found_signed_in(request)
    with language.speaking(words):
        said, heading = text(), language.said(title)
    renderer: Renderer = request.app.state.renderer
    page = renderer.page("told", words, said=said, heading=heading, **framed(request, signed))
    return HTMLResponse(page, status)
