"""What a page's function works with: who asks, the opened store, the clinic's verbs, and a way to answer.

Rules. A page is shown to who is in; anybody else is sent to the lock screen and back again, and what they had typed is
kept for them. A form counts only with its session's own secret in it. A saved form answers with a redirect, so that a
reload repeats nothing. What cannot be saved is shown again as it was typed, with the reason.
"""

from __future__ import annotations

import hmac
import secrets
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
from sync_protocol.change import PatientId, RecordId, RecordKey
from sync_protocol.directory import Contact
from sync_protocol.documents import parse_id
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import Words
from sync_protocol.pages.rendering import Renderer

LANGUAGE_COOKIE: Final = "language"
CSRF: Final = "csrf"
SHEET: Final = "sheet"  # which one of a form's it is: a page that is shown again has another
SHEET_BYTES: Final = 9
OWN_FIELDS: Final = frozenset({CSRF, "at", SHEET})
UNTYPED: Final = frozenset({*drafts.MADE, "reply", "only", "then"})  # what a form says though nobody typed anything
DRAFT: Final = "/draft"
PARTS_OF_A_PAGE: Final = ("message", "read", "withdraw")  # forms in the midst of a page, each with its own draft
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
        """The form of the entry that this request belongs to: what its draft is called by."""
        return entry_at(self.request, self.place)

    # -- answers -------------------------------------------------------------------------------------------------------

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        now_ms = self.now_ms
        common: dict[str, Any] = {
            "place": self.store.membership.facility_name,
            "person": self.session.name,
            "csrf": self.session.csrf,
            "sheet": secrets.token_urlsafe(SHEET_BYTES),
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
        """The page's forms as this person left them; a fresh one where they have begun none."""
        fields: dict[str, list[str]] = {}
        for draft in drafts.of_person(self.store, self.session.person):
            if page_of(draft.place) != page_of(self.entry):
                continue
            if drafts.is_saved(self.store, draft.fields):
                self._drop(draft.place)
            else:
                fields = draft.fields | fields
        return Form(fields) if fields else fresh()

    def again(self, form: Form) -> Form:
        """A form that was refused, with what is begun in the others of its page."""
        return Form(self.begun(Form).given | form.given, form.errors)

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
        if sheet := form.value(SHEET):
            self.session.saved.append((self.entry, sheet))
        self._drop(self.entry)
        return True

    def keep_draft(self, form: Form, place: str) -> None:
        """What is typed into the form of this place. Raises what `drafts.keep` raises."""
        _keep(self.store, self.session, form, place, self.now_ms)

    def kept(self, form: Form, place: str) -> bool:
        """The same for a form that is shown next; that it could not be kept is told in it."""
        try:
            self.keep_draft(form, place)
        except HealthSyncError as error:
            log.warning("draft_not_kept", code=error.code)
            with language.speaking(self.words):
                form.wrong("form", faults.said_of(error))
            return False
        return True

    def _drop(self, place: str) -> None:
        with suppress(HealthSyncError):  # it was saved; that the draft is still there is no reason to say otherwise
            drafts.drop(self.store, self.session.person, place)


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
    if premises.store is None or not place:
        return
    with suppress(HealthSyncError):  # a full disk: the browser's own history still has the form
        _keep(premises.store, session, form, place, premises.now_ms())


def _keep(store: Store, session: Session, form: Form, place: str, now_ms: int) -> None:
    """Nothing of a form that was saved already, which a page sends again that was left; none where all was taken out."""
    fields = {name: values for name, values in form.given.items() if name not in OWN_FIELDS}
    if (place, form.value(SHEET)) in session.saved:
        return
    if not any(form.all(name) for name in fields.keys() - UNTYPED):
        drafts.drop(store, session.person, place)
    else:
        drafts.keep(store, session.person, place, fields, now_ms, patient_of(store, place))


def entry_at(request: Request, path: str) -> str:
    """The form that goes to this path: a page's own, or one of its parts; empty where there is nothing to go on with."""
    page = guards.page_at(request, path)
    is_entry = path == page or (path.startswith(f"{page}/") and page_of(path) == page)
    return path if is_entry and page not in NO_ENTRIES else ""


def page_of(place: str) -> str:
    """The page on which a form stands."""
    page, _, part = place.rpartition("/")
    return page if part in PARTS_OF_A_PAGE else place


def patient_of(store: Store, place: str) -> PatientId | None:
    """Whom an entry is about, by its path: of a patient's pages, of a referral's, of a decision about a record."""
    try:
        match place.split("/"):
            case ["", "patients", name, *_]:
                return PatientId(parse_id(name))
            case ["", "referrals", name, *_]:
                kept = store.record(RecordKey("referral", record_in(name)))
            case ["", "decisions", kind, name, *_]:
                kept = store.record(RecordKey(kind, record_in(name)))
            case _:
                return None
    except HealthSyncError:
        return None
    return kept.patient if kept is not None else None


def record_in(text: str) -> RecordId:
    """An id as a path or a hidden field has it. Raises InvalidValue (``E_BAD_ID``)."""
    return RecordId(parse_id(text))


AtWork = Annotated[Desk, Depends(at_work)]
Watching = Annotated[Desk, Depends(watching)]
Posted = Annotated[Form, Depends(posted)]
