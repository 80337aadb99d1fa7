"""The sync edge: one exchange, stream in and stream out, and the routes that carry it.

Half duplex: each segment is kept as it arrives (many exchanges' segments in one commit), the request is read to its
end, then the answer is made from what the database says. No session is kept. What a link cut off loses at most the
segment in flight; the node learns the rest from its next HELLO.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from hub_server import feed, nodes
from hub_server.database import Connection
from hub_server.nodes import ADMITTED, QUARANTINED, WAITING, ArrivalState, Arrived, KnownNode
from hub_server.store import ORIGINS, Store
from sync_protocol import change as changes
from sync_protocol import feed_page, session, wire
from sync_protocol.change import ChangeId, PatientId
from sync_protocol.envelope import Envelope, EnvelopeId
from sync_protocol.errors import HealthSyncError, NotAllowed, TooLarge, UnknownSender, WrongRecipient
from sync_protocol.feed_page import Cursor, Item, Reference
from sync_protocol.segment import MAX_REQUEST_BYTES
from sync_protocol.session import HubSession
from sync_protocol.wire import Heads, Hello, Notice, NoticeKind

log = structlog.get_logger("hub.sync")

MEDIA_TYPE: Final = "application/octet-stream"
MAX_BODY_BYTES: Final = MAX_REQUEST_BYTES * 2  # a request that packs up to the limit, with grants and a last segment
MAX_ENROL_BYTES: Final = 64 * 1024
DEFAULT_ANSWER_BYTES: Final = 64 * 1024
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
ITEMS_A_PAGE: Final = 400  # one page is one transaction at the node: about 16 KiB on the wire
_BYTES_AN_ITEM: Final = 40  # on the wire, as measured; turns the node's limit into a number of items
_KEEP_GROUP: Final = 256  # segments in one commit at most: bounds its memory
INTERVAL_S: Final = 900


@dataclass(slots=True)
class _Exchange:
    """What one request brought, as it is read."""

    node: KnownNode
    hello: Hello
    received: list[EnvelopeId] = field(default_factory=list)
    refused: list[session.SegmentRefused] = field(default_factory=list)
    kept: list[asyncio.Future[None]] = field(default_factory=list)


class Keeper:
    """Commits the segments of many concurrent exchanges together: one fsync for all that came meanwhile."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._waiting: list[tuple[Arrived, asyncio.Future[None], asyncio.AbstractEventLoop]] = []
        self._lock = threading.Lock()
        self._busy = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="keeper")

    def keep(self, arrived: Arrived) -> asyncio.Future[None]:
        """A future that is done once the segment is durable."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting.append((arrived, done, loop))
            start = not self._busy
            self._busy = True
        if start:
            self._pool.submit(self._drain)
        return done

    def _drain(self) -> None:
        while True:
            with self._lock:
                group, self._waiting = self._waiting[:_KEEP_GROUP], self._waiting[_KEEP_GROUP:]
                if not group:
                    self._busy = False
                    return
            error: Exception | None = None
            try:
                with self._store.database.transaction() as connection:
                    nodes.keep(connection, [arrived for arrived, _, _ in group])
            except Exception as failed:  # noqa: BLE001  # it is told to every exchange that waits
                error = failed
            for _, done, loop in group:
                loop.call_soon_threadsafe(_settle, done, error)
            self._wake()

    def close(self) -> None:
        self._pool.shutdown(wait=True)


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


class SyncEdge:
    """Carries out exchanges. now_ms: the hub's clock, which dates every receipt."""

    def __init__(self, store: Store, wake: Callable[[], None], now_ms: Callable[[], int], epoch: bytes) -> None:
        self._store = store
        self._now_ms = now_ms
        self._wake = wake
        self._epoch = epoch
        self._keeper = Keeper(store, wake)

    def close(self) -> None:
        self._keeper.close()

    async def exchange(self, stream: AsyncIterator[bytes]) -> bytes:
        """The answer to one request. Raises HealthSyncError when there can be no signed one."""
        hub = HubSession(self._store.vault.identity.environment)
        exchange: _Exchange | None = None
        size_bytes = 0
        async for piece in stream:
            size_bytes += len(piece)
            if size_bytes > MAX_BODY_BYTES:
                raise TooLarge(f"a request of more than {MAX_BODY_BYTES} bytes")
            for event in hub.read(piece):
                if isinstance(event, session.HelloArrived):
                    exchange = _Exchange(await run_in_threadpool(self._find, event.hello), event.hello)
                    for behind in hub.identify(exchange.node.verifier):
                        await self._take(exchange, behind)
                elif exchange is not None:
                    await self._take(exchange, event)
        hub.finish()
        if exchange is None:
            raise UnknownSender("a request without a hello")
        if exchange.kept:
            await asyncio.gather(*exchange.kept)
        return await run_in_threadpool(self._answer, hub, exchange)

    def _find(self, hello: Hello) -> KnownNode:
        with self._store.database.transaction() as connection:
            return nodes.find(connection, wire.node_of(hello))

    async def _take(self, exchange: _Exchange, event: session.HubEvent) -> None:
        if isinstance(event, session.SegmentArrived):
            exchange.received.append(event.envelope.id)
            exchange.kept.append(self._keeper.keep(Arrived(exchange.node, event.envelope, self._now_ms())))
        elif isinstance(event, session.SegmentRefused):
            log.warning("segment_refused", node=exchange.node.node.hex(), code=event.error.code)
            exchange.refused.append(event)
        elif isinstance(event, session.HubGrantArrived):
            await run_in_threadpool(self._keep_grant, exchange.node, event.payload)

    def _keep_grant(self, node: KnownNode, payload: bytes) -> None:
        try:
            with self._store.database.transaction() as connection:
                nodes.keep_grant(connection, self._store.vault, node, payload, self._now_ms())
        except (WrongRecipient, NotAllowed) as error:
            log.warning("grant_refused", node=node.node.hex(), code=error.code)
        self._wake()

    # -- the answer

    def _answer(self, hub: HubSession, exchange: _Exchange) -> bytes:
        identity = self._store.vault.identity
        now_ms = self._now_ms()
        with self._store.database.transaction() as connection:
            node, hello = exchange.node, exchange.hello
            named = [*exchange.received, *hello.awaited]
            states = nodes.states(connection, node.node, named)
            notices = [*_refusals(exchange), *_quarantined(states)]
            if node.revoked:
                notices.append(Notice(NoticeKind.REVOKED, b"", reason="E_REVOKED"))
            head = feed.head(connection, node.facility)
            cursor = Cursor(feed_page.Position(hello.cursor_position), hello.cursor_hash)
            pages: list[Envelope] = []
            grants: list[bytes] = []
            if not feed.holds(connection, node.facility, cursor):
                notices.append(Notice(NoticeKind.CURSOR, b"", reason="E_CURSOR", position=head.position))
            elif head.position > cursor.position and not node.revoked:
                pages, grants = self._pages(connection, exchange, cursor, set(named), now_ms)
            nonce = os.urandom(nodes.NONCE_BYTES)
            self._note_seen(connection, exchange, now_ms, nonce)
        heads = Heads(
            wire.PROTOCOL_VERSION,
            b"",
            b"".join(one.segment for one in states if one.state != QUARANTINED),
            b"".join(one.segment for one in states if one.state == ADMITTED),
            wire.feed_place(head.position, head.hash),
            now_ms,
            nonce,
            self._epoch,
            grants_missing=sorted({one.grant for one in states if one.state == WAITING}),
            interval_s=INTERVAL_S,
        )
        return hub.answer(heads, identity.signing, notices=notices, grants=grants, pages=pages)

    def _pages(
        self, connection: Connection, exchange: _Exchange, cursor: Cursor, named: set[EnvelopeId], now_ms: int
    ) -> tuple[list[Envelope], list[bytes]]:
        """Pages after the cursor, as many as the node's limit allows; at least one."""
        identity = self._store.vault.identity
        grant, frame = nodes.hub_grant(connection, self._store.vault, exchange.node, now_ms)
        limit = min(exchange.hello.max_answer_bytes or DEFAULT_ANSWER_BYTES, MAX_ANSWER_BYTES)
        wanted = max(1, limit // _BYTES_AN_ITEM)
        pages: list[Envelope] = []
        sent = 0
        while sent < limit and wanted > 0:
            stored = feed.after(connection, exchange.node.facility, cursor.position, min(wanted, ITEMS_A_PAGE))
            if not stored:
                break
            page = feed_page.seal(
                cursor,
                self._items(connection, stored, named),
                grant=grant,
                sender=identity.hub,
                signer=identity.signing,
                nonce=os.urandom(12),
            )
            for one in stored:
                cursor = cursor.after(one.tag)
            pages.append(page)
            sent += len(page.raw)
            wanted -= len(stored)
        return pages, [] if exchange.hello.hub_grant == grant.id else [frame]

    def _items(self, connection: Connection, stored: Sequence[feed.Stored], named: set[EnvelopeId]) -> list[Item]:
        full = [one for one in stored if one.segment not in named]
        opened = self._store.keys_of(connection, list({PatientId(one.patient) for one in full})) if full else {}
        items = []
        for one in stored:
            body: Any
            if one.segment in named:
                body = Reference(EnvelopeId(one.segment), one.segment_row)
            else:
                raw = self._store.vault.open_payload(opened[one.patient], one.payload, ChangeId(one.change))
                body = changes.parse(raw)
            items.append(Item(one.position, body, one.receipt_ms, ORIGINS[one.origin], one.tag))
        return items

    @staticmethod
    def _note_seen(connection: Connection, exchange: _Exchange, now_ms: int, nonce: bytes) -> None:
        connection.execute(
            "UPDATE node SET last_seen_ms = %s, clock_error_ms = %s, cursor_position = %s, nonce = %s WHERE node = %s",
            (
                now_ms,
                exchange.hello.wall_ms - now_ms,
                exchange.hello.cursor_position,
                nonce,
                exchange.node.node,
            ),
        )


def _refusals(exchange: _Exchange) -> list[Notice]:
    return [Notice(NoticeKind.REFUSED, b"", one.id, reason=one.error.code) for one in exchange.refused]


def _quarantined(states: Sequence[ArrivalState]) -> list[Notice]:
    notices = []
    for one in states:
        for reason in sorted({reason for _, reason in one.rows}):
            rows = [row for row, why in one.rows if why == reason]
            indexes = [] if -1 in rows else rows
            notices.append(Notice(NoticeKind.QUARANTINED, b"", one.segment, indexes, reason))
    return notices


def wall_ms() -> int:
    """The hub's clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


_STATUS: Final[dict[type[HealthSyncError], int]] = {UnknownSender: 403, NotAllowed: 403, TooLarge: 413}


def refusal(error: HealthSyncError) -> Response:
    """An error as an answer, where no signed one can be given. Never carries what came."""
    body = {"code": error.code, "message": error.message, "next": error.next_step}
    return Response(json.dumps(body), _STATUS.get(type(error), 400), media_type="application/json")


def make_router(edge: SyncEdge, store: Store) -> APIRouter:
    """The routes `/v1/keys`, `/v1/enrol` and `/v1/sync`."""
    router = APIRouter(prefix="/v1")

    @router.get("/keys")
    async def hub_keys() -> Response:
        return Response(store.vault.identity.signed_keys(), media_type=MEDIA_TYPE)

    @router.post("/enrol")
    async def enrol(request: Request) -> Response:
        try:
            sealed = await _body(request, MAX_ENROL_BYTES)
            return Response(await run_in_threadpool(_enrol, store, sealed), media_type=MEDIA_TYPE)
        except HealthSyncError as error:
            log.warning("enrolment_refused", code=error.code)
            return refusal(error)

    @router.post("/sync")
    async def sync(request: Request) -> Response:
        try:
            return Response(await edge.exchange(request.stream()), media_type=MEDIA_TYPE)
        except HealthSyncError as error:
            log.warning("exchange_refused", code=error.code)
            return refusal(error)
        except ClientDisconnect:
            log.info("exchange_broke_off")
            return Response(status_code=400)

    return router


def _enrol(store: Store, sealed: bytes) -> bytes:
    with store.database.transaction() as connection:
        return nodes.enrol(connection, store.vault, sealed, wall_ms())


async def _body(request: Request, limit_bytes: int) -> bytes:
    whole = bytearray()
    async for piece in request.stream():
        whole += piece
        if len(whole) > limit_bytes:
            raise TooLarge(f"a request of more than {limit_bytes} bytes")
    return bytes(whole)
