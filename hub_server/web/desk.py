"""What a page's function of the hub works with: who is signed in, the store, and a way to answer.

Rules. Each page says which roles may see it; everybody else is refused, and who is not signed in is sent to the sign-in.
A form counts only with its session's own secret in it. What the hub reads of a patient for a page is in the audit before
the page is made: that is the charts' affair. A saved form answers with a redirect.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Final

import structlog
from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from hub_server import sign_in
from hub_server.people import Person, Role
from hub_server.sign_in import SignedIn, SignIn
from hub_server.store import Store
from hub_server.web import faults, guards
from sync_protocol.change import RecordId
from sync_protocol.documents import parse_id
from sync_protocol.errors import HealthSyncError, NotAllowed
from sync_protocol.pages import language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import Words
from sync_protocol.pages.rendering import Renderer
from sync_protocol.words import N_

COOKIE: Final = "hub_session"
LANGUAGE_COOKIE: Final = "language"
CSRF: Final = "csrf"
SIGN_IN: Final = "/sign-in"
RANDOM_BYTES: Final = 64  # what the most demanding verb takes; each takes what it needs

log = structlog.get_logger("hub.web")


class MustChange(Exception):
    """Whoever came in with a one-time password chooses their own first."""


class NotSignedIn(Exception):
    """Somebody who is not signed in asks for a page."""


@dataclass
class Place:
    """What all pages of one hub share. secure: the pages are reached by HTTPS only."""

    store: Store
    sign_in: SignIn
    now_ms: Callable[[], int]
    secure: bool


@dataclass
class Desk:
    """One request of somebody who is signed in."""

    place: Place
    request: Request
    signed: SignedIn
    renderer: Renderer

    @property
    def store(self) -> Store:
        return self.place.store

    @property
    def person(self) -> Person:
        return self.signed.person

    @property
    def now_ms(self) -> int:
        return self.place.now_ms()

    @property
    def today(self) -> date:
        """The day in India."""
        return language.india_day(self.now_ms)

    @cached_property
    def words(self) -> Words:
        return words_of(self.request)

    @property
    def token(self) -> str:
        return self.request.cookies.get(COOKIE, "")

    def randomness(self) -> bytes:
        return os.urandom(RANDOM_BYTES)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        now_ms = self.now_ms
        common: dict[str, Any] = {
            "place": "",
            "person": self.person,
            "csrf": self.signed.csrf,
            "nonce": self.request.state.nonce,
            "path": self.request.url.path,
            "now_ms": now_ms,
            "today": self.today,
            "errors": getattr(values.get("form"), "errors", {}),
        }
        return HTMLResponse(self.renderer.page(template, self.words, **(common | values)), status)

    def go(self, path: str) -> Response:
        return RedirectResponse(path, 303)

    def saved(self, form: Form, action: Callable[[], object]) -> bool:
        """Do what the form asks for; whether it is done. What was refused is told in the form, nothing is lost."""
        if form.errors:
            return False
        try:
            action()
        except HealthSyncError as error:
            log.warning("not_saved", code=error.code)
            with language.speaking(self.words):
                form.wrong(getattr(error, "field", "") or "form", faults.said_of(error))
            return False
        return True


def words_of(request: Request) -> Words:
    chosen = language.choose(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language"))
    return language.words_of(chosen)


def place_of(request: Request) -> Place:
    found: Place = request.app.state.place
    return found


def _signed_in(request: Request) -> SignedIn:
    place = place_of(request)
    token = request.cookies.get(COOKIE, "")
    with place.store.database.transaction() as connection:
        signed = sign_in.session_of(connection, token, place.now_ms()) if token else None
    if signed is None:
        raise NotSignedIn
    return signed


def _desk(request: Request, roles: frozenset[Role], *, changing: bool = False) -> Desk:
    signed = _signed_in(request)
    if signed.must_change and not changing:
        raise MustChange
    if signed.person.role not in roles:
        raise NotAllowed(N_("Your role does not have this page."), code="E_NOT_YOURS")
    return Desk(place_of(request), request, signed, request.app.state.renderer)


def doctor_at_work(request: Request) -> Desk:
    return _desk(request, frozenset({Role.DOCTOR}))


def overseer_at_work(request: Request) -> Desk:
    """Whoever may see numbers: nothing of a single patient."""
    return _desk(request, frozenset(Role))


def anyone(request: Request) -> Desk:
    """Whoever is signed in, also with a one-time password."""
    return _desk(request, frozenset(Role), changing=True)


def address_of(request: Request) -> str:
    """Whence a request comes, to count tries by: the proxy's word where there is one, since it stands in front."""
    forwarded = request.headers.get("x-forwarded-for", "") if place_of(request).secure else ""
    return forwarded.rpartition(",")[2].strip() or (request.client.host if request.client else "")


async def posted(request: Request) -> Form:
    """A form of who is signed in. Raises NotSignedIn for a form that is not of this session."""
    form = await guards.form_of(request)
    signed = _signed_in(request)
    if not signed.holds_csrf(form.value(CSRF)):
        raise NotSignedIn
    return form


def record_in(text: str) -> RecordId:
    """An id as a path has it. Raises InvalidValue (``E_BAD_ID``)."""
    return RecordId(parse_id(text))


Doctor = Annotated[Desk, Depends(doctor_at_work)]
Overseer = Annotated[Desk, Depends(overseer_at_work)]
Anyone = Annotated[Desk, Depends(anyone)]
Posted = Annotated[Form, Depends(posted)]
