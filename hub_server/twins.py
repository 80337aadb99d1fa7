"""Whether one node is two: a disk image that was copied, by the nonces that each of its copies shows.

Each answer hands out a fresh nonce, noted with the one it answers. A node shows the last that reached it. Where two
nonces that answer the same one are both shown there were two lives; a database that was put back has two as well, one
after the other. So it is told only once the older life goes on after the younger one was seen (PROTOCOL.md §11).
Nothing stops: both copies drain, and both receive everything.

A request that comes late or twice shows a nonce that was shown before, and says nothing.
"""

from __future__ import annotations

from typing import Final

from hub_server.database import Connection
from sync_protocol.change import NodeId

KEPT: Final = 32  # of a node's nonces: answers may be lost in a row
KEPT_OF_THE_OTHER: Final = 8  # by which the other life would go on: it may lie on a shelf for long


def note(connection: Connection, node: NodeId, shown: bytes, handed: bytes, now_ms: int) -> bool:
    """Note what a HELLO shows and what its answer hands out. Whether it tells of a twin."""
    row = connection.execute("SELECT shown_nonce, left_nonce FROM node WHERE node = %s FOR UPDATE", (node,)).fetchone()
    if row is None:
        return False
    last, left = bytes(row[0]), bytes(row[1])
    fresh = connection.execute(
        "UPDATE handed_nonce SET shown = true WHERE node = %s AND nonce = %s AND NOT shown RETURNING answered",
        (node, shown),
    ).fetchone()
    is_twin = False
    if fresh is not None:
        answered = bytes(fresh[0])
        is_twin = answered != last and bool(left) and answered == left
        left = left if answered == last else last
        connection.execute(
            "UPDATE node SET shown_nonce = %s, left_nonce = %s, twins_ms = CASE WHEN %s THEN %s ELSE twins_ms END"
            " WHERE node = %s",
            (shown, left, is_twin, now_ms, node),
        )
    connection.execute(
        "INSERT INTO handed_nonce (node, nonce, answered, shown) VALUES (%s, %s, %s, false)", (node, handed, shown)
    )
    connection.execute(
        "DELETE FROM handed_nonce WHERE node = %s AND nonce NOT IN"
        " (SELECT nonce FROM (SELECT nonce FROM handed_nonce WHERE node = %s ORDER BY seq DESC LIMIT %s) newest"
        " UNION ALL SELECT nonce FROM (SELECT nonce FROM handed_nonce WHERE node = %s AND answered = %s AND answered <> ''"
        " ORDER BY seq DESC LIMIT %s) other_life)",
        (node, node, KEPT, node, left, KEPT_OF_THE_OTHER),
    )
    return is_twin
