"""Find or register: one box that takes a name, a phone, an ABHA number or what a scanner types of a card.

What is typed is sent in a form, never in an address: addresses stand in histories and logs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Response

from hwc_node import drafts, finding, overview
from hwc_node.drafts import Draft
from hwc_node.finding import Found
from hwc_node.printing import scanned
from hwc_node.printing.scanned import Scanned
from hwc_node.web import cards, registering
from hwc_node.web.desk import DRAFT, HOME, UNTYPED, AtWork, Desk, Posted, entry_at, page_of
from sync_protocol import slip, subscription
from sync_protocol.change import PatientId
from sync_protocol.documents import id_text, parse_id
from sync_protocol.errors import InvalidValue, TheirBytes
from sync_protocol.pages import language, slips
from sync_protocol.pages.forms import Form
from sync_protocol.subscription import Card

REGISTER: Final = "/register"
LATEST: Final = 5  # visits on the first page, to come back to
_DIGITS: Final = re.compile(r"[\d\s+-]{6,}")
_ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

router = APIRouter()


@dataclass(frozen=True, slots=True)
class SlipRead:
    """What a scanned slip says, as the page shows it; or why it cannot be read."""

    found: Scanned | None = None
    rows: Sequence[tuple[str, str]] = ()
    problem: str = ""


@router.get(HOME)
def home(desk: AtWork) -> Response:
    return _home(desk, Form(), None)


def _home(
    desk: Desk, form: Form, found: Sequence[Found] | None, letters: str = "", slip_read: SlipRead | None = None
) -> Response:
    if desk.request.headers.get("hx-request"):
        return desk.page("found", form=form, found=found, letters=letters, slip_read=slip_read)
    pages: dict[str, Draft] = {}
    for one in drafts.of_person(desk.store, desk.session.person):
        pages.setdefault(page_of(one.place), one)
    begun = [
        (page, one, desk.clinic.patient_name(one.patient) if one.patient is not None else None)
        for page, one in pages.items()
    ]
    return desk.page(
        "home",
        form=form,
        found=found,
        letters=letters,
        slip_read=slip_read,
        alarms=overview.alarms(desk.store, desk.now_ms),
        begun=begun if found is None and slip_read is None else [],
        seen=overview.latest_visits(desk.store, LATEST) if found is None and slip_read is None else [],
    )


@router.post("/find")
def find(desk: AtWork, form: Posted) -> Response:
    """A scanned code leads to its patient; anything else is looked for."""
    typed = form.value("typed")
    if slip.is_slip(typed):
        return _slip(desk, typed)
    card, named = _card(typed), _ID.fullmatch(typed)
    patient = card.patient if card is not None else PatientId(parse_id(typed)) if named is not None else None
    if patient is not None and cards.is_here(desk, patient):
        return _to(desk, f"/patients/{id_text(patient)}")
    if card is not None:
        return _home(desk, form, (), letters=typed)
    return _home(desk, form, finding.find(desk.store, typed) if typed else None)


def _card(typed: str) -> Card | None:
    try:
        return subscription.parse_card(typed)
    except InvalidValue:
        return None


def _slip(desk: Desk, letters: str) -> Response:
    """A slip leads to its referral, if that is here; another centre's is shown, and that it was not checked."""
    with language.speaking(desk.words):
        try:
            found = scanned.read(desk.store, letters)
        except TheirBytes as error:
            return _home(desk, Form(), None, slip_read=SlipRead(problem=slips.problem(error)))
        rows = slips.rows(found.summary)
    if found.is_here:
        return _to(desk, f"/referrals/{id_text(found.summary.referral)}")
    return _home(desk, Form(), None, slip_read=SlipRead(found, rows))


def _to(desk: Desk, path: str) -> Response:
    if desk.request.headers.get("hx-request"):
        return Response(status_code=204, headers={"hx-redirect": path})
    return desk.go(path)


@router.post("/register/begin")
def begin(desk: AtWork, form: Posted) -> Response:
    """Register as new: what was looked for stands in the form already. Another that is half filled is asked about first."""
    typed = form.value("typed")
    field = "name"
    if _DIGITS.fullmatch(typed):
        field = "abha" if sum(one.isdecimal() for one in typed) == registering.ABHA_DIGITS else "phone"
    begun = drafts.find(desk.store, desk.session.person, REGISTER)
    if begun is not None and form.value("anew") != "yes" and not drafts.is_saved(desk.store, begun.fields):
        given = {name: values for name, values in begun.fields.items() if name not in UNTYPED and any(values)}
        if given.get(field) == [typed]:
            return desk.go(REGISTER)
        if len(given) > 1:
            return desk.page("register_begun", begun=begun, typed=typed, status=409)
    fresh = Form({field: [typed]})
    return desk.go(REGISTER) if desk.kept(fresh, REGISTER) else registering.show(desk, fresh)


@router.post(DRAFT)
def keep(desk: AtWork, form: Posted) -> Response:
    """What a page sends by itself while somebody types."""
    if place := entry_at(desk.request, form.value("at")):
        desk.keep_draft(form, place)
    return Response(status_code=204)


@router.post("/draft/drop")
def drop(desk: AtWork, form: Posted) -> Response:
    """All that is begun on a page."""
    for one in drafts.of_person(desk.store, desk.session.person):
        if page_of(one.place) == form.value("at"):
            drafts.drop(desk.store, desk.session.person, one.place)
    return desk.go(HOME)
