"""Putting right what was written: a visit is edited, a measurement is corrected by another, a record that should never
have been is marked as entered in error and can be shown again. Nothing is deleted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Response

from hwc_node.store import KeptRecord
from hwc_node.visiting import RANDOM_BYTES, Entry, fresh_id
from hwc_node.web import editing, patients, sets, visits
from hwc_node.web.desk import AtWork, Desk, Posted, record_in
from sync_protocol import merge, schema, unusual
from sync_protocol.canonical import Value
from sync_protocol.change import RecordKey
from sync_protocol.documents import id_text
from sync_protocol.errors import InvalidValue
from sync_protocol.pages import clinical, language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said
from sync_protocol.schema import Writer

HIDEABLE: Final = frozenset({"case", "vitals", "referral", "follow_up", "consent", "patient"})
CASE_TEXTS: Final = ("history", "examination", "plan")
OUTCOMES: Final = schema.KINDS["case"].fields["outcome"].choices
CLEARED: Final = ("history", "examination", "plan", "duration_days", "provisional_diagnosis")
"""What somebody can empty again."""

router = APIRouter()


def _kept(desk: Desk, name: str, kind: str, record: str) -> KeptRecord:
    """A record of this patient. Raises InvalidValue (``E_NO_SUCH_RECORD``)."""
    kept = desk.store.record(RecordKey(kind, record_in(record)))
    if kept is None or id_text(kept.patient) != name.lower():
        raise InvalidValue("There is no such record.", code="E_NO_SUCH_RECORD")
    return kept


# -- a visit -----------------------------------------------------------------------------------------------------------


@router.get("/patients/{name}/cases/{case}/edit")
def edit_page(desk: AtWork, name: str, case: str) -> Response:
    kept = _kept(desk, name, "case", case)
    return _show_case(desk, name, kept.record, desk.begun(lambda: _case_form(kept.record)))


def _show_case(desk: Desk, name: str, record: merge.Record, form: Form, status: int = 200) -> Response:
    view = record.view()
    others = {one: value for one, value in view.items() if one.partition("/")[2] not in clinical.DANGER_SIGNS}
    return desk.page(
        "visit_edit",
        one=patients.of(desk, name),
        patient_id=name,
        case=id_text(record.key.record),
        form=form,
        outcomes=OUTCOMES,
        complaints_beside=sets.beside(view, "complaints"),
        signs_beside=clinical.elements(others, "danger_signs"),
        status=status,
    )


def _case_form(record: merge.Record) -> Form:
    view = record.view()
    form = Form.filled({name: view.get(name) for name in (*CASE_TEXTS, "duration_days")})
    if view.get("outcome") in OUTCOMES:
        form.given["outcome"] = [str(view["outcome"])]
    form.given["complaints"] = [sets.line(view, "complaints")]
    form.given["danger_signs"] = [sign for sign in clinical.DANGER_SIGNS if visits.is_sign(view, sign)]
    form.given["provisional_diagnosis"] = [clinical.coded(view.get("provisional_diagnosis"))]
    editing.show(form, record)
    return form


@router.post("/patients/{name}/cases/{case}/edit")
def edit(desk: AtWork, name: str, case: str, form: Posted) -> Response:
    kept = _kept(desk, name, "case", case)
    record = kept.record
    with language.speaking(desk.words):
        writes = visits.case_writes(form, record.view())
        if outcome := form.value("outcome"):
            writes["outcome"] = form.checked("case", "outcome", said("Outcome"), outcome)
    writes = editing.altered(form, writes)
    writes |= editing.cleared(record, form, writes, CLEARED) | editing.emptied(record, form, ("complaints",))
    writes |= _unseen(record, form)
    entry = Entry(record.key, writes, editing.base_of(record, form, writes))
    if not desk.saved(form, lambda: desk.visiting.save(kept.patient, [entry], desk.now_ms)):
        return _show_case(desk, name, record, form, 422)
    return desk.go(f"/patients/{name}")


def _unseen(record: merge.Record, form: Form) -> dict[str, Value]:
    """The danger signs of the form's list that were shown as seen and are not any more; no others."""
    shown, view, seen = editing.shown_in(form), record.view(), form.all("danger_signs")
    return {
        f"danger_signs/{sign}": {"present": False}
        for sign in clinical.DANGER_SIGNS
        if visits.is_sign(view, sign) and sign not in seen and shown & set(record.live[f"danger_signs/{sign}"])
    }


# -- a measurement -----------------------------------------------------------------------------------------------------


@router.get("/patients/{name}/vitals/{record}/correct")
def correct_page(desk: AtWork, name: str, record: str) -> Response:
    kept = _kept(desk, name, "vitals", record)
    form = desk.begun(lambda: _vitals_form(kept.record))
    _name_correction(desk, form)
    return _show_vitals(desk, name, record, form)


def _name_correction(desk: Desk, form: Form) -> None:
    if not form.value("correction"):
        form.given["correction"] = [id_text(fresh_id(desk.now_ms, os.urandom(RANDOM_BYTES)))]


def _show_vitals(desk: Desk, name: str, record: str, form: Form, status: int = 200, odd: object = ()) -> Response:
    one = patients.of(desk, name)
    return desk.page("vitals_correct", one=one, patient_id=name, record=record, form=form, odd=odd, status=status)


def _vitals_form(record: merge.Record) -> Form:
    view = record.view()
    form = Form.filled({name: view.get(name) for name in visits.NUMBERS})
    pressure = view.get("blood_pressure")
    if isinstance(pressure, dict):
        form.given |= {part: [str(pressure.get(part, ""))] for part in visits.PRESSURE}
    form.given["not_measured"] = [one.partition("/")[2] for one in view if one.startswith("not_measured/")]
    return form


@router.post("/patients/{name}/vitals/{record}/correct")
def correct(desk: AtWork, name: str, record: str, form: Posted) -> Response:
    kept = _kept(desk, name, "vitals", record)
    _name_correction(desk, form)
    view = kept.record.view()
    with language.speaking(desk.words):
        measured = visits.vitals_writes(form)
        reason = form.required("correction_reason", said("Say what was wrong"))
        form.checked("vitals", "correction_reason", clinical.label("reason"), reason, at="correction_reason")
        odd = unusual.unusual(_altered(measured, view), _years(desk, name))
        if not measured:
            form.wrong(
                "systolic_mmhg", said("Enter what was measured; a measurement that never was is entered in error")
            )
    if not form.errors and {found.token for found in odd} - set(form.all("seen_unusual")):
        desk.kept(form, desk.entry)
        return _show_vitals(desk, name, record, form, 409, odd)
    writes = {one: view[one] for one in ("at", "case") if one in view} | measured
    writes |= {one: view[one] for one in measured if one.startswith("not_measured/") and one in view}
    saved = desk.saved(
        form,
        lambda: desk.visiting.correct(
            kept.patient,
            "vitals",
            record_in(form.value("correction")),
            kept.key.record,
            writes,
            reason,
            desk.now_ms,
        ),
    )
    return desk.go(f"/patients/{name}") if saved else _show_vitals(desk, name, record, form, 422)


def _altered(measured: Mapping[str, Value], view: Mapping[str, Value]) -> dict[str, Value]:
    """What is said anew: nobody is asked again about a value that stands as it was."""
    return {name: value for name, value in measured.items() if value != view.get(name)}


def _years(desk: Desk, name: str) -> int | None:
    found = clinical.age_years(patients.of(desk, name).view.get("birth"), desk.today)
    return found[0] if found else None


# -- entered in error --------------------------------------------------------------------------------------------------


@router.get("/patients/{name}/records/{kind}/{record}/error")
def error_page(desk: AtWork, name: str, kind: str, record: str) -> Response:
    kept = _hideable(desk, name, kind, record)
    fresh = Form()
    editing.show(fresh, kept.record)
    return _show_error(desk, name, kept, desk.begun(lambda: fresh))


def _hideable(desk: Desk, name: str, kind: str, record: str) -> KeptRecord:
    kept = _kept(desk, name, kind, record)
    if kind not in HIDEABLE or not schema.may_write(kind, Writer.CENTRE):
        raise InvalidValue("There is no such record.", code="E_NO_SUCH_RECORD")
    return kept


def _show_error(desk: Desk, name: str, kept: KeptRecord, form: Form, status: int = 200) -> Response:
    hidden = merge.hiding(kept.record)
    return desk.page(
        "error",
        patient_id=name,
        kept=kept,
        hidden=hidden,
        by=desk.clinic.name_of(hidden.by.change.person) if hidden is not None else None,
        shown=kept.record.view(),
        form=form,
        status=status,
    )


@router.post("/patients/{name}/records/{kind}/{record}/error")
def error(desk: AtWork, name: str, kind: str, record: str, form: Posted) -> Response:
    """Hide the record, or show it again."""
    kept = _hideable(desk, name, kind, record)
    hide = form.value("hidden") != "no"
    with language.speaking(desk.words):
        text = said("Say why this was entered in error") if hide else said("Say why it is shown again")
        reason = form.required("reason", text)
        form.checked(kind, "entered_in_error", clinical.label("reason"), reason, part="reason", at="reason")
    shown = sorted(editing.shown_in(form))
    saved = desk.saved(
        form,
        lambda: desk.visiting.entered_in_error(kept.key, kept.patient, hide, reason, shown, desk.now_ms),
    )
    return desk.go(f"/patients/{name}") if saved else _show_error(desk, name, kept, form, 422)
