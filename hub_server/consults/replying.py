"""Answering a referral: what a reply must say, the rules for its drugs, and correcting one that was signed.

What was read in the verb's transaction is what the doctor was shown, so a reply names for each feed the position behind
which nothing had been seen. The drugs keep to the telemedicine rules (`sync_protocol.telemedicine`), whoever calls. A
signed reply never changes: a correction is a new one that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hub_server import audit, charts, claim_locks, drafts, people
from hub_server.charts import Chart
from hub_server.claim_locks import DEFAULT_LAPSE_MS
from hub_server.consults.claiming import already_answered, claiming, open_claims, require_free, require_going_on
from hub_server.consults.writing import Done, introduce, seen_row, write
from hub_server.database import Connection
from hub_server.people import Person
from hub_server.store import Entry, Store
from sync_protocol import canonical, documents, schema, telemedicine
from sync_protocol.canonical import Value
from sync_protocol.change import RecordId, RecordKey
from sync_protocol.errors import InvalidValue, Malformed, NeedsPerson, TheirBytes
from sync_protocol.merge import Record
from sync_protocol.telemedicine import Objection

ANSWER_FIELDS: Final = ("diagnosis", "advice", "prescription", "follow_up_days", "mode", "first", "refer_onward")
REQUIRED_FIELDS: Final = ("mode", "first")  # telemedicine practice: each consultation records both
SAYING_FIELDS: Final = ("diagnosis", "advice", "prescription", "refer_onward")
MAX_ANSWER_BYTES: Final = documents.MAX_LINE_BYTES
QUESTION: Final = "text"  # in a draft: what a doctor begins to ask the centre
REASON: Final = "reason"  # why they have to see a case of others; all else is of the reply


@dataclass(frozen=True, slots=True)
class Correction:
    """Which reply is corrected, and why."""

    reply: RecordId
    reason: str


class LinesRefused(InvalidValue):
    """Lines of the prescription that the rules refuse, or that ask for a reason. objections: all of them.

    The code is the first one's (``E_DRUG_…``, ``E_ALLERGY``); the message quotes no allergy and nothing that was typed.
    """

    def __init__(self, objections: Sequence[Objection]) -> None:
        first, *others = objections
        more = f"{len(others)} more: line {', line '.join(str(one.line) for one in others[:5])}" if others else ""
        super().__init__(f"Line {first.line}: {first.plain}", field="prescription", code=first.code, next_step=more)
        self.objections = tuple(objections)


def parse_answer(raw: bytes) -> dict[str, Value]:
    """``REPLY.json`` as the fields of a reply. Raises Malformed (``E_BAD_REPLY``) or InvalidValue."""
    if len(raw) > MAX_ANSWER_BYTES:
        raise _bad_reply(f"The reply is larger than {MAX_ANSWER_BYTES} bytes.")
    try:
        given: Any = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _bad_reply("The reply is not JSON.") from None
    if not isinstance(given, dict):
        raise _bad_reply("The reply is not a JSON object.")
    for name in given:
        if name not in ANSWER_FIELDS:
            meant = schema.nearest(name, list(ANSWER_FIELDS))
            way = f"Did you mean {meant}?" if meant else f"Its fields are {', '.join(ANSWER_FIELDS)}."
            raise InvalidValue("The reply has a field that none has.", code="E_UNKNOWN_FIELD", next_step=way)
    for name in REQUIRED_FIELDS:
        if given.get(name) is None:
            raise InvalidValue(f"The reply lacks {name}.", field=name, code="E_INCOMPLETE_REPLY")
    if not any(given.get(name) for name in SAYING_FIELDS):
        raise InvalidValue(
            f"The reply says nothing: it has none of {', '.join(SAYING_FIELDS)}.", code="E_INCOMPLETE_REPLY"
        )
    fields = {name: value for name, value in given.items() if value is not None}
    try:
        return documents.parse({"kind": "reply", "fields": fields}, facility="").writes
    except InvalidValue:
        raise
    except TheirBytes:
        raise _bad_reply("The reply has a value that no field can hold.") from None


def _bad_reply(message: str) -> Malformed:
    return Malformed(message, code="E_BAD_REPLY", next_step="'hub reply --help' shows the form")


def reply(
    store: Store,
    doctor: Person,
    name: RecordId,
    answer: Mapping[str, Value],
    now_ms: int,
    randomness: bytes,
    *,
    correction: Correction | None = None,
    seen_positions: Mapping[str, int] | None = None,
    lapse_ms: int = DEFAULT_LAPSE_MS,
) -> Done:
    """Answer a referral; claims it first where nobody has. The same answer again is ``unchanged``.

    seen_positions: of the page that the doctor looked at; None for what is there now, as in a script. lapse_ms: as in
    `claim`. randomness: RANDOM_BYTES. Raises what `claim` and `replica.author` raise, LinesRefused, InvalidValue
    (``E_NO_SUCH_REPLY``, ``E_NO_REASON``) or NeedsPerson (``E_CORRECTED_ALREADY``; ``E_CLOSED``, ``E_WITHDRAWN``: then
    only who has answered corrects what they said).
    """
    records = tuple(RecordId(people.fresh_id(now_ms, randomness[at : at + 10])) for at in (0, 10))

    def decide(before: Chart) -> list[Entry]:
        if _same_reply(before, doctor, answer, correction) is not None:
            return []
        claims = _claiming(before, doctor, correction, records[0], now_ms, lapse_ms)
        require_lines(before, answer)
        return [*claims, _replying(before, doctor, answer, correction, _seen(before), records[1])]

    def _seen(before: Chart) -> Mapping[str, int]:
        return before.heads if seen_positions is None else seen_positions

    introduce(store, doctor, name, decide, now_ms)
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name, hold=True)
        entries = decide(before)
        if not entries:
            same = _same_reply(before, doctor, answer, correction)
            return Done("unchanged", name, same.key.record if same else None, before.facility)
        claim_locks.clear(connection, name, before.patient)
        drafts.drop(connection, doctor.id, name)
        changes = write(connection, store, before, entries, doctor, "reply", now_ms)
    verdict = "corrected" if correction else "answered"
    return Done(verdict, name, entries[-1].key.record, before.facility, changes, dict(_seen(before)))


def keep_draft(
    store: Store,
    doctor: Person,
    name: RecordId,
    fields: drafts.Fields,
    now_ms: int,
    nonce: bytes,
    *,
    corrects: RecordId | None,
    by_itself: bool,
) -> bool:
    """Keep what is typed into a reply, beside a question; False, and nothing is kept, where a page sent by itself what its
    doctor has signed.

    Such a draft was typed before the answer that it comes after, and would stand in the form of its correction. corrects:
    the reply that it is to correct, None for a first answer. Raises what `seen_row` and `drafts.keep` raise.
    """
    with store.database.transaction() as connection:
        seen_row(connection, doctor, name, now_ms)
        if by_itself:
            stands = charts.standing_reply(connection, store, name)
            if stands is not None and stands.key.record != corrects and charts.author(stands) == doctor.id:
                return False
        of_reply = {field: values for field, values in fields.items() if _is_of_reply(field)}
        drafts.keep(store, connection, doctor.id, name, of_reply, now_ms, nonce, is_of_form=_is_of_reply)
        return True


def _is_of_reply(field: str) -> bool:
    return field not in (QUESTION, REASON)


def keep_question(store: Store, doctor: Person, name: RecordId, text: str, now_ms: int, nonce: bytes) -> None:
    """Keep a question that is being typed, beside what is kept of a reply; an empty one was sent. Raises as `keep_draft`."""
    with store.database.transaction() as connection:
        seen_row(connection, doctor, name, now_ms)
        _keep_one(store, connection, doctor, name, QUESTION, text, now_ms, nonce)


def keep_reason(store: Store, doctor: Person, name: RecordId, text: str, now_ms: int, nonce: bytes) -> None:
    """Keep why a doctor has to see a case of others, while they type it; an empty one was given. Raises what
    `drafts.keep` raises."""
    with store.database.transaction() as connection:
        _keep_one(store, connection, doctor, name, REASON, text, now_ms, nonce)


def _keep_one(
    store: Store,
    connection: Connection,
    doctor: Person,
    name: RecordId,
    field: str,
    text: str,
    now_ms: int,
    nonce: bytes,
) -> None:
    typed = {field: [text]} if text else {}
    drafts.keep(store, connection, doctor.id, name, typed, now_ms, nonce, is_of_form=lambda one: one == field)


def _claiming(
    before: Chart, doctor: Person, correction: Correction | None, record: RecordId, now_ms: int, lapse_ms: int
) -> list[Entry]:
    """The claim that goes before an answer where the doctor has none. Raises what stands against answering."""
    if correction is not None:
        _check_correction(before, correction)
        if not has_answered(before, doctor):
            require_going_on(before)
        return []
    if before.reply is not None:
        raise already_answered(before)
    return [] if open_claims(before, doctor) else claiming(before, doctor, record, now_ms, lapse_ms)


def has_answered(before: Chart, doctor: Person) -> bool:
    """Whether an answer to this referral is by this doctor, who can put right what it says as long as it is known."""
    return any(charts.author(one) == doctor.id for one in before.about("reply"))


def in_the_way(before: Chart, doctor: Person, now_ms: int, lapse_ms: int = DEFAULT_LAPSE_MS) -> str:
    """The code of what keeps this doctor from answering the referral, or from correcting its answer; empty for nothing.

    ``E_WITHDRAWN``, ``E_CLOSED`` (neither for a doctor who has answered it), ``E_CLAIMED`` or ``E_HANDED_OVER``.
    """
    if before.reply is not None and has_answered(before, doctor):
        return ""
    try:
        require_going_on(before)
        if before.reply is None and not open_claims(before, doctor):
            require_free(before, doctor, now_ms, lapse_ms)
    except NeedsPerson as error:
        return error.code
    return ""


def objections(before: Chart, answer: Mapping[str, Value]) -> list[Objection]:
    """What the telemedicine rules and the patient's allergies say to the prescription of an answer, finished or not."""
    lines = answer.get("prescription")
    return telemedicine.objections(
        lines if isinstance(lines, list) else [],
        answer.get("mode"),
        first=answer.get("first") is not False,
        allergic_to=telemedicine.allergies_of(before.own),
    )


def look_at(store: Store, doctor: Person, name: RecordId, answer: Mapping[str, Value], now_ms: int) -> list[Objection]:
    """The same for an answer that is being written. It tells of allergies, so it is noted as a reading of the case.

    Raises InvalidValue (``E_NO_SUCH_REFERRAL``) or NotAllowed.
    """
    if not answer.get("prescription"):
        return []
    with store.database.transaction() as connection:
        row = seen_row(connection, doctor, name, now_ms)
        found = objections(charts.chart(connection, store, name), answer)
        audit.note(connection, doctor.actor, "read referral", row.feed, name, now_ms)
    return found


def require_lines(before: Chart, answer: Mapping[str, Value]) -> None:
    """The prescription keeps to the telemedicine rules and to the patient's allergies. Raises LinesRefused."""
    if found := objections(before, answer):
        raise LinesRefused(found)


def _replying(
    before: Chart,
    doctor: Person,
    answer: Mapping[str, Value],
    correction: Correction | None,
    seen_positions: Mapping[str, int],
    record: RecordId,
) -> Entry:
    """The reply. The name, degree and registration in it are those of today: a prescription is proof by itself."""
    writes: dict[str, Value] = dict(answer)
    if correction is not None:
        writes |= {"corrects": correction.reply, "correction_reason": correction.reason}
    writes |= {
        "referral": before.referral.key.record,
        "doctor": doctor.name,
        **({"qualification": doctor.qualification} if doctor.qualification else {}),
        "registration_number": doctor.registration_number,
        "seen_positions": dict(seen_positions),
    }
    return Entry(RecordKey("reply", record), before.patient, writes)


def _same_reply(
    before: Chart, doctor: Person, answer: Mapping[str, Value], correction: Correction | None
) -> Record | None:
    """A reply of this doctor that says just this: the command was repeated."""
    said = {name: canonical.encode(canonical.normalise(value)) for name, value in answer.items()}
    for one in before.about("reply"):
        view = one.view()
        same = {name: canonical.encode(view[name]) for name in ANSWER_FIELDS if name in view} == said
        if same and charts.author(one) == doctor.id and view.get("corrects") == (correction and correction.reply):
            return one
    return None


def _check_correction(before: Chart, correction: Correction) -> None:
    replies = before.about("reply")
    if correction.reply not in {one.key.record for one in replies}:
        raise InvalidValue("This referral has no such reply.", field="corrects", code="E_NO_SUCH_REPLY")
    if not correction.reason.strip():
        raise InvalidValue("A correction says why: --reason TEXT.", field="correction_reason", code="E_NO_REASON")
    for one in replies:
        if one.view().get("corrects") == correction.reply:
            raise NeedsPerson(
                "That reply was corrected already.",
                code="E_CORRECTED_ALREADY",
                next_step=f"Correct the later one: --corrects {documents.id_text(one.key.record)}",
            )
