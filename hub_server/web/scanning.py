"""Scan a slip: what a patient carries, checked, with the way to the case where the referral has arrived.

The letters come in a form, typed by a scanner or pasted, never in an address; the answer cannot be gone back to.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from hub_server import slips
from hub_server.web.desk import Desk, Doctor, Posted
from sync_protocol.errors import TheirBytes
from sync_protocol.pages import language
from sync_protocol.pages import slips as slip_words
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said

router = APIRouter()


@router.get("/slip")
def blank(desk: Doctor) -> Response:
    return _show(desk, Form())


@router.post("/slip")
def scan(desk: Doctor, form: Posted) -> Response:
    with language.speaking(desk.words):
        text = form.required("letters", said("Scan or paste the code of a slip"))
        if text:
            try:
                return _show(desk, Form(), slips.read(desk.store, text, desk.person.actor, desk.now_ms))
            except TheirBytes as error:
                form.wrong("letters", slip_words.problem(error))
    return _show(desk, form, status=422)


def _show(desk: Desk, form: Form, found: slips.Checked | None = None, status: int = 200) -> Response:
    with language.speaking(desk.words):
        rows = slip_words.rows(found.summary) if found is not None else []
    return desk.page("slip", form=form, found=found, rows=rows, status=status)
