"""A patient's consent: what they were asked, in which language, and what they said; asked again as often as need be.

Each answer is a record of its own that nobody changes: the latest one counts, the earlier ones stay to be read.
"""

from __future__ import annotations

import os
from typing import Final

from fastapi import APIRouter, Response

from hwc_node.overview import PatientPage
from hwc_node.visiting import RANDOM_BYTES, Entry, fresh_id
from hwc_node.web import patients
from hwc_node.web.desk import AtWork, Desk, Posted, record_in
from sync_protocol.canonical import Value
from sync_protocol.change import RecordKey
from sync_protocol.documents import id_text
from sync_protocol.pages import language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said
from sync_protocol.words import N_

CONSENT: Final = "consent"
WORDING: Final = N_(
    "My health records may be kept on this centre's computer and sent, sealed, to hub doctors who help to treat me."
    " I may ask to see them, to have them corrected, and to have them erased as far as the law allows."
)

router = APIRouter()


def asked(form: Form) -> str:
    """The form's answer; where there is none, that is told beside it."""
    return form.required("given", said("Choose whether the patient consents"))


def answered(desk: Desk, given: str) -> dict[str, Value]:
    """An answer that was given now, to the wording as it was read out."""
    return {
        "given": given == "yes",
        "wording": desk.words.gettext(WORDING),
        "language": desk.words.code,
        "mode": "in_person",
        "at": desk.now_ms,
    }


@router.get("/patients/{name}/consent")
def form_page(desk: AtWork, name: str) -> Response:
    return _show(desk, name, patients.of(desk, name), desk.begun(Form))


def _show(desk: Desk, name: str, one: PatientPage, form: Form, status: int = 200) -> Response:
    if not form.value(CONSENT):
        form.given[CONSENT] = [id_text(fresh_id(desk.now_ms, os.urandom(RANDOM_BYTES)))]
    return desk.page(
        CONSENT, one=one, patient_id=name, answers=patients.consents(one), form=form, wording=WORDING, status=status
    )


@router.post("/patients/{name}/consent")
def save(desk: AtWork, name: str, form: Posted) -> Response:
    one = patients.of(desk, name)
    with language.speaking(desk.words):
        given = form.checked(CONSENT, "given", said("Consent"), {"yes": True, "no": False}.get(asked(form)))
    if given is None:
        return _show(desk, name, one, form, 422)
    entry = Entry(RecordKey(CONSENT, record_in(form.value(CONSENT))), answered(desk, form.value("given")))
    if not desk.saved(form, lambda: desk.visiting.save(one.patient, [entry], desk.now_ms)):
        return _show(desk, name, one, form, 422)
    return desk.go(f"/patients/{name}")
