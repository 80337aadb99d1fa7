"""The lock screen, the way in and out, and the choice of language."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from hwc_node.web import addresses, faults, guards
from hwc_node.web.desk import HOME, LANGUAGE_COOKIE, LOCK_SCREEN, Posted, premises_of, session_of, words_of
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import language
from sync_protocol.pages.forms import Form

BACK_COOKIE: Final = "back"
YEAR_S: Final = 365 * 86_400
BACK_S: Final = 24 * 3600

router = APIRouter()
Sent = Annotated[Form, Depends(guards.form_of)]


def remember_way_back(response: Response, request: Request) -> None:
    """Where to go on after unlocking: the page that was asked for, or that asked for something by itself.

    Paths hold ids, never anything of a patient; that it is one of our pages is looked at when it is used (`_back`).
    """
    asked_by_itself = request.headers.get("hx-current-url", "")
    path = urlsplit(asked_by_itself).path if asked_by_itself else str(request.url.path)
    if len(path) <= guards.MAX_PATH_CHARS and path not in (HOME, LOCK_SCREEN, "/lock"):
        response.set_cookie(BACK_COOKIE, path, max_age=BACK_S, httponly=True, samesite="strict")


@router.get(LOCK_SCREEN)
def lock_screen(request: Request) -> Response:
    return _screen(request, Form())


def _screen(request: Request, form: Form, status: int = 200) -> Response:
    premises = premises_of(request)
    session = session_of(request, used=False)
    if session is not None and "name" not in form.given:
        form.given["name"] = [session.name]
    page = request.app.state.renderer.page(
        "unlock",
        words_of(request),
        nonce=request.state.nonce,
        form=form,
        errors=form.errors,
        people=premises.people(),
        was=session.name if session is not None else "",
        safe_address=addresses.safe_address(request, LOCK_SCREEN),
    )
    return HTMLResponse(page, status)


@router.post(LOCK_SCREEN)
async def unlock(request: Request, form: Sent) -> Response:
    with language.speaking(words_of(request)):
        name = form.required("name", language.said("Choose your name"))
        passphrase = form.given.get("passphrase", [""])[0]
        if not passphrase:
            form.wrong("passphrase", language.said("Type your passphrase"))
        form.given.pop("passphrase", None)
        if form.errors:
            return _screen(request, form, 422)
        premises = premises_of(request)
        try:
            encrypted = addresses.is_encrypted(request)
            _, token = await run_in_threadpool(premises.unlock, name, passphrase, encrypted=encrypted)
        except HealthSyncError as error:
            form.wrong("passphrase", faults.said_of(error))
            return _screen(request, form, 422)
    response = RedirectResponse(_back(request), 303)
    premises.sessions.end(addresses.token_of(request))
    response.set_cookie(addresses.cookie_of(request), token, httponly=True, samesite="strict", secure=encrypted)
    response.delete_cookie(BACK_COOKIE)
    return response


def _back(request: Request) -> str:
    return guards.page_at(request, request.cookies.get(BACK_COOKIE, HOME))


@router.post("/lock")
def lock(request: Request, _form: Posted) -> Response:
    premises_of(request).sessions.lock(addresses.token_of(request))
    return RedirectResponse(LOCK_SCREEN, 303)


@router.post("/language")
def choose_language(request: Request, form: Sent) -> Response:
    """Not a secret and not a patient's: it needs nobody to be in."""
    response = RedirectResponse(guards.page_at(request, form.value("to")), 303)
    if (code := form.value("language")) in language.LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, code, max_age=YEAR_S, samesite="strict", httponly=True)
    return response
