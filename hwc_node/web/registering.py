"""Register a patient, and correct what is known of one: at most seven fields must be filled.

Whoever looks like the new one is shown before anything is saved: age, village and last visit tell people apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Response

from hwc_node import finding
from hwc_node.finding import Found
from hwc_node.visiting import RANDOM_BYTES, Entry, fresh_id
from hwc_node.web import consenting, editing, sets
from hwc_node.web.desk import AtWork, Desk, Posted, record_in
from sync_protocol import documents, schema
from sync_protocol.canonical import Value
from sync_protocol.change import PatientId, RecordId, RecordKey
from sync_protocol.documents import id_text
from sync_protocol.errors import HealthSyncError, InvalidValue
from sync_protocol.merge import Record
from sync_protocol.pages import clinical, language
from sync_protocol.pages.forms import Form, plain_digits
from sync_protocol.pages.language import said

ALIKE: Final = 0.93  # nearness of names from which on two may be one person
MOST_ALIKE: Final = 5
MAX_AGE: Final = 130
PHONE: Final = re.compile(r"\+?\d{10,13}")
ABHA_DIGITS: Final = 14
_YEAR: Final = re.compile(r"[0-9]{4}")
_MONTH: Final = re.compile(r"[0-9]{4}-[0-9]{2}")
TEXTS: Final = ("village", "guardian", "address", "language")
CLEARED: Final = (*TEXTS, "phone", "abha")
"""What may be emptied again when a patient's particulars are put right."""
NOTHING: Final[Mapping[str, Value]] = {}

router = APIRouter()


def fresh() -> Form:
    return Form()


@router.get("/register")
def form_page(desk: AtWork) -> Response:
    return show(desk, desk.begun(Form))


def show(desk: Desk, form: Form) -> Response:
    """The form of a new patient, with what is known of them."""
    _name_records(desk, form)
    return _show(desk, form, [])


def _name_records(desk: Desk, form: Form) -> None:
    """The ids that the new records will have, so that sending the form twice saves once."""
    for name in ("patient", "consent"):
        if not form.value(name):
            form.given[name] = [id_text(fresh_id(desk.now_ms, os.urandom(RANDOM_BYTES)))]


def _show(desk: Desk, form: Form, alike: list[Found], status: int = 200) -> Response:
    return desk.page("register", form=form, alike=alike, wording=consenting.WORDING, status=status)


@router.post("/register")
def register(desk: AtWork, form: Posted) -> Response:
    with language.speaking(desk.words):
        _name_records(desk, form)
        writes = _patient_writes(desk, form)
        given = consenting.asked(form)
    patient = PatientId(record_in(form.value("patient")))
    asked = form.value("new") == "yes" or _is_saved(desk, patient)
    alike = [] if form.errors or asked else _alike(desk, writes)
    if alike:
        return _show(desk, form, alike, 409)
    consent = consenting.answered(desk, given)
    saved = desk.saved(
        form,
        lambda: desk.visiting.register(patient, writes, record_in(form.value("consent")), consent, desk.now_ms),
    )
    if not saved:
        return _show(desk, form, [], 422)
    path = f"/patients/{id_text(patient)}"
    return desk.go(f"{path}/visit" if form.value("then") == "visit" or form.value("new") else path)


def _is_saved(desk: Desk, patient: PatientId) -> bool:
    """Whether this very form was saved already: it is sent again."""
    return desk.store.record(RecordKey("patient", RecordId(patient))) is not None


def _alike(desk: Desk, writes: dict[str, Value]) -> list[Found]:
    """Those who may be the same person: by their name or their phone.

    A sex is often mistyped, so who is of another one is shown where the name is the very same, or is near and the phone
    is the same; where only one of these is near, it is another person (Sunil and Sunila, a husband and his wife).
    """
    own = writes.get("sex")
    by_name = {one.patient: one for one in finding.find(desk.store, str(writes["name"])) if one.nearness >= ALIKE}
    phone = finding.find(desk.store, str(writes["phone"])) if writes.get("phone") else []
    by_phone = {one.patient: one for one in phone}
    same, other = [], []
    for one in (by_phone | by_name).values():
        if own == "U" or one.view.get("sex") in (own, "U", None):
            same.append(one)
        elif one.patient in by_name and (one.nearness == 1 or one.patient in by_phone):
            other.append(one)
    return [*same, *other][:MOST_ALIKE]


def _patient_writes(desk: Desk, form: Form, held: Mapping[str, Value] = NOTHING) -> dict[str, Value]:
    """What the form says of a patient, checked against the record's table. held: what the record shows already."""
    writes: dict[str, Value] = {}
    name = form.required("name", said("Enter the patient's name"))
    writes["name"] = form.checked("patient", "name", said("Name"), name)
    sex = form.required("sex", said("Choose the patient's sex"))
    if sex:
        writes["sex"] = form.checked("patient", "sex", said("Sex"), sex)
    if (born := birth(desk, form)) is not None:
        writes["birth"] = born
    if phone := _number(form, "phone"):
        if not PHONE.fullmatch(phone):
            form.wrong("phone", said("Phone must have ten digits, with the country's code before them if need be"))
        writes["phone"] = phone
    if abha := _number(form, "abha"):
        if not (abha.isascii() and abha.isdecimal() and len(abha) == ABHA_DIGITS):
            form.wrong("abha", said("An ABHA number has 14 digits"))
        writes["abha"] = abha
    for field in TEXTS:
        if text := form.value(field):
            writes[field] = form.checked("patient", field, clinical.label(field), text)
    _add_allergies(form, writes, held)
    return writes


def _number(form: Form, name: str) -> str:
    """The digits of a phone or a card, of whatever script, without what people write between them."""
    return re.sub(r"[\s-]", "", plain_digits(form.value(name)))


def birth(desk: Desk, form: Form) -> Value:
    """A day of birth, a month or a year as far as it is known, or an age as it was said today."""
    day, age = plain_digits(form.value("born")), form.number("age", said("Age"), whole=True)
    if day and age is not None and editing.is_untouched(form, "born"):
        if not editing.is_untouched(form, "age"):
            form.wrong("age", said("Take the day of birth out if this age is to hold"))
        return None
    if day:
        value: Value = {"date": day, "precision": "month" if _MONTH.fullmatch(day) else "day"}
        if _YEAR.fullmatch(day):
            value = {"year": int(day), "precision": "year"}
        try:
            born = documents.parse(
                {"kind": "patient", "fields": {"birth": value}}, facility="", source_text="x", now_ms=desk.now_ms
            ).writes["birth"]
        except HealthSyncError:
            form.wrong("born", said("Enter a day of birth that is past, such as 1990-08-15; or 1990-08, or 1990"))
            return None
        return form.checked("patient", "birth", said("Day of birth"), born, at="born")
    if age is None:
        if "age" not in form.errors:
            form.wrong("age", said("Enter an age, or a day of birth"))
        return None
    if not 0 <= age <= MAX_AGE:
        form.wrong("age", said("Age must be from 0 to %(high)s years", high=MAX_AGE))
        return None
    return {"age_years": age, "precision": "about", "said_on": desk.today.isoformat()}


def _add_allergies(form: Form, writes: dict[str, Value], held: Mapping[str, Value]) -> None:
    status = form.value("allergies_status")
    named = sets.split(form, "allergies", "allergies", said("Allergies"), held)
    if named or form.value("allergies").strip(" ,;"):
        status = "listed"
    if status:
        writes["allergies_status"] = form.checked("patient", "allergies_status", said("Allergies"), status)
    writes |= named


# -- correcting what is known ------------------------------------------------------------------------------------------


def _shown_form(record: Record) -> Form:
    """The form as the record shows it, with what was shown: that is what a save replaces."""
    view = record.view()
    form = Form.filled({name: view.get(name) for name in ("name", "phone", "abha", *TEXTS)})
    for name in ("sex", "allergies_status"):
        if view.get(name) in schema.KINDS["patient"].fields[name].choices:
            form.given[name] = [str(view[name])]
    known = view.get("birth")
    if isinstance(known, dict):
        form.given["born"] = [str(known.get("date") or known.get("year") or "")]
        form.given["age"] = ["" if known.get("age_years") is None else str(known["age_years"])]
    form.given["allergies"] = [sets.line(view, "allergies")]
    editing.show(form, record)
    return form


@router.get("/patients/{name}/edit")
def edit_page(desk: AtWork, name: str) -> Response:
    record = _own(desk, name)
    return _show_edit(desk, name, record, desk.begun(lambda: _shown_form(record)))


def _show_edit(desk: Desk, name: str, record: Record, form: Form, status: int = 200) -> Response:
    beside = sets.beside(record.view(), "allergies")
    return desk.page("patient_edit", form=form, patient_id=name, allergies_beside=beside, status=status)


@router.post("/patients/{name}/edit")
def edit(desk: AtWork, name: str, form: Posted) -> Response:
    record = _own(desk, name)
    with language.speaking(desk.words):
        writes = editing.altered(form, _patient_writes(desk, form, record.view()))
    writes |= editing.cleared(record, form, writes, CLEARED) | editing.emptied(record, form, ("allergies",))
    entry = Entry(record.key, writes, editing.base_of(record, form, writes))
    if not desk.saved(form, lambda: desk.visiting.save(PatientId(record.key.record), [entry], desk.now_ms)):
        return _show_edit(desk, name, record, form, 422)
    return desk.go(f"/patients/{name}")


def _own(desk: Desk, name: str) -> Record:
    kept = desk.store.record(RecordKey("patient", record_in(name)))
    if kept is None:
        raise InvalidValue("There is no such record.", code="E_NO_SUCH_RECORD")
    return kept.record
