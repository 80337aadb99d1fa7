"""One patient: who they are, what was measured last, their visits, referrals and follow-ups."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from hwc_node import overview
from hwc_node.overview import PatientPage
from hwc_node.store import KeptRecord
from hwc_node.web.desk import AtWork, Desk, Posted, record_in
from sync_protocol.change import PatientId, RecordId
from sync_protocol.errors import InvalidValue

VISITS_SHOWN: Final = 20  # the rest behind a link: a page that a cheap phone can draw

router = APIRouter()


@router.get("/patients/{name}")
def page(desk: AtWork, name: str) -> Response:
    found = of(desk, name)
    every = desk.request.query_params.get("all") == "1"
    shown = None if every else VISITS_SHOWN
    return desk.page("patient", one=found, patient_id=name, shown=shown, consents=consents(found))


def consents(one: PatientPage) -> list[KeptRecord]:
    """What the patient answered when they were asked for their consent, the latest first."""
    return [kept for kept in one.others if kept.key.kind == "consent"]


def of(desk: Desk, name: str) -> PatientPage:
    """Everything of a patient. Raises InvalidValue (``E_NO_SUCH_RECORD``)."""
    found = overview.patient_page(desk.store, PatientId(record_in(name)))
    if found.own is None and not (found.cases or found.referrals or found.others):
        raise InvalidValue("There is no such record.", code="E_NO_SUCH_RECORD")
    return found


@router.post("/patients/{name}/follow-ups/{due}/done")
def follow_up_done(desk: AtWork, name: str, due: str, form: Posted) -> Response:
    found = of(desk, name)
    record = RecordId(record_in(due))
    kept = next((one for one in found.follow_ups if one.key.record == record), None)
    if kept is None:
        raise InvalidValue("There is no such record.", code="E_NO_SUCH_RECORD")
    desk.visiting.follow_up_done(found.patient, record, form.value("note"), "shown", desk.now_ms)
    return desk.go("/follow-ups" if form.value("from") == "list" else f"/patients/{name}")
