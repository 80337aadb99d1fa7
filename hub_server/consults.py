"""The doctor's verbs: claim, release, reply, and resolving a conflict. (The queue and the charts are in `charts`.)

A verb is one transaction: hold the patient, read, decide (`_claiming`, `_replying`: no effects), write, note. What it
read there is what the doctor was shown, so a reply names for each feed the position behind which nothing had been seen.
Before a doctor first writes into a centre's feed, the doctor is put into that centre's directory.

Locks come in the store's order: the patient first, here for update, so that two doctors cannot claim at once. Repeating
a verb repeats nothing. What a doctor may write is the schema's table: a conflict on a record that the centre writes
is settled by the centre.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hub_server import audit, charts, people
from hub_server.charts import Chart, Conflict, Queued
from hub_server.database import Connection
from hub_server.people import Person
from hub_server.store import Entry, Store
from sync_protocol import canonical, documents, exports, schema
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, FacilityCode, PatientId, RecordId, RecordKey
from sync_protocol.errors import InvalidValue, Malformed, NeedsPerson, NotAllowed, TheirBytes
from sync_protocol.merge import Record
from sync_protocol.referral import Status
from sync_protocol.schema import Writer

ANSWER_FIELDS: Final = ("diagnosis", "advice", "prescription", "follow_up_days", "mode", "first", "refer_onward")
REQUIRED_FIELDS: Final = ("mode", "first")  # telemedicine practice: each consultation records both
SAYING_FIELDS: Final = ("diagnosis", "advice", "prescription", "refer_onward")
MAX_ANSWER_BYTES: Final = documents.MAX_LINE_BYTES
RANDOM_BYTES: Final = 20  # two record ids' worth


@dataclass(frozen=True, slots=True)
class Done:
    """What a verb came to.

    verdict: claimed, already_yours, released, already_released, answered, corrected or unchanged. record: the claim or
    the reply. changes: what was written now; none where there was nothing to do.
    """

    verdict: str
    referral: RecordId
    record: RecordId | None
    facility: FacilityCode
    changes: tuple[Change, ...] = ()
    seen_positions: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """Which reply is corrected, and why."""

    reply: RecordId
    reason: str


def require_specialty(doctor: Person, one: Queued | Chart) -> None:
    """A doctor sees the referrals of their hospital and specialties (`Person.sees`). Raises NotAllowed
    (``E_NOT_YOURS``)."""
    if not doctor.sees(one.specialty, one.hub):
        raise NotAllowed("This referral is of another hospital or specialty.", code="E_NOT_YOURS")


# -- claiming ----------------------------------------------------------------------------------------------------------


def claim(
    store: Store, doctor: Person, name: RecordId, now_ms: int, randomness: bytes, *, take_over: bool = False
) -> Done:
    """Say that this doctor answers the referral. take_over: release another doctor's claim with it.

    randomness: RANDOM_BYTES. Raises InvalidValue (``E_NO_SUCH_REFERRAL``) or NeedsPerson (``E_CLAIMED``,
    ``E_ANSWERED``, ``E_CLOSED``, ``E_WITHDRAWN``).
    """
    record = RecordId(people.fresh_id(now_ms, randomness))

    def decide(before: Chart) -> list[Entry]:
        return _claiming(before, doctor, record, take_over)

    _introduce(store, doctor, name, decide, now_ms)
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name, hold=True)
        entries = decide(before)
        if not entries:
            return Done("already_yours", name, _open_claims(before, doctor)[0].key.record, before.facility)
        changes = _write(connection, store, before, entries, doctor, "claim", now_ms)
    return Done("claimed", name, record, before.facility, changes)


def release(store: Store, doctor: Person, name: RecordId, now_ms: int) -> Done:
    """Give the referral back to the queue. Raises InvalidValue, or NeedsPerson (``E_CLAIMED``: by another doctor)."""
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name, hold=True)
        own = _open_claims(before, doctor)
        if not own:
            if _open_claims(before):
                raise _claimed_by_another(before, doctor)
            return Done("already_released", name, None, before.facility)
        changes = _write(connection, store, before, _releasing(own), doctor, "release", now_ms)
    return Done("released", name, own[0].key.record, before.facility, changes)


def _open_claims(before: Chart, doctor: Person | None = None) -> list[Record]:
    """The claims of this referral that were not released: one doctor's, or everybody's."""
    found = [one for one in before.about("claim") if one.view().get("released") is not True]
    return [one for one in found if doctor is None or charts.author(one) == doctor.id]


def _claiming(before: Chart, doctor: Person, record: RecordId, take_over: bool) -> list[Entry]:
    """What a claim writes; nothing where the referral is this doctor's already. Raises NeedsPerson."""
    if before.reply is not None:
        raise _answered(before)
    if before.progress.status is Status.WITHDRAWN:
        raise NeedsPerson("The centre withdrew this referral.", code="E_WITHDRAWN")
    if before.progress.status is Status.CLOSED:
        raise NeedsPerson("The centre closed this referral.", code="E_CLOSED")
    if _open_claims(before, doctor):
        return []
    others = _open_claims(before)
    if others and not take_over:
        raise _claimed_by_another(before, doctor)
    writes: dict[str, Value] = {"referral": before.referral.key.record}
    return [*_releasing(others), Entry(RecordKey("claim", record), before.patient, writes)]


def _releasing(claims: Sequence[Record]) -> list[Entry]:
    return [
        Entry(one.key, one.patient, {"released": True}, {"released": list(one.live.get("released", ()))})
        for one in claims
    ]


def _claimed_by_another(before: Chart, doctor: Person) -> NeedsPerson:
    name = documents.id_text(before.referral.key.record)
    return NeedsPerson(
        "Another doctor claimed this referral and has not released it.",
        code="E_CLAIMED",
        next_step=f"Ask them, or take it over: hub claim {name} --as {doctor.login} --take-over",
    )


def _answered(before: Chart) -> NeedsPerson:
    reply = before.progress.reply
    way = f"To correct the reply: --corrects {documents.id_text(reply)} --reason TEXT" if reply else ""
    return NeedsPerson("This referral was answered already.", code="E_ANSWERED", next_step=way)


def ask(store: Store, doctor: Person, name: RecordId, text: str, now_ms: int, randomness: bytes) -> Done:
    """Say something to the centre about a referral: a question, mostly. randomness: RANDOM_BYTES.

    Raises InvalidValue (``E_NO_SUCH_REFERRAL``, or a text that is empty or too long).
    """
    record = RecordId(people.fresh_id(now_ms, randomness))

    def decide(before: Chart) -> list[Entry]:
        writes: dict[str, Value] = {"referral": before.referral.key.record, "text": text, "at": now_ms}
        return [Entry(RecordKey("message", record), before.patient, writes)]

    _introduce(store, doctor, name, decide, now_ms)
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name, hold=True)
        changes = _write(connection, store, before, decide(before), doctor, "message", now_ms)
    return Done("asked", name, record, before.facility, changes)


# -- replying ----------------------------------------------------------------------------------------------------------


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
) -> Done:
    """Answer a referral; claims it first where nobody has. The same answer again is ``unchanged``.

    seen_positions: of the page that the doctor looked at; None for what is there now, as in a script. randomness:
    RANDOM_BYTES. Raises what `claim` and `replica.author` raise, InvalidValue (``E_NO_SUCH_REPLY``,
    ``E_NO_REASON``) or NeedsPerson (``E_CORRECTED_ALREADY``).
    """
    records = tuple(RecordId(people.fresh_id(now_ms, randomness[at : at + 10])) for at in (0, 10))

    def decide(before: Chart) -> list[Entry]:
        return _replying(before, doctor, answer, correction, _seen(before), records)

    def _seen(before: Chart) -> Mapping[str, int]:
        return before.heads if seen_positions is None else seen_positions

    _introduce(store, doctor, name, decide, now_ms)
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name, hold=True)
        entries = decide(before)
        if not entries:
            same = _same_reply(before, doctor, answer, correction)
            return Done("unchanged", name, same.key.record if same else None, before.facility)
        changes = _write(connection, store, before, entries, doctor, "reply", now_ms)
    verdict = "corrected" if correction else "answered"
    return Done(verdict, name, entries[-1].key.record, before.facility, changes, dict(_seen(before)))


def _replying(
    before: Chart,
    doctor: Person,
    answer: Mapping[str, Value],
    correction: Correction | None,
    seen_positions: Mapping[str, int],
    records: tuple[RecordId, ...],
) -> list[Entry]:
    """What a reply writes; nothing where this doctor has said just this already."""
    if _same_reply(before, doctor, answer, correction) is not None:
        return []
    writes: dict[str, Value] = dict(answer)
    if correction is not None:
        _check_correction(before, correction)
        writes |= {"corrects": correction.reply, "correction_reason": correction.reason}
        claiming = []
    elif before.reply is not None:
        raise _answered(before)
    else:
        claiming = [] if _open_claims(before, doctor) else _claiming(before, doctor, records[0], take_over=False)
    writes |= {
        "referral": before.referral.key.record,
        "doctor": doctor.name,
        **({"qualification": doctor.qualification} if doctor.qualification else {}),
        "registration_number": doctor.registration_number,
        "seen_positions": dict(seen_positions),
    }
    return [*claiming, Entry(RecordKey("reply", records[1]), before.patient, writes)]


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


# -- conflicts ---------------------------------------------------------------------------------------------------------

Choose = Callable[[Conflict], Value]
"""The value that a person takes, of a field as it is in the transaction that settles it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A field that was resolved. left: the same field, where it is in conflict still."""

    change: Change
    left: Conflict | None


def resolve(
    store: Store,
    doctor: Person,
    name: str,
    choose: Choose,
    note: str,
    now_ms: int,
    *,
    shown: frozenset[ChangeId] | None = None,
) -> Settled:
    """Settle a field by writing the chosen value over every live write that the doctor was shown.

    shown: of the page that the doctor looked at; None for what is live now. Raises InvalidValue (``E_BAD_ID``,
    ``E_NO_CONFLICT``), what `replica.author` raises, or NeedsPerson (``E_NOT_OURS``: the centre's to decide).
    """
    key, field = exports.parse_conflict_id(name)
    if not schema.may_write(key.kind, Writer.DOCTOR):
        raise NeedsPerson(
            f"A {key.kind} is written by the centre, so the centre decides.",
            code="E_NOT_OURS",
            next_step=f"There: hwc conflicts resolve {name}",
        )
    with store.database.transaction() as connection:
        before = charts.conflict_in(connection, store, key, field, hold=True)
        live = [one for one in before.shown.names if shown is None or one in shown]
        writes: dict[str, Value] = {field: choose(before)}
        named = {field: live}
        if note:
            writes["resolution_note"] = note
            named["resolution_note"] = list(before.record.live.get("resolution_note", ()))
        facility = FacilityCode(exports.facility_of(before.record))
        change = store.write_in(
            connection,
            facility,
            [Entry(key, before.record.patient, writes, named)],
            person=doctor.id,
            writer=Writer.DOCTOR,
            now_ms=now_ms,
        )[0]
        record = store.record(connection, before.feed, before.record.patient, key)
        after = record.conflicts().get(field) if record is not None else None
        audit.note(connection, doctor.actor, "resolve conflict", facility, key.record, now_ms)
    if record is None or after is None:
        return Settled(change, None)
    return Settled(change, Conflict(before.feed, record, field, after, before.names))


# -- writing -----------------------------------------------------------------------------------------------------------


def _write(
    connection: Connection,
    store: Store,
    before: Chart,
    entries: Sequence[Entry],
    doctor: Person,
    verb: str,
    now_ms: int,
) -> tuple[Change, ...]:
    changes = store.write_in(
        connection, before.facility, entries, person=doctor.id, writer=Writer.DOCTOR, now_ms=now_ms
    )
    audit.note(connection, doctor.actor, verb, before.facility, before.referral.key.record, now_ms)
    return tuple(changes)


def _introduce(
    store: Store, doctor: Person, name: RecordId, decide: Callable[[Chart], list[Entry]], now_ms: int
) -> None:
    """Put the doctor into the directory of the centre that is about to be written to; nothing if that is refused.

    A transaction of its own: it holds other feeds than the verb does, and being in a directory harms nothing. Raises
    NotAllowed (``E_NOT_YOURS``) where the referral is not this doctor's to see.
    """
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name)
        require_specialty(doctor, before)
        if not decide(before):
            return
    scope = PatientId(doctor.id)
    with store.database.transaction() as connection:
        people.hold(connection, doctor.id)
        rows = connection.execute("SELECT facility FROM subscription WHERE patient = %s AND subscribed", (scope,))
        directories = {row[0] for row in rows.fetchall()}
        if before.facility in directories:
            return
        if directories:
            store.subscribe(connection, scope, before.facility, now_ms)
            return
        writes: dict[str, Value] = {
            "name": doctor.name,
            "role": doctor.role.value,
            "qualification": doctor.qualification,
            "registration_number": doctor.registration_number,
        }
        entry = Entry(
            RecordKey("person", RecordId(doctor.id)), scope, {name: said for name, said in writes.items() if said}
        )
        store.write_in(connection, before.facility, [entry], person=doctor.id, writer=Writer.HUB, now_ms=now_ms)
