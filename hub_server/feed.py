"""Feeds: dense, commit-ordered positions for each facility, cursors, and who is subscribed to a patient.

The row of a feed is locked, advanced last and held to commit: never a sequence, never a timestamp, both skip rows that
commit late (PROTOCOL.md §10). Locks are taken in one order, so nobody waits in a circle: patients by id, then feeds by
code. Between them comes the hub's last stamp, for who writes (`store`), and before that the ledger's row, for who notes
there (`vault`). Admission holds the patients' rows FOR SHARE until it commits, subscribing holds them FOR UPDATE.

Knows nothing of what a change says: payloads pass through sealed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from hub_server.database import Connection
from sync_protocol.change import ChangeId, FacilityCode, PatientId
from sync_protocol.errors import InvalidValue
from sync_protocol.feed_page import FIRST_HASH, Cursor, Position


class Row(NamedTuple):
    """One item as its table has it (see `tables.Item`)."""

    facility: FacilityCode
    position: int
    change: bytes
    patient: bytes
    record: bytes
    kind: str
    receipt_ms: int
    origin: int
    tag: bytes
    hash: bytes
    segment: bytes
    segment_row: int
    payload: bytes


def lock(connection: Connection, facilities: Iterable[FacilityCode]) -> dict[FacilityCode, Cursor]:
    """The heads of these feeds, locked to the end of the transaction, in the order of their codes."""
    wanted = sorted(set(facilities))
    rows = connection.execute(
        "SELECT facility, position, hash FROM feed WHERE facility = ANY(%s) ORDER BY facility FOR UPDATE", (wanted,)
    ).fetchall()
    heads = {FacilityCode(code): Cursor(Position(position), bytes(hashed)) for code, position, hashed in rows}
    if len(heads) != len(wanted):
        raise InvalidValue("a change is for a facility that the hub does not have", code="E_UNKNOWN_FACILITY")
    return heads


def advance(connection: Connection, heads: Mapping[FacilityCode, Cursor]) -> None:
    """Move the heads of locked feeds: the last thing before the commit."""
    codes = list(heads)
    connection.execute(
        "UPDATE feed SET position = p, hash = h FROM unnest(%b::text[], %b::bigint[], %b::bytea[]) AS moved (f, p, h)"
        " WHERE facility = f",
        (codes, [heads[code].position for code in codes], [heads[code].hash for code in codes]),
    )


_PREFIX: Final = struct.Struct(">h")
_LENGTH: Final = struct.Struct(">i")
_BIGINT: Final = struct.Struct(">iq")
_SMALLINT: Final = struct.Struct(">ih")
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_COPY_END: Final = _PREFIX.pack(-1)
READ_BYTES: Final = 256 * 1024  # of payloads: what an answer holds while a slow link takes its pages
_COPY_BLOCK_BYTES: Final = 128 * 1024


def append(connection: Connection, rows: Iterable[Row]) -> None:
    """Write items by binary COPY, packed here: the driver's own packing takes longer than PostgreSQL does."""
    count = _PREFIX.pack(len(Row._fields))
    length, bigint, smallint = _LENGTH.pack, _BIGINT.pack, _SMALLINT.pack
    statement = f"COPY item ({', '.join(Row._fields)}) FROM STDIN (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        block = bytearray(_COPY_HEADER)
        for row in rows:
            facility, kind = row[0].encode(), row[5].encode()
            block += b"".join(
                (
                    count,
                    length(len(facility)),
                    facility,
                    bigint(8, row[1]),
                    length(len(row[2])),
                    row[2],
                    length(len(row[3])),
                    row[3],
                    length(len(row[4])),
                    row[4],
                    length(len(kind)),
                    kind,
                    bigint(8, row[6]),
                    smallint(2, row[7]),
                    length(len(row[8])),
                    row[8],
                    length(len(row[9])),
                    row[9],
                    length(len(row[10])),
                    row[10],
                    smallint(2, row[11]),
                    length(len(row[12])),
                    row[12],
                )
            )
            if len(block) >= _COPY_BLOCK_BYTES:
                copy.write(bytes(block))
                block.clear()
        copy.write(bytes(block) + _COPY_END)


def head(connection: Connection, facility: str) -> Cursor:
    """Where the feed ends now. Raises InvalidValue (``E_UNKNOWN_FACILITY``)."""
    row = connection.execute("SELECT position, hash FROM feed WHERE facility = %s", (facility,)).fetchone()
    if row is None:
        raise InvalidValue("no facility has that code", code="E_UNKNOWN_FACILITY")
    return Cursor(Position(row[0]), bytes(row[1]))


def heads(connection: Connection, facilities: Iterable[FacilityCode]) -> dict[FacilityCode, Cursor]:
    """Where these feeds end now; one that is not there is left out."""
    rows = connection.execute(
        "SELECT facility, position, hash FROM feed WHERE facility = ANY(%s)", (sorted(set(facilities)),)
    ).fetchall()
    return {FacilityCode(code): Cursor(Position(position), bytes(hashed)) for code, position, hashed in rows}


def holds(connection: Connection, facility: str, cursor: Cursor) -> bool:
    """Whether the cursor lies on this feed: its hash there is the same. Elsewhere the hub was restored."""
    return hold(connection, [(facility, cursor)])[0]


def hold(connection: Connection, cursors: Sequence[tuple[str, Cursor]]) -> list[bool]:
    """As `holds`, of many cursors at once, in their order."""
    begun = [(facility, one.position) for facility, one in cursors if one.position > 0]
    hashes: dict[tuple[str, int], bytes] = {}
    if begun:
        rows = connection.execute(
            "SELECT facility, position, hash FROM unnest(%b::text[], %b::bigint[]) AS asked (f, p)"
            " JOIN item ON facility = f AND position = p",
            ([facility for facility, _ in begun], [position for _, position in begun]),
        ).fetchall()
        hashes = {(facility, position): bytes(hashed) for facility, position, hashed in rows}
    return [
        one.hash == (hashes.get((facility, one.position)) if one.position > 0 else FIRST_HASH)
        for facility, one in cursors
    ]


@dataclass(frozen=True, slots=True)
class Stored:
    """An item as read back for a page. payload is sealed under its patient's key."""

    position: Position
    change: ChangeId
    patient: PatientId
    receipt_ms: int
    origin: int
    tag: bytes
    segment: bytes
    segment_row: int
    payload: bytes


def after(connection: Connection, facility: str, position: int, limit: int) -> list[Stored]:
    """The next items of a feed, in order, without a gap; fewer than the limit where they are large, at least one."""
    columns = "position, change, patient, receipt_ms, origin, tag, segment, segment_row, payload"
    rows = connection.execute(
        f"SELECT {columns} FROM (SELECT *, sum(octet_length(payload)) OVER (ORDER BY position) - octet_length(payload)"
        f" AS before FROM (SELECT {columns} FROM item WHERE facility = %s AND position > %s ORDER BY position LIMIT %s) n)"
        " AS next WHERE before < %s ORDER BY position".encode(),
        (facility, position, limit, READ_BYTES),
        binary=True,
    ).fetchall()
    return [Stored(*row) for row in rows]


# -- who is subscribed -------------------------------------------------------------------------------------------------


def subscribers(connection: Connection, patients: Sequence[PatientId]) -> dict[PatientId, list[FacilityCode]]:
    """Patient → the feeds that every change of it goes to. The patients' rows must be held."""
    found: dict[PatientId, list[FacilityCode]] = {}
    if patients:
        for patient, facility in connection.execute(
            "SELECT patient, facility FROM subscription WHERE patient = ANY(%b) AND subscribed", (list(patients),)
        ).fetchall():
            found.setdefault(PatientId(bytes(patient)), []).append(FacilityCode(facility))
    return found


def unsubscribe(connection: Connection, patient: PatientId, facility: FacilityCode) -> None:
    """Nothing new of the patient joins the feed; what stands there stays. The patient must be held FOR UPDATE."""
    connection.execute(
        "UPDATE subscription SET subscribed = false WHERE facility = %s AND patient = %s", (facility, patient)
    )


def mark_due(connection: Connection, patients: Sequence[PatientId], stage: int = 0) -> None:
    """These patients' subscriptions have to be looked at again (`subscriptions`), once this transaction commits."""
    if patients:
        connection.execute(
            "INSERT INTO subscription_due (patient, stage) SELECT p, %s FROM unnest(%b::bytea[]) AS due (p)",
            (stage, list(patients)),
        )
