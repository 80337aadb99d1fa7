"""Who read or wrote which patient's data, as a chain of hashes: each row's hash covers the row and the hash before it.

A writing verb notes itself in the transaction that writes. A reading verb notes itself and commits *before* it hands
anything out, so that no crash hides a reading. Whoever alters, removes or inserts a row breaks the chain behind it;
`verify` says where. The head of the chain is one hash, made to be kept elsewhere.

A row says actor, verb, facility and the id of what was touched: never what it says. It refuses to know what the verbs
mean and who may use them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from hub_server.database import Connection
from sync_protocol.errors import OurFault

FIRST_HASH: Final = bytes(32)
MAX_ACTOR_CHARS: Final = 100  # "person " and a UUID, or "operator " and a system's user name
_LABEL: Final = b"health-sync audit 1\x00"
_LOCK_KEY: Final = 7_461_003  # advisory lock: the chain grows by one transaction at a time
_ROWS_A_READ: Final = 5_000  # bounds the memory of verifying


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing done. subject: the id of the record or patient, empty where it is about many."""

    actor: str
    verb: str
    facility: str
    subject: bytes = b""


@dataclass(frozen=True, slots=True)
class Noted:
    """An entry as it stands in the chain. hash: 32 bytes."""

    number: int
    at_ms: int
    entry: Entry
    hash: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """rows: how many hold. broken_at: number of the first row that does not, None where all do."""

    rows: int
    broken_at: int | None
    head: bytes


def note(connection: Connection, actor: str, verb: str, facility: str, subject: bytes, now_ms: int) -> None:
    """Append one entry in the caller's transaction. Call it last: the chain is locked until the commit."""
    note_all(connection, [Entry(actor, verb, facility, subject)], now_ms)


def note_all(connection: Connection, entries: Sequence[Entry], now_ms: int) -> None:
    """Append several entries, in their order. Raises OurFault for an actor without a name."""
    if not entries:
        return
    if any(not 0 < len(one.actor) <= MAX_ACTOR_CHARS for one in entries):
        raise OurFault("an audit entry needs an actor", code="E_NO_ACTOR")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
    number, hashed = head(connection)
    rows = []
    for one in entries:
        number += 1
        hashed = _next(hashed, number, now_ms, one)
        rows.append((number, now_ms, one.actor, one.verb, one.facility, one.subject, hashed))
    connection.execute(
        "INSERT INTO audit (seq, at_ms, actor, verb, facility, subject, hash)"
        " SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::bytea[])",
        [list(column) for column in zip(*rows, strict=True)],
    )


def head(connection: Connection) -> tuple[int, bytes]:
    """Number and hash of the last row; zeros for an empty chain."""
    row = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return (row[0], bytes(row[1])) if row else (0, FIRST_HASH)


def verify(connection: Connection) -> Verified:
    """Recompute the whole chain."""
    last, hashed = 0, FIRST_HASH
    before = connection.execute("SELECT min(seq) FROM audit WHERE seq <= 0").fetchone()
    if before is not None and before[0] is not None:
        return Verified(0, before[0], hashed)
    while True:
        rows = connection.execute(
            "SELECT seq, at_ms, actor, verb, facility, subject, hash FROM audit WHERE seq > %s ORDER BY seq LIMIT %s",
            (last, _ROWS_A_READ),
        ).fetchall()
        if not rows:
            return Verified(last, None, hashed)
        for number, at_ms, actor, verb, facility, subject, stored in rows:
            expected = _next(hashed, last + 1, at_ms, Entry(actor, verb, facility, bytes(subject)))
            if number != last + 1 or expected != bytes(stored):
                return Verified(last, number, hashed)
            last, hashed = number, expected


def entries(connection: Connection, after: int = 0) -> Iterator[Noted]:
    """The entries behind a number, in order."""
    while True:
        rows = connection.execute(
            "SELECT seq, at_ms, actor, verb, facility, subject, hash FROM audit WHERE seq > %s ORDER BY seq LIMIT %s",
            (after, _ROWS_A_READ),
        ).fetchall()
        if not rows:
            return
        for number, at_ms, actor, verb, facility, subject, hashed in rows:
            yield Noted(number, at_ms, Entry(actor, verb, facility, bytes(subject)), bytes(hashed))
            after = number


def _next(before: bytes, number: int, at_ms: int, entry: Entry) -> bytes:
    said = msgspec.msgpack.encode([number, at_ms, entry.actor, entry.verb, entry.facility, entry.subject])
    return hashlib.sha256(_LABEL + before + said).digest()
