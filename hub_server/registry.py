"""What operators see and change: nodes, quarantine, and how everything stands.

Counts, times and ids only, never what a record says. Revoking is `nodes.revoke`; taking it back is here, together with
what then happens to the segments that waited for a person's decision. Here is also how long sealed bytes are kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from hub_server import directory_due, nodes
from hub_server.charts import WAITING
from hub_server.database import Connection
from hub_server.facilities import Facility
from hub_server.store import Store
from hub_server.vault import Vault
from sync_protocol.change import NodeId
from sync_protocol.envelope import HEADER_BYTES
from sync_protocol.errors import InvalidValue
from sync_protocol.keys import SIGNATURE_BYTES

SEALED_DAYS: Final = 35  # an erasure is complete only then; until then a backup of a week and a month can be mended
DAY_MS: Final = 86_400_000
EPOCH_BYTES: Final = 8
_DROPPED_A_COMMIT: Final = 500  # rows of at most 192 KiB rewritten at once: keeps the write-ahead log's bursts small

Row = TypeVar("Row")


def _rows(kind: type[Row], found: Sequence[tuple[Any, ...]]) -> list[Row]:
    """Rows as values, binary columns as bytes."""
    return [kind(*(bytes(one) if isinstance(one, memoryview) else one for one in row)) for row in found]


# -- this database -----------------------------------------------------------------------------------------------------


def epoch(connection: Connection) -> bytes:
    """8 bytes that name this database, drawn when it was made."""
    connection.execute(
        "INSERT INTO setting (key, value) VALUES ('epoch', %s) ON CONFLICT DO NOTHING", (os.urandom(EPOCH_BYTES),)
    )
    row = connection.execute("SELECT value FROM setting WHERE key = 'epoch'").fetchone()
    return bytes(row[0]) if row else bytes(EPOCH_BYTES)


# -- nodes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """behind_by: items of its facility's feed that it had not applied when it last asked. What the answer then brought
    counts until it asks again: only a node can tell that an answer arrived, and it does so by its next cursor.
    clock_error_ms: its clock minus the hub's, then. kept, quarantined: segments of it that wait."""

    node: bytes
    facility: str
    name: str
    enrolled_ms: int
    revoked_ms: int | None
    revoked_reason: str
    last_seen_ms: int | None
    clock_error_ms: int | None
    cursor_position: int
    twins_ms: int | None
    behind_by: int
    waiting: int
    quarantined: int


def list_nodes(connection: Connection, facility: str | None = None, node: NodeId | None = None) -> list[Node]:
    """Nodes, by facility and time of enrolment. Raises InvalidValue (``E_UNKNOWN_NODE``) for one that is not there."""
    found = connection.execute(
        "SELECT n.node, n.facility, n.name, n.enrolled_ms, n.revoked_ms, n.revoked_reason, n.last_seen_ms,"
        " n.clock_error_ms, n.cursor_position, n.twins_ms, f.position - n.cursor_position,"
        " (SELECT count(*) FROM arrival a WHERE a.node = n.node AND a.state IN ('kept', 'waiting')),"
        " (SELECT count(*) FROM quarantine q WHERE q.node = n.node AND q.verdict = 'open')"
        " FROM node n JOIN feed f ON f.facility = n.facility"
        " WHERE (%(facility)s::text IS NULL OR n.facility = %(facility)s)"
        " AND (%(node)s::bytea IS NULL OR n.node = %(node)s) ORDER BY n.facility, n.enrolled_ms, n.node",
        {"facility": facility, "node": node},
    ).fetchall()
    if node is not None and not found:
        raise InvalidValue("No node has that id.", code="E_UNKNOWN_NODE", next_step="'hub nodes list' shows them")
    return _rows(Node, found)


def take_back_revocation(connection: Connection, vault: Vault, node: NodeId, now_ms: int) -> tuple[bool, int]:
    """The node may send again, and what waited for this decision is admitted. (whether it was revoked, segments)."""
    done = connection.execute(
        "UPDATE node SET revoked_ms = NULL, revoked_reason = '' WHERE node = %s AND revoked_ms IS NOT NULL", (node,)
    )
    waiting = connection.execute(
        "SELECT id FROM quarantine WHERE node = %s AND verdict = 'open' AND reason = 'E_REVOKED' ORDER BY id", (node,)
    ).fetchall()
    released = sum(nodes.release(connection, row[0]) for row in waiting)
    if done.rowcount:
        directory_due.mark(connection, list_nodes(connection, node=node)[0].facility)
        vault.note(connection, "reinstated", {"node": node.hex()}, now_ms)
    return done.rowcount == 1, released


# -- quarantine --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quarantined:
    """row: of the segment, -1 for all of it. change: its id, where it could be read."""

    id: int
    facility: str
    node: bytes
    segment: bytes
    row: int
    change: bytes | None
    kind: str
    reason: str
    at_ms: int
    verdict: str
    size_bytes: int | None
    received_ms: int | None


def quarantine(connection: Connection, *, everything: bool = False, entry: int | None = None) -> list[Quarantined]:
    """What waits for a person; ``everything`` also what was released. Raises InvalidValue (``E_NO_SUCH_ENTRY``)."""
    found = connection.execute(
        "SELECT q.id, q.facility, q.node, q.segment, q.row, q.change, q.kind, q.reason, q.at_ms, q.verdict,"
        " a.size_bytes, a.received_ms FROM quarantine q"
        " LEFT JOIN arrival a ON a.node = q.node AND a.segment = q.segment"
        " WHERE (%(all)s OR q.verdict = 'open') AND (%(entry)s::bigint IS NULL OR q.id = %(entry)s) ORDER BY q.id",
        {"all": everything or entry is not None, "entry": entry},
    ).fetchall()
    if entry is not None and not found:
        raise InvalidValue(
            "The quarantine has no entry of that number.",
            code="E_NO_SUCH_ENTRY",
            next_step="'hub quarantine list' shows them",
        )
    return _rows(Quarantined, found)


# -- how everything stands ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counts:
    """pending_to_admit: kept segments. waiting_for_grant: those that cannot be opened yet. oldest_ms: the oldest kept."""

    pending_to_admit: int
    oldest_ms: int | None
    waiting_for_grant: int
    quarantined: int
    facilities: int
    nodes: int


def counts(connection: Connection, facility: str | None = None) -> Counts:
    """Of the whole hub, or of one facility."""
    asked = {"facility": facility}
    here = "(%(facility)s::text IS NULL OR facility = %(facility)s)"
    kept = connection.execute(
        f"SELECT count(*), min(received_ms) FROM arrival WHERE state = 'kept' AND {here}", asked
    ).fetchone()
    rest = [
        connection.execute(f"SELECT count(*) FROM {table} WHERE {where} AND {here}", asked).fetchone()
        for table, where in (
            ("arrival", "state = 'waiting'"),
            ("quarantine", "verdict = 'open'"),
            ("facility", "true"),
            ("node", "revoked_ms IS NULL"),
        )
    ]
    pending, oldest_ms = kept or (0, None)
    return Counts(pending, oldest_ms, *(row[0] if row else 0 for row in rest))


@dataclass(frozen=True, slots=True)
class Standing:
    """One facility. digest: of its feed, as a node in step shows it, at ``position``."""

    facility: Facility
    position: int
    digest: int
    conflicts_open: int
    referrals_waiting: int
    nodes: tuple[Node, ...]


def standing(connection: Connection, facility: Facility) -> Standing:
    """Position and digest belong together: both are read while the feed stands still."""
    connection.execute("SELECT 1 FROM feed WHERE facility = %s FOR SHARE", (facility.code,))
    conflicts = connection.execute(
        "SELECT coalesce(sum(fields), 0) FROM conflicted WHERE facility = %s", (facility.code,)
    ).fetchone()
    waiting = connection.execute(
        "SELECT count(*) FROM referral WHERE facility = %s AND status = ANY(%s)", (facility.code, list(WAITING))
    ).fetchone()
    return Standing(
        facility,
        Store.head(connection, facility.code).position,
        Store.digest(connection, facility.code),
        int(conflicts[0]) if conflicts else 0,
        waiting[0] if waiting else 0,
        tuple(list_nodes(connection, facility.code)),
    )


# -- sealed bytes ------------------------------------------------------------------------------------------------------


_SHORTENED: Final = (
    "UPDATE arrival SET raw = substring(raw FROM 1 FOR %(header)s)"
    " || substring(raw FROM octet_length(raw) - %(signature)s + 1)"
)


def drop_sealed_of(connection: Connection, segments: Sequence[bytes]) -> None:
    """Forget at once what these admitted segments sealed: something in them is erased."""
    connection.execute(
        _SHORTENED + " WHERE segment = ANY(%(segments)s) AND state = 'admitted'"
        " AND octet_length(raw) > %(header)s + %(signature)s",
        {"header": HEADER_BYTES, "signature": SIGNATURE_BYTES, "segments": list(segments)},
    )


def drop_sealed(connection: Connection, now_ms: int) -> int:
    """Forget what old admitted segments sealed; header and signature stay. Returns how many; call again until 0.

    A segment with an entry open in quarantine is kept whole: its release needs it.
    """
    done = connection.execute(
        _SHORTENED + " WHERE (node, segment) IN (SELECT node, segment FROM arrival a WHERE state = 'admitted'"
        " AND received_ms < %(before)s AND octet_length(raw) > %(header)s + %(signature)s"
        " AND NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.node = a.node AND q.segment = a.segment"
        " AND q.verdict = 'open') LIMIT %(limit)s FOR UPDATE SKIP LOCKED)",
        {
            "header": HEADER_BYTES,
            "signature": SIGNATURE_BYTES,
            "before": now_ms - SEALED_DAYS * DAY_MS,
            "limit": _DROPPED_A_COMMIT,
        },
    )
    return done.rowcount
