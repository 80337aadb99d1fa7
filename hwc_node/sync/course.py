"""A whole sync: exchange after exchange, until nothing is left to do or the budget is used. One at a time.

After each exchange the store says what is left (`outbox.outlook`); whether there is another one, at once or after a
pause, is decided here. It never goes on without end: what does not move for half a minute is either held by the hub,
which is enough for now, or an error that says so.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from hwc_node import membership, outbox, standing
from hwc_node.answer import ExchangeResult
from hwc_node.config import FILE_MODE, storage_fault
from hwc_node.engine import begin_write
from hwc_node.outbox import Outlook, WayLeft
from hwc_node.store import Store
from hwc_node.sync import key_list
from hwc_node.sync.connecting import open_hub
from hwc_node.sync.link import TIME_IS_OVER, HubOutOfReach, RefusedByHub
from hwc_node.sync.one_exchange import Carrier, exchange, wall_ms
from sync_protocol.errors import BadSignature, HealthSyncError, OurFault

LEAST_BUDGET_BYTES: Final = 1024  # HELLO and HEADS with some ids: below this no further request is begun
POLL_S: Final = (0.05, 2.0)  # the first and the longest pause while the hub admits; each is half as long again
PATIENCE_S: Final = 30.0  # without any progress: then what is held waits for the next sync, what is not is an error
LOCK_WAIT_S: Final = 120.0  # another sync of this home takes that long on a slow link
LOCK_PAUSE_S: Final = 0.1


@dataclass(slots=True)
class SyncResult:
    """What a sync did, in the words of `hwc sync --json`. seconds: of this sync, without waiting for another one.

    requests: those of which a byte may have left. advised_s: when the hub wants to be asked again, if it said so.
    """

    sent_changes: int = 0
    sent_segments: int = 0
    received_changes: int = 0
    conflicts_open: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    requests: int = 0
    seconds: float = 0.0
    pending_changes: int = 0
    notices: list[str] = field(default_factory=list)
    advised_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The contract's shape."""
        shape = asdict(self) | {"seconds": round(self.seconds, 3)}
        del shape["advised_s"]
        return shape


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sync has come: told after each piece that went out or came in; counted anew after each exchange.

    sent_changes of sent_changes + left.unsent are at the hub; taken_items of taken_items + left.behind of the feed's
    items are here, this centre's own among them, which come back with their positions.
    """

    requests: int
    bytes_up: int
    bytes_down: int
    sent_changes: int
    received_changes: int
    taken_items: int
    left: WayLeft

    @property
    def done_steps(self) -> int:
        return self.sent_changes + self.taken_items

    @property
    def total_steps(self) -> int:
        """A change that waits is sent, and comes back with its position: two steps. It grows where the feed does."""
        return self.done_steps + self.left.unsent + max(self.left.behind, self.left.pending)


def run(
    store: Store,
    *,
    max_bytes: int | None = None,
    timeout_s: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], int] = wall_ms,
) -> SyncResult:
    """Exchange until nothing is left to send or receive and what was sent is admitted, or the budget is used.

    Raises HubOutOfReach, RefusedByHub, TheirBytes, or OurFault (``E_SYNC_RUNNING``, ``E_HUB_ADDRESS``); the error's
    attribute ``result`` then holds the SyncResult of what was done before. Everything is kept whatever happens.
    """
    url = store.config.hub_url or store.membership.hub_url
    with one_at_a_time(store.config.sync_lock_path, LOCK_WAIT_S if timeout_s is None else timeout_s):
        try:
            with open_hub(store.config, url, timeout_s) as hub:
                return run_over(
                    store, hub, max_bytes=max_bytes, timeout_s=timeout_s, on_progress=on_progress, clock=clock
                )
        except OurFault as error:
            _note_failure(store, error)
            raise


def run_over(
    store: Store,
    carrier: Carrier,
    *,
    max_bytes: int | None = None,
    timeout_s: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], int] = wall_ms,
) -> SyncResult:
    """`run` over a connection that is there already, without the lock."""
    began_s = time.monotonic()
    course = _Course(store, max_bytes, None if timeout_s is None else began_s + timeout_s, on_progress, clock)
    try:
        _remember(store, {membership.LAST_ATTEMPT_MS: clock()})
        course.run(carrier)
    except HealthSyncError as error:
        _note_failure(store, error)
        course.close(began_s)
        error.__dict__["result"] = course.result
        raise
    _remember(store, {membership.LAST_ERROR: ""})
    return course.close(began_s)


def _note_failure(store: Store, error: HealthSyncError) -> None:
    with suppress(HealthSyncError):  # on a full disk not even this can be kept, and the first error is what counts
        _remember(store, {membership.LAST_ERROR: error.code})


def _remember(store: Store, values: dict[str, Any]) -> None:
    with begin_write(store.engine) as connection:
        membership.put(connection, values)


class _Course:
    """One run of exchanges: decides after each whether and when there is another."""

    def __init__(
        self,
        store: Store,
        max_bytes: int | None,
        deadline_s: float | None,
        on_progress: Callable[[Progress], None] | None,
        clock: Callable[[], int],
    ) -> None:
        self.result = SyncResult()
        self._store = store
        self._max_bytes = max_bytes
        self._deadline_s = deadline_s
        self._on_progress = on_progress
        self._clock = clock
        self._page_error: HealthSyncError | None = None
        self._keys_asked = False
        self._left = outbox.way_left(store) if on_progress is not None else WayLeft(0, 0, 0, 0)
        self._began_at = self._left.position

    def run(self, client: Carrier) -> None:
        moved_s = time.monotonic()
        pause_s = POLL_S[0]
        while True:
            advanced = self._exchange(client)
            left = outbox.outlook(self._store)
            if left.nothing or self._is_spent() or (self._page_error is not None and not left.unsent):
                break
            if advanced:
                moved_s, pause_s = time.monotonic(), POLL_S[0]
            if not advanced or not (left.unsent or left.behind):
                if time.monotonic() - moved_s > PATIENCE_S:
                    self._lose_patience(left)
                    break
                time.sleep(self._at_most(pause_s))
                pause_s = min(pause_s * 1.5, POLL_S[1])
            if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
                break
        if self._page_error is not None:
            raise self._page_error

    def _exchange(self, client: Carrier) -> bool:
        """One exchange, added to the result. Whether it moved anything."""
        done = ExchangeResult()
        try:
            exchange(
                self._store,
                client,
                max_bytes=self._left_bytes(),
                deadline_s=self._deadline_s,
                result=done,
                clock=self._clock,
                on_moved=lambda: self._tell(done),
            )
        except HubOutOfReach as error:
            if error.code != TIME_IS_OVER or not self.result.requests:
                raise
        except BadSignature:
            if not self._learn_keys(client):
                raise
            return True
        finally:
            self._add(done)
        if done.heads is not None and done.heads.keys_serial > self._store.membership.hub_keys.serial:
            self._learn_keys(client)
        if done.revoked:
            raise RefusedByHub(
                "The hub has revoked this node.",
                code="E_REVOKED",
                next_step="Everything is kept here. Ask the hub's operator for a new code.",
            )
        self._page_error = done.page_error or self._page_error
        return done.advanced

    def _learn_keys(self, client: Carrier) -> bool:
        """The hub may have another signing key: once a sync its list of keys is fetched."""
        if self._keys_asked:
            return False
        self._keys_asked = True
        learnt = key_list.refresh(self._store, client)
        if learnt:
            self.result.notices.append("keys: the hub has new keys, and this node knows them now")
        return learnt

    def _add(self, done: ExchangeResult) -> None:
        total = self.result
        total.requests += done.begun
        total.sent_changes += done.sent_changes
        total.sent_segments += done.sent_segments
        total.received_changes += done.received_changes
        total.bytes_up += done.bytes_up
        total.bytes_down += done.bytes_down
        total.notices += [one for one in done.notices if one not in total.notices]
        if done.heads is not None:
            total.advised_s = float(max(done.heads.interval_s, done.heads.retry_after_s)) or None
        if self._on_progress is not None:
            self._left = outbox.way_left(self._store)
            self._tell(ExchangeResult())

    def _tell(self, going: ExchangeResult) -> None:
        """Progress so far, with what the exchange that is going on has moved."""
        if self._on_progress is None:
            return
        total = self.result
        self._on_progress(
            Progress(
                total.requests,
                total.bytes_up + going.bytes_up,
                total.bytes_down + going.bytes_down,
                total.sent_changes + going.sent_changes,
                total.received_changes + going.received_changes,
                max(0, self._left.position - self._began_at),  # back by a restored hub: nothing was taken yet
                self._left,
            )
        )

    def _left_bytes(self) -> int | None:
        if self._max_bytes is None:
            return None
        return max(self._max_bytes - self.result.bytes_up - self.result.bytes_down, 0)

    def _is_spent(self) -> bool:
        left = self._left_bytes()
        return left is not None and left < LEAST_BUDGET_BYTES

    def _at_most(self, pause_s: float) -> float:
        return pause_s if self._deadline_s is None else max(0.0, min(pause_s, self._deadline_s - time.monotonic()))

    def _lose_patience(self, left: Outlook) -> None:
        """Held and not admitted yet is no error: the hub has it, and the next sync hears of it."""
        if left.unsent or left.behind:
            raise HubOutOfReach("The hub answers, but nothing moves on.", code="E_STALLED")
        self.result.notices.append("held: the hub has not admitted everything yet")

    def close(self, began_s: float) -> SyncResult:
        self.result.seconds = time.monotonic() - began_s
        self.result.pending_changes = standing.pending_changes(self._store)
        self.result.conflicts_open = standing.conflicts_open(self._store)
        return self.result


@contextmanager
def one_at_a_time(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the home's sync lock. Waits for another sync; OurFault (``E_SYNC_RUNNING``) when that takes longer."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise storage_fault(error, "The lock of this home cannot be used") from error
    try:
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline_s:
                    raise OurFault(
                        "Another sync of this centre is running.",
                        code="E_SYNC_RUNNING",
                        next_step="It sends what this one would have sent. Look at: hwc status",
                    ) from None
            time.sleep(LOCK_PAUSE_S)
        yield
    finally:
        os.close(descriptor)
