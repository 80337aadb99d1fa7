"""What is asked for: referrals, orders, prescriptions, appointments.

Ours are read back into the record they are of. What somebody else ordered or prescribed is a follow-up of its own, told
in words: a reply is a hub doctor's, and a centre must not seem to have written one.
"""

from __future__ import annotations

from typing import Final

from sync_protocol import documents
from sync_protocol.fhir import names
from sync_protocol.fhir.datatypes import Json, codes, day_in, words_in
from sync_protocol.fhir.drafts import Draft, Sheet
from sync_protocol.fhir.taking import Source
from sync_protocol.schema import MAX_LINES

URGENCIES: Final = {there: ours for ours, there in names.URGENCIES.items()} | {names.ASAP: "urgent"}
MAX_TIMES: Final = 1_000  # in a period, or periods: more is no dosage
PERIODS: Final = {"min": "minute", "h": "hour", "d": "day", "wk": "week", "mo": "month"}


def service_request(sheet: Sheet, source: Source) -> None:
    """A referral of ours; of others, one that names a specialty, and all else as something to do."""
    own = sheet.own(source)
    specialty = source.look("performerType", "text") or source.look("performerType", "coding", 0, "display")
    said = {code for at in source.rows("category") for code in codes(source, names.SNOMED, "category", at)}
    said |= set(codes(source, names.SNOMED, "code"))
    if own is None and not (said & names.REFERRALS and isinstance(specialty, str) and specialty.strip()):
        _to_do(sheet, source, "Ordered: ", "code")
        return
    draft = sheet.draft(own or sheet.key(source, "referral"), source)
    if not sheet.of_patient(draft, source, "subject"):
        return
    _in_visit(sheet, draft, source)
    sheet.happened(draft, source, ("authoredOn",))
    for name in ("status", "intent", "category", "code", "priority"):
        source.take(name)
    if (words := words_in(source, "performerType")) is not None:
        draft.put("specialty", words)
    priority = source.look("priority")
    draft.put("urgency", URGENCIES.get(priority, "routine") if isinstance(priority, str) else "routine")
    if (reason := words_in(source, "reasonCode", 0)) is not None:
        draft.put("reason", reason)
    if (question := source.text("note", 0, "text")) is not None:
        draft.put("question", question)
    if own is not None:
        source.take("requester")


def medication_request(sheet: Sheet, source: Source) -> None:
    """A line of a reply's prescription."""
    own = sheet.own(source)
    if own is None:
        _to_do(sheet, source, "Prescribed: ", "medicationCodeableConcept")
        return
    draft = sheet.draft(own, source)
    if not sheet.of_patient(draft, source, "subject"):
        return
    for name in ("status", "intent", "authoredOn", "requester", "encounter", "reasonReference"):
        source.take(name)
    line: Json = {}
    for name, value in (
        ("drug", words_in(source, "medicationCodeableConcept")),
        ("dose", _dose(source)),
        ("route", words_in(source, "dosageInstruction", 0, "route")),
        ("frequency", words_in(source, "dosageInstruction", 0, "timing", "code")),
        ("days", source.take("dosageInstruction", 0, "timing", "repeat", "boundsDuration", "value")),
        ("advice", source.text("dosageInstruction", 0, "patientInstruction")),
    ):
        if value is not None:
            line[name] = value
    source.take("dosageInstruction", 0, "text")  # says the other elements again, for people
    source.take("dosageInstruction", 0, "timing")
    lines = draft.fields.setdefault("prescription", [])
    if isinstance(lines, list) and len(lines) < MAX_LINES:
        lines.append(line)
    else:
        source.refuse("is more than a prescription holds")


def _dose(source: Source) -> str | None:
    for at in source.rows("dosageInstruction", 0, "extension"):
        if source.look("dosageInstruction", 0, "extension", at, "url") == names.DOSE:
            source.take("dosageInstruction", 0, "extension", at)
            said = source.look("dosageInstruction", 0, "extension", at, "valueString")
            return said if isinstance(said, str) else None
    return None


def _to_do(sheet: Sheet, source: Source, what: str, name: str) -> None:
    """What somebody else ordered or prescribed, as a follow-up of its own."""
    draft = sheet.draft(sheet.key(source, "follow_up"), source)
    if not sheet.of_patient(draft, source, "subject"):
        return
    if source.look("doNotPerform") is True:
        source.refuse("says what is not to be done", "doNotPerform")
        return
    thing = words_in(source, name) or source.text("medicationReference", "display")
    if thing is None:
        source.refuse("does not say in words what it is", name)
        return
    _in_visit(sheet, draft, source)
    sheet.happened(draft, source, ("authoredOn",))
    source.take("intent")
    if (due := day_in(source.look("occurrenceDateTime"))) is not None:
        source.take("occurrenceDateTime")
        draft.put("due", due)
    words = [what + thing]
    for at in source.rows("dosageInstruction"):
        words += _dosage(source, at)
    reasons = [words_in(source, "reasonCode", at) for at in source.rows("reasonCode")]
    words += [f"for {reason}" for reason in reasons if reason]
    notes = [source.text("note", at, "text") for at in source.rows("note")]
    status = source.text("status")
    if status not in (None, "active", "completed"):
        words.append(f"status: {status}")  # stopped, on hold: who reads the note must know
    draft.put("note", "; ".join([*words, *(note for note in notes if note)]))


def _dosage(source: Source, at: int) -> list[str]:
    """A dosage in words: its own text, then what its coded elements say."""
    path = ("dosageInstruction", at)
    said = [source.text(*path, "text"), source.text(*path, "patientInstruction")]
    said += [
        words_in(source, *path, "additionalInstruction", row) for row in source.rows(*path, "additionalInstruction")
    ]
    said += [words_in(source, *path, name) for name in ("route", "method", "site")]
    said.append(words_in(source, *path, "timing", "code"))
    parts = ("frequency", "period", "periodUnit")
    times, period, unit = (source.look(*path, "timing", "repeat", part) for part in parts)
    counted = all(type(one) is int and 0 < one < MAX_TIMES for one in (times, period))
    if counted and isinstance(unit, str) and unit in PERIODS:
        for part in parts:
            source.take(*path, "timing", "repeat", part)
        said.append(f"{times}× a {PERIODS[unit]}" if period == 1 else f"{times}× in {period} {PERIODS[unit]}s")
    return [one for one in said if one]


def appointment(sheet: Sheet, source: Source) -> None:
    """A follow-up, due on the appointment's day."""
    own = sheet.own(source)
    if own is None and source.look("status") in ("cancelled", "noshow"):
        source.refuse("did not take place", "status")
        return
    of = [(at, sheet.target(source, "participant", at, "actor")) for at in source.rows("participant")]
    at = next((at for at, found in of if found is not None and found.kind == "patient"), 0)
    draft = sheet.draft(own or sheet.key(source, "follow_up"), source)
    if not sheet.of_patient(draft, source, "participant", at, "actor"):
        return
    source.take("participant", at)
    source.take("status")
    sheet.happened(draft, source, ("created",))
    for path in (("requestedPeriod", 0, "start"), ("start",)):
        if (due := day_in(source.look(*path))) is not None and draft.put("due", due):
            source.take(*path)
    if (note := source.text("description")) is not None:
        draft.put("note", note)
    if own is None:
        _in_visit(sheet, draft, source)


def _in_visit(sheet: Sheet, draft: Draft, source: Source) -> None:
    """The visit that a resource belongs to: its own word, else the document's, else that of its first reason."""
    visit = sheet.target(source, "encounter")
    if visit is None and sheet.own(source) is None:
        visit = sheet.visit_of(source)
        reason = sheet.source_of(source.look("reasonReference", 0))
        if reason is not None and reason.type == "Condition" and sheet.own(reason) is None:
            of_reason = sheet.visit_of(reason) or sheet.key(reason, "case")
            visit = visit or of_reason
            if visit == of_reason:
                source.take("reasonReference", 0)
    if visit is not None and visit.kind == "case":
        draft.put("case", documents.id_text(visit.record))
