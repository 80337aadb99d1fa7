"""One exchange: the outbox's request to the hub, and the answer to the inbox, frame by frame as it comes.

What is sent was durable before; what is read is applied at once, so a cut at any byte loses at most the frame in
flight. An answer has a hard cap of bytes and of time. A page that does not check out stops the pages of its answer,
never the sending.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol

from hwc_node import outbox
from hwc_node.answer import Answer, ExchangeResult
from hwc_node.outbox import Outgoing
from hwc_node.store import Store
from hwc_node.sync.link import LINK_BROKE, TIME_IS_OVER, Body, HubOutOfReach, check_time
from sync_protocol import segment
from sync_protocol.envelope import MAX_ENVELOPE_BYTES
from sync_protocol.errors import HealthSyncError, NotOurAnswer, TooLarge, Truncated
from sync_protocol.session import NodeSession
from sync_protocol.wire import Heads

SYNC_PATH: Final = "/v1/sync"
ANSWER_SLACK_BYTES: Final = 2 * MAX_ENVELOPE_BYTES  # heads, notices, grants and the page that runs over the limit
LINK_SAMPLE_BYTES: Final = 1024  # what an exchange must have carried to tell something of the link's speed


class Carrier(Protocol):
    """What takes a request to the hub and gives its answer piece by piece: `HubClient`, or a simulated link."""

    def post(self, path: str, body: Body) -> AbstractContextManager[Iterator[bytes]]: ...

    def get_document(self, path: str, limit_bytes: int) -> bytes: ...


def wall_ms() -> int:
    """This device's clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


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
    """Reads an answer as it comes."""

    def __init__(self, store: Store, outgoing: Outgoing, done: ExchangeResult, clock: Callable[[], int]) -> None:
        self.session = NodeSession(outgoing.view)
        self.answer = Answer(store, outgoing, done)
        self._clock = clock
        self._applying_s = 0.0

    @property
    def heads(self) -> Heads | None:
        return self.answer.heads

    def take(self, piece: bytes) -> None:
        began_s = time.monotonic()
        for event in self.session.read(piece):
            self.answer.apply(event, self._clock())
        self._applying_s += time.monotonic() - began_s

    def finish(self, sent_bytes: int, seconds: float) -> None:
        """The answer has ended: whole, or Truncated is raised."""
        heads = self.session.finish()
        done, link = self.answer.done, self.answer.outgoing.link
        carried = sent_bytes + done.bytes_down
        told = None
        if carried >= LINK_SAMPLE_BYTES:
            told = link.after_success(carried, max(seconds - self._applying_s, 0.0))
        if heads.segment_bytes:
            size = min(max(heads.segment_bytes, segment.MIN_SEGMENT_BYTES), (told or link).segment_bytes)
            told = segment.Link(size, (told or link).bytes_per_s)
        self.answer.close(heads, self._clock(), told)
