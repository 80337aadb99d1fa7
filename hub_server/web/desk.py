"""What a page's function of the hub works with: who is signed in, the store, and a way to answer.

Rules. Each page says which roles may see it; everybody else is refused, and who is not signed in is sent to the sign-in.
The session is read once for a request. What a page asks for by itself keeps no session alive. A form counts only with its
session's own secret in it. What the hub reads of a patient for a page is in the audit before the page is made: that is
the charts' affair. A saved form answers with a redirect.
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
from hub_server.glances import Glances
from hub_server.people import Person, Role
from hub_server.sign_in import SignedIn, SignIn
from hub_server.store import Store
from hub_server.web import faults, guards
from hub_server.web.cookies import LANGUAGE, SESSION, Cookies
from sync_protocol.change import RecordId
from sync_protocol.documents import parse_id
from sync_protocol.errors import HealthSyncError, NotAllowed
from sync_protocol.pages import language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import Words
from sync_protocol.pages.rendering import Renderer
from sync_protocol.words import N_

CSRF: Final = "csrf"
SIGN_IN: Final = "/sign-in"
RANDOM_BYTES: Final = 64  # what the most demanding verb takes; each takes what it needs

log = structlog.get_logger("hub.web")


Sent = Annotated[Form, Depends(guards.form_of)]


class MustChange(Exception):
    """Whoever came in with a one-time password chooses their own first."""


class NotSignedIn(Exception):
    """Somebody who is not signed in asks for a page."""


class WrongRole(NotAllowed):
    """A page that this person's role does not have."""

    default_code = "E_NOT_YOURS"


@dataclass
class Place:
    """What all pages of one hub share. secure: the pages are reached by HTTPS only. claim_lapse_ms: after how long a
    doctor's claim keeps nobody away."""

    store: Store
    sign_in: SignIn
    glances: Glances
    now_ms: Callable[[], int]
    secure: bool
    claim_lapse_ms: int

    @property
    def cookies(self) -> Cookies:
        return Cookies(self.secure)


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
        return self.place.cookies.read(self.request, SESSION)

    def randomness(self) -> bytes:
        return os.urandom(RANDOM_BYTES)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        now_ms = self.now_ms
        common: dict[str, Any] = {
            "place": "",
            **framed(self.request, self.signed),
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


def framed(request: Request, signed: SignedIn | None) -> dict[str, Any]:
    """What the frame around each page needs. signed: None for a page of nobody in particular."""
    return {
        "person": signed.person if signed is not None else None,
        "csrf": signed.csrf if signed is not None else "",
        "nonce": getattr(request.state, "nonce", ""),
        "path": request.url.path,
    }


def words_of(request: Request) -> Words:
    chosen = language.choose(request.cookies.get(LANGUAGE), request.headers.get("accept-language"))
    return language.words_of(chosen)


def place_of(request: Request) -> Place:
    found: Place = request.app.state.place
    return found


def found_signed_in(request: Request) -> SignedIn | None:
    """Who was found to be signed in when this request came; None also for a page that did not ask."""
    found: SignedIn | None = getattr(request.state, "signed", None)
    return found


def _signed_in(request: Request, *, touch: bool = True) -> SignedIn:
    found = found_signed_in(request)
    if found is not None:
        return found
    place = place_of(request)
    token = place.cookies.read(request, SESSION)
    with place.store.database.transaction() as connection:
        signed = sign_in.session_of(connection, token, place.now_ms(), touch=touch) if token else None
    if signed is None:
        raise NotSignedIn
    request.state.signed = signed
    return signed


def _desk(request: Request, roles: frozenset[Role], *, changing: bool = False, touch: bool = True) -> Desk:
    signed = _signed_in(request, touch=touch)
    if signed.must_change and not changing:
        raise MustChange
    if signed.person.role not in roles:
        raise WrongRole(N_("Your role does not have this page."))
    return Desk(place_of(request), request, signed, request.app.state.renderer)


def doctor_at_work(request: Request) -> Desk:
    return _desk(request, frozenset({Role.DOCTOR}))


def doctor_watching(request: Request) -> Desk:
    """For what an open page asks for by itself: nobody need be there, so the session goes on resting."""
    return _desk(request, frozenset({Role.DOCTOR}), touch=False)


def reviewer_at_work(request: Request) -> Desk:
    """Who looks after the service: an officer or an operator, never a doctor."""
    return _desk(request, frozenset(Role) - {Role.DOCTOR})


def anyone_at_work(request: Request) -> Desk:
    """Whoever is signed in. What such a page shows is nothing of a single patient, or the person's own."""
    return _desk(request, frozenset(Role))


def anyone_changing(request: Request) -> Desk:
    """Whoever is signed in, also with a one-time password."""
    return _desk(request, frozenset(Role), changing=True)


def address_of(request: Request) -> str:
    """Whence a request comes, to count tries by: what the proxy says last, where there is one; who asks writes the rest."""
    forwarded = request.headers.getlist("x-forwarded-for") if place_of(request).secure else []
    last = forwarded[-1].rpartition(",")[2].strip() if forwarded else ""
    return last or (request.client.host if request.client else "")


def posted(request: Request, form: Sent) -> Form:
    """A form of who is signed in. Raises NotSignedIn for a form that is not of this session."""
    if not _signed_in(request).holds_csrf(form.value(CSRF)):
        raise NotSignedIn
    return form


def record_in(text: str) -> RecordId:
    """An id as a path has it. Raises InvalidValue (``E_BAD_ID``)."""
    return RecordId(parse_id(text))


Doctor = Annotated[Desk, Depends(doctor_at_work)]
DoctorWatching = Annotated[Desk, Depends(doctor_watching)]
Reviewer = Annotated[Desk, Depends(reviewer_at_work)]
Anyone = Annotated[Desk, Depends(anyone_at_work)]
AnyoneChanging = Annotated[Desk, Depends(anyone_changing)]
Posted = Annotated[Form, Depends(posted)]
