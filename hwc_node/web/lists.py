"""Lists: today, follow-ups, referrals, decisions, what the hub could not take; and the sync page."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import Final

from fastapi import APIRouter, Response

from hwc_node import decided, directory, edits, overview, questioning, server_certificate, standing
from hwc_node.views import Conflict
from hwc_node.web import editing, faults, registering
from hwc_node.web.desk import AtWork, Desk, Posted, Watching
from sync_protocol import documents, schema
from sync_protocol.canonical import Value
from sync_protocol.errors import HealthSyncError
from sync_protocol.merge import Record
from sync_protocol.pages import clinical, language
from sync_protocol.pages.forms import Form, plain_digits
from sync_protocol.pages.language import said

COMING_DAYS: Final = 7
MOST_CONFLICTS: Final = 200
MOST_REFUSED: Final = 200
MAX_PAGE: Final = 10_000
TYPEABLE: Final = frozenset(
    {
        schema.FieldType.TEXT,
        schema.FieldType.INTEGER,
        schema.FieldType.NUMBER,
        schema.FieldType.DATE,
        schema.FieldType.CODED,
        schema.FieldType.ELEMENT,
    }
)
_NUMBER: Final = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,3})?")
_PRESSURE: Final = re.compile(r"([0-9]{2,3})\s*/\s*([0-9]{1,3})")

router = APIRouter()


def page_number(desk: Desk) -> int:
    """Which page of a list is asked for."""
    text = desk.request.query_params.get("page", "1")
    return min(max(int(text), 1), MAX_PAGE) if re.fullmatch(r"[0-9]{1,5}", text) else 1


@router.get("/today")
def today(desk: AtWork) -> Response:
    begun = datetime.combine(desk.today, time(), language.INDIA)
    from_ms = int(begun.timestamp() * 1000)
    until_ms = int((begun + timedelta(days=1)).timestamp() * 1000)
    return desk.page("today", found=overview.visits(desk.store, from_ms, until_ms, page_number(desk)))


@router.get("/follow-ups")
def follow_ups(desk: AtWork) -> Response:
    until = (desk.today + timedelta(days=COMING_DAYS)).isoformat()
    return desk.page("follow_ups", found=overview.follow_ups(desk.store, until, page_number(desk)))


@router.get("/referrals")
def referrals(desk: AtWork) -> Response:
    return desk.page(
        "referrals",
        found=overview.referrals(desk.store, page_number(desk)),
        alarms=overview.alarms(desk.store, desk.now_ms),
        asked=overview.questions(desk.store),
    )


# -- decisions ---------------------------------------------------------------------------------------------------------


@router.get("/decisions")
def decisions(desk: AtWork) -> Response:
    found = []
    for one in desk.clinic.conflicts():
        found.append(one)
        if len(found) >= MOST_CONFLICTS:
            break
    refused = []
    for kept in standing.set_aside(desk.store):
        refused.append(kept)
        if len(refused) >= MOST_REFUSED:
            break
    found.sort(key=lambda one: (one.since_ms, one.id))
    return desk.page(
        "decisions",
        found=found,
        refused=refused,
        most=MOST_CONFLICTS,
        decided=decided.lately(desk.store, desk.now_ms),
        decided_days=decided.DAYS,
        person_of=desk.clinic.name_of,
        news=questioning.questioned(desk.store),
        name_of=desk.clinic.patient_name,
        why_of=faults.refusal_said,
    )


@router.post("/news")
def news(desk: AtWork, form: Posted) -> Response:
    """News that was put aside, since it would hide much: obeyed by whoever asked at the hub, or kept put aside."""
    if form.value("news") == "obey" and form.value("sure") == "yes":
        questioning.accept(desk.store, desk.now_ms)
    elif form.value("news") == "keep":
        questioning.refuse(desk.store)
    return desk.go("/decisions")


@router.get("/decisions/{kind}/{record}/{field:path}")
def decision(desk: AtWork, kind: str, record: str, field: str) -> Response:
    return _decision(desk, f"{kind}/{record}/{field}", desk.begun(Form))


def _decision(desk: Desk, name: str, form: Form, status: int = 200) -> Response:
    one = desk.clinic.conflict(name)
    return desk.page(
        "decision",
        one=one,
        name=name,
        form=form,
        answers=_answers(one),
        typed=_is_typed(schema.field_of(one.key.kind, one.field)),
        joinable=_joined(one) is not None,
        patient_id=documents.id_text(one.patient),
        patient_name=desk.clinic.patient_name(one.patient) or "",
        name_of=desk.clinic.name_of,
        where_of=lambda code: directory.facility_name(desk.store, code),
        status=status,
    )


@router.post("/decisions/{kind}/{record}/{field:path}")
def decide(desk: AtWork, kind: str, record: str, field: str, form: Posted) -> Response:
    name = f"{kind}/{record}/{field}"
    one = desk.clinic.conflict(name)
    note = form.value("note") or None
    with language.speaking(desk.words):
        form.checked(one.key.kind, "resolution_note", said("Note (why)"), note, at="note")
    if form.value("undo") == "yes":
        if not desk.saved(form, lambda: desk.clinic.undo(name, note, desk.now_ms)):
            return _decision(desk, name, form, 409)
        return desk.go(f"/decisions/{name}")
    with language.speaking(desk.words):
        take = form.required("take", said("Choose what is to hold"))
        chosen = _chosen(desk, one, form, take)
    shown = editing.shown_in(form)

    def settle() -> None:
        desk.clinic.resolve(name, lambda _record, _field: chosen, note, desk.now_ms, shown)

    if not desk.saved(form, settle):
        return _decision(desk, name, form, 422)
    return desk.go(f"/decisions/{name}")


def _chosen(desk: Desk, one: Conflict, form: Form, take: str) -> Value:
    """The value that is to hold: one of those shown, both, or another that was typed."""
    record: Record = one.record
    if take == "other" or take.startswith("other:"):
        row = schema.field_of(one.key.kind, one.field)
        if row is schema.BIRTH:
            return registering.birth(desk, form)
        text = take.partition(":")[2] or form.required("other", said("Type what is to hold"))
        value = _typed(row, text)
        return form.checked(one.key.kind, one.field, clinical.label(one.field), value, at="other")
    if take == "both":
        return _joined(one)
    try:
        return edits.taken(record, one.field, take).change.writes[one.field] if take else None
    except HealthSyncError:
        form.wrong("take", said("Choose one of the values that are shown"))
        return None


def _answers(one: Conflict) -> list[tuple[str, str]]:
    """What may hold instead of the values that are there, where it is one of a few: as the form sends it, as it is said."""
    row = schema.field_of(one.key.kind, one.field)
    there = [sibling.value for sibling in one.values]
    choices = row.choices if row is not None else ()
    return [(f"other:{word}", clinical.word(word)) for word in choices if word not in there]


def _is_typed(row: schema.Field | None) -> bool:
    """Whether something else can be typed: no choice, no id of a record, no list, no object but those with fields here."""
    if row is None or row.choices:
        return False
    return row in (schema.BIRTH, schema.BLOOD_PRESSURE) or row.type in TYPEABLE


def _typed(row: schema.Field | None, text: str) -> Value:
    """What somebody typed in the place of the values, as the field's type has it."""
    if row is None:
        return text
    if row.type is schema.FieldType.CODED:
        return {"text": text}
    if row.type is schema.FieldType.ELEMENT:
        return {"present": True, "details": {"text": text}}
    digits = plain_digits(text)
    if row.type is schema.FieldType.DATE:
        return digits
    number = digits.replace(",", ".")
    if row.type in (schema.FieldType.INTEGER, schema.FieldType.NUMBER) and _NUMBER.fullmatch(number):
        return int(number) if number.lstrip("-").isdecimal() else float(number)
    if row is schema.BLOOD_PRESSURE and (found := _PRESSURE.fullmatch(digits)):
        return {"systolic_mmhg": int(found[1]), "diastolic_mmhg": int(found[2])}
    return text


def _joined(one: Conflict) -> Value:
    """Both texts, one under the other; None where the field is no long text or they would not fit."""
    row = schema.field_of(one.key.kind, one.field)
    values = [sibling.value for sibling in one.values]
    if row is None or row.type is not schema.FieldType.TEXT or not all(isinstance(value, str) for value in values):
        return None
    text = "\n".join(dict.fromkeys(str(value) for value in values))
    return text if row.max_chars >= schema.LONG_CHARS and len(text) <= row.max_chars else None


# -- sync --------------------------------------------------------------------------------------------------------------


@router.get("/sync/line")
def sync_line(desk: Watching) -> Response:
    """Nothing where it says what the page has already: nobody is told the same twice, and a slow link carries less."""
    line, asked = desk.line(desk.now_ms), desk.request.query_params
    if asked.get("seen") == line.token:
        return Response(status_code=204)
    return desk.part("sync_line", line=line, alarm_anew=asked.get("alarm", "") != line.alarm_token)


@router.get("/sync")
def sync_page(desk: AtWork) -> Response:
    return desk.page(
        "sync",
        now=standing.standing(desk.store),
        notices=standing.notices(desk.store),
        fingerprint=server_certificate.fingerprint(desk.store),
        https=desk.premises.https is not None,
    )


@router.post("/sync/now")
def sync_now(desk: AtWork, _form: Posted) -> Response:
    desk.hurry()
    return desk.go("/sync")
