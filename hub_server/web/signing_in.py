"""Signing in and out: a login and a password, then a code; a one-time password is changed first."""

from __future__ import annotations

import os
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from hub_server import sign_in
from hub_server.web import faults, guards
from hub_server.web.desk import (
    COOKIE,
    LANGUAGE_COOKIE,
    RANDOM_BYTES,
    SIGN_IN,
    Anyone,
    Posted,
    address_of,
    place_of,
    words_of,
)
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said

PENDING_COOKIE: Final = "hub_pending"
PENDING_S: Final = 300
YEAR_S: Final = 365 * 86_400
CHANGE: Final = "/password"

router = APIRouter()
Sent = Annotated[Form, Depends(guards.form_of)]


def _screen(request: Request, template: str, form: Form, status: int = 200) -> Response:
    words = words_of(request)
    page = request.app.state.renderer.page(
        template, words, nonce=request.state.nonce, form=form, errors=form.errors, path=SIGN_IN
    )
    return HTMLResponse(page, status)


@router.get(SIGN_IN)
def first_page(request: Request) -> Response:
    return _screen(request, "sign_in", Form())


@router.post(SIGN_IN)
async def first_step(request: Request, form: Sent) -> Response:
    place = place_of(request)
    with language.speaking(words_of(request)):
        login = form.required("login", said("Enter your login"))
        password = form.given.pop("password", [""])[0]
        if not password:
            form.wrong("password", said("Enter your password"))
        if form.errors:
            return _screen(request, "sign_in", form, 422)
        try:
            pending = await run_in_threadpool(
                place.sign_in.begin, login, password, address_of(request), place.now_ms(), os.urandom(RANDOM_BYTES)
            )
        except HealthSyncError as error:
            form.wrong("password", faults.said_of(error))
            return _screen(request, "sign_in", form, 422)
    response = RedirectResponse("/sign-in/code", 303)
    response.set_cookie(
        PENDING_COOKIE, pending.token, max_age=PENDING_S, httponly=True, samesite="strict", secure=place.secure
    )
    return response


@router.get("/sign-in/code")
def second_page(request: Request) -> Response:
    if not request.cookies.get(PENDING_COOKIE):
        return RedirectResponse(SIGN_IN, 303)
    return _screen(request, "sign_in_code", Form())


@router.post("/sign-in/code")
def second_step(request: Request, form: Sent) -> Response:
    place = place_of(request)
    with language.speaking(words_of(request)):
        code = form.required("code", said("Enter the code of your authenticator"))
        form.given.pop("code", None)
        if form.errors:
            return _screen(request, "sign_in_code", form, 422)
        try:
            token = place.sign_in.finish(
                request.cookies.get(PENDING_COOKIE, ""), code, place.now_ms(), os.urandom(RANDOM_BYTES)
            )
        except HealthSyncError as error:
            form.wrong("code", faults.said_of(error))
            return _screen(request, "sign_in_code", form, 422)
    response = RedirectResponse("/", 303)
    response.delete_cookie(PENDING_COOKIE)
    set_session(response, token, secure=place.secure)
    return response


def set_session(response: Response, token: str, *, secure: bool) -> None:
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)


@router.post("/sign-out")
def sign_out(request: Request, _form: Posted) -> Response:
    place = place_of(request)
    with place.store.database.transaction() as connection:
        sign_in.sign_out(connection, request.cookies.get(COOKIE, ""), place.now_ms())
    response = RedirectResponse(SIGN_IN, 303)
    response.delete_cookie(COOKIE)
    return response


@router.get(CHANGE)
def change_page(desk: Anyone) -> Response:
    return desk.page("password", form=Form())


@router.post(CHANGE)
def change(desk: Anyone, form: Posted) -> Response:
    old, new, twice = (form.given.pop(name, [""])[0] for name in ("old", "password", "twice"))
    with language.speaking(desk.words):
        if new != twice:
            form.wrong("twice", said("The two passwords differ"))
        token = ""
        if not form.errors:
            try:
                token = desk.place.sign_in.change_password(desk.token, old, new, desk.now_ms, os.urandom(RANDOM_BYTES))
            except HealthSyncError as error:
                form.wrong("old" if error.code == "E_WRONG_OLD_PASSWORD" else "password", faults.said_of(error))
    if form.errors:
        return desk.page("password", form=form, status=422)
    response = desk.go("/")
    set_session(response, token, secure=desk.place.secure)
    return response


@router.post("/language")
def choose_language(form: Sent) -> Response:
    path = form.value("to")
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isascii() and path.isprintable()
    response = RedirectResponse(path if inside and len(path) < 200 else "/", 303)
    if (code := form.value("language")) in language.LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, code, max_age=YEAR_S, samesite="strict", httponly=True)
    return response
