"""The doctor's verbs: claim, give back, hand over, ask, reply, and resolving a conflict. (Queue and charts: `charts`.)

    claiming    who has a referral: claim, release, hand_over; ask
    replying    parse_answer, reply, corrections, drafts, what is in their way; the drugs' rules
    settling    resolve, conflicts_of
    writing     what they share: who may, the transaction, the centre's directory

A verb is one transaction: hold the patient, read, decide without effects, write, note. Repeating it repeats nothing.
"""

from __future__ import annotations

from hub_server.consults.claiming import ask, claim, hand_over, keep_claim, may_take, release
from hub_server.consults.replying import (
    ANSWER_FIELDS,
    MAX_ANSWER_BYTES,
    QUESTION,
    REASON,
    Correction,
    LinesRefused,
    has_answered,
    in_the_way,
    keep_draft,
    keep_question,
    keep_reason,
    look_at,
    objections,
    parse_answer,
    reply,
)
from hub_server.consults.settling import Settled, conflicts_of, resolve
from hub_server.consults.writing import RANDOM_BYTES, Done, require_sight, require_specialty, seen_row

__all__ = [
    "ANSWER_FIELDS",
    "MAX_ANSWER_BYTES",
    "QUESTION",
    "RANDOM_BYTES",
    "REASON",
    "Correction",
    "Done",
    "LinesRefused",
    "Settled",
    "ask",
    "claim",
    "conflicts_of",
    "hand_over",
    "has_answered",
    "in_the_way",
    "keep_claim",
    "keep_draft",
    "keep_question",
    "keep_reason",
    "look_at",
    "may_take",
    "objections",
    "parse_answer",
    "release",
    "reply",
    "require_sight",
    "require_specialty",
    "resolve",
    "seen_row",
]
