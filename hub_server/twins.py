"""Whether one node is two: a disk image that was copied, by the nonces that each of its copies shows.

Each answer hands out a fresh nonce, noted with the one it answers. A node shows the last that reached it. Where two
nonces that answer the same one are both shown there were two lives; a database that was put back has two as well, one
after the other. So it is told only once the older life goes on after the younger one was seen (PROTOCOL.md §11).
Nothing stops: both copies drain, and both receive everything.

A request that comes late or twice shows a nonce that was shown before, and says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hub_server.database import Connection
from sync_protocol.change import NodeId

KEPT: Final = 32  # of a node's nonces: answers may be lost in a row
KEPT_OF_THE_OTHER: Final = 8  # by which the other life would go on: it may lie on a shelf for long


@dataclass(frozen=True, slots=True)
class Shown:
    """A HELLO's nonce, and the one that its answer hands out."""

    node: NodeId
    shown: bytes
    handed: bytes


def note(connection: Connection, hellos: Sequence[Shown], now_ms: int) -> set[NodeId]:
    """Note what HELLOs of different nodes show and what their answers hand out. Which of them tell of a twin.

    The nodes' rows are locked by id, so that two hubs on one database do not wait for each other in a circle.
    """
    lives = {
        NodeId(node): (last, left)
        for node, last, left in connection.execute(
            "SELECT node, shown_nonce, left_nonce FROM node WHERE node = ANY(%b) ORDER BY node FOR UPDATE",
            ([one.node for one in hellos],),
            binary=True,
        ).fetchall()
    }
    known = [one for one in hellos if one.node in lives]
    if not known:
        return set()
    named = [one.node for one in known]
    moved: list[tuple[NodeId, bytes, bytes, bool]] = []
    fresh = connection.execute(
        "UPDATE handed_nonce SET shown = true FROM unnest(%b::bytea[], %b::bytea[]) AS told (n, x)"
        " WHERE node = n AND nonce = x AND NOT shown RETURNING node, nonce, answered",
        (named, [one.shown for one in known]),
        binary=True,
    ).fetchall()
    for node, shown, answered in fresh:
        last, left = lives[NodeId(node)]
        is_twin = answered != last and bool(left) and answered == left
        left = left if answered == last else last
        lives[NodeId(node)] = (shown, left)
        moved.append((NodeId(node), shown, left, is_twin))
    if moved:
        connection.execute(
            "UPDATE node SET shown_nonce = s, left_nonce = l, twins_ms = CASE WHEN t THEN %s ELSE twins_ms END"
            " FROM unnest(%b::bytea[], %b::bytea[], %b::bytea[], %b::bool[]) AS moved (n, s, l, t) WHERE node = n",
            (now_ms, *map(list, zip(*moved, strict=True))),
        )
    connection.execute(
        "INSERT INTO handed_nonce (node, nonce, answered, shown)"
        " SELECT n, h, s, false FROM unnest(%b::bytea[], %b::bytea[], %b::bytea[]) AS handed (n, h, s)",
        (named, [one.handed for one in known], [one.shown for one in known]),
    )
    connection.execute(_FORGET, (named, [lives[one.node][1] for one in known], KEPT, KEPT_OF_THE_OTHER))
    return {node for node, _, _, is_twin in moved if is_twin}


_FORGET: Final = (
    "DELETE FROM handed_nonce gone USING ("
    "SELECT node, nonce, beside, row_number() OVER (PARTITION BY node ORDER BY seq DESC) AS age,"
    " row_number() OVER (PARTITION BY node, beside ORDER BY seq DESC) AS age_beside FROM ("
    "SELECT h.node, h.nonce, h.seq, h.answered = l AND h.answered <> '' AS beside"
    " FROM unnest(%b::bytea[], %b::bytea[]) AS told (n, l) JOIN handed_nonce h ON h.node = n) kept) aged"
    " WHERE gone.node = aged.node AND gone.nonce = aged.nonce AND age > %s AND NOT (beside AND age_beside <= %s)"
)
"""Of each node all but the newest, and the newest that answer the nonce of its other life."""
