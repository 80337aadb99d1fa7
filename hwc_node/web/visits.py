"""A visit: what the patient complains of, what was found and measured, what is to be done, when to come again.

One page and one key to save. What cannot be is refused beside its field; what is unusual is asked about once and then
saved as it is. Last values stand beside the fields; what was written at the last visit comes back at a button's press.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from fastapi import APIRouter, Response

from hwc_node import drafts
from hwc_node.overview import PatientPage
from hwc_node.visiting import RANDOM_BYTES, Visit, fresh_id
from hwc_node.web import patients, sets
from hwc_node.web.desk import AtWork, Desk, Posted, record_in
from sync_protocol import unusual
from sync_protocol.canonical import Value
from sync_protocol.change import RecordId
from sync_protocol.documents import id_text
from sync_protocol.pages import clinical, language
from sync_protocol.pages.clinical import age_years, elements
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said

TEXTS: Final = ("history", "examination", "plan")
REPEATED: Final = ("complaints", "provisional_diagnosis", *TEXTS)
"""What "same as last time" brings back."""
NUMBERS: Final = tuple(name for name in clinical.VITALS if name != "blood_pressure")
PRESSURE: Final = ("systolic_mmhg", "diastolic_mmhg")
NOTHING: Final[Mapping[str, Value]] = {}
WHOLE: Final = frozenset({"pulse_bpm", "respiratory_rate", "spo2_percent"})
MAX_RETURN_DAYS: Final = 730
LEFT_OPEN_MS: Final = 2 * 3_600_000  # an entry that waited for so long was interrupted; a patient has left by then

router = APIRouter()


@router.get("/patients/{name}/visit")
def form_page(desk: AtWork, name: str) -> Response:
    one = patients.of(desk, name)
    form = desk.begun(Form)
    _name_records(desk, form)
    return _show(desk, name, one, form)


def _name_records(desk: Desk, form: Form) -> None:
    for record in ("case", "vitals", "follow_up"):
        if not form.value(record):
            form.given[record] = [id_text(fresh_id(desk.now_ms, os.urandom(RANDOM_BYTES)))]


def _show(desk: Desk, name: str, one: PatientPage, form: Form, status: int = 200, odd: object = ()) -> Response:
    return desk.page("visit", one=one, patient_id=name, form=form, odd=odd, status=status)


@router.post("/patients/{name}/visit")
def save(desk: AtWork, name: str, form: Posted) -> Response:
    one = patients.of(desk, name)
    _name_records(desk, form)
    if form.value("same"):
        _repeat(form, one)
        desk.kept(form, desk.entry)
        return _show(desk, name, one, form)
    with language.speaking(desk.words):
        at_ms = _when_ms(record_in(form.value("case")), desk.now_ms)
        case = case_writes(form) | {"at": at_ms, "mode": "in_person"}
        measured = vitals_writes(form)
        due = _due_writes(desk, form)
        if not form.errors and not (case.keys() - {"at", "mode"} or measured):
            form.wrong("complaints", said("Enter what the patient complains of, or what was found"))
        years = age_years(one.view.get("birth"), desk.today)
        odd = unusual.unusual(measured, years[0] if years else None)
    seen = set(form.all("seen_unusual"))
    if not form.errors and {found.token for found in odd} - seen:
        desk.kept(form, desk.entry)
        return _show(desk, name, one, form, 409, odd)
    visit = Visit(
        record_in(form.value("case")),
        case,
        record_in(form.value("vitals")),
        {"at": at_ms, **measured} if measured else {},
        record_in(form.value("follow_up")),
        due,
    )
    if not desk.saved(form, lambda: desk.visiting.visit(one.patient, visit, desk.now_ms)):
        return _show(desk, name, one, form, 422)
    if form.value("then") == "refer":
        return desk.go(f"/patients/{name}/cases/{form.value('case')}/refer")
    return desk.go(f"/patients/{name}")


def _when_ms(case: RecordId, now_ms: int) -> int:
    """When the visit is: now; of an entry that was begun hours before it is saved, when it was begun. That is the time in
    its id, which was drawn when the form was first shown (a UUIDv7)."""
    begun_ms = int.from_bytes(case[:6], "big")
    return begun_ms if LEFT_OPEN_MS < now_ms - begun_ms <= drafts.KEPT_MS else now_ms


def _repeat(form: Form, one: PatientPage) -> None:
    """What was written at the last visit, where nothing is typed yet."""
    last = one.cases[0].record.view() if one.cases else {}
    for field in REPEATED:
        if form.value(field):
            continue
        if field == "complaints":
            form.given[field] = [", ".join(elements(last, "complaints"))]
        else:
            form.given[field] = [clinical.coded(last.get(field)) or str(last.get(field) or "")]


def case_writes(form: Form, held: Mapping[str, Value] = NOTHING) -> dict[str, Value]:
    """What the form says of a visit, but for what was measured. held: what the record shows already."""
    writes: dict[str, Value] = {}
    writes |= sets.split(form, "complaints", "complaints", said("Complaints"), held)
    for sign in form.all("danger_signs"):
        if sign in clinical.DANGER_SIGNS and not is_sign(held, sign):
            writes[f"danger_signs/{sign}"] = {"present": True}
    days = form.number("duration_days", said("Days of illness"), whole=True)
    if days is not None:
        writes["duration_days"] = form.checked("case", "duration_days", said("Days of illness"), days)
    for field in TEXTS:
        if text := form.value(field):
            writes[field] = form.checked("case", field, clinical.label(field), text)
    if text := form.value("provisional_diagnosis"):
        diagnosis: Value = {"text": text}
        label = clinical.label("provisional_diagnosis")
        writes["provisional_diagnosis"] = form.checked("case", "provisional_diagnosis", label, diagnosis)
    return {name: value for name, value in writes.items() if value is not None}


def is_sign(view: Mapping[str, Value], sign: str) -> bool:
    """Whether this danger sign was seen."""
    value = view.get(f"danger_signs/{sign}")
    return isinstance(value, dict) and value.get("present") is True


def vitals_writes(form: Form) -> dict[str, Value]:
    """What was measured, and what could not be."""
    writes: dict[str, Value] = {}
    pressure = {part: form.number(part, clinical.label("blood_pressure"), whole=True) for part in PRESSURE}
    if any(value is not None for value in pressure.values()):
        missing = next((part for part, value in pressure.items() if value is None and part not in form.errors), None)
        if missing is not None:
            form.wrong(missing, said("Enter both numbers of the blood pressure"))
        elif not form.errors.keys() & set(PRESSURE):
            writes["blood_pressure"] = _pressure(form, pressure)
    for field in NUMBERS:
        value = form.number(field, clinical.label(field), whole=field in WHOLE)
        if value is not None:
            writes[field] = form.checked("vitals", field, clinical.label(field), value)
    for field in form.all("not_measured"):
        if field in clinical.VITALS and field not in writes:
            writes[f"not_measured/{field}"] = {"present": True}
    return {name: value for name, value in writes.items() if value is not None}


def _pressure(form: Form, parts: dict[str, float | int | None]) -> Value:
    """Both numbers, each checked beside its own field."""
    for part, (low, high) in {"systolic_mmhg": (20, 350), "diastolic_mmhg": (5, 250)}.items():
        value = parts[part]
        if value is None or not low <= value <= high:
            form.wrong(part, said("Blood pressure must be from %(low)s to %(high)s mmHg", low=low, high=high))
    return dict(parts)


def _due_writes(desk: Desk, form: Form) -> dict[str, Value]:
    days = form.number("return_days", said("Come again in days"), whole=True)
    if days is None:
        return {}
    if not 1 <= days <= MAX_RETURN_DAYS:
        form.wrong("return_days", said("Come again in 1 to %(high)s days", high=MAX_RETURN_DAYS))
        return {}
    return {"due": (desk.today + timedelta(days=int(days))).isoformat()}
