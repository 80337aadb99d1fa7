"""Patients' cards, and patients of other centres: by the card that somebody shows, this centre receives their history.

A card is made when somebody asks for it, and is the same each time. Its letters are a secret of the patient: they stand
on the card's page, which is printed, and in forms; never in an address.
"""

from __future__ import annotations

import os
from typing import Final

import segno
from fastapi import APIRouter, Response

from hwc_node import subscribing
from hwc_node.visiting import RANDOM_BYTES, fresh_id
from hwc_node.web import patients
from hwc_node.web.desk import AtWork, Desk, Posted
from sync_protocol import subscription
from sync_protocol.change import PatientId, RecordId, RecordKey
from sync_protocol.documents import id_text
from sync_protocol.errors import InvalidValue
from sync_protocol.pages import clinical, language, rendering
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said
from sync_protocol.subscription import SECRET_BYTES, Card

MODULE_PX: Final = 4  # of the code on a screen; on paper the style sheet says how wide it is

router = APIRouter()


def drawn(text: str, title: str) -> str:
    """A QR code as SVG, which the pages' policy lets stand inside of them."""
    code = segno.make(text, error="m", boost_error=False)
    svg = code.svg_inline(scale=MODULE_PX, svgclass="app-qr", lineclass=None, omitsize=True, title=title)
    return rendering.drawing(svg)  # made of the code's squares; segno escapes the title


@router.get("/patients/{name}/card")
def card_page(desk: AtWork, name: str) -> Response:
    one = patients.of(desk, name)
    made = subscribing.card_of(desk.store, one.patient)
    with language.speaking(desk.words):
        code = drawn(made.text(), said("The card's letters as a code")) if made is not None else ""
    return desk.page("card", one=one, patient_id=name, letters=made.text() if made else "", code=code)


@router.post("/patients/{name}/card")
def make_card(desk: AtWork, name: str, _form: Posted) -> Response:
    one = patients.of(desk, name)
    record = fresh_id(desk.now_ms, os.urandom(RANDOM_BYTES))
    subscribing.card(desk.store, desk.session.person, one.patient, record, os.urandom(SECRET_BYTES), desk.now_ms)
    return desk.go(f"/patients/{name}/card")


# -- patients of other centres -----------------------------------------------------------------------------------------


@router.get("/elsewhere")
def elsewhere(desk: AtWork) -> Response:
    return _elsewhere(desk, desk.begun(Form))


def _elsewhere(desk: Desk, form: Form, status: int = 200) -> Response:
    return desk.page(
        "elsewhere",
        asked=subscribing.everything(desk.store),
        name_of=desk.clinic.patient_name,
        form=form,
        status=status,
    )


@router.post("/elsewhere")
def ask(desk: AtWork, form: Posted) -> Response:
    """By the letters of a card, as they were typed or scanned."""
    with language.speaking(desk.words):
        letters = form.required("letters", said("Type or scan the letters of the card"))
        card = _parsed(form, letters) if letters else None
        form.checked("subscription", "reason", clinical.label("reason"), form.value("why"), at="why")
    if card is not None and is_here(desk, card.patient):
        return desk.go(f"/patients/{id_text(card.patient)}")
    record = RecordId(fresh_id(desk.now_ms, os.urandom(RANDOM_BYTES)))

    def action() -> None:
        if card is not None:
            subscribing.ask(
                desk.store, desk.session.person, card.patient, record, desk.now_ms, card=card, reason=form.value("why")
            )

    if not desk.saved(form, action):
        return _elsewhere(desk, form, 422)
    desk.hurry()
    return desk.go("/elsewhere")


def _parsed(form: Form, letters: str) -> Card | None:
    try:
        return subscription.parse_card(letters)
    except InvalidValue:
        form.wrong("letters", said("These are not the letters of a card: look for one that was read wrongly"))
        return None


def is_here(desk: Desk, patient: PatientId) -> bool:
    return desk.store.record(RecordKey("patient", RecordId(patient))) is not None


@router.post("/elsewhere/{record}/end")
def end(desk: AtWork, record: str, _form: Posted) -> Response:
    from_here = [one for one in subscribing.everything(desk.store) if one.ours]
    found = next((one for one in from_here if id_text(one.request.record) == record), None)
    if found is None:
        raise InvalidValue("There is no such record.", code="E_NO_SUCH_RECORD")
    subscribing.end(desk.store, desk.session.person, found.request.record, desk.now_ms)
    return desk.go("/elsewhere")
