"""The case: what the hub knows of a patient, and as of when; questions to the centre; the reply, drafted and signed.

What the doctor looked at goes with the reply: the positions of the page, not of the moment of signing. A signed reply
never changes; a correction is a new one that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Response

from hub_server import charts, consults
from hub_server.charts import Chart, Queued
from hub_server.consults import Correction
from hub_server.web.answering import LINES_SHOWN, answer_of, needs_code, positions_of, positions_text, require_code
from hub_server.web.desk import Desk, Doctor, Posted, record_in
from sync_protocol import merge
from sync_protocol.change import RecordId
from sync_protocol.merge import Record
from sync_protocol.pages import clinical, language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said

TREND_POINTS: Final = 12

router = APIRouter()


@router.get("/cases/{name}")
def case_page(desk: Doctor, name: str) -> Response:
    return _show(desk, name, Form())


def _read(desk: Desk, name: str) -> tuple[Queued, Chart]:
    """The chart, noted in the audit as read."""
    record = record_in(name)
    with desk.store.database.transaction() as connection:
        row = charts.find_queued(connection, record)
    require_specialty(desk, row)
    return row, next(iter(charts.read_charts(desk.store, [row], desk.person.actor, desk.now_ms)))


def require_specialty(desk: Desk, row: Queued) -> None:
    """A doctor sees the referrals of their hospital and specialties. Raises NotAllowed (``E_NOT_YOURS``)."""
    consults.require_specialty(desk.person, row)


def _show(desk: Desk, name: str, form: Form, status: int = 200) -> Response:
    row, chart = _read(desk, name)
    if not form.value("positions"):
        form.given["positions"] = [positions_text(chart.heads)]
    with desk.store.database.transaction() as connection:
        staff = charts.names(connection, desk.store, chart.feed, _staff(chart))
        seen_ms = charts.last_seen_ms(connection, row.feed)
    visible = [one for one in chart.records if merge.is_visible(one)]
    return desk.page(
        "case",
        name=name,
        row=row,
        chart=chart,
        form=form,
        shown=chart.referral.view(),
        own=next((one.view() for one in visible if bytes(one.key.record) == bytes(chart.patient)), {}),
        cases=_of(visible, "case"),
        vitals=_of(visible, "vitals")[:TREND_POINTS],
        measured=_measured(_of(visible, "vitals")[:TREND_POINTS]),
        replies=chart.about("reply"),
        messages=list(chart.about("message")),
        others=[one for one in _of(visible, "referral") if one.key != chart.referral.key],
        staff=staff,
        words_of_rank=charts.URGENCY_WORDS,
        mine=chart.progress.claimed_by == desk.person.id,
        seen_ms=seen_ms,
        needs_code=needs_code(desk),
        lines=max(LINES_SHOWN, int(form.value("lines") or 0) if form.value("lines").isdecimal() else 0),
        author_of=lambda one: staff.get(charts.author(one), ""),
        is_doctor=lambda one: merge.first_change(one).origin.value == "doctor",
        first_ms=lambda one: merge.first_change(one).change.hlc >> 16,
        status=status,
    )


def _measured(vitals: Sequence[Record]) -> list[str]:
    """The fields that any of these has, in the order in which they are measured."""
    seen = {name for one in vitals for name in one.fields}
    return [name for name in clinical.VITALS if name in seen]


def _staff(chart: Chart) -> set[Any]:
    found = {charts.author(one) for one in chart.records}
    return found | {one for one in (chart.progress.claimed_by, chart.progress.answered_by) if one is not None}


def _of(records: list[Record], kind: str) -> list[Record]:
    found = [one for one in records if one.key.kind == kind]
    return sorted(found, key=lambda one: merge.first_change(one).order, reverse=True)


@router.post("/cases/{name}/ask")
def ask(desk: Doctor, name: str, form: Posted) -> Response:
    with language.speaking(desk.words):
        text = form.required("text", said("Write what you want to ask"))
        form.checked("message", "text", said("Message"), text)
    random = desk.randomness()[: consults.RANDOM_BYTES]
    _read(desk, name)
    if not desk.saved(form, lambda: consults.ask(desk.store, desk.person, record_in(name), text, desk.now_ms, random)):
        return _show(desk, name, form, 422)
    return desk.go(f"/cases/{name}")


@router.post("/cases/{name}/reply")
def reply(desk: Doctor, name: str, form: Posted) -> Response:
    row, _chart = _read(desk, name)
    if form.value("more"):
        form.given["lines"] = [str(_lines(form) + LINES_SHOWN)]
        return _show(desk, name, form)
    with language.speaking(desk.words):
        answer = answer_of(form)
        correction = _correction(form)
        seen = positions_of(form)
        if not form.errors:
            require_code(desk, form)
    random = desk.randomness()[: consults.RANDOM_BYTES]

    def sign() -> None:
        consults.reply(
            desk.store,
            desk.person,
            row.referral,
            answer,
            desk.now_ms,
            random,
            correction=correction,
            seen_positions=seen,
            lapse_ms=desk.place.claim_lapse_ms,
        )

    if not desk.saved(form, sign):
        return _show(desk, name, form, 422)
    return desk.go(f"/cases/{name}")


def _lines(form: Form) -> int:
    text = form.value("lines")
    return min(int(text), 40) if text.isascii() and text.isdecimal() and len(text) < 3 else LINES_SHOWN


def _correction(form: Form) -> Correction | None:
    if not form.value("corrects"):
        return None
    reason = form.required("correction_reason", said("Say why the answer is corrected"))
    return Correction(RecordId(record_in(form.value("corrects"))), reason)
