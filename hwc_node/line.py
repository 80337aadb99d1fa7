"""The line that stands on every page of a centre: where this computer stands with the hub, what needs a person, and the
emergency for which somebody phones.

Reads only. Texts are marked for translation and translated by the page. It refuses to know what a page looks like.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hwc_node import membership, overview
from hwc_node.engine import begin_read
from hwc_node.overview import DAY_MS, Line, counted
from hwc_node.store import Store
from hwc_node.tables import WAITING
from sync_protocol.words import N_

_TOKEN_DIGITS: Final = 12
MOST_COUNTED: Final = 9_999  # changes that wait: beyond, the line says that there are more
NOT_SENT_MS: Final = 12 * 3_600_000
NOT_SENT_LONG_MS: Final = 5 * DAY_MS
OFFLINE_ERRORS: Final = frozenset({"E_HUB_UNREACHABLE", "E_SYNC_TIMEOUT", "E_STALLED"})
NEEDS_YOU: Final = {
    "E_REVOKED": N_("the hub has shut this computer out; ask its operator"),
    "E_UNKNOWN_NODE": N_("the hub does not know this computer; ask its operator"),
    "E_OTHER_ENVIRONMENT": N_("the hub is another than before; ask its operator"),
}


class LineState(str, Enum):
    """Where this computer stands with the hub, as one word."""

    SYNCED = "synced"
    PENDING = "pending"
    OFFLINE = "offline"
    SYNCING = "syncing"
    NOT_SENT = "not_sent"
    NOT_SENT_LONG = "not_sent_long"
    FAILED = "failed"
    NEEDS_YOU = "needs_you"


@dataclass(frozen=True, slots=True)
class LineFacts:
    """What the line is decided from. oldest_ms: of what waits. error: code of the last try, empty after a success.
    set_aside: what the hub could not take. questioned: news that waits for somebody to say whether it is meant."""

    pending: int
    oldest_ms: int | None
    last_success_ms: int | None
    last_attempt_ms: int | None
    error: str
    set_aside: int
    questioned: int
    running: bool


@dataclass(frozen=True, slots=True)
class SyncLine:
    """since_ms: since when nothing was sent. last_ms: of the last sync. said: what needs a person, a text to be translated,
    mostly empty. alarms: emergencies for which somebody phones. steps: how many are done of how many, while it syncs."""

    state: LineState
    pending: int
    since_ms: int | None
    last_ms: int | None
    next_try_s: float | None
    code: str
    said: str
    alarms: tuple[Line, ...] = ()
    steps: tuple[int, int] | None = None

    @property
    def many(self) -> bool:
        """Whether more wait than were counted."""
        return self.pending > MOST_COUNTED

    @property
    def token(self) -> str:
        """Two lines with the same token say the same; of the next try only which minute it is in."""
        minute = None if self.next_try_s is None else int(self.next_try_s) // 60
        when = (self.since_ms, self.last_ms, minute, self.percent)
        return _token(self.state.value, self.pending, self.code, self.said, *when, self.alarm_token)

    @property
    def alarm_token(self) -> str:
        """Two lines with the same token raise the same alarm, which is not raised anew then; empty without one."""
        return _token(*((one.key.record, one.who.get("name")) for one in self.alarms)) if self.alarms else ""

    @property
    def needs_beside(self) -> bool:
        """Whether something needs a person and the state is another: the line tells both."""
        return self.said != "" and self.state is not LineState.NEEDS_YOU

    @property
    def percent(self) -> int | None:
        """How much of what is under way is done: 0 to 100, None where there is nothing to count."""
        if self.state is not LineState.SYNCING or self.steps is None or self.steps[1] <= 0:
            return None
        return min(100, 100 * self.steps[0] // self.steps[1])


def _token(*said: object) -> str:
    return hashlib.sha256(repr(said).encode()).hexdigest()[:_TOKEN_DIGITS]


def decide(facts: LineFacts, now_ms: int) -> LineState:
    """By precedence: what needs a person, what has waited long, what is under way, what went wrong, what waits."""
    waited_ms = now_ms - facts.oldest_ms if facts.pending and facts.oldest_ms is not None else 0
    offline = facts.error != "" and is_offline(facts.error)
    states = (
        (LineState.NEEDS_YOU, facts.error in NEEDS_YOU),
        (LineState.SYNCING, facts.running),
        (LineState.NOT_SENT_LONG, waited_ms >= NOT_SENT_LONG_MS),
        (LineState.NOT_SENT, waited_ms >= NOT_SENT_MS),
        (LineState.FAILED, facts.error != "" and not offline),
        (LineState.OFFLINE, offline),
        (LineState.NEEDS_YOU, facts.set_aside > 0 or facts.questioned > 0),
        (LineState.PENDING, facts.pending > 0 or facts.last_success_ms is None),
        (LineState.SYNCED, True),
    )
    return next(state for state, holds in states if holds)


def is_offline(code: str) -> bool:
    """Whether an exchange ended with this because there is no link: nothing is wrong then."""
    return code in OFFLINE_ERRORS


def sync_line(
    store: Store,
    now_ms: int,
    *,
    running: bool,
    next_try_s: float | None,
    steps: tuple[int, int] | None = None,
) -> SyncLine:
    with begin_read(store.engine) as connection:
        values = membership.get_all(connection)
        pending = counted(
            connection, f"SELECT count(*) FROM (SELECT 1 FROM change INDEXED BY change_oldest WHERE {WAITING} LIMIT ?)",
            (MOST_COUNTED + 1,),
        )  # fmt: skip
        oldest = connection.exec_driver_sql(
            f"SELECT hlc FROM change INDEXED BY change_oldest WHERE {WAITING} ORDER BY hlc LIMIT 1"
        ).scalar()
        set_aside = counted(connection, overview.SET_ASIDE)
        questioned = counted(connection, overview.QUESTIONED)
    facts = LineFacts(
        pending,
        None if oldest is None else int(oldest) >> 16,
        values.get(membership.LAST_SUCCESS_MS),
        values.get(membership.LAST_ATTEMPT_MS),
        str(values.get(membership.LAST_ERROR, "") or ""),
        set_aside,
        questioned,
        running,
    )
    said = NEEDS_YOU.get(facts.error, "")
    if not said and questioned:
        said = N_("news from the hub would hide many records; look at it")
    elif not said and set_aside:
        said = N_("the hub could not take some records")
    return SyncLine(
        decide(facts, now_ms),
        facts.pending,
        facts.oldest_ms,
        facts.last_success_ms,
        next_try_s,
        facts.error,
        said,
        tuple(overview.alarms(store, now_ms)),
        steps if running else None,
    )
