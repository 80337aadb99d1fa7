"""Find or register: one box that takes a name, a phone, an ABHA number or what a scanner types of a card.

What is typed is sent in a form, never in an address: addresses stand in histories and logs.
"""

from __future__ import annotations

import re
from typing import Final

from fastapi import APIRouter, Response

from hwc_node import drafts, finding, overview
from hwc_node.web.desk import HOME, AtWork, Posted, patient_in
from sync_protocol.change import PatientId, RecordId, RecordKey
from sync_protocol.documents import id_text, parse_id
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages.forms import Form

REGISTER: Final = "/register"
_DIGITS: Final = re.compile(r"[\d\s+-]{6,}")
_CARD_ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

router = APIRouter()


@router.get(HOME)
def home(desk: AtWork) -> Response:
    begun = [one for one in drafts.of_person(desk.store, desk.session.person) if one.place != HOME]
    return desk.page(
        "home",
        form=Form(),
        found=None,
        alarms=overview.alarms(desk.store, desk.now_ms),
        begun=begun,
    )


@router.post("/find")
def find(desk: AtWork, form: Posted) -> Response:
    typed = form.value("typed")
    if (card := _CARD_ID.search(typed)) is not None and _is_here(desk, card[0]):
        return _to(desk, card[0])
    found = finding.find(desk.store, typed) if typed else None
    if desk.request.headers.get("hx-request"):
        return desk.page("found", form=form, found=found)
    return desk.page("home", form=form, found=found, alarms=overview.alarms(desk.store, desk.now_ms), begun=[])


def _is_here(desk: AtWork, text: str) -> bool:
    """Whether a card's id is that of a patient of this computer."""
    try:
        key = RecordKey("patient", RecordId(parse_id(text)))
    except HealthSyncError:
        return False
    return desk.store.record(key) is not None


def _to(desk: AtWork, text: str) -> Response:
    path = f"/patients/{id_text(PatientId(parse_id(text)))}"
    if desk.request.headers.get("hx-request"):
        return Response(status_code=204, headers={"hx-redirect": path})
    return desk.go(path)


@router.post("/register/begin")
def begin(desk: AtWork, form: Posted) -> Response:
    """Register as new: what was looked for stands in the form already."""
    typed = form.value("typed")
    fields = {"phone": [typed]} if _DIGITS.fullmatch(typed) else {"name": [typed]}
    drafts.keep(desk.store, desk.session.person, REGISTER, fields, desk.now_ms)
    return desk.go(REGISTER)


@router.post("/draft")
def keep(desk: AtWork, form: Posted) -> Response:
    """What a page sends by itself while somebody types."""
    place = form.value("at")
    if place.startswith("/") and len(place) <= drafts.MAX_PLACE_CHARS:
        desk.keep_draft(form, place, patient_in(place))
    return Response(status_code=204)


@router.post("/draft/drop")
def drop(desk: AtWork, form: Posted) -> Response:
    drafts.drop(desk.store, desk.session.person, form.value("at"))
    return desk.go(HOME)
