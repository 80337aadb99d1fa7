"""Signing in and out: a login and a password, then a code. The first time a one-time password leads to a person's own,
and to their authenticator; later it only has to be changed.

The forms before a session have no secret of a session in them. The first alone does nothing for whoever has it sent from
elsewhere: its answer's cookie comes back only with this server's own pages (SameSite), and what the browser says of
another site's form is refused before it comes here (`guards`). A new session never takes over a token that came with
the request: whatever session the browser had ends.
"""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from hub_server import sign_in
from hub_server.web import drawing, faults, guards
from hub_server.web.cookies import BACK, LANGUAGE, PENDING, SESSION, YEAR_S
from hub_server.web.desk import (
    RANDOM_BYTES,
    SIGN_IN,
    AnyoneChanging,
    Desk,
    Posted,
    Sent,
    address_of,
    framed,
    place_of,
    words_of,
)
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said

CODE: Final = "/sign-in/code"
SET_UP: Final = "/sign-in/set-up"
CHANGE: Final = "/password"

router = APIRouter()


def _screen(request: Request, template: str, form: Form, status: int = 200, **values: Any) -> Response:
    renderer = request.app.state.renderer
    page = renderer.page(template, words_of(request), form=form, errors=form.errors, **(framed(request, None) | values))
    return HTMLResponse(page, status)


@router.get(SIGN_IN)
def first_page(request: Request) -> Response:
    return _screen(request, "sign_in", Form())


@router.post(SIGN_IN)
def first_step(request: Request, form: Sent) -> Response:
    place = place_of(request)
    with language.speaking(words_of(request)):
        login = form.required("login", said("Enter your login"))
        password = form.given.pop("password", [""])[0]
        if not password:
            form.wrong("password", said("Enter your password"))
        if form.errors:
            return _screen(request, "sign_in", form, 422)
        try:
            pending = place.sign_in.begin(
                login, password, address_of(request), place.now_ms(), os.urandom(RANDOM_BYTES)
            )
        except HealthSyncError as error:
            return _not_yet(request, "sign_in", form, "password", error)
    response = RedirectResponse(SET_UP if pending.is_first else CODE, 303)
    place.cookies.set(response, PENDING, pending.token, (pending.expires_ms - place.now_ms()) // 1000)
    return response


def _not_yet(request: Request, template: str, form: Form, field: str, error: HealthSyncError) -> Response:
    """The page again, with what was refused beside its field."""
    form.wrong(field, faults.said_of(error))
    return faults.with_retry(_screen(request, template, form, faults.status_of_sign_in(error)), error)


@router.get(CODE)
def second_page(request: Request) -> Response:
    if not place_of(request).cookies.read(request, PENDING):
        return RedirectResponse(SIGN_IN, 303)
    return _screen(request, "sign_in_code", Form())


@router.post(CODE)
def second_step(request: Request, form: Sent) -> Response:
    place = place_of(request)
    with language.speaking(words_of(request)):
        code = form.required("code", said("Enter the code of your authenticator"))
        form.given.pop("code", None)
        if form.errors:
            return _screen(request, "sign_in_code", form, 422)
        try:
            pending = place.cookies.read(request, PENDING)
            token = place.sign_in.finish(pending, code, place.now_ms(), os.urandom(RANDOM_BYTES))
        except HealthSyncError as error:
            return _not_yet(request, "sign_in_code", form, "code", error)
    return _signed_in(request, token)


def _signed_in(request: Request, token: str) -> Response:
    """On under the new session alone: to the first page, or to where this person was when the one before was over."""
    place, path = place_of(request), "/"
    before = place.cookies.read(request, SESSION)
    if before:
        with place.store.database.transaction() as connection:
            if sign_in.owner_of(connection, before) == sign_in.owner_of(connection, token):
                path = guards.page_at(request, place.cookies.read(request, BACK))
            sign_in.sign_out(connection, before, place.now_ms())
    response = RedirectResponse(path, 303)
    place.cookies.drop(response, PENDING)
    if place.cookies.read(request, BACK):
        place.cookies.drop(response, BACK)
    place.cookies.set(response, SESSION, token)
    return response


def come_back(request: Request, response: Response) -> Response:
    """Let the browser keep which page somebody was at when their session was over; nothing that they typed."""
    cookies = place_of(request).cookies
    asked_from = urlsplit(request.headers.get("hx-current-url", "")).path or request.url.path
    if cookies.read(request, SESSION) and (page := guards.page_at(request, asked_from)) != "/":
        cookies.set(response, BACK, page)
    return response


# -- the first time ----------------------------------------------------------------------------------------------------


@router.get(SET_UP)
def set_up_page(request: Request) -> Response:
    """Shown to the browser that gave the one-time password, and to no other."""
    try:
        return _set_up_screen(request, Form())
    except sign_in.Refused:
        return RedirectResponse(SIGN_IN, 303)


def _set_up_screen(request: Request, form: Form, status: int = 200) -> Response:
    place = place_of(request)
    found = place.sign_in.setting_up(place.cookies.read(request, PENDING), place.now_ms())
    return _screen(
        request,
        "set_up",
        form,
        status,
        login=found.person.login,
        person_name=found.person.name,
        secret=found.csrf,
        **drawing.shown(found.factor),
    )


@router.post(SET_UP)
def set_up(request: Request, form: Sent) -> Response:
    place = place_of(request)
    pending = place.cookies.read(request, PENDING)
    with language.speaking(words_of(request)):
        password = new_password(form)
        code = form.required("code", said("Enter the code that your authenticator shows now"))
        form.given.pop("code", None)
        try:
            if not place.sign_in.setting_up(pending, place.now_ms()).holds_csrf(form.value("csrf")):
                return RedirectResponse(SIGN_IN, 303)
            if form.errors:
                return _set_up_screen(request, form, 422)
            token = place.sign_in.set_up(pending, password, code, place.now_ms(), os.urandom(RANDOM_BYTES))
        except HealthSyncError as error:
            return _set_up_again(request, form, error)
    return _signed_in(request, token)


def _set_up_again(request: Request, form: Form, error: HealthSyncError) -> Response:
    """The page with what was wrong; where its time or its tries are over, the sign-in, which says so."""
    form.wrong("password" if getattr(error, "field", "") == "password" else "code", faults.said_of(error))
    try:
        return faults.with_retry(_set_up_screen(request, form, faults.status_of_sign_in(error)), error)
    except sign_in.Refused as over:
        return _not_yet(request, "sign_in", Form(), "login", over)


def new_password(form: Form) -> str:
    """A password that was typed twice; neither is shown again. What is wrong with it stands in the form."""
    new, twice = (form.given.pop(name, [""])[0] for name in ("password", "twice"))
    if not new:
        form.wrong("password", said("Enter a new password"))
    elif new != twice:
        form.wrong("twice", said("The two passwords differ"))
    return new


# -- while one is in ---------------------------------------------------------------------------------------------------


@router.post("/sign-out")
def sign_out(request: Request, _form: Posted) -> Response:
    place = place_of(request)
    with place.store.database.transaction() as connection:
        sign_in.sign_out(connection, place.cookies.read(request, SESSION), place.now_ms())
    response = RedirectResponse(SIGN_IN, 303)
    place.cookies.drop(response, SESSION)
    return response


@router.get(CHANGE)
def change_page(desk: AnyoneChanging) -> Response:
    return _change_screen(desk, Form())


def _change_screen(desk: Desk, form: Form, status: int = 200) -> Response:
    return desk.page("password", form=form, status=status, must_change=desk.signed.must_change)


@router.post(CHANGE)
def change(desk: AnyoneChanging, form: Posted) -> Response:
    with language.speaking(desk.words):
        old = form.given.pop("old", [""])[0]
        if not old:
            form.wrong("old", said("Enter the password that you have"))
        new = new_password(form)
        if form.errors:
            return _change_screen(desk, form, 422)
        try:
            token = desk.place.sign_in.change_password(desk.token, old, new, desk.now_ms, os.urandom(RANDOM_BYTES))
        except HealthSyncError as error:
            form.wrong("password" if getattr(error, "field", "") == "password" else "old", faults.said_of(error))
            return faults.with_retry(_change_screen(desk, form, faults.status_of_sign_in(error)), error)
    response = desk.go("/")
    desk.place.cookies.set(response, SESSION, token)
    return response


@router.post("/language")
def choose_language(request: Request, form: Sent) -> Response:
    response = RedirectResponse(guards.page_at(request, form.value("to")), 303)
    if (code := form.value("language")) in language.LANGUAGES:
        place_of(request).cookies.set(response, LANGUAGE, code, YEAR_S)
    return response
