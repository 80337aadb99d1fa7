"""Changes to and from their rows: load what is held of some records, join what arrives, keep what came of it.

Whether a change was authored here or came from the hub, it is kept by `keep`: change rows, record rows, patients'
digests, the words that they are found by and what waits for somebody (`worklist`), in the caller's one transaction, a
few statements for a whole batch, so that a page of thousands costs no more round trips than one of three. The merge
itself is `replica.receive`; this file refuses to know better.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from hwc_node import lexicon, names, worklist
from hwc_node.tables import ORIGINS
from sync_protocol import change as changes
from sync_protocol import merge, replica, segment
from sync_protocol.change import Change, ChangeId, PatientId, RecordKey
from sync_protocol.feed_page import Position
from sync_protocol.merge import Held, Record
from sync_protocol.replica import Joined

PATIENT: Final = "patient"
NORMAL: Final = 0
SET_ASIDE: Final = 1
MAX_COLUMN: Final = (1 << 63) - 1  # SQLite's integers; a stamp beyond year 6429 stands in its bytes, clipped here
IDS_A_QUERY: Final = 900  # below the lowest limit of variables that a SQLite was ever built with


@dataclass(frozen=True, slots=True)
class Arrived:
    """A change to be kept. position and tag: of the feed's item that brought it, None for one authored here."""

    held: Held
    position: Position | None = None
    tag: bytes | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What keeping did. fresh: how many changes were not here before. joined: what each record became."""

    fresh: int
    joined: tuple[Joined, ...]


def chunks(values: Sequence[Any], size: int = IDS_A_QUERY) -> Iterator[Sequence[Any]]:
    for at in range(0, len(values), size):
        yield values[at : at + size]


def select_in(connection: Connection, query: str, values: Iterable[bytes]) -> Iterator[Any]:
    """Rows of a query that ends in ``IN ({})``, for however many values."""
    for part in chunks(sorted(set(values))):
        yield from connection.exec_driver_sql(query.format(",".join("?" * len(part))), tuple(part))


def load(connection: Connection, keys: Iterable[RecordKey]) -> dict[RecordKey, list[Held]]:
    """Every change held of these records; a record that is not here has no entry."""
    wanted = set(keys)
    held: dict[RecordKey, list[Held]] = {}
    rows = select_in(
        connection,
        "SELECT raw, receipt_ms, origin FROM change WHERE record IN ({})",
        (key.record for key in wanted),
    )
    for raw, receipt_ms, origin in rows:
        one = Held(changes.parse(raw), receipt_ms, ORIGINS[origin])
        if one.change.key in wanted:
            held.setdefault(one.change.key, []).append(one)
    return held


def erased(connection: Connection) -> set[PatientId]:
    """The patients whose erasure the hub ordered: nothing is written about them any more."""
    return {PatientId(name) for (name,) in connection.exec_driver_sql("SELECT patient FROM erased_patient")}


def load_changes(connection: Connection, ids: Iterable[ChangeId]) -> dict[ChangeId, Change]:
    """These changes, as far as they are here."""
    rows = select_in(connection, "SELECT raw FROM change WHERE id IN ({})", ids)
    return {one.id: one for one in (changes.parse(raw) for (raw,) in rows)}


def keep(connection: Connection, held: Mapping[RecordKey, Sequence[Held]], arriving: Iterable[Arrived]) -> Kept:
    """Join and keep. ``held``: what `load` gave for the records touched.

    A change that has a position is no longer in an envelope and no longer set aside. Of one that comes again the earlier
    receipt counts, with its position (PROTOCOL.md §9.3, N13).
    """
    batch: dict[ChangeId, Arrived] = {}
    for one in arriving:
        twin = batch.get(one.held.change.id)
        if twin is None or _told(one.held.receipt_ms) < _told(twin.held.receipt_ms):
            batch[one.held.change.id] = one
    joined = replica.receive(held, [one.held for one in batch.values()])
    known = {one.change.id: one for key in {each.key for each in joined} for one in held.get(key, ())}
    _insert(connection, [one for name, one in batch.items() if name not in known])
    _update(connection, [(known[name], one) for name, one in batch.items() if name in known])
    arrived: dict[RecordKey, list[Held]] = {}
    for one in batch.values():
        arrived.setdefault(one.held.change.key, []).append(one.held)
    whole, only = _whole(joined, held, arrived), {key: items[-1] for key, items in arrived.items()}
    _keep_records(connection, whole, only)
    worklist.keep_patients(connection, _patients(whole, only))
    _keep_digests(connection, _digest_deltas(joined))
    moved = {one.patient for one in joined if one.key.kind in worklist.MATTERING}
    of_cases = {one.patient for one in joined if one.key.kind == worklist.CASE} - moved
    worklist.refresh(connection, moved | worklist.with_referrals(connection, of_cases))
    return Kept(sum(1 for name in batch if name not in known), tuple(joined))


def _told(receipt_ms: int | None) -> tuple[bool, int]:
    """Orders receipts: the earliest first, none at all last."""
    return receipt_ms is None, receipt_ms or 0


_INSERT: Final = (
    "INSERT INTO change (id, kind, record, patient, facility, node, person, hlc, raw, origin, receipt_ms, position,"
    " tag, lane, state, attempts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)"
)
_UPDATE: Final = (
    "UPDATE change SET receipt_ms = ?, origin = ?, position = CASE WHEN ? THEN ? ELSE COALESCE(position, ?) END, tag = ?,"
    " state = 0, reason = NULL, attempts = 0, segment = NULL WHERE id = ?"
)


def _insert(connection: Connection, fresh: Sequence[Arrived]) -> None:
    rows = []
    for one in fresh:
        change, origin = one.held.change, ORIGINS.index(one.held.origin)
        row = (change.id, change.kind, change.record, change.patient, change.facility, change.node, change.person)
        told = (min(change.hlc, MAX_COLUMN), change.raw, origin, one.held.receipt_ms, one.position, one.tag)
        rows.append((*row, *told, segment.lane_of(change)))
    if rows:
        connection.exec_driver_sql(_INSERT, rows)
    changed = (one.held.change for one in fresh if one.held.change.kind == PATIENT)
    lexicon.keep(connection, [(word, change.patient) for change in changed for word in names.words(change.writes)])


def _update(connection: Connection, again: Sequence[tuple[Held, Arrived]]) -> None:
    """Positions and receipts of what was here before.

    An item with a later receipt than the one known here is passed over: the hub was put back and gave a new one. The
    change stays without a position, is sent again with its tag, and comes back with the receipt that it had.
    """
    rows = []
    for before, one in again:
        if one.position is None or _told(before.receipt_ms) < _told(one.held.receipt_ms):
            continue
        earlier = before.receipt_ms is not None and before.receipt_ms != one.held.receipt_ms
        origin = ORIGINS.index(one.held.origin)
        at = one.position
        rows.append((one.held.receipt_ms, origin, earlier, at, at, one.tag, one.held.change.id))
    if rows:
        connection.exec_driver_sql(_UPDATE, rows)


def _patients(joined: Sequence[Joined], only: Mapping[RecordKey, Held]) -> list[Record]:
    """The patients' own records among these."""
    return [
        one.record if one.record is not None else merge.fold(one.key, (only[one.key],))
        for one in joined
        if one.key.kind == PATIENT and bytes(one.key.record) == bytes(one.patient)
    ]


_UPSERT_RECORD: Final = (
    "INSERT INTO record (kind, record, patient, facility, at_ms, conflicts, hidden) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (kind, record) DO UPDATE SET patient = excluded.patient, facility = excluded.facility,"
    " at_ms = excluded.at_ms, conflicts = excluded.conflicts, hidden = excluded.hidden"
)


def _keep_records(connection: Connection, joined: Sequence[Joined], only: Mapping[RecordKey, Held]) -> None:
    """only: for a record of which nothing was folded, its one change."""
    rows = []
    for one in joined:
        record = one.record
        if record is None and "entered_in_error" in only[one.key].change.writes:
            record = merge.fold(one.key, (only[one.key],))
        if record is None:
            change = only[one.key].change
            facility, at_ms, hidden = change.facility, change.writes.get("at"), False
        else:
            shown = record.shown("at")
            first = min(record.changes.values(), key=lambda held: held.order)
            facility, at_ms, hidden = first.change.facility, shown.value if shown else None, is_hidden(record)
        row = (one.key.kind, one.key.record, one.patient, facility, _column(at_ms), len(one.conflicts), hidden)
        rows.append(row)
    if rows:
        connection.exec_driver_sql(_UPSERT_RECORD, rows)


def is_hidden(record: Record) -> bool:
    """Entered in error, and nobody wrote since what the hiding person had not been shown."""
    hidden = merge.hiding(record)
    return hidden is not None and not hidden.changed_since


def _column(at_ms: object) -> int | None:
    return min(at_ms, MAX_COLUMN) if type(at_ms) is int else None


def _whole(
    joined: Sequence[Joined], held: Mapping[RecordKey, Sequence[Held]], arrived: Mapping[RecordKey, Sequence[Held]]
) -> list[Joined]:
    """One result a record: what people see of it, where its changes name several patients, which nobody means to do."""
    of_key: dict[RecordKey, list[Joined]] = {}
    for one in joined:
        of_key.setdefault(one.key, []).append(one)
    return [_one_record(key, results, held.get(key, ()), arrived[key]) for key, results in of_key.items()]


def _one_record(key: RecordKey, results: Sequence[Joined], before: Sequence[Held], arrived: Sequence[Held]) -> Joined:
    if len(results) == 1 and all(one.change.patient == results[0].patient for one in before):
        return results[0]
    record = merge.fold(key, [*before, *arrived])
    return Joined(key, record.patient, record, 0, tuple(record.conflicts()))


def _digest_deltas(joined: Sequence[Joined]) -> dict[PatientId, int]:
    deltas: dict[PatientId, int] = {}
    for one in joined:
        deltas[one.patient] = deltas.get(one.patient, 0) + one.digest_delta
    return {patient: delta for patient, delta in deltas.items() if delta}


def _keep_digests(connection: Connection, deltas: Mapping[PatientId, int]) -> None:
    query = "SELECT patient, digest FROM patient_digest WHERE patient IN ({})"
    before = {patient: int.from_bytes(raw, "big") for patient, raw in select_in(connection, query, deltas)}
    rows = [
        (patient, merge.add_digests((before.get(patient, 0), delta)).to_bytes(merge.DIGEST_BITS // 8, "big"))
        for patient, delta in deltas.items()
    ]
    if rows:
        connection.exec_driver_sql(
            "INSERT INTO patient_digest (patient, digest) VALUES (?, ?)"
            " ON CONFLICT (patient) DO UPDATE SET digest = excluded.digest",
            rows,
        )
