"""Claiming a referral, giving it back, handing it over by name; and saying something to the centre about it.

Locks come in the store's order: the patient first, here for update, so that two doctors cannot claim at once. Repeating
a verb repeats nothing. How long a claim keeps others away is `claim_locks`' affair; here is what follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub_server import audit, charts, claim_locks, people
from hub_server.charts import Chart, Queued
from hub_server.claim_locks import DEFAULT_LAPSE_MS
from hub_server.consults.writing import Done, introduce, require_sight, write
from hub_server.people import Person, Role
from hub_server.store import Entry, Store
from sync_protocol import canonical, documents
from sync_protocol.canonical import Value
from sync_protocol.change import RecordId, RecordKey
from sync_protocol.errors import InvalidValue, NeedsPerson
from sync_protocol.merge import Record
from sync_protocol.referral import Status
from sync_protocol.words import N_


def claim(
    store: Store,
    doctor: Person,
    name: RecordId,
    now_ms: int,
    randomness: bytes,
    *,
    take_over: bool = False,
    lapse_ms: int = DEFAULT_LAPSE_MS,
) -> Done:
    """Say that this doctor answers the referral. take_over: also where it is another's, or waits for another.

    lapse_ms: after how long without doing anything a claim keeps nobody away. randomness: RANDOM_BYTES. Raises
    InvalidValue (``E_NO_SUCH_REFERRAL``) or NeedsPerson (``E_CLAIMED``, ``E_HANDED_OVER``, ``E_ANSWERED``,
    ``E_CLOSED``, ``E_WITHDRAWN``).
    """
    record = RecordId(people.fresh_id(now_ms, randomness))

    def decide(before: Chart) -> list[Entry]:
        return claiming(before, doctor, record, now_ms, lapse_ms, take_over=take_over)

    introduce(store, doctor, name, decide, now_ms)
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name, hold=True)
        entries = decide(before)
        if not entries:
            claim_locks.touch(connection, name, doctor.id, now_ms)
            return Done("already_yours", name, open_claims(before, doctor)[0].key.record, before.facility)
        claim_locks.clear(connection, name, before.patient)
        changes = write(connection, store, before, entries, doctor, "claim", now_ms)
    return Done("claimed", name, record, before.facility, changes)


def release(store: Store, doctor: Person, name: RecordId, now_ms: int) -> Done:
    """Give the referral back to the queue; one's own claim also where one does not see the referral any more.

    Raises InvalidValue, NotAllowed (``E_NOT_YOURS``), or NeedsPerson (``E_CLAIMED``: by another doctor).
    """
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name, hold=True)
        own = open_claims(before, doctor)
        if not own:
            require_sight(connection, doctor, before, now_ms)
            if open_claims(before):
                raise _claimed_by_another(before, doctor)
            return Done("already_released", name, None, before.facility)
        claim_locks.clear(connection, name, before.patient)
        changes = write(connection, store, before, _releasing(own), doctor, "release", now_ms)
    return Done("released", name, own[0].key.record, before.facility, changes)


def hand_over(
    store: Store, doctor: Person, name: RecordId, to: Person, now_ms: int, *, lapse_ms: int = DEFAULT_LAPSE_MS
) -> Done:
    """Offer the referral to another doctor by name: it waits for them, as long as a claim would keep others away.

    One's own claim is released with it; a referral that is nobody's can be handed over too. Raises InvalidValue
    (``E_NO_SUCH_REFERRAL``, ``E_CANNOT_TAKE``: they are no doctor at work who sees it), NeedsPerson
    (``E_CLAIMED``, ``E_HANDED_OVER``, ``E_ANSWERED``, ``E_CLOSED``, ``E_WITHDRAWN``).
    """
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name, hold=True)
        require_sight(connection, doctor, before, now_ms)
        _require_open(before)
        if not may_take(to, before) or to.id == doctor.id:
            raise InvalidValue(
                N_("That doctor cannot take this referral."),
                field="to",
                code="E_CANNOT_TAKE",
                next_step="'hub people list' shows who sees which specialties",
            )
        own = open_claims(before, doctor)
        if not own:
            require_free(before, doctor, now_ms, lapse_ms)
        claim_locks.offer(connection, name, before.patient, to.id, doctor.id, now_ms)
        if own:
            changes = write(connection, store, before, _releasing(own), doctor, "hand over", now_ms)
        else:
            changes = ()
            audit.note(connection, doctor.actor, "hand over", before.facility, name, now_ms)
    return Done("handed_over", name, own[0].key.record if own else None, before.facility, changes)


def may_take(person: Person, one: Queued | Chart) -> bool:
    """Whether this referral can be handed to them."""
    return person.role is Role.DOCTOR and person.disabled_ms is None and person.sees(one.specialty, one.hub)


def keep_claim(store: Store, doctor: Person, name: RecordId, now_ms: int) -> None:
    """The doctor does something about a referral that is theirs: the claim lapses later."""
    with store.database.transaction() as connection:
        claim_locks.touch(connection, name, doctor.id, now_ms)


# -- what a claim writes -----------------------------------------------------------------------------------------------


def open_claims(before: Chart, doctor: Person | None = None) -> list[Record]:
    """The claims of this referral that were not released: one doctor's, or everybody's."""
    found = [one for one in before.about("claim") if one.view().get("released") is not True]
    return [one for one in found if doctor is None or charts.author(one) == doctor.id]


def claiming(
    before: Chart, doctor: Person, record: RecordId, now_ms: int, lapse_ms: int, *, take_over: bool = False
) -> list[Entry]:
    """What a claim writes; nothing where the referral is this doctor's already. Raises NeedsPerson."""
    _require_open(before)
    if open_claims(before, doctor):
        return []
    if not take_over:
        require_free(before, doctor, now_ms, lapse_ms)
    writes: dict[str, Value] = {"referral": before.referral.key.record}
    return [*_releasing(open_claims(before)), Entry(RecordKey("claim", record), before.patient, writes)]


def _require_open(before: Chart) -> None:
    if before.reply is not None:
        raise already_answered(before)
    require_going_on(before)


def require_going_on(before: Chart) -> None:
    """The centre has not ended it. Raises NeedsPerson (``E_WITHDRAWN``, ``E_CLOSED``)."""
    if before.progress.status is Status.WITHDRAWN:
        raise NeedsPerson("The centre withdrew this referral.", code="E_WITHDRAWN")
    if before.progress.status is Status.CLOSED:
        raise NeedsPerson("The centre closed this referral.", code="E_CLOSED")


def require_free(before: Chart, doctor: Person, now_ms: int, lapse_ms: int) -> None:
    """No other doctor keeps it. Raises NeedsPerson (``E_CLAIMED``, ``E_HANDED_OVER``)."""
    if _others(before, doctor, now_ms, lapse_ms):
        raise _claimed_by_another(before, doctor)
    if before.lock.waits_for(now_ms, lapse_ms) not in (None, doctor.id):
        raise NeedsPerson(
            "This referral was handed over to another doctor and waits for them.",
            code="E_HANDED_OVER",
            next_step=_taking_over(before, doctor),
        )


def _others(before: Chart, doctor: Person, now_ms: int, lapse_ms: int) -> bool:
    """Whether another doctor's claim keeps this one away."""
    claimed = [one for one in open_claims(before) if charts.author(one) != doctor.id]
    return bool(claimed) and not before.lock.has_lapsed(before.progress.claimed_ms or 0, now_ms, lapse_ms)


def _releasing(claims: Sequence[Record]) -> list[Entry]:
    return [
        Entry(one.key, one.patient, {"released": True}, {"released": list(one.live.get("released", ()))})
        for one in claims
    ]


def _taking_over(before: Chart, doctor: Person) -> str:
    name = documents.id_text(before.referral.key.record)
    return f"Ask them, or take it over: hub claim {name} --as {doctor.login} --take-over"


def _claimed_by_another(before: Chart, doctor: Person) -> NeedsPerson:
    return NeedsPerson(
        "Another doctor claimed this referral and has not released it.",
        code="E_CLAIMED",
        next_step=_taking_over(before, doctor),
    )


def already_answered(before: Chart) -> NeedsPerson:
    """``E_ANSWERED``, with the way to correct."""
    reply = before.progress.reply
    way = f"To correct the reply: --corrects {documents.id_text(reply)} --reason TEXT" if reply else ""
    return NeedsPerson("This referral was answered already.", code="E_ANSWERED", next_step=way)


# -- saying something --------------------------------------------------------------------------------------------------


def ask(store: Store, doctor: Person, name: RecordId, text: str, now_ms: int, randomness: bytes) -> Done:
    """Say something to the centre about a referral: a question, mostly.

    randomness: RANDOM_BYTES, drawn when the doctor was given the form to write it in: the same text with the same ones
    is ``unchanged``. Raises InvalidValue (``E_NO_SUCH_REFERRAL``, or a text that is empty or too long).
    """
    record = RecordId(people.fresh_id(now_ms, randomness))

    def decide(before: Chart) -> list[Entry]:
        if _same_message(before, doctor, text, record) is not None:
            return []
        writes: dict[str, Value] = {"referral": before.referral.key.record, "text": text, "at": now_ms}
        return [Entry(RecordKey("message", record), before.patient, writes)]

    introduce(store, doctor, name, decide, now_ms)
    with store.database.transaction() as connection:
        before = charts.chart(connection, store, name, hold=True)
        claim_locks.touch(connection, name, doctor.id, now_ms)
        entries = decide(before)
        if not entries:
            same = _same_message(before, doctor, text, record)
            return Done("unchanged", name, same.key.record if same else None, before.facility)
        changes = write(connection, store, before, entries, doctor, "message", now_ms)
    return Done("asked", name, record, before.facility, changes)


def _same_message(before: Chart, doctor: Person, text: str, record: RecordId) -> Record | None:
    """What was said already: by this doctor, in these words, with the same randomness in its id."""
    for one in before.about("message"):
        same = one.key.record[people.ID_TIME_BYTES :] == record[people.ID_TIME_BYTES :]
        if same and charts.author(one) == doctor.id and one.view().get("text") == canonical.normalise(text):
            return one
    return None
