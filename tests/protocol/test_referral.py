"""A referral's status is derived, by one table with its precedence, whatever arrives and in whatever order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import change as changes
from sync_protocol import merge, referral
from sync_protocol.change import PatientId, RecordId, RecordKey
from sync_protocol.merge import Held, Record
from sync_protocol.referral import Status
from tests import strategies
from tests.strategies import FACILITIES, NODE, PERSONS, RECORDS, SALTS

REFERRAL = RECORDS[0]


def _record(kind: str, writes: dict[str, Any], at: int = 1, receipt: int | None = None, person: int = 0) -> Record:
    name = RecordId(bytes([at]) * 16) if kind != "referral" else REFERRAL
    change = changes.make(
        kind=kind,
        record=name,
        patient=PatientId(RECORDS[1]),
        facility=FACILITIES[0],
        node=NODE,
        person=PERSONS[person],
        hlc=at << 16,
        after=0,
        salt=SALTS[0],
        writes=writes if kind == "referral" else {"referral": REFERRAL} | writes,
        supersedes={},
    )
    return merge.fold(RecordKey(kind, name), [Held(change, receipt)])


SAVED = _record("referral", {"urgency": "urgent"})
RECEIVED = _record("referral", {"urgency": "urgent"}, receipt=5)
WITHDRAWN = _record("referral", {"withdrawn": {"withdrawn": True, "reason": "x"}}, receipt=5)
CLAIM = _record("claim", {"note": "mine"}, 2, 10, 1)
RELEASED = _record("claim", {"released": True}, 3, 12)
REPLY = _record("reply", {"advice": "x"}, 4, 20, 1)
OF_REPLY: dict[str, Any] = {"reply": REPLY.key.record}
SEEN = _record("acknowledgement", OF_REPLY | {"seen": True}, 6, 30)
UNSEEN = _record("acknowledgement", OF_REPLY | {"seen": False}, 7, 30)
CLOSED = _record("acknowledgement", OF_REPLY | {"outcome": "recovered"}, 8, 40)
NAMELESS = _record("acknowledgement", {"seen": True}, 11, 30)
ENDED = _record("acknowledgement", {"outcome": "went home"}, 12, 30)
CORRECTION = _record("reply", {"advice": "y", "corrects": REPLY.key.record}, 13, 50)
SEEN_AGAIN = _record("acknowledgement", {"reply": CORRECTION.key.record, "seen": True}, 14, 60)
ELSEWHERE = _record("reply", {"referral": RECORDS[2], "advice": "x"}, 9, 20)
WRONG = _record("reply", {"advice": "x", "entered_in_error": {"hidden": True}}, 10, 20)


@pytest.mark.parametrize(
    ("of", "others", "sent", "status"),
    [
        (SAVED, [], False, Status.SAVED),
        (SAVED, [], True, Status.SENT),
        (RECEIVED, [], True, Status.RECEIVED),
        (RECEIVED, [CLAIM], True, Status.CLAIMED),
        (RECEIVED, [RELEASED], True, Status.RECEIVED),
        (RECEIVED, [CLAIM, REPLY], True, Status.ANSWERED),
        (RECEIVED, [REPLY, UNSEEN], True, Status.ANSWERED),
        (RECEIVED, [REPLY, SEEN], True, Status.SEEN),
        (RECEIVED, [REPLY, SEEN, CLOSED], True, Status.CLOSED),
        (WITHDRAWN, [REPLY, SEEN, CLOSED], True, Status.WITHDRAWN),
        (RECEIVED, [REPLY, NAMELESS], True, Status.ANSWERED),
        (RECEIVED, [REPLY, ENDED], True, Status.ANSWERED),
        (RECEIVED, [NAMELESS], True, Status.RECEIVED),
        (RECEIVED, [CLAIM, ENDED], True, Status.CLOSED),
        (RECEIVED, [REPLY, SEEN, CORRECTION], True, Status.ANSWERED),
        (RECEIVED, [REPLY, SEEN, CLOSED, CORRECTION], True, Status.ANSWERED),
        (RECEIVED, [REPLY, SEEN, CORRECTION, SEEN_AGAIN], True, Status.SEEN),
        (RECEIVED, [REPLY, CLOSED, CORRECTION, SEEN_AGAIN], True, Status.CLOSED),
        (RECEIVED, [ELSEWHERE], True, Status.RECEIVED),
        (RECEIVED, [WRONG], True, Status.RECEIVED),
        (SAVED, [REPLY], False, Status.ANSWERED),
    ],
)
def test_the_strongest_of_what_holds_is_the_status(
    of: Record, others: list[Record], sent: bool, status: Status
) -> None:
    for order in (others, others[::-1]):
        assert referral.progress(of, order, sent=sent).status is status


def test_who_and_when_are_told() -> None:
    told = referral.progress(RECEIVED, [CLAIM, REPLY, SEEN], sent=True)
    assert (told.saved_ms, told.received_ms, told.claimed_ms, told.answered_ms, told.seen_ms) == (1, 5, 10, 20, 30)
    assert (told.claimed_by, told.answered_by, told.reply) == (PERSONS[1], PERSONS[1], REPLY.key.record)


def test_a_correction_is_the_answer_that_counts_and_the_wait_is_until_the_first() -> None:
    told = referral.progress(RECEIVED, [CLAIM, REPLY, SEEN, CORRECTION], sent=True)
    assert (told.first_answered_ms, told.answered_ms, told.seen_ms) == (20, 50, None)
    assert (told.answered_by, told.reply) == (PERSONS[0], CORRECTION.key.record)
    again = referral.progress(RECEIVED, [REPLY, SEEN, CORRECTION, SEEN_AGAIN], sent=True)
    assert (again.first_answered_ms, again.seen_ms) == (20, 60)


def test_a_withdrawn_referral_that_was_answered_tells_both() -> None:
    told = referral.progress(WITHDRAWN, [REPLY], sent=True)
    assert told.withdrawn and told.status is Status.WITHDRAWN and told.reply == REPLY.key.record


@given(strategies.histories(), st.lists(strategies.histories(max_size=3), max_size=3), st.booleans())
def test_any_records_have_a_status(of: list[Held], others: list[list[Held]], sent: bool) -> None:
    records = [merge.fold(one[0].change.key, one) for one in others]
    told = referral.progress(merge.fold(of[0].change.key, of), records, sent=sent)
    assert isinstance(told.status, Status)


@given(strategies.values)
def test_any_urgency_has_a_rank_and_what_is_unknown_is_looked_at(urgency: object) -> None:
    assert referral.urgency_rank(urgency) in (0, 1, 2)
    assert [referral.urgency_rank(one) for one in ("emergency", "urgent", "routine", "?", None)] == [0, 1, 2, 1, 1]
