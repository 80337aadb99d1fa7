"""What a page's function works with: who asks, the opened store, the clinic's verbs, and a way to answer.

Rules. A page is shown to who is in; anybody else is sent to the lock screen and back again, and what they had typed is
kept for them. A form counts only with its session's own secret in it. A saved form answers with a redirect, so that a
reload repeats nothing. What cannot be saved is shown again as it was typed, with the reason.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Final

import structlog
from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from hwc_node import directory, drafts, overview
from hwc_node import line as sync_line
from hwc_node.clinic import Clinic
from hwc_node.store import Store
from hwc_node.visiting import Visiting
from hwc_node.web import addresses, faults, guards
from hwc_node.web.premises import Premises
from hwc_node.web.sessions import Session
from sync_protocol.change import PatientId, RecordId
from sync_protocol.directory import Contact
from sync_protocol.documents import parse_id
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import Words
from sync_protocol.pages.rendering import Renderer

LANGUAGE_COOKIE: Final = "language"
CSRF: Final = "csrf"
OWN_FIELDS: Final = frozenset({CSRF, "at"})
DRAFT: Final = "/draft"
PARTS_OF_A_PAGE: Final = ("message", "withdraw")  # forms in the midst of a page
NO_ENTRIES: Final = frozenset({"/", "/unlock"})
HOME: Final = "/"
LOCK_SCREEN: Final = "/unlock"

log = structlog.get_logger("hwc.web")


class NotIn(Exception):
    """Somebody who is not in asks for a page."""


@dataclass
class Desk:
    """One request of somebody who is in."""

    premises: Premises
    request: Request
    session: Session
    store: Store
    renderer: Renderer

    @property
    def now_ms(self) -> int:
        return self.premises.now_ms()

    @cached_property
    def words(self) -> Words:
        return words_of(self.request)

    @property
    def today(self) -> date:
        """The day in India."""
        return language.india_day(self.now_ms)

    @cached_property
    def visiting(self) -> Visiting:
        return Visiting(self.store, self.session.person)

    @cached_property
    def clinic(self) -> Clinic:
        return Clinic(self.store, self.session.person)

    @property
    def place(self) -> str:
        """The path that was asked for."""
        return str(self.request.url.path)

    @cached_property
    def entry(self) -> str:
        """The page of the entry that this request belongs to: what its draft is called by."""
        return entry_at(self.request, self.place)

    # -- answers -------------------------------------------------------------------------------------------------------

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        now_ms = self.now_ms
        common: dict[str, Any] = {
            "place": self.store.membership.facility_name,
            "person": self.session.name,
            "csrf": self.session.csrf,
            "nonce": self.request.state.nonce,
            "path": self.place,
            "own_facility": self.store.membership.facility,
            "contact_of": self.contact_of,
            "now_ms": now_ms,
            "errors": getattr(values.get("form"), "errors", {}),
            "counts": overview.counts(self.store, self.today.isoformat()),
            "today": self.today,
            "line": self.line(now_ms),
            "safe_address": addresses.safe_address(self.request, self.place) if self.request.method == "GET" else "",
        }
        return HTMLResponse(self.renderer.page(template, self.words, **(common | values)), status)

    def part(self, template: str, **values: Any) -> Response:
        """A piece of a page, for a script that puts it in its place."""
        return HTMLResponse(self.renderer.page(template, self.words, contact_of=self.contact_of, **values))

    def contact_of(self, specialty: str) -> Contact | None:
        """Whom to call about a referral of this specialty."""
        return directory.duty_contact(self.store, specialty)

    def line(self, now_ms: int) -> sync_line.SyncLine:
        """Where this computer stands with the hub."""
        syncing = self.premises.syncing
        return sync_line.sync_line(
            self.store,
            now_ms,
            running=syncing is not None and syncing.running,
            next_try_s=syncing.next_in_s if syncing is not None else None,
            steps=syncing.steps if syncing is not None else None,
        )

    def hurry(self) -> None:
        """Somebody waits for what was saved, or asked for: the next exchange is now."""
        if self.premises.syncing is not None:
            self.premises.syncing.hurry()

    def go(self, path: str) -> Response:
        """To another page, which is asked for anew."""
        return RedirectResponse(path, 303)

    # -- forms ---------------------------------------------------------------------------------------------------------

    def begun(self, fresh: Callable[[], Form]) -> Form:
        """The form as this person left it; a fresh one where they have not begun it."""
        draft = drafts.find(self.store, self.session.person, self.entry)
        if draft is not None and drafts.is_saved(self.store, draft.fields):
            self.drop_draft()
            draft = None
        return Form(dict(draft.fields)) if draft is not None else fresh()

    def saved(self, form: Form, action: Callable[[], object]) -> bool:
        """Do what the form asks for; whether it is done. What was refused is told in the form, nothing is lost."""
        if form.errors:
            return False
        try:
            with language.speaking(self.words):
                action()
        except HealthSyncError as error:
            log.warning("not_saved", code=error.code)
            with language.speaking(self.words):
                form.wrong(getattr(error, "field", "") or "form", faults.said_of(error))
            return False
        self.drop_draft()
        return True

    def keep_draft(self, form: Form, place: str, patient: PatientId | None) -> None:
        fields = {name: values for name, values in form.given.items() if name not in OWN_FIELDS}
        drafts.keep(self.store, self.session.person, place, fields, self.now_ms, patient)

    def drop_draft(self) -> None:
        with suppress(HealthSyncError):  # it was saved; that the draft is still there is no reason to say otherwise
            drafts.drop(self.store, self.session.person, self.entry)


def words_of(request: Request) -> Words:
    chosen = language.choose(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language"))
    return language.words_of(chosen)


def premises_of(request: Request) -> Premises:
    found: Premises = request.app.state.premises
    return found


def session_of(request: Request, *, used: bool = True) -> Session | None:
    """Whose browser this is, in or locked. used: whether this counts as work."""
    token, encrypted = addresses.token_of(request), addresses.is_encrypted(request)
    return premises_of(request).session(token, encrypted=encrypted, used=used)


def _desk(request: Request, *, used: bool) -> Desk:
    premises = premises_of(request)
    session = session_of(request, used=used)
    if session is None or session.locked or premises.store is None:
        raise NotIn
    return Desk(premises, request, session, premises.store, request.app.state.renderer)


async def at_work(request: Request) -> Desk:
    """Whoever is in. A request that is more than a question carries its session's own secret, whichever page it is for."""
    if request.method != "GET":
        await posted(request)
    return _desk(request, used=True)


def watching(request: Request) -> Desk:
    """For what a page asks by itself: it does not keep the session awake."""
    return _desk(request, used=False)


async def posted(request: Request) -> Form:
    """A form of who is in. Raises NotIn for a form that is not of this session; of one that locked itself it is kept."""
    known: Form | None = getattr(request.state, "form", None)
    if known is not None:
        return known
    form = await guards.form_of(request)
    session = session_of(request)
    if session is None or not hmac.compare_digest(session.csrf.encode(), form.value(CSRF).encode()):
        raise NotIn
    if session.locked:
        await run_in_threadpool(keep_for_later, request, session, form)
        raise NotIn
    request.state.form = form
    return form


def keep_for_later(request: Request, session: Session, form: Form) -> None:
    """Whoever comes back finds what they had typed when the page locked itself."""
    premises, path = premises_of(request), request.url.path
    place = entry_at(request, form.value("at") if path == DRAFT else path)
    fields = {name: values for name, values in form.given.items() if name not in OWN_FIELDS}
    if premises.store is None or not place or not fields:
        return
    with suppress(HealthSyncError):  # a full disk: the browser's own history still has the form
        drafts.keep(premises.store, session.person, place, fields, premises.now_ms(), patient_in(place))


def entry_at(request: Request, path: str) -> str:
    """The page on which a form is found again that goes to this path; empty where there is nothing to go on with."""
    page = guards.page_at(request, path)
    is_entry = path in (page, *(f"{page}/{part}" for part in PARTS_OF_A_PAGE))
    return page if is_entry and page not in NO_ENTRIES else ""


def patient_in(path: str) -> PatientId | None:
    """The patient whose pages lie below this path: ``/patients/ID/…``."""
    parts = path.split("/")
    if len(parts) < 3 or parts[1] != "patients":
        return None
    try:
        return PatientId(parse_id(parts[2]))
    except HealthSyncError:
        return None


def record_in(text: str) -> RecordId:
    """An id as a path or a hidden field has it. Raises InvalidValue (``E_BAD_ID``)."""
    return RecordId(parse_id(text))


AtWork = Annotated[Desk, Depends(at_work)]
Watching = Annotated[Desk, Depends(watching)]
Posted = Annotated[Form, Depends(posted)]
