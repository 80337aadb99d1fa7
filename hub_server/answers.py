"""What the database says to each of many hellos, and notes of each, in one transaction: the small half of an answer.

States of the segments that are named, where the feed ends, whether the cursor lies on it, whether the node is two; the
fresh nonce and when the node was seen are noted. Pages of a feed are larger, and made by themselves (`sync_api`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hub_server import feed, nodes, twins
from hub_server.database import Connection
from hub_server.nodes import ArrivalState, KnownNode
from hub_server.twins import Shown
from sync_protocol.change import NodeId
from sync_protocol.envelope import EnvelopeId
from sync_protocol.feed_page import Cursor, Position
from sync_protocol.wire import Hello


@dataclass(frozen=True, slots=True)
class Asking:
    """One exchange, when all its segments are durable. named: those that it brought, and those that it awaits."""

    node: KnownNode
    hello: Hello
    named: Sequence[EnvelopeId]

    @property
    def cursor(self) -> Cursor:
        return Cursor(Position(self.hello.cursor_position), self.hello.cursor_hash)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is told. on_feed: the cursor lies on the feed as it is. nonce: fresh, noted as handed out."""

    states: Sequence[ArrivalState]
    head: Cursor
    on_feed: bool
    is_twin: bool
    nonce: bytes


def group(waiting: Sequence[Asking]) -> int:
    """How many from the front go together: no node twice, so that its nonces are noted one after the other."""
    seen: set[bytes] = set()
    for count, one in enumerate(waiting):
        if one.node.node in seen:
            return count
        seen.add(one.node.node)
    return len(waiting)


def tell(connection: Connection, asking: Sequence[Asking], now_ms: int) -> list[Standing]:
    """Look up and note, in the caller's transaction. No node stands in it twice."""
    states = nodes.states(connection, [(one.node.node, one.named) for one in asking])
    heads = feed.heads(connection, {one.node.facility for one in asking})
    on_feed = feed.hold(connection, [(one.node.facility, one.cursor) for one in asking])
    nonces = [os.urandom(nodes.NONCE_BYTES) for _ in asking]
    shown = [Shown(one.node.node, one.hello.nonce, nonce) for one, nonce in zip(asking, nonces, strict=True)]
    twin = twins.note(connection, shown, now_ms)
    seen = [(one.node.node, one.hello, nonce) for one, nonce in zip(asking, nonces, strict=True)]
    _note_seen(connection, seen, now_ms)
    return [
        Standing(states[at], heads[one.node.facility], on_feed[at], one.node.node in twin, nonces[at])
        for at, one in enumerate(asking)
    ]


def _note_seen(connection: Connection, seen: Sequence[tuple[NodeId, Hello, bytes]], now_ms: int) -> None:
    """What HELLOs of different nodes told of their clocks and cursors, and the nonces that they are answered with."""
    connection.execute(
        "UPDATE node SET last_seen_ms = %s, clock_error_ms = coalesce(e, clock_error_ms),"
        " cursor_position = p, nonce = h"
        " FROM unnest(%b::bytea[], %b::bigint[], %b::bigint[], %b::bytea[]) AS seen (n, e, p, h) WHERE node = n",
        (
            now_ms,
            [node for node, _, _ in seen],
            [hello.wall_ms - now_ms if hello.wall_ms else None for _, hello, _ in seen],
            [hello.cursor_position for _, hello, _ in seen],
            [handed for _, _, handed in seen],
        ),
    )
