"""Repeats the exchange in the background: the only module that knows APScheduler.

Rules: one exchange at a time (across programs by the sync's own lock); after a success the hub's advice or the
setting says when the next one is; after a failure the pause doubles up to its cap and a random part of it is taken
(full jitter), so that a thousand centres do not come back in the same second after an outage. What is urgent does not
wait for the next turn. No failure ends it: what needs a person is told in the status, and the next try may find it
mended.

It refuses to know what an exchange is: it calls a function.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor  # type: ignore[import-untyped]  # it brings no types
from apscheduler.jobstores.base import JobLookupError  # type: ignore[import-untyped]
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]

from sync_protocol.errors import HealthSyncError

FIRST_RETRY_S: Final = 10.0  # a link that broke is often back within seconds
SOONEST_S: Final = 1.0  # jitter may draw nearly nothing; a second lets the machine breathe
SUCCESS_SPREAD: Final = 0.1  # a tenth earlier or later, so that centres started together do not stay together
LONGEST_S: Final = 86_400.0
ADVICE_BOUNDS_S: Final = (5.0, LONGEST_S)  # what the hub may ask for: not a flood, and not silence for ever
SYNC_JOB: Final = "sync"
WATCH_JOB: Final = "watch"
WATCH_S: Final = 5.0  # how soon an emergency that was saved leaves, with the link up
URGENT_RETRY_S: Final = 60.0  # how often it is tried while the link is down, whatever the pause has grown to

log = structlog.get_logger("hwc.scheduler")
logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # what matters is told here, in this project's words


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an exchange ended. advised_s: when the hub wants to be asked again; more: there is something left to do."""

    advised_s: float | None = None
    more: bool = False


def pause_s(
    failures: int,
    interval_s: float,
    cap_s: float,
    draw: float,
    outcome: Outcome | None = None,
    asked_s: float = 0.0,
) -> float:
    """Seconds until the next exchange. failures: in a row, 0 after a success. draw: random, from 0 to 1.

    The hub's advice counts within its bounds, and never makes the pause longer than this centre's own settings allow.
    asked_s: the hub asked for at least so long; the random part comes on top, or all would come at that moment.
    """
    if failures == 0:
        if outcome is not None and outcome.more:
            return SOONEST_S
        low_s, high_s = ADVICE_BOUNDS_S
        wanted_s = interval_s
        if outcome is not None and outcome.advised_s is not None:
            wanted_s = min(max(outcome.advised_s, low_s), high_s, max(cap_s, interval_s))
        return wanted_s * (1 - SUCCESS_SPREAD + 2 * SUCCESS_SPREAD * draw)
    doublings = min(failures - 1, 30)  # 2 to the 30th times 10 s is beyond every cap
    asked_s = min(max(asked_s, 0.0), ADVICE_BOUNDS_S[1])
    return asked_s + max(SOONEST_S, draw * min(cap_s, FIRST_RETRY_S * 2.0**doublings))


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


class BackgroundSync:
    """Calls ``exchange`` again and again in a thread of its own, from `start` until `stop`."""

    def __init__(
        self,
        exchange: Callable[[], Outcome],
        *,
        interval_s: float,
        cap_s: float,
        asked_s: Callable[[Exception], float] = lambda _: 0.0,
        is_urgent: Callable[[], bool] = lambda: False,
        draw: Callable[[], float] = random.random,
        watch_s: float = WATCH_S,
    ) -> None:
        """asked_s: how long the hub asked to be left alone, of the error that an exchange ended with. is_urgent:
        whether something waits that should leave at once; asked every ``watch_s`` seconds."""
        self._exchange = exchange
        self._interval_s = interval_s
        self._cap_s = cap_s
        self._asked_s = asked_s
        self._is_urgent = is_urgent
        self._watch_s = watch_s
        self._ended_s = 0.0  # when the last exchange ended, by the monotonic clock
        self._left_alone_s = 0.0  # until when the hub asked to be left alone
        self._draw = draw
        self._failures = 0
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._scheduler = BackgroundScheduler(
            timezone=UTC, executors={name: ThreadPoolExecutor(1) for name in ("default", WATCH_JOB)}
        )

    def start(self, first_pause_s: float = 0.0) -> None:
        self._scheduler.add_job(
            self._run,
            "interval",
            seconds=LONGEST_S,  # until `_next` says better, after each exchange
            next_run_time=_in(first_pause_s),
            id=SYNC_JOB,
            misfire_grace_time=None,  # late is better than never: the machine may have slept for a week
        )
        self._scheduler.add_job(self._watch, "interval", seconds=self._watch_s, id=WATCH_JOB, executor=WATCH_JOB)
        self._scheduler.start()

    def stop(self, patience_s: float) -> bool:
        """No further exchange is begun. Whether the one that runs ended within the patience."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._scheduler.shutdown(wait=False)
        return self._idle.wait(patience_s)

    @property
    def running(self) -> bool:
        """Whether an exchange is under way."""
        return not self._idle.is_set()

    @property
    def next_in_s(self) -> float | None:
        """Seconds until the next exchange; None when none is planned."""
        job = self._scheduler.get_job(SYNC_JOB)
        if job is None or job.next_run_time is None:
            return None
        return max(0.0, float((job.next_run_time - datetime.now(UTC)).total_seconds()))

    def hurry(self) -> None:
        """A person asks for an exchange: the next one is now, whatever the pause has grown to."""
        if not self._stopping.is_set() and self._idle.is_set():
            self._next(0.0)

    def _next(self, after_s: float) -> None:
        with suppress(JobLookupError):  # it was stopped a moment ago
            self._scheduler.modify_job(SYNC_JOB, next_run_time=_in(after_s))

    def _watch(self) -> None:
        """Bring the next exchange forward for what is urgent, but not into the hub's busy time."""
        now_s = time.monotonic()
        rested = self._failures == 0 or now_s - self._ended_s >= URGENT_RETRY_S
        if self._stopping.is_set() or not self._idle.is_set() or not rested or now_s < self._left_alone_s:
            return
        ended_s = self._ended_s
        try:
            urgent = self._is_urgent()
        except HealthSyncError as error:
            log.warning("watch_failed", code=error.code)
            return
        if urgent and self._ended_s == ended_s:  # else an exchange took it along while it was looked for
            self._next(0.0)

    def _run(self) -> None:
        self._idle.clear()
        try:
            if not self._stopping.is_set():
                self._next(self._turn_s())
        finally:
            self._idle.set()

    def _turn_s(self) -> float:
        """One exchange; seconds until the next."""
        outcome: Outcome | None = None
        asked_s = 0.0
        try:
            outcome = self._exchange()
            self._failures = 0
        except HealthSyncError as error:
            self._failures += 1
            asked_s = self._asked_s(error)
            log.warning("sync_failed", code=error.code, failures=self._failures)
        except Exception as error:  # noqa: BLE001  # a bug must not end the background sync; its text may quote a person
            self._failures += 1
            log.error("sync_failed", code="E_BUG", type=type(error).__name__, failures=self._failures)
        self._ended_s = time.monotonic()
        self._left_alone_s = self._ended_s + asked_s
        after_s = pause_s(self._failures, self._interval_s, self._cap_s, self._draw(), outcome, asked_s)
        log.info("next_sync", seconds=round(after_s, 1))
        return after_s
