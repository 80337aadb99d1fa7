"""The case: what the hub knows of a patient, and as of when; questions to the centre; the reply, drafted and signed.

What the doctor looked at goes with the reply: the positions of the page, not of the moment of signing; what came since
is told above a page that is shown again. A signed reply never changes; a correction is a new one that says why. What was
written for a case that is another's by now is shown, to be copied, and kept. Who may not see the case is told so, and may
say why they have to.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Response

from hub_server import charts, consults, drafts, glass
from hub_server.charts import Chart, Queued
from hub_server.consults import Correction, LinesRefused
from hub_server.drafts import Draft
from hub_server.glass import Opening
from hub_server.web import answering, attending, faults, objecting, showing
from hub_server.web.desk import Desk, Doctor, DoctorWatching, Posted, record_in
from sync_protocol.change import PersonId, RecordId
from sync_protocol.errors import NotAllowed, TooLarge
from sync_protocol.pages import language
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said
from sync_protocol.referral import Status

NONCE_BYTES: Final = 12
_ONCE: Final = re.compile(f"[0-9a-f]{{{2 * consults.RANDOM_BYTES}}}")
OPEN_TO_TALK: Final = (Status.RECEIVED, Status.CLAIMED, Status.ANSWERED, Status.SEEN)

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Seen:
    """A case that this doctor may see, read and noted. opening: if it is open to them by a reason."""

    row: Queued
    chart: Chart
    names: dict[PersonId, str]
    opening: Opening | None
    draft: Draft | None
    seen_ms: int | None


@router.get("/cases/{name}")
def case_page(desk: Doctor, name: str) -> Response:
    record = record_in(name)
    try:
        seen = _read(desk, record)
    except NotAllowed:
        return _closed(desk, record, Form())
    consults.keep_claim(desk.store, desk.person, record, desk.now_ms)
    return _show(desk, seen, _begun(seen))


def _read(desk: Desk, name: RecordId) -> Seen:
    """The case, noted in the audit as read. Raises InvalidValue (``E_NO_SUCH_REFERRAL``) or NotAllowed."""
    with desk.store.database.transaction() as connection:
        row = consults.seen_row(connection, desk.person, name, desk.now_ms)
    chart = charts.read_chart(desk.store, row, desk.person.actor, desk.now_ms)
    staff = {held.change.person for one in chart.records for held in one.changes.values()}
    with desk.store.database.transaction() as connection:
        return Seen(
            row,
            chart,
            charts.names(connection, desk.store, chart.feed, staff) | attending.names_of(connection, [row]),
            None
            if desk.person.sees(row.specialty, row.hub)
            else glass.open_for(connection, desk.person.id, row.patient, desk.now_ms),
            drafts.find(desk.store, connection, desk.person.id, name),
            charts.last_seen_ms(connection, row.centre),
        )


def _begun(seen: Seen) -> Form:
    """The reply's form when the page is opened: the draft, else the answer that may be corrected, else nothing."""
    fields = {field: list(values) for field, values in seen.draft.fields.items()} if seen.draft is not None else {}
    question = {consults.QUESTION: fields.pop(consults.QUESTION, [""])}
    fields.pop(consults.REASON, None)
    if fields or seen.chart.reply is None:
        return Form(fields | question)
    return Form(answering.filled_from(seen.chart.reply.view()).given | question)


def _show(desk: Desk, seen: Seen, form: Form, status: int = 200) -> Response:
    chart, row = seen.chart, seen.row
    before = answering.positions_of(form)  # of the page that the doctor wrote this on
    form.given["positions"] = [answering.positions_text(chart.heads)]
    form.given["lines"] = [str(answering.lines_of(form))]
    if seen.draft is not None:  # the reply's form has no question in it
        form.given.setdefault(consults.QUESTION, seen.draft.fields.get(consults.QUESTION, [""]))
    with desk.store.database.transaction() as connection:
        takers = attending.takers(connection, row, desk.person, desk.now_ms)

    def name_of(person: PersonId) -> str:
        return seen.names.get(person, "")

    in_the_way = consults.in_the_way(chart, desk.person, desk.now_ms, desk.place.claim_lapse_ms)
    with language.speaking(desk.words):
        whole = desk.request.query_params.get("all") == "yes"
        shown = showing.shown(chart, name_of, desk.today, whole=whole)
        told = objecting.told(form, consults.objections(chart, objecting.standing(form)))
        written = answering.unsent_of(form, chart.reply.view() if chart.reply is not None else {}) if in_the_way else []
    return desk.page(
        "case",
        name=desk.request.path_params["name"],
        row=row,
        form=form,
        names=seen.names,
        opening=seen.opening,
        draft=seen.draft,
        seen_ms=seen.seen_ms,
        staleness=showing.staleness(seen.seen_ms, desk.now_ms),
        newer=chart.newer(before, desk.person.id) if before is not None else (),
        position=max(chart.positions.values(), default=0),
        mine=chart.progress.claimed_by == desk.person.id and chart.progress.status is Status.CLAIMED,
        may_talk=chart.progress.status in OPEN_TO_TALK or consults.has_answered(chart, desk.person),
        once=desk.randomness()[: consults.RANDOM_BYTES].hex(),
        in_the_way=faults.PLAIN.get(in_the_way, ""),
        written=written,
        told=told,
        takers=takers,
        lapse_ms=desk.place.claim_lapse_ms,
        words_of_rank=charts.URGENCY_WORDS,
        needs_code=answering.needs_code(desk),
        status=status,
        **shown,
    )


@router.get("/cases/{name}/news")
def news(desk: DoctorWatching, name: str, seen: int = 0) -> Response:
    """Whether something came since the page was made. seen: the newest position that it shows. Opens nothing."""
    with desk.store.database.transaction() as connection:
        row = consults.seen_row(connection, desk.person, record_in(name), desk.now_ms)
        newest = charts.newest(connection, row.feed, row.patient)
    return desk.page("case_news", name=name, seen=seen, changed=newest > seen)


@router.post("/cases/{name}/ask")
def ask(desk: Doctor, name: str, form: Posted) -> Response:
    record = record_in(name)
    seen = _read(desk, record)
    with language.speaking(desk.words):
        text = form.required("text", said("Write what you want to ask"))
        form.checked("message", "text", said("Message"), text)
    random = _once(form) or desk.randomness()[: consults.RANDOM_BYTES]
    if not desk.saved(form, lambda: consults.ask(desk.store, desk.person, record, text, desk.now_ms, random)):
        begun = _begun(seen)
        return _show(desk, seen, Form(begun.given | form.given, form.errors), 422)
    _keep_typed(desk, consults.keep_question, record, "")
    return desk.go(f"/cases/{name}")


@router.post("/cases/{name}/ask/draft")
def keep_question(desk: Doctor, name: str, form: Posted) -> Response:
    """What is typed, kept while it is typed."""
    return _keep_typed(desk, consults.keep_question, record_in(name), form.value(consults.QUESTION))


def _keep_typed(desk: Desk, keep: Callable[..., None], name: RecordId, text: str) -> Response:
    keep(desk.store, desk.person, name, text, desk.now_ms, desk.randomness()[:NONCE_BYTES])
    return desk.page("draft_kept", draft=Draft({}, desk.now_ms))


def _once(form: Form) -> bytes:
    """The randomness that the page was made with, so that what is sent twice is written once; empty for none."""
    text = form.value("once")
    return bytes.fromhex(text) if _ONCE.fullmatch(text) else b""


# -- the reply ---------------------------------------------------------------------------------------------------------


@router.post("/cases/{name}/reply")
def reply(desk: Doctor, name: str, form: Posted) -> Response:
    record = record_in(name)
    try:
        seen = _read(desk, record)
    except NotAllowed:
        return _closed(desk, record, form)
    if form.value("draft"):
        kept = desk.saved(form, lambda: _keep(desk, record, form))
        return desk.go(f"/cases/{name}") if kept else _show(desk, seen, form, 422)
    if form.value("more"):
        form.given["lines"] = [str(answering.lines_of(form) + answering.LINES_SHOWN)]
        return _show(desk, seen, form)
    with language.speaking(desk.words):
        answer = answering.answer_of(form)
        correction = _correction(form)
        answering.require_code(desk, form)
        if form.errors:  # else the verb says it
            objecting.put_beside(form, consults.objections(seen.chart, objecting.standing(form)))
    random = desk.randomness()[: consults.RANDOM_BYTES]

    def sign() -> None:
        try:
            consults.reply(
                desk.store,
                desk.person,
                record,
                answer,
                desk.now_ms,
                random,
                correction=correction,
                seen_positions=answering.positions_of(form),
                lapse_ms=desk.place.claim_lapse_ms,
            )
        except LinesRefused as error:
            with language.speaking(desk.words):
                objecting.put_beside(form, error.objections)

    if not desk.saved(form, sign) or form.errors:
        return _show(desk, _kept_unsent(desk, record, form) if "form" in form.errors else seen, form, 422)
    return desk.go(f"/cases/{name}")


def _kept_unsent(desk: Desk, name: RecordId, form: Form) -> Seen:
    """The case as it is now that nothing can be sent for it, with a draft of what was written."""
    with suppress(TooLarge):  # the page shows it all the same
        _keep(desk, name, form)
    return _read(desk, name)


def _correction(form: Form) -> Correction | None:
    if not form.value("corrects"):
        return None
    reason = form.required("correction_reason", said("Say why the answer is corrected"))
    return Correction(RecordId(record_in(form.value("corrects"))), reason)


def _keep(desk: Desk, name: RecordId, form: Form, *, by_itself: bool = False) -> bool:
    corrects = RecordId(record_in(form.value("corrects"))) if form.value("corrects") else None
    nonce, fields = desk.randomness()[:NONCE_BYTES], answering.kept_of(form)
    kept = consults.keep_draft(
        desk.store, desk.person, name, fields, desk.now_ms, nonce, corrects=corrects, by_itself=by_itself
    )
    consults.keep_claim(desk.store, desk.person, name, desk.now_ms)
    return kept


@router.post("/cases/{name}/draft")
def keep_draft(desk: Doctor, name: str, form: Posted) -> Response:
    """What is typed, kept while it is typed; and what the rules say to it."""
    record = record_in(name)
    if not _keep(desk, record, form, by_itself=True):
        return Response(status_code=204)
    told = None
    if not objecting.is_told(form):
        found = consults.look_at(desk.store, desk.person, record, objecting.standing(form), desk.now_ms)
        with language.speaking(desk.words):
            told = objecting.told(form, found)
    return desk.page("draft_told", draft=Draft({}, desk.now_ms), form=form, told=told)


@router.post("/cases/{name}/draft/drop")
def drop_draft(desk: Doctor, name: str, _form: Posted) -> Response:
    record = record_in(name)
    with desk.store.database.transaction() as connection:
        consults.seen_row(connection, desk.person, record, desk.now_ms)
        drafts.drop(connection, desk.person.id, record)
    return desk.go(f"/cases/{name}")


# -- a case of others --------------------------------------------------------------------------------------------------


@router.post("/cases/{name}/open")
def open_case(desk: Doctor, name: str, form: Posted) -> Response:
    """Break the glass: see this patient for a day, with a reason that is reviewed."""
    record = record_in(name)
    with desk.store.database.transaction() as connection:
        charts.find_queued(connection, record)
    with language.speaking(desk.words):
        reason = form.required("reason", said("Say why you have to see this patient"))
    random = desk.randomness()[: glass.RANDOM_BYTES]
    if not desk.saved(form, lambda: glass.break_glass(desk.store, desk.person, record, reason, desk.now_ms, random)):
        return _closed(desk, record, form, 422)
    _keep_typed(desk, consults.keep_reason, record, "")
    return desk.go(f"/cases/{name}")


@router.post("/cases/{name}/open/draft")
def keep_reason(desk: Doctor, name: str, form: Posted) -> Response:
    """The reason, kept while it is typed."""
    return _keep_typed(desk, consults.keep_reason, record_in(name), form.value(consults.REASON))


def _closed(desk: Desk, name: RecordId, form: Form, status: int = 403) -> Response:
    """The page of a case that is not this doctor's: nothing of the patient but what they had written themselves."""
    with desk.store.database.transaction() as connection:
        row = charts.find_queued(connection, name)
        begun = drafts.find(desk.store, connection, desk.person.id, name)
    if begun is not None:
        form.given.setdefault(consults.REASON, begun.fields.get(consults.REASON, [""]))
    with language.speaking(desk.words):
        written = answering.unsent_of(form, {})
    name_ = desk.request.path_params["name"]
    return desk.page("case_closed", name=name_, row=row, form=form, written=written, status=status)
