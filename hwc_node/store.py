"""The one door to the node's records: write, record, and the streams that export and the pages read.

Rules. A write is one transaction: stamp, change, record row and digest are durable together when it returns, or none
of them is. What a person is told is saved is saved. Reads see one moment each, and take bounded memory however much
there is. Plain values go in and out; no row leaves this file. What leaves the machine is `outbox`'s affair, what
arrives is `inbox`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Final

from sqlalchemy import Connection, Engine

from hwc_node import ledger, membership, migrations
from hwc_node.config import NodeConfig
from hwc_node.engine import begin_read, begin_write, open_engine
from hwc_node.ledger import Arrived
from hwc_node.membership import Membership
from hwc_node.tables import ORIGINS
from sync_protocol import change as changes
from sync_protocol import hlc, merge, replica
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, FacilityCode, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.errors import HealthSyncError, NotAllowed
from sync_protocol.feed_page import Position
from sync_protocol.hlc import Hlc
from sync_protocol.merge import Held, Record
from sync_protocol.schema import Writer

SALT_BYTES: Final = 16
MAX_SALTS: Final = 50_000  # patients of one session: beyond any day's work; then salts are drawn anew, which only costs
READ_RECORDS: Final = 200  # records a query of a stream: some hundred KiB in memory, whatever the size of the database
READ_CHANGES: Final = 1_000


class SyncState(str, Enum):
    """How far a change has come, in the words of the export."""

    SAVED = "saved"
    SENT = "sent"
    HELD = "held"
    ADMITTED = "admitted"
    QUARANTINED = "quarantined"


_ADVANCE: Final = (SyncState.QUARANTINED, SyncState.SAVED, SyncState.SENT, SyncState.HELD, SyncState.ADMITTED)
"""From what needs a person, over what has come least far, to what is through: a record is as far as its first."""


@dataclass(frozen=True, slots=True)
class KeptChange:
    """A change as this node keeps it. position: on the facility's feed. reason: why it is set aside, else empty.
    sent_ms: of a referral, when it first left this computer."""

    held: Held
    position: Position | None
    sync: SyncState
    reason: str = ""
    sent_ms: int | None = None


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """A record as this node keeps it. at_ms: when it happened (its field ``at``). kept: its changes, earliest first."""

    record: Record
    facility: FacilityCode
    at_ms: int | None
    kept: tuple[KeptChange, ...]

    @property
    def key(self) -> RecordKey:
        return self.record.key

    @property
    def patient(self) -> PatientId:
        return self.record.patient

    @property
    def sync(self) -> SyncState:
        """That of its change which has come least far; quarantined if any is."""
        return min((one.sync for one in self.kept), key=_ADVANCE.index)

    @property
    def sent(self) -> bool:
        """Whether any of its changes has left this machine."""
        return any(one.sync not in (SyncState.SAVED, SyncState.QUARANTINED) for one in self.kept)

    @property
    def sent_ms(self) -> int | None:
        """Of a referral: when any of its changes first left."""
        return min((one.sent_ms for one in self.kept if one.sent_ms is not None), default=None)

    @property
    def positions(self) -> dict[ChangeId, Position | None]:
        return {one.held.change.id: one.position for one in self.kept}


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One change that a person asks for. shown: field → ids of the live writes that the person was shown."""

    key: RecordKey
    patient: PatientId
    writes: Mapping[str, Value]
    shown: Mapping[str, Iterable[ChangeId]] | None = None


class Store:
    """A node's database, open. Threads may share it; a forked child may not."""

    def __init__(self, config: NodeConfig, engine: Engine) -> None:
        self.config = config
        self.engine = engine
        self._membership: Membership | None = None
        self._salts: dict[PatientId, bytes] = {}

    @classmethod
    def open(cls, config: NodeConfig, key: bytes, *, create: bool = False) -> Store:
        """Open and upgrade. Raises what `engine.open_engine` does, and NeedsPerson (``E_DB_NEWER``)."""
        engine = open_engine(config.database_path, key, create=create)
        try:
            migrations.upgrade(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(config, engine)

    def close(self) -> None:
        self.engine.dispose()

    def rest(self) -> None:
        """Close the connections that nobody uses, with what they hold in memory; the next use opens them again."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def membership(self) -> Membership:
        """Raises NeedsPerson (``E_NOT_ENROLLED``)."""
        if self._membership is None:
            with begin_read(self.engine) as connection:
                self._membership = membership.membership_of(membership.get_all(connection))
        return self._membership

    def forget_membership(self) -> None:
        """Something of it has changed: read it anew when it is next needed."""
        self._membership = None

    def salt_of(self, patient: PatientId) -> bytes:
        """16 bytes, drawn once per session and patient."""
        if len(self._salts) >= MAX_SALTS:
            self._salts.clear()
        return self._salts.setdefault(patient, os.urandom(SALT_BYTES))

    # -- write ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, now_ms: int) -> Iterator[Writing]:
        """One transaction: durable when the block is left, nothing kept when it is left by an exception."""
        member = self.membership
        with begin_write(self.engine) as connection:
            block = Writing(self, member, connection, now_ms)
            yield block
            block.keep()

    def write(self, person: PersonId, requests: Sequence[WriteRequest], now_ms: int) -> list[Change | HealthSyncError]:
        """One transaction for all; in the place of a request that is refused, its error."""
        results: list[Change | HealthSyncError] = []
        with self.writing(now_ms) as block:
            block.records(one.key for one in requests)
            for one in requests:
                try:
                    results.append(block.author(person, one.key, one.patient, one.writes, one.shown))
                except HealthSyncError as error:
                    results.append(error)
        return results

    # -- read ----------------------------------------------------------------------------------------------------------

    def record(self, key: RecordKey) -> KeptRecord | None:
        with begin_read(self.engine) as connection:
            return next(iter(_kept_records(connection, [key])), None)

    def some_records(self, keys: Sequence[RecordKey]) -> list[KeptRecord]:
        """These records in this order, as far as they are here: as many as a page shows."""
        with begin_read(self.engine) as connection:
            return _kept_records(connection, keys)

    def records(self, *, kind: str | None = None, patient: PatientId | None = None) -> Iterator[KeptRecord]:
        """By kind and id. What is saved meanwhile may be seen or not; each record is whole."""
        yield from self._stream("1", kind, patient)

    def patient_records(self, patient: PatientId) -> list[KeptRecord]:
        return list(self.records(patient=patient))

    def conflicts(self) -> Iterator[KeptRecord]:
        """Records with a field that a person must decide."""
        yield from self._stream("conflicts > 0", None, None)

    def keys_of(self, record: RecordId) -> list[RecordKey]:
        """The kinds that this id is here as: mostly one."""
        with begin_read(self.engine) as connection:
            rows = connection.exec_driver_sql("SELECT kind FROM record WHERE record = ? ORDER BY kind", (record,))
            return [RecordKey(str(kind), record) for (kind,) in rows]

    def changes(self, *, kind: str | None = None, patient: PatientId | None = None) -> Iterator[KeptChange]:
        """Every change that is here now, in the order they came."""
        where, values = _where("c.", kind, patient)
        yield from kept_changes(self, f"1{where}", values, by_patient=patient is not None)

    def _stream(self, condition: str, kind: str | None, patient: PatientId | None) -> Iterator[KeptRecord]:
        after: tuple[str, bytes] | None = ("", b"")
        while after is not None:
            with begin_read(self.engine) as connection:
                found, after = _next_records(connection, condition, kind, patient, after)
            yield from found


def records_at_once(connection: Connection) -> Iterator[KeptRecord]:
    """Every record as it is in this one transaction, in bounded memory: for a check, since the log grows meanwhile."""
    after: tuple[str, bytes] | None = ("", b"")
    while after is not None:
        found, after = _next_records(connection, "1", None, None, after)
        yield from found


def _next_records(
    connection: Connection, condition: str, kind: str | None, patient: PatientId | None, after: tuple[str, bytes]
) -> tuple[list[KeptRecord], tuple[str, bytes] | None]:
    """The next ones of a stream and where it stands then, None at its end."""
    where, values = _where("", kind, patient)
    index = " INDEXED BY record_patient" if patient is not None else ""  # else the order would tempt it to scan all
    rows = connection.exec_driver_sql(
        f"SELECT kind, record FROM record{index} WHERE {condition} AND (kind, record) > (?, ?){where}"
        " ORDER BY kind, record LIMIT ?",
        (*after, *values, READ_RECORDS),
    ).fetchall()
    found = _kept_records(connection, [RecordKey(name, record) for name, record in rows])
    return found, None if len(rows) < READ_RECORDS else (rows[-1][0], rows[-1][1])


class Writing:
    """A write transaction under way. Sees what it has written itself."""

    def __init__(self, store: Store, member: Membership, connection: Connection, now_ms: int) -> None:
        self._store = store
        self._member = member
        self._connection = connection
        self._now_ms = now_ms
        self._last = Hlc(membership.get(connection, membership.LAST_HLC, 0))
        self._hub_time_ms = int(membership.get(connection, membership.HUB_TIME_MS, 0))
        self._held: dict[RecordKey, list[Held]] = {}
        self._fresh: list[Held] = []
        self._folded: dict[RecordKey, Record] = {}
        self._erased: set[PatientId] | None = None  # asked for once a block

    def records(self, keys: Iterable[RecordKey]) -> dict[RecordKey, Record]:
        """These records as far as they exist, with what this block wrote; one query for those not asked for before."""
        wanted = list(keys)
        missing = [key for key in wanted if key not in self._held]
        if missing:
            found = ledger.load(self._connection, missing)
            self._held.update({key: found.get(key, []) for key in missing})
        return {key: record for key in wanted if (record := self._fold(key)).changes}

    def record(self, key: RecordKey) -> Record | None:
        return self.records((key,)).get(key)

    def author(
        self,
        person: PersonId,
        key: RecordKey,
        patient: PatientId,
        writes: Mapping[str, Value],
        shown: Mapping[str, Iterable[ChangeId]] | None = None,
    ) -> Change:
        """A new change, kept when the block is left. Raises what `replica.author` does, and NotAllowed (``E_ERASED``);
        the block goes on unharmed."""
        self._require_not_erased(patient)
        existing = self.record(key)
        stamp = hlc.tick(self._last, self._now_ms, self._hub_time_ms)
        by = replica.Author(
            Writer.CENTRE,
            self._member.facility,
            self._member.node,
            person,
            stamp,
            self._hub_time_ms,
            self._store.salt_of(patient),
        )
        change = replica.author(by, key, patient, writes, shown, existing=existing)
        self._last = stamp
        held = Held(change)
        self._fresh.append(held)
        self._folded[key] = merge.join(self._fold(key), (held,))
        return change

    def _require_not_erased(self, patient: PatientId) -> None:
        if self._erased is None:
            self._erased = ledger.erased(self._connection)
        if patient in self._erased:
            raise NotAllowed(
                "this patient's data was erased",
                code="E_ERASED",
                next_step="register the patient anew, if they come again",
            )

    def _fold(self, key: RecordKey) -> Record:
        if key not in self._folded:
            self._folded[key] = merge.fold(key, self._held[key])
        return self._folded[key]

    def keep(self) -> None:
        """Write what was authored. `Store.writing` calls this."""
        if self._fresh:
            ledger.keep(self._connection, self._held, [Arrived(held) for held in self._fresh])
            membership.put(self._connection, {membership.LAST_HLC: self._last})


_CHANGE_QUERY: Final = (
    "SELECT c.rowid, c.raw, c.receipt_ms, c.origin, c.position, c.state, c.reason, e.held, e.admitted, e.sent_count,"
    " c.sent_ms"
    " FROM change c LEFT JOIN envelope e ON e.id8 = c.segment"
)


def kept_changes(
    store: Store, condition: str, values: tuple[Any, ...], *, by_patient: bool = False
) -> Iterator[KeptChange]:
    """The changes that meet a condition of SQL, in the order they came here, in bounded memory."""
    query = _CHANGE_QUERY if not by_patient else _CHANGE_QUERY.replace("change c", "change c INDEXED BY change_patient")
    with begin_read(store.engine) as connection:
        last = connection.exec_driver_sql("SELECT max(rowid) FROM change").scalar() or 0
    at = 0
    while at < last:
        with begin_read(store.engine) as connection:
            rows = connection.exec_driver_sql(
                f"{query} WHERE {condition} AND c.rowid > ? AND c.rowid <= ? ORDER BY c.rowid LIMIT ?",
                (*values, at, last, READ_CHANGES),
            ).fetchall()
        if not rows:
            return
        for row in rows:
            yield _kept_change(row)
        at = rows[-1][0]


def _where(prefix: str, kind: str | None, patient: PatientId | None) -> tuple[str, tuple[Any, ...]]:
    chosen = [(name, value) for name, value in (("kind", kind), ("patient", patient)) if value is not None]
    return "".join(f" AND {prefix}{name} = ?" for name, _ in chosen), tuple(value for _, value in chosen)


def _kept_change(row: Any) -> KeptChange:
    _, raw, receipt_ms, origin, position, state, reason, held, admitted, sent_count, sent_ms = row
    if state == ledger.SET_ASIDE:
        sync = SyncState.QUARANTINED
    elif position is not None or admitted:
        sync = SyncState.ADMITTED
    elif held:
        sync = SyncState.HELD
    else:
        sync = SyncState.SENT if sent_count else SyncState.SAVED
    found = Held(changes.parse(raw), receipt_ms, ORIGINS[origin])
    return KeptChange(found, position, sync, reason or "", sent_ms)


def _kept_records(connection: Connection, keys: Sequence[RecordKey]) -> list[KeptRecord]:
    """These records in this order, as far as they are here."""
    of_key: dict[RecordKey, list[KeptChange]] = {}
    query = f"{_CHANGE_QUERY} WHERE c.record IN ({{}})"
    for row in ledger.select_in(connection, query, (key.record for key in keys)):
        one = _kept_change(row)
        of_key.setdefault(one.held.change.key, []).append(one)
    return [_kept_record(key, of_key[key]) for key in keys if key in of_key]


def _kept_record(key: RecordKey, kept: list[KeptChange]) -> KeptRecord:
    kept.sort(key=lambda one: one.held.order)
    record = merge.fold(key, (one.held for one in kept))
    shown = record.shown("at")
    at_ms = shown.value if shown is not None and type(shown.value) is int else None
    return KeptRecord(record, kept[0].held.change.facility, at_ms, tuple(kept))
