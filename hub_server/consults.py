"""The doctor's verbs: the queue, claim, release, reply, and the conflicts that wait for somebody.

A verb that writes is one transaction: hold the patient, read, decide (`_claiming`, `_replying`: pure), write, note.
What it read there is what the doctor was shown, so a reply names for each feed the position behind which nothing had
been seen. Before a doctor first writes into a centre's feed, the doctor is put into that centre's directory.

Locks come in the store's order: the patient first, here for update, so that two doctors cannot claim at once. It
refuses to know SQL's drivers, HTTP and how anything is displayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hub_server import people
from hub_server.charts import Chart, chart
from hub_server.people import Person
from hub_server.store import Entry, Store
from sync_protocol import canonical, documents
from sync_protocol.canonical import Value
from sync_protocol.change import Change, FacilityCode, RecordId, RecordKey
from sync_protocol.errors import Malformed, NeedsPerson
from sync_protocol.merge import Record
from sync_protocol.referral import Status

ANSWER_FIELDS: Final = (
    "diagnosis",
    "advice",
    "prescription",
    "follow_up_days",
    "mode",
    "first",
    "refer_onward",
)
REQUIRED_FIELDS: Final = ("mode", "first")  # telemedicine practice: each consultation records both
SAYING_FIELDS: Final = ("diagnosis", "advice", "prescription", "refer_onward")
ANSWERED: Final = frozenset({Status.ANSWERED, Status.SEEN, Status.CLOSED})


@dataclass(frozen=True, slots=True)
class Done:
    """What a verb came to. verdict: claimed, already_yours, released, already_released, answered, corrected,
    unchanged. record: of the claim or reply. changes: what was written now, nothing where there was nothing to do."""

    verdict: str
    referral: RecordId
    record: RecordId | None
    facility: FacilityCode
    changes: tuple[Change, ...] = ()
    seen_positions: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """A reply that corrects another, and why."""

    reply: RecordId
    reason: str


# -- claiming ----------------------------------------------------------------------------------------------------------


def claim(
    store: Store, doctor: Person, referral: RecordId, now_ms: int, randomness: bytes, *, take_over: bool = False
) -> Done:
    """Say that this doctor answers the referral. take_over: release another doctor's claim first.

    randomness: 10 bytes. Raises InvalidValue (``E_NO_SUCH_REFERRAL``) or NeedsPerson (``E_CLAIMED``, ``E_ANSWERED``,
    ``E_WITHDRAWN``).
    """
    record = RecordId(people.fresh_id(now_ms, randomness))
    with store.database.transaction() as connection:
        _claiming(chart(connection, store, referral), doctor, record, take_over)
    _introduce(store, doctor, referral, now_ms)
    with store.database.transaction() as connection:
        before = chart(connection, store, referral, hold=True)
        entries = _claiming(before, doctor, record, take_over)
        if not entries:
            own = _open_claims(before, doctor)[0]
            return Done("already_yours", referral, own.key.record, before.facility)
        changes = _write(connection, store, before, entries, doctor, "claim", now_ms)
        return Done("claimed", referral, record, before.facility, tuple(changes))


def release(store: Store, doctor: Person, referral: RecordId, now_ms: int) -> Done:
    """Give the referral back to the queue. Raises InvalidValue, or NeedsPerson (``E_CLAIMED``: by another doctor)."""
    with store.database.transaction() as connection:
        before = chart(connection, store, referral, hold=True)
        own = _open_claims(before, doctor)
        if not own:
            if before.progress.claimed_by is not None:
                raise _claimed_by_another(referral, doctor)
            return Done("already_released", referral, None, before.facility)
        changes = _write(connection, store, before, _releasing(own), doctor, "release", now_ms)
        return Done("released", referral, own[0].key.record, before.facility, tuple(changes))


def _open_claims(before: Chart, doctor: Person | None = None) -> list[Record]:
    """The claims of this referral that were not released: a doctor's, or everybody's."""
    found = [one for one in before.about("claim") if one.view().get("released") is not True]
    if doctor is None:
        return found
    return [one for one in found if before.author(one) == doctor.id]


def _claiming(before: Chart, doctor: Person, record: RecordId, take_over: bool) -> list[Entry]:
    """What a claim writes; nothing where it is the doctor's already. Raises NeedsPerson."""
    status = before.progress.status
    if status is Status.WITHDRAWN:
        raise NeedsPerson("the centre withdrew this referral", code="E_WITHDRAWN")
    if status in ANSWERED:
        raise _answered(before)
    if _open_claims(before, doctor):
        return []
    others = _open_claims(before)
    if others and not take_over:
        raise _claimed_by_another(before.referral.key.record, doctor)
    claiming = Entry(RecordKey("claim", record), before.patient, {"referral": before.referral.key.record})
    return [*_releasing(others), claiming]


def _releasing(claims: Sequence[Record]) -> list[Entry]:
    return [
        Entry(one.key, one.patient, {"released": True}, {"released": list(one.live.get("released", ()))})
        for one in claims
    ]


def _claimed_by_another(referral: RecordId, doctor: Person) -> NeedsPerson:
    return NeedsPerson(
        "another doctor claimed this referral and has not released it",
        code="E_CLAIMED",
        next_step=f"ask them, or take it over: hub claim {documents.id_text(referral)} --as {doctor.login} --take-over",
    )


def _answered(before: Chart) -> NeedsPerson:
    reply = before.progress.reply
    way = f"correct the reply with --corrects {documents.id_text(reply)} --reason TEXT" if reply else ""
    return NeedsPerson("this referral was answered already", code="E_ANSWERED", next_step=way)


# -- replying ----------------------------------------------------------------------------------------------------------


def parse_answer(raw: bytes) -> dict[str, Value]:
    """``REPLY.json`` as the writes of a reply. Raises Malformed (``E_BAD_REPLY``), InvalidValue."""
    if len(raw) > documents.MAX_LINE_BYTES:
        raise Malformed(f"a reply of more than {documents.MAX_LINE_BYTES} bytes", code="E_BAD_REPLY")
    try:
        given = canonical.from_json(raw) if hasattr(canonical, "from_json") else _json(raw)
    except (ValueError, RecursionError):
        raise Malformed("the reply is not JSON", code="E_BAD_REPLY") from None
    if not isinstance(given, dict):
        raise Malformed("the reply is not a JSON object", code="E_BAD_REPLY")
    return check_answer(given)
