"""The hub's clockwork: what is done by time and not by request. The only door to APScheduler.

Six jobs run at the start and then four times a day: drop the sealed bytes of segments admitted long ago, and the
databases that a restore set aside long ago; erase the patients whose erasure was held until a day that has come; drop
the sessions that are over and the tries to sign in that are forgotten; drop what doctors left behind (claims that
lapsed, drafts, duty that is over, reviewed openings); and keep the log of the hub's own PostgreSQL within its bound.
Two more look each minute whether centres are to be told something of themselves, and which days are to be counted; a third
forgets what the doctors' queues were shown and nobody looks at any more. All work in small commits, also on several hubs
at once. A job that fails is logged by APScheduler, and tried again at its time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]  # it brings no types

from hub_server import backup, claim_locks, directory, drafts, duty, erasure, glass, registry, sign_in, tallies
from hub_server.glances import Glances
from hub_server.pg_programs import bound_log
from hub_server.store import Store

EVERY_HOURS: Final = 6
LOOK_EVERY_S: Final = 60  # looking costs one probe of an empty index

log = structlog.get_logger("hub.scheduler")


class Clockwork:
    """Runs in a thread of its own from `start` to `stop`."""

    def __init__(
        self,
        store: Store,
        now_ms: Callable[[], int],
        server_log: Path | None = None,
        glances: Glances | None = None,
    ) -> None:
        self._store = store
        self._glances = glances or Glances(store)
        self._server_log = server_log
        self._now_ms = now_ms
        self._scheduler = BackgroundScheduler(timezone=UTC)

    def start(self) -> None:
        now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        for job in (
            self.drop_sealed,
            self.drop_set_aside,
            self.erase_due,
            self.drop_stale_sign_ins,
            self.drop_left_behind,
            self.bound_server_log,
        ):
            self._scheduler.add_job(
                job,
                "interval",
                hours=EVERY_HOURS,
                next_run_time=now,
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
            )
        for job in (self.tell_centres, self.count_days, self.forget_glances):
            self._scheduler.add_job(
                job, "interval", seconds=LOOK_EVERY_S, max_instances=1, coalesce=True, misfire_grace_time=None
            )
        self._scheduler.start()

    def stop(self) -> None:
        """Returns when the running job has ended."""
        self._scheduler.shutdown(wait=True)

    def forget_glances(self) -> int:
        """Returns how many lines of patients are still in memory."""
        self._glances.forget_old(self._now_ms())
        return self._glances.kept

    def erase_due(self) -> int:
        """Returns how many patients were erased now, whose erasure was held until today."""
        erased = erasure.carry_out_due(self._store, self._now_ms())
        if erased:
            log.info("erased", patients=erased)
        return erased

    def tell_centres(self) -> int:
        """Returns how many centres were told something new of themselves."""
        told = directory.settle(self._store, self._now_ms())
        if told:
            log.info("centres_told", centres=told)
        return told

    def count_days(self) -> int:
        """Returns how many centres' days were counted anew."""
        return tallies.settle(self._store.database)

    def drop_sealed(self) -> int:
        """Returns how many segments lost their sealed bytes now."""
        total = 0
        while True:
            with self._store.database.transaction() as connection:
                dropped = registry.drop_sealed(connection, self._now_ms())
            if not dropped:
                break
            total += dropped
        if total:
            log.info("sealed_bytes_dropped", segments=total)
        return total

    def drop_set_aside(self) -> int:
        """Returns how many databases that a restore set aside were dropped now."""
        dropped = backup.drop_set_aside(self._store.database, self._now_ms())
        if dropped:
            log.info("databases_dropped", databases=dropped)
        return dropped

    def drop_stale_sign_ins(self) -> int:
        """Returns how many sessions were dropped that had ended by themselves."""
        with self._store.database.transaction() as connection:
            return sign_in.drop_stale(connection, self._now_ms())

    def drop_left_behind(self) -> int:
        """Returns how many rows of doctors' doings were dropped that have no use any more."""
        now_ms = self._now_ms()
        with self._store.database.transaction() as connection:
            drops = (claim_locks.drop_lapsed, duty.drop_over, drafts.drop_old, glass.drop_old)
            return sum(drop(connection, now_ms) for drop in drops)

    def bound_server_log(self) -> bool:
        """Whether the log of the hub's own PostgreSQL had grown too long, and was shortened."""
        shortened = self._server_log is not None and bound_log(self._server_log)
        if shortened:
            log.info("server_log_shortened")
        return shortened
