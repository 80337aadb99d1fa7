"""Admission: open what arrived, check it, give it positions. The second half of *keep, then admit*.

One pass takes the next kept segments, most urgent first, in one transaction: open (grant, seal, decompression caps),
check (form, writer, facility, author), and `store.receive` the rest. What cannot be opened or may not be written goes
to quarantine with a reason and blocks nothing behind it; a segment whose grant is missing waits for it. A pass that
fails as a whole is split until the bad segment stands alone (PROTOCOL.md §9).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import psycopg

from hub_server import grants, nodes, subscriptions
from hub_server.database import Connection
from hub_server.nodes import ADMITTED, QUARANTINED, WAITING, Verdict, Waiting
from hub_server.receiving import Incoming
from hub_server.records import ORIGINS
from hub_server.store import Store
from sync_protocol import envelope, replica, segment
from sync_protocol.change import Change, NodeId
from sync_protocol.errors import HealthSyncError, InvalidValue, MissingGrant
from sync_protocol.keys import Grant, GrantId
from sync_protocol.schema import Writer

SEGMENTS_A_PASS: Final = 512  # many small exchanges in one commit
BYTES_A_PASS: Final = 192 * 1024  # of sealed bytes, some 4,000 changes: bounds memory and the time a feed is locked
CHANGES_FULL: Final = 1_000  # a pass of so many changes is not worth waiting for more
GATHER_S: Final = 0.05  # after a smaller pass: a pass costs as much for one segment as for fifty
IDLE_WAIT_S: Final = 1.0  # the worker is woken by what is kept; this is for what other programs put there
RETRY_WAIT_S: Final = 0.5
_GRANTS_CACHED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Admitted:
    """What one pass did. segments: taken up; 0 when there was nothing to do."""

    segments: int
    changes: int
    already_held: int
    quarantined: int
    due: int = 0  # patients whose subscriptions have to be looked at again


NOTHING: Final = Admitted(0, 0, 0, 0)


@dataclass(slots=True)
class _Opened:
    """What came out of the segments of a pass."""

    incoming: list[Incoming] = field(default_factory=list)
    admitted: list[Waiting] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    unreadable: list[tuple[Waiting, str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


class Admitter:
    """Admits what was kept. Several may run at once, in threads or programs: each takes segments the others skip."""

    def __init__(self, store: Store, on_pass: Callable[[Admitted], None] = lambda _admitted: None) -> None:
        self._store = store
        self._grants: dict[GrantId, tuple[NodeId, Grant]] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._on_pass = on_pass

    # -- the worker

    def wake(self) -> None:
        """Something was kept."""
        self._wake.set()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    def run(self, now_ms: Callable[[], int], on_error: Callable[[Exception], None]) -> None:
        """Admit until `stop`: the body of the worker's thread. A database that is away is tried again."""
        idle = True  # at first, for what another program left
        while not self._stopping.is_set():
            try:
                done = self.admit_once(now_ms())
                if done.due or idle:
                    subscriptions.settle(self._store, now_ms())
                idle = False
            except (HealthSyncError, psycopg.Error, OSError) as error:
                on_error(error)
                self._stopping.wait(RETRY_WAIT_S)
                continue
            if done.segments:
                self._on_pass(done)
                if done.changes < CHANGES_FULL:
                    self._stopping.wait(GATHER_S)
            else:
                idle = not self._wake.wait(IDLE_WAIT_S)
                self._wake.clear()

    # -- one pass

    def admit_once(self, now_ms: int, limit: int = SEGMENTS_A_PASS) -> Admitted:
        """One pass over what is kept, in one transaction. Raises only when the database is away."""
        taken: Sequence[Waiting] = ()
        try:
            with self._store.database.transaction() as connection:
                taken = nodes.next_kept(connection, limit, BYTES_A_PASS)
                return self._admit(connection, taken, now_ms)
        except psycopg.OperationalError:
            raise
        except Exception as error:  # whatever it is, it must not stop the segments behind it
            if limit > 1:
                return self._split(now_ms, limit)
            if not taken:
                raise  # no segment's fault
            return self._set_aside(taken, error, now_ms)

    def _split(self, now_ms: int, limit: int) -> Admitted:
        """The pass failed: half as many segments, so that the bad one soon stands alone and the others go in."""
        with self._store.database.transaction() as connection:
            count = len(nodes.next_kept(connection, limit, BYTES_A_PASS))
        return self.admit_once(now_ms, max(1, min(limit, count) // 2)) if count else NOTHING

    def _set_aside(self, failed: Sequence[Waiting], error: Exception, now_ms: int) -> Admitted:
        """A segment that fails admission by itself waits in quarantine for a person; by now another may be the first.
        One that somebody else has taken up meanwhile is theirs."""
        code = error.code if isinstance(error, HealthSyncError) else "E_ADMISSION"
        with self._store.database.transaction() as connection:
            held = [one for one in failed if nodes.hold_kept(connection, one)]
            nodes.set_state(connection, held, QUARANTINED, code)
            nodes.quarantine(connection, [Verdict(one, -1, None, "", code) for one in held], now_ms)
        return Admitted(len(held), 0, 0, len(held))

    def _admit(self, connection: Connection, waiting: Sequence[Waiting], now_ms: int) -> Admitted:
        if not waiting:
            return NOTHING
        opened = self._open_all(connection, waiting)
        received = self._store.receive(connection, opened.incoming, now_ms)
        nodes.set_state(connection, opened.admitted, ADMITTED)
        nodes.set_state(connection, opened.waiting, WAITING, "E_MISSING_GRANT")
        for one, reason in opened.unreadable:
            nodes.set_state(connection, [one], QUARANTINED, reason)
        nodes.quarantine(connection, opened.verdicts, now_ms)
        return Admitted(len(waiting), received.admitted, received.already_held, len(opened.verdicts), received.due)

    # -- opening and checking

    def _open_all(self, connection: Connection, waiting: Sequence[Waiting]) -> _Opened:
        parsed = [(one, envelope.parse(one.raw)) for one in waiting]
        self._learn_grants(connection, {sealed.header.grant for _, sealed in parsed})
        released = nodes.released_rows(connection, waiting)
        opened = _Opened()
        for one, sealed in parsed:
            maker, grant = self._grants.get(sealed.header.grant, (None, None))
            try:
                if grant is not None and maker != one.node:
                    raise InvalidValue("the grant is another node's", code="E_OTHER_GRANT")
                contents = segment.unpack(sealed, grant)
            except MissingGrant:
                opened.waiting.append(one)
                continue
            except HealthSyncError as error:
                opened.unreadable.append((one, error.code))
                opened.verdicts.append(Verdict(one, -1, None, "", error.code))
                continue
            opened.admitted.append(one)
            for row, outcome in enumerate(contents.outcomes):
                self._sort_row(opened, one, row, outcome, contents.vouchers.get(row), released)
        return opened

    def _sort_row(
        self,
        opened: _Opened,
        one: Waiting,
        row: int,
        outcome: Change | HealthSyncError,
        voucher: segment.Voucher | None,
        released: set[tuple[bytes, bytes, int]],
    ) -> None:
        if isinstance(outcome, HealthSyncError):
            opened.verdicts.append(Verdict(one, row, None, "", outcome.code))
            return
        origin, receipt_ms = Writer.CENTRE, one.received_ms
        vouched = voucher is not None and self._store.vault.holds_tag(
            outcome.id, voucher.origin, voucher.receipt_ms, voucher.tag
        )
        if vouched and voucher is not None and voucher.origin < len(ORIGINS):
            origin, receipt_ms = ORIGINS[voucher.origin], voucher.receipt_ms
        else:
            refused = _refusal(outcome, one)
            if refused and (one.node, one.segment, row) not in released:
                opened.verdicts.append(Verdict(one, row, outcome.id, outcome.kind, refused))
                return
        opened.incoming.append(Incoming(one.facility, outcome, origin, receipt_ms, one.segment, row, vouched))

    def _learn_grants(self, connection: Connection, names: set[GrantId]) -> None:
        missing = [name for name in names if name not in self._grants]
        if missing:
            if len(self._grants) + len(missing) > _GRANTS_CACHED:
                self._grants.clear()
                missing = list(names)
            self._grants.update(grants.of_nodes(connection, self._store.vault, missing))


def _refusal(change: Change, one: Waiting) -> str:
    """Why a change by a node may not be admitted, or nothing. A change that the hub itself vouched for is not asked."""
    if not replica.allowed(change, Writer.CENTRE):
        return "E_NOT_ALLOWED"
    if change.facility != one.facility:
        return "E_OTHER_FACILITY"
    if change.node != one.node:
        return "E_OTHER_AUTHOR"
    return ""
