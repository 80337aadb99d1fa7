"""Refer a patient to a hub doctor, and the referral's own page: where it stands, what the doctor says, what was unseen.

Reading an answer is something that a person says: a button, not the opening of a page, so that the doctor may rely on it.
"""

from __future__ import annotations

import os
from typing import Final

from fastapi import APIRouter, Response

from hwc_node import overview
from hwc_node.visiting import RANDOM_BYTES, fresh_id
from hwc_node.web import patients
from hwc_node.web.desk import AtWork, Desk, Posted, record_in
from sync_protocol import exports, merge
from sync_protocol.canonical import Value
from sync_protocol.change import PatientId, RecordId
from sync_protocol.documents import derived_id, id_text
from sync_protocol.pages import clinical, language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said

OTHER: Final = "other"

router = APIRouter()


@router.get("/patients/{name}/refer")
def plain_form(desk: AtWork, name: str) -> Response:
    """Of the latest visit, where there is one."""
    one = patients.of(desk, name)
    if one.cases:
        return desk.go(f"/patients/{name}/cases/{id_text(one.cases[0].key.record)}/refer")
    return desk.go(f"/patients/{name}/visit")


@router.get("/patients/{name}/cases/{case}/refer")
def form_page(desk: AtWork, name: str, case: str) -> Response:
    one = patients.of(desk, name)
    form = desk.begun(Form)
    _name_record(desk, form)
    return _show(desk, name, one, case, form)


def _name_record(desk: Desk, form: Form) -> None:
    if not form.value("referral"):
        form.given["referral"] = [id_text(fresh_id(desk.now_ms, os.urandom(RANDOM_BYTES)))]


def _show(desk: Desk, name: str, one: overview.PatientPage, case: str, form: Form, status: int = 200) -> Response:
    record_in(case)
    return desk.page("refer", one=one, patient_id=name, case=case, form=form, status=status)


@router.post("/patients/{name}/cases/{case}/refer")
def refer(desk: AtWork, name: str, case: str, form: Posted) -> Response:
    one = patients.of(desk, name)
    _name_record(desk, form)
    with language.speaking(desk.words):
        writes = _writes(desk, form, RecordId(record_in(case)))
    referral = record_in(form.value("referral"))
    if not desk.saved(form, lambda: desk.visiting.refer(one.patient, referral, writes, desk.now_ms)):
        return _show(desk, name, one, case, form, 422)
    if writes["urgency"] == "emergency":
        desk.hurry()
    return desk.go(f"/referrals/{id_text(referral)}")


def _writes(desk: Desk, form: Form, case: RecordId) -> dict[str, Value]:
    writes: dict[str, Value] = {"case": case, "at": desk.now_ms}
    specialty = form.required("specialty", said("Choose a specialty"))
    if specialty == OTHER:
        specialty = form.required("other_specialty", said("Name the specialty"))
    writes["specialty"] = form.checked("referral", "specialty", said("Specialty"), specialty)
    urgency = form.required("urgency", said("Choose how urgent it is"))
    writes["urgency"] = form.checked("referral", "urgency", said("Urgency"), urgency) if urgency else None
    for field in ("reason", "question"):
        if text := form.value(field):
            writes[field] = form.checked("referral", field, clinical.label(field), text)
    if not form.value("reason") and not form.value("question"):
        form.wrong("reason", said("Say why you refer, or what you ask"))
    return writes


# -- the referral's own page -------------------------------------------------------------------------------------------


@router.get("/referrals/{name}")
def referral_page(desk: AtWork, name: str) -> Response:
    return _referral(desk, name, desk.begun(Form))


def _referral(desk: Desk, name: str, form: Form, status: int = 200) -> Response:
    view = desk.clinic.referral(name)
    one = overview.patient_page(desk.store, view.record.patient)
    messages = [
        kept
        for kept in one.others
        if kept.key.kind == "message" and kept.record.view().get("referral") == view.record.key.record
    ]
    acknowledged = [
        kept
        for kept in one.others
        if kept.key.kind == "acknowledgement" and kept.record.view().get("referral") == view.record.key.record
    ]
    if not form.value("message_id"):
        form.given["message_id"] = [id_text(fresh_id(desk.now_ms, os.urandom(RANDOM_BYTES)))]
    waits = view.progress.received_ms is None and view.progress.status.value in ("saved", "sent")
    return desk.page(
        "referral",
        name=name,
        view=view,
        facility=exports.facility_of(view.record),
        shown=view.record.view(),
        one=one,
        patient_id=id_text(view.record.patient),
        messages=sorted(messages, key=overview.when_ms),
        outcome=next((kept.record.view()["outcome"] for kept in acknowledged if kept.record.view().get("outcome")), ""),
        name_of=desk.clinic.name_of,
        author_of=lambda kept: desk.clinic.name_of(merge.first_change(kept.record).change.person) or "",
        by_doctor=lambda kept: merge.first_change(kept.record).origin.value == "doctor",
        phone_now=waits
        and view.record.view().get("urgency") == "emergency"
        and desk.now_ms - view.progress.saved_ms >= overview.EMERGENCY_WAITS_MS,
        form=form,
        status=status,
    )


@router.post("/referrals/{name}/read")
def read(desk: AtWork, name: str, form: Posted) -> Response:
    """The answer was read, and perhaps what became of the patient; or a message to which there is nothing to say."""
    view = desk.clinic.referral(name)
    reply = RecordId(record_in(form.value("reply"))) if form.value("reply") else None
    heard = record_in(form.value("heard")) if form.value("heard") else b""
    record = RecordId(derived_id("acknowledgement", view.record.key.record, reply or heard))
    patient, referral, outcome = PatientId(view.record.patient), view.record.key.record, form.value("outcome") or None
    with language.speaking(desk.words):
        if "outcome" in form.given and form.value("only") != "read":  # without it, saving would say that it was read
            form.required("outcome", said("Write what became of the patient"))
        form.checked("acknowledgement", "outcome", clinical.label("outcome"), outcome)
    if not desk.saved(form, lambda: desk.visiting.acknowledge(patient, record, referral, reply, desk.now_ms, outcome)):
        return _referral(desk, name, desk.again(form), 422)
    return desk.go(f"/referrals/{name}")


@router.post("/referrals/{name}/message")
def message(desk: AtWork, name: str, form: Posted) -> Response:
    view = desk.clinic.referral(name)
    with language.speaking(desk.words):
        text = form.required("text", said("Write what you want to say"))
        form.checked("message", "text", said("Message"), text)
    record = record_in(form.value("message_id"))
    if not desk.saved(
        form,
        lambda: desk.visiting.message(view.record.patient, record, view.record.key.record, text, desk.now_ms),
    ):
        return _referral(desk, name, desk.again(form), 422)
    desk.hurry()  # a doctor may wait for it at this moment
    return desk.go(f"/referrals/{name}")


@router.post("/referrals/{name}/withdraw")
def withdraw(desk: AtWork, name: str, form: Posted) -> Response:
    view = desk.clinic.referral(name)
    with language.speaking(desk.words):
        reason = form.required("why", said("Say why the referral is withdrawn"))
        form.checked("referral", "withdrawn", clinical.label("reason"), reason, at="why", part="reason")
    key = view.record.key
    if not desk.saved(
        form, lambda: desk.visiting.withdraw(view.record.patient, key.record, reason, "shown", desk.now_ms)
    ):
        return _referral(desk, name, desk.again(form), 422)
    return desk.go(f"/referrals/{name}")
