"""One exchange: the outbox's request to the hub, and the answer to the inbox, frame by frame as it comes.

What is sent was durable before; what is read is applied at once, so a cut at any byte loses at most the frame in
flight. An answer has a hard cap of bytes and of time. A page that does not check out stops the pages of its answer,
never the sending.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from hwc_node import inbox, outbox
from hwc_node.outbox import Outgoing
from hwc_node.store import Store
from hwc_node.sync.hub_http import LINK_BROKE, TIME_IS_OVER, Body, HubOutOfReach, check_time
from sync_protocol import segment
from sync_protocol.envelope import MAX_ENVELOPE_BYTES
from sync_protocol.errors import HealthSyncError, MissingGrant, NotOurAnswer, TheirBytes, TooLarge, Truncated
from sync_protocol.session import (
    AheadArrived,
    GrantArrived,
    HeadsArrived,
    NodeEvent,
    NodeSession,
    NoticeArrived,
    PageArrived,
)
from sync_protocol.wire import Heads, NoticeKind

SYNC_PATH: Final = "/v1/sync"
ANSWER_SLACK_BYTES: Final = 2 * MAX_ENVELOPE_BYTES  # heads, notices, grants and the page that runs over the limit
LINK_SAMPLE_BYTES: Final = 1024  # what an exchange must have carried to tell something of the link's speed
_MOVING: Final = frozenset({NoticeKind.CURSOR, NoticeKind.QUARANTINED, NoticeKind.REFUSED})


class Carrier(Protocol):
    """What takes a request to the hub and gives its answer piece by piece: `HubClient`, or a simulated link."""

    def post(self, path: str, body: Body) -> AbstractContextManager[Iterator[bytes]]: ...


def wall_ms() -> int:
    """This device's clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class ExchangeResult:
    """What one request and its answer did. advanced: something moved, so that another one is not the same again.

    begun: a byte of the request may have left. page_error: a page could not be taken in; the rest of the answer was.
    heads: None unless the answer came whole.
    """

    sent_segments: int = 0
    sent_changes: int = 0
    received_changes: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    notices: list[str] = field(default_factory=list)
    begun: bool = False
    advanced: bool = False
    revoked: bool = False
    page_error: HealthSyncError | None = None
    heads: Heads | None = None


def exchange(
    store: Store,
    client: Carrier,
    *,
    max_bytes: int | None = None,
    deadline_s: float | None = None,
    result: ExchangeResult | None = None,
    clock: Callable[[], int] = wall_ms,
    on_moved: Callable[[], None] | None = None,
) -> ExchangeResult:
    """One request and its answer. ``result`` is filled as it goes, so that it tells what was done before an error;
    ``on_moved`` is called after each piece that went out or came in.

    Raises HubOutOfReach, RefusedByHub, or TheirBytes where a signature does not hold; what was applied before stays.
    """
    done = result if result is not None else ExchangeResult()
    outgoing = outbox.pack(store, clock(), max_bytes)
    reading = _Reading(store, outgoing, done, clock)

    def moved() -> None:
        done.bytes_up = body.sent_bytes
        if on_moved is not None:
            on_moved()

    body = Body(reading.session.request(outgoing.frames, [one.raw for one in outgoing.segments]), deadline_s, moved)
    limit_bytes = outgoing.view.max_answer_bytes + ANSWER_SLACK_BYTES
    began_s = time.monotonic()
    try:
        with client.post(SYNC_PATH, body) as pieces:
            for piece in pieces:
                check_time(deadline_s)
                done.bytes_down += len(piece)
                if done.bytes_down > limit_bytes:
                    raise TooLarge("The hub's answer is larger than it was asked for.")
                reading.take(piece)
                moved()
        reading.finish(body.sent_bytes, time.monotonic() - began_s)
    except HealthSyncError as error:
        _note_break(store, outgoing, body, reading, error)
        raise _as_told(error) from None
    finally:
        done.begun = body.begun
        done.bytes_up = body.sent_bytes
    return done


def _note_break(store: Store, outgoing: Outgoing, body: Body, reading: _Reading, error: HealthSyncError) -> None:
    before = 1 + len(outgoing.frames)  # pieces that stand before the segments: HELLO and the grants' frames
    gone = [one.id for one in outgoing.segments[: max(0, body.gone - before)]]
    counted = [] if reading.heads is not None else gone  # heads that were read have counted them
    broke = isinstance(error, Truncated) or error.code in (LINK_BROKE, TIME_IS_OVER)
    outbox.left(store, outgoing, counted, nothing=not body.begun, smaller=broke)


def _as_told(error: HealthSyncError) -> HealthSyncError:
    """The error as people are told: an answer that broke off or is not the hub's means to try later."""
    if isinstance(error, Truncated):
        return HubOutOfReach("The answer broke off.", code=LINK_BROKE)
    if isinstance(error, NotOurAnswer):
        return HubOutOfReach(
            f"What came is not the hub's answer ({error}).",
            code=error.code,
            next_step="A network may want a login first. Everything is kept here.",
        )
    return error


class _Reading:
    """Applies an answer as it comes."""

    def __init__(self, store: Store, outgoing: Outgoing, done: ExchangeResult, clock: Callable[[], int]) -> None:
        self.session = NodeSession(outgoing.view)
        self.heads: Heads | None = None
        self._store = store
        self._outgoing = outgoing
        self._done = done
        self._clock = clock
        self._skip_pages = False
        self._applying_s = 0.0

    def take(self, piece: bytes) -> None:
        began_s = time.monotonic()
        for event in self.session.read(piece):
            self._apply(event)
        self._applying_s += time.monotonic() - began_s

    def finish(self, sent_bytes: int, seconds: float) -> None:
        """The answer has ended: whole, or Truncated is raised."""
        heads = self.session.finish()
        done, link = self._done, self._outgoing.link
        carried = sent_bytes + done.bytes_down
        told = None
        if carried >= LINK_SAMPLE_BYTES:
            told = link.after_success(carried, max(seconds - self._applying_s, 0.0))
        if heads.segment_bytes:
            size = min(max(heads.segment_bytes, segment.MIN_SEGMENT_BYTES), (told or link).segment_bytes)
            told = segment.Link(size, (told or link).bytes_per_s)
        inbox.close_answer(self._store, self._outgoing, heads, self._clock(), link=told, revoked=done.revoked)
        done.heads = heads
        done.advanced = done.advanced or self._outgoing.alone

    def _apply(self, event: NodeEvent) -> None:
        done, now_ms = self._done, self._clock()
        if isinstance(event, HeadsArrived):
            self.heads = event.heads
            held = inbox.apply_heads(self._store, self._outgoing, event.heads, now_ms)
            done.sent_segments += held.held_segments
            done.sent_changes += held.held_changes
            done.advanced = done.advanced or held.held_segments > 0
        elif isinstance(event, NoticeArrived):
            done.notices.append(inbox.apply_notice(self._store, event.notice, now_ms))
            done.revoked = done.revoked or event.notice.kind == NoticeKind.REVOKED
            done.advanced = done.advanced or event.notice.kind in _MOVING
        elif not self._skip_pages:
            self._take_in(event, now_ms)

    def _take_in(self, event: GrantArrived | PageArrived | AheadArrived, now_ms: int) -> None:
        """A grant or a page. One that does not check out stops the pages of this answer, never the sending."""
        try:
            if isinstance(event, GrantArrived):
                inbox.apply_grant(self._store, event.payload, now_ms)
                return
            apply = inbox.apply_ahead if isinstance(event, AheadArrived) else inbox.apply_page
            page = apply(self._store, event.envelope, now_ms)
        except TheirBytes as error:
            if isinstance(error, MissingGrant):
                inbox.forget_hub_grant(self._store)
            self._done.page_error = error
            self._skip_pages = True
            return
        self._done.received_changes += page.fresh
        self._done.advanced = self._done.advanced or page.applied > 0
        self._skip_pages = not page.whole
