"""A referral's status, derived from which records exist: never a field that two people set (PROTOCOL.md §5).

Pure and shared: the centre and the hub read the same table. By precedence: withdrawn, closed, seen, answered, claimed,
received, sent, saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sync_protocol.change import PersonId, RecordId
from sync_protocol.merge import Held, Record, first_change, is_visible
from sync_protocol.schema import URGENCIES, Writer

HEARD_WITHIN_MS: Final = 10_000
"""How long before a message's receipt the hub's time may have been told that came in one answer with the message."""


class Status(str, Enum):
    """In order of precedence, the strongest first."""

    WITHDRAWN = "withdrawn"
    CLOSED = "closed"
    SEEN = "seen"
    ANSWERED = "answered"
    CLAIMED = "claimed"
    RECEIVED = "received"
    SENT = "sent"
    SAVED = "saved"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a referral stands. Times are milliseconds since 1970 by the hub's receipts, None where it did not happen
    (for a claim or an answer that the hub has not timed yet: the author's stamp).

    reply, answered_by, answered_ms: of the reply that counts, the latest. first_answered_ms: of the first one, until which
    the patient waited. seen_ms: when the reply that counts was read; a reply that came after it is unread again.
    """

    status: Status
    saved_ms: int
    received_ms: int | None
    claimed_by: PersonId | None
    claimed_ms: int | None
    answered_ms: int | None
    answered_by: PersonId | None
    reply: RecordId | None
    first_answered_ms: int | None
    seen_ms: int | None
    withdrawn: bool


def progress(referral: Record, others: Sequence[Record], *, sent: bool) -> Progress:
    """Derive the progress. ``others``: the patient's records; those of other referrals are passed over.

    sent: whether an envelope with the referral has left this machine.
    """
    name = referral.key.record
    about = [one for one in others if (shown := one.shown("referral")) is not None and shown.value == name]
    visible = [one for one in about if is_visible(one)]
    claim = _latest([one for one in visible if one.key.kind == "claim" and one.view().get("released") is not True])
    replies = [one for one in visible if one.key.kind == "reply"]
    reply = _latest(replies)
    acknowledged = [one for one in visible if one.key.kind == "acknowledgement"]
    seen = _latest([one for one in acknowledged if reply is not None and _says_read(one, reply[0])])
    ended = any(one.view().get("outcome") for one in acknowledged)
    first = first_change(referral)
    received_ms = min((one.receipt_ms for one in referral.changes.values() if one.receipt_ms is not None), default=None)
    withdrawn = referral.view().get("withdrawn")
    is_withdrawn = isinstance(withdrawn, dict) and withdrawn.get("withdrawn") is True
    reached = (
        (Status.WITHDRAWN, is_withdrawn),
        (Status.CLOSED, ended and (reply is None or seen is not None)),
        (Status.SEEN, seen is not None),
        (Status.ANSWERED, reply is not None),
        (Status.CLAIMED, claim is not None),
        (Status.RECEIVED, received_ms is not None),
        (Status.SENT, sent),
        (Status.SAVED, True),
    )
    return Progress(
        next(status for status, holds in reached if holds),
        first.change.hlc >> 16,
        received_ms,
        claim[1].change.person if claim else None,
        _time_ms(claim[1]) if claim else None,
        _time_ms(reply[1]) if reply else None,
        reply[1].change.person if reply else None,
        reply[0].key.record if reply else None,
        min((_time_ms(first_change(one)) for one in replies), default=None),
        _time_ms(seen[1]) if seen else None,
        is_withdrawn,
    )


def _says_read(acknowledgement: Record, reply: Record) -> bool:
    """Whether it says of this very reply that it was read: one that names another says nothing about this one."""
    view = acknowledgement.view()
    return view.get("reply") == reply.key.record and (view.get("seen") is True or bool(view.get("outcome")))


def _latest(records: Sequence[Record]) -> tuple[Record, Held] | None:
    """The record that was begun last, with its first change."""
    return max(((one, first_change(one)) for one in records), key=lambda pair: pair[1].order, default=None)


def _time_ms(held: Held) -> int:
    return held.receipt_ms if held.receipt_ms is not None else held.change.hlc >> 16


def urgency_rank(urgency: object) -> int:
    """0 for an emergency, 1 urgent, 2 routine; what is unknown ranks as urgent, so that a person looks at it."""
    order = list(reversed(URGENCIES))
    return order.index(urgency) if isinstance(urgency, str) and urgency in order else 1


# -- what a doctor asks ------------------------------------------------------------------------------------------------


def unanswered(referral: Record, others: Sequence[Record]) -> RecordId | None:
    """The doctor's message about it to which no centre has said anything, the latest of several; None without one.

    ``others``: the patient's records. Said is what a centre wrote later, having heard it (PROTOCOL.md §5).
    """
    name = referral.key.record
    about = [
        one
        for one in others
        if one.key.kind in ("message", "acknowledgement")
        and (shown := one.shown("referral")) is not None
        and shown.value == name
        and is_visible(one)
    ]
    said = [held for one in about for held in one.changes.values() if held.origin is Writer.CENTRE]
    asked = [one for one in about if one.key.kind == "message" and first_change(one).origin is Writer.DOCTOR]
    waiting = _latest([one for one in asked if not any(_heard(held, first_change(one)) for held in said)])
    return waiting[0].key.record if waiting else None


def _heard(said: Held, asked: Held) -> bool:
    """Whether it was said after the message, by somebody who could read it: one who is offline answers nothing new."""
    asked_ms = asked.receipt_ms if asked.receipt_ms is not None else asked.change.after
    return said.order > asked.order and said.change.after + HEARD_WITHIN_MS >= asked_ms
