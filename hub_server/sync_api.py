"""The sync edge: one exchange, stream in and stream out, and the routes that carry it.

Half duplex: each segment is kept as it arrives (many exchanges' segments in one commit), the request is read to its
end, then the answer is made from what the database says; its pages while the link takes them. No session is kept. What
a link cut off loses at most the segment in flight; the node learns the rest from its next HELLO. When the hub is full,
or its database away, the answer is 503 with a time to come again: nothing was lost, and a node that knows nothing keeps
everything.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from fastapi import APIRouter, Request, Response
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from hub_server import ahead, answers, directory, grants, nodes, pages
from hub_server.answers import Asking, Standing
from hub_server.clock import wall_ms
from hub_server.gate import Gate, Stay, retry_after_s
from hub_server.keeper import Keeper
from hub_server.nodes import ADMITTED, QUARANTINED, WAITING, ArrivalState, Arrived, KnownNode
from hub_server.store import Store
from hub_server.together import Together
from sync_protocol import session, wire
from sync_protocol.change import FacilityCode, NodeId
from sync_protocol.envelope import EnvelopeId
from sync_protocol.errors import (
    HealthSyncError,
    NotAllowed,
    OurFault,
    TheirBytes,
    TooLarge,
    UnknownSender,
)
from sync_protocol.feed_page import Cursor
from sync_protocol.segment import MAX_REQUEST_BYTES
from sync_protocol.session import HubSession
from sync_protocol.wire import Heads, Hello, Notice, NoticeKind

log = structlog.get_logger("hub.sync")

MEDIA_TYPE: Final = "application/octet-stream"
MAX_BODY_BYTES: Final = MAX_REQUEST_BYTES * 2  # a request that packs up to the limit, with grants and a last segment
MAX_ENROL_BYTES: Final = 64 * 1024
DEFAULT_ANSWER_BYTES: Final = 64 * 1024
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
MAX_SEGMENTS: Final = 2 * wire.MAX_AWAITING  # of one request; a node keeps half as many alive, and all fit in a HEADS
MAX_GRANTS: Final = 64  # frames of one request: two of each month that a node was away, for longer than two years
_GRANTS_NAMED: Final = 64  # what a HEADS has room for; the rest is named when these have come
_ROWS_A_NOTICE: Final = 4_000  # of a segment, in one signed frame of 16 KiB
MAX_STALL_S: Final = 120.0  # without a byte: a link of 2G comes back sooner, or with another request
_PIECE_BYTES: Final = 64 * 1024  # of an answer: what the server takes before it waits for the link
_MAX_LENGTH_DIGITS: Final = 12  # of a body's size, as its head says it
INTERVAL_S: Final = 900


class TooSlow(TheirBytes):
    """A request of which nothing came for too long."""

    default_code = "E_TOO_SLOW"


@dataclass(slots=True)
class _Exchange:
    """What one request brought, as it is read."""

    node: KnownNode
    hello: Hello
    received: list[EnvelopeId] = field(default_factory=list)
    refused: list[session.SegmentRefused] = field(default_factory=list)
    kept: list[asyncio.Future[None]] = field(default_factory=list)
    grants: int = 0
    left: int = 0  # segments beyond what one request may bring: not kept, not named, sent again

    @property
    def count(self) -> int:
        return len(self.received) + len(self.refused)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's bytes: whole, or its first ones and then pages as they are made."""

    first: bytes
    rest: AsyncIterator[bytes] | None = None


class SyncEdge:
    """Carries out exchanges. now_ms: the hub's clock, which dates every receipt. gate: who comes in."""

    def __init__(
        self,
        store: Store,
        wake: Callable[[], None],
        now_ms: Callable[[], int],
        epoch: bytes,
        gate: Gate | None = None,
    ) -> None:
        self.gate = gate or Gate()
        self._store = store
        self._now_ms = now_ms
        self._wake = wake
        self._epoch = epoch
        self._keeper = Keeper(store, wake)
        self._found = Together("finder", self._find)
        self._told = Together("teller", self._tell, answers.group)

    def close(self) -> None:
        for one in (self._found, self._keeper, self._told):
            one.close()

    async def exchange(self, stream: AsyncIterator[bytes], settle: Callable[[], None] | None = None) -> bytes:
        """The whole answer to one request, where no link waits for it. settle: what is waited for between keeping and
        answering. Raises HealthSyncError when there can be no signed answer."""
        inside = self.gate.enter()
        try:
            answer = await self.answer(stream, inside, settle)
            return answer.first + b"".join([piece async for piece in answer.rest or _nothing()])
        finally:
            inside.leave()

    async def answer(
        self, stream: AsyncIterator[bytes], inside: Stay, settle: Callable[[], None] | None = None
    ) -> Answer:
        """As `exchange`. inside: what the gate gave; the caller ends it when the answer is handed over."""
        hub = HubSession(self._store.vault.identity.environment)
        exchange = await self._read(hub, stream)
        if exchange.left:
            log.warning("segments_left", node=exchange.node.node.hex(), segments=exchange.left)
        if exchange.kept:
            await asyncio.gather(*exchange.kept)
        if settle is not None:
            await run_in_threadpool(settle)
        return await self._answer(hub, exchange, inside)

    async def _read(self, hub: HubSession, stream: AsyncIterator[bytes]) -> _Exchange:
        """The whole request; its segments are on their way into the database."""
        exchange: _Exchange | None = None
        size_bytes = 0
        async for piece in _unstalled(stream):
            size_bytes += len(piece)
            if size_bytes > MAX_BODY_BYTES:
                raise TooLarge(f"a request of more than {MAX_BODY_BYTES} bytes")
            for event in hub.read(piece):
                if isinstance(event, session.HelloArrived):
                    node = nodes.known(await self._found.ask(wire.node_of(event.hello)))
                    exchange = _Exchange(node, event.hello)
                    for behind in hub.identify(exchange.node.verifier):
                        await self._take(exchange, behind)
                elif exchange is not None:
                    await self._take(exchange, event)
            if exchange is not None and self.gate.is_crowded:
                await asyncio.gather(*exchange.kept)
        hub.finish()
        if exchange is None:
            raise UnknownSender("a request without a hello")
        return exchange

    def _find(self, wanted: Sequence[NodeId]) -> Sequence[KnownNode | None]:
        with self._store.database.transaction() as connection:
            return nodes.find_all(connection, wanted)

    async def _take(self, exchange: _Exchange, event: session.HubEvent) -> None:
        if isinstance(event, session.SegmentArrived | session.SegmentRefused) and exchange.count >= MAX_SEGMENTS:
            exchange.left += 1
        elif isinstance(event, session.SegmentArrived):
            exchange.received.append(event.envelope.id)
            exchange.kept.append(self._keep(Arrived(exchange.node, event.envelope, self._now_ms())))
        elif isinstance(event, session.SegmentRefused):
            log.warning("segment_refused", node=exchange.node.node.hex(), code=event.error.code)
            exchange.refused.append(event)
        elif isinstance(event, session.HubGrantArrived) and exchange.grants < MAX_GRANTS:
            exchange.grants += 1
            await run_in_threadpool(self._keep_grant, exchange.node, event.payload)

    def _keep(self, arrived: Arrived) -> asyncio.Future[None]:
        size_bytes = len(arrived.envelope.raw)
        self.gate.hold(size_bytes)
        kept = self._keeper.keep(arrived)
        kept.add_done_callback(lambda _: self.gate.free(size_bytes))
        return kept

    def _keep_grant(self, node: KnownNode, payload: bytes) -> None:
        try:
            with self._store.database.transaction() as connection:
                grants.keep(connection, self._store.vault, node, payload, self._now_ms())
        except TheirBytes as error:  # it is as if it had not come: HEADS names what is missing
            log.warning("grant_refused", node=node.node.hex(), code=error.code)
        self._wake()

    # -- the answer

    def _tell(self, asking: Sequence[Asking]) -> Sequence[Standing]:
        with self._store.database.transaction() as connection:
            return answers.tell(connection, asking, self._now_ms())

    async def _answer(self, hub: HubSession, exchange: _Exchange, inside: Stay) -> Answer:
        node, hello = exchange.node, exchange.hello
        asking = Asking(node, hello, [*exchange.received, *hello.awaited])
        told = await self._told.ask(asking)
        behind: Iterator[bytes] | None = None
        granted: list[bytes] = []
        notices = [*_refusals(exchange), *_quarantined(told.states)]
        if node.revoked:
            notices.append(Notice(NoticeKind.REVOKED, b"", reason="E_REVOKED"))
        if not told.on_feed:
            notices.append(Notice(NoticeKind.CURSOR, b"", reason="E_CURSOR", position=told.head.position))
        elif told.head.position > hello.cursor_position and not node.revoked:
            limit_bytes = inside.room_for_answer(min(hello.max_answer_bytes or DEFAULT_ANSWER_BYTES, MAX_ANSWER_BYTES))
            behind, granted = await run_in_threadpool(self._behind, asking, told.head, limit_bytes)
        if told.is_twin:
            log.warning("twins", node=node.node.hex())
            notices.append(Notice(NoticeKind.TWINS, b"", reason="E_TWINS"))
        heads = Heads(
            wire.PROTOCOL_VERSION,
            b"",
            b"".join(one.segment for one in told.states if one.state != QUARANTINED),
            b"".join(one.segment for one in told.states if one.state == ADMITTED),
            wire.feed_place(told.head.position, told.head.hash),
            self._now_ms(),
            told.nonce,
            self._epoch,
            grants_missing=[*sorted({one.grant for one in told.states if one.state == WAITING})[:_GRANTS_NAMED]],
            interval_s=INTERVAL_S,
            keys_serial=self._store.vault.identity.serial,
        )
        first = hub.answer(heads, self._store.vault.identity.signing, notices=notices, grants=granted)
        if behind is None:
            return Answer(first)
        page = await run_in_threadpool(next, behind, b"")  # with the first bytes: until then a refusal can be answered
        return Answer(first + page, _rest(node, behind))

    def _behind(self, asking: Asking, head: Cursor, limit_bytes: int) -> tuple[Iterator[bytes], list[bytes]]:
        """Frames with what the node lacks, not made yet; and that of the grant, if it is new to the node."""
        facility, shown = asking.node.facility, asking.hello.ahead
        with self._store.database.transaction() as connection:
            grant, frame = grants.to_node(connection, self._store.vault, asking.node, self._now_ms())
            mark = ahead.wanted(connection, facility, shown, head) if asking.cursor.position == 0 else None
        granted = [] if asking.hello.hub_grant == grant.id else [frame]
        return pages.frames(self._store, asking, head, grant, mark, limit_bytes), granted


async def _rest(node: KnownNode, frames: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pages as they are made. Where the database went away meanwhile, the answer ends with the last whole one: the
    node goes on from there with its next request."""
    try:
        async for frame in iterate_in_threadpool(frames):
            yield frame
    except OurFault as error:
        log.warning("answer_cut_short", node=node.node.hex(), code=error.code)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _refusals(exchange: _Exchange) -> list[Notice]:
    return [Notice(NoticeKind.REFUSED, b"", one.id, reason=one.error.code) for one in exchange.refused]


def _quarantined(states: Sequence[ArrivalState]) -> list[Notice]:
    notices = []
    for one in states:
        for reason in sorted({reason for _, reason in one.rows}):
            rows = [row for row, why in one.rows if why == reason]
            if -1 in rows:
                rows = []
            parts = [rows[at : at + _ROWS_A_NOTICE] for at in range(0, len(rows), _ROWS_A_NOTICE)] or [[]]
            notices += [Notice(NoticeKind.QUARANTINED, b"", one.segment, part, reason) for part in parts]
    return notices


async def _unstalled(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces. Raises TooSlow when the next one does not come."""
    while True:
        try:
            async with asyncio.timeout(MAX_STALL_S):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise TooSlow("nothing more of the request came") from None
        yield piece


_STATUS: Final[dict[type[HealthSyncError], int]] = {
    UnknownSender: 403,
    NotAllowed: 403,
    TooLarge: 413,
    TooSlow: 408,
}


def refusal(error: HealthSyncError) -> Response:
    """An error as an answer, where no signed one can be given. Never carries what came."""
    body = {"code": error.code, "message": error.message, "next": error.next_step}
    ours = isinstance(error, OurFault)
    headers = {"Retry-After": str(retry_after_s())} if ours else None
    status = 503 if ours else _STATUS.get(type(error), 400)
    return Response(json.dumps(body), status, headers, media_type="application/json")


class _Answer(Response):
    """An answer handed over as the link takes it; the request's stay ends with it."""

    def __init__(self, answer: Answer, stay: Stay) -> None:
        super().__init__(answer.first, media_type=MEDIA_TYPE)
        if answer.rest is not None:
            del self.headers["content-length"]
        self._more = answer.rest
        self._stay = stay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for at in range(0, len(self.body), _PIECE_BYTES):
                piece = self.body[at : at + _PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if self._more is not None:
                await self._hand_over(self._more, receive, send)
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._stay.leave()

    @staticmethod
    async def _hand_over(pages: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
        """Page by page, and none for a node that is gone."""
        gone = asyncio.ensure_future(receive())
        try:
            async for page in pages:
                if gone.done():
                    log.info("request_broke_off", route="/v1/sync")
                    return
                await send({"type": "http.response.body", "body": page, "more_body": True})
        finally:
            gone.cancel()


def make_router(edge: SyncEdge, store: Store) -> APIRouter:
    """The routes `/v1/keys`, `/v1/enrol` and `/v1/sync`."""
    router = APIRouter(prefix="/v1")

    @router.get("/keys")
    async def hub_keys() -> Response:
        return Response(store.vault.identity.signed_keys(), media_type=MEDIA_TYPE)

    @router.post("/enrol")
    async def enrol(request: Request) -> Response:
        async def carry(stay: Stay) -> Answer:
            return Answer(await run_in_threadpool(_enrol, store, await _body(request, MAX_ENROL_BYTES)))

        return await _inside(edge.gate, request, MAX_ENROL_BYTES, carry)

    async def sync(request: Request) -> Response:
        async def carry(stay: Stay) -> Answer:
            return await edge.answer(request.stream(), stay)

        return await _inside(edge.gate, request, MAX_BODY_BYTES, carry)

    # FastAPI's own way of calling a function costs a twentieth of a small exchange, and there is nothing to parse
    router.add_route("/v1/sync", sync, methods=["POST"])
    return router


async def _inside(
    gate: Gate, request: Request, limit_bytes: int, carry: Callable[[Stay], Awaitable[Answer]]
) -> Response:
    """Carry a request out inside the gate, or refuse it at its head."""
    stay: Stay | None = None
    try:
        stay = gate.enter(_declared(request, limit_bytes))
        return _Answer(await carry(stay), stay)
    except BaseException as error:
        if stay is not None:
            stay.leave()
        if isinstance(error, HealthSyncError):
            log.warning("request_refused", route=request.url.path, code=error.code)
            return refusal(error)
        if isinstance(error, ClientDisconnect):
            log.info("request_broke_off", route=request.url.path)
            return Response(status_code=400)
        raise


def _declared(request: Request, limit_bytes: int) -> int | None:
    """The body's size, where the head says it: what is too large is refused without reading it."""
    said = request.headers.get("content-length", "")
    if not said.isdecimal():
        return None
    if len(said) > _MAX_LENGTH_DIGITS or int(said) > limit_bytes:
        raise TooLarge(f"a request of more than {limit_bytes} bytes")
    return int(said)


def _enrol(store: Store, sealed: bytes) -> bytes:
    with store.database.transaction() as connection:
        answer = nodes.enrol(connection, store.vault, sealed, wall_ms())
    directory.settle_one(store, FacilityCode(nodes.certificate_in(answer).facility), wall_ms())
    return answer


async def _body(request: Request, limit_bytes: int) -> bytes:
    whole = bytearray()
    async for piece in _unstalled(request.stream()):
        whole += piece
        if len(whole) > limit_bytes:
            raise TooLarge(f"a request of more than {limit_bytes} bytes")
    return bytes(whole)
