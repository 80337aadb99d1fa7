"""Where the node stands: what is pending, set aside, in conflict, how far its feed is read, and whether all is sound.

Reads only, but for marking notices as seen. Counts come from indexes that hold only what is counted, so that a status
costs the same with a hundred thousand records. Shows codes, kinds and times; of patients' data it shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection
from sqlmodel import Session, col, select

from hwc_node import membership, migrations, outbox
from hwc_node.engine import begin_read, begin_write
from hwc_node.store import KeptChange, Store, kept_changes, records_at_once
from hwc_node.tables import WAITING, NoticeRow
from sync_protocol import change as changes
from sync_protocol import envelope, merge
from sync_protocol.change import ID_BYTES, FacilityCode, NodeId
from sync_protocol.errors import HealthSyncError, TheirBytes
from sync_protocol.hlc import Hlc, to_ms
from sync_protocol.keys import EnvironmentId

PLAN_BYTES_A_CHANGE: Final = 60  # what a dry run reckons with: the benchmark's figure for 50 records
NOTICES_SHOWN: Final = 50
SAMPLE_CHANGES: Final = 1_000  # hashed by a check: some 30 ms


@dataclass(frozen=True, slots=True)
class Standing:
    """One view of everything that a status shows. Before the enrolment node, facility and the like are empty.

    pending_changes: without a position, not set aside; unsent_changes: those of them in no envelope yet.
    clock_error_ms: this device less the hub, at the last answer. digest: of all records in the facility's scope.
    """

    facility: FacilityCode | None
    facility_name: str
    node: NodeId | None
    environment: EnvironmentId | None
    hub_url: str
    schema_version: str
    pending_changes: int
    pending_by_kind: dict[str, int]
    oldest_pending_ms: int | None
    unsent_changes: int
    set_aside: int
    set_aside_reasons: dict[str, int]
    unread_items: int
    questioned: int
    conflicts_open: int
    records: int
    changes: int
    cursor_position: int
    feed_position: int | None
    digest: int
    last_attempt_ms: int | None
    last_success_ms: int | None
    last_error: str
    hub_time_ms: int | None
    clock_error_ms: int | None
    hub_epoch: bytes
    last_backup_ms: int | None
    enrolled_ms: int | None
    database_bytes: int


def standing(store: Store) -> Standing:
    """Everything at one moment."""
    try:
        member = store.membership
    except HealthSyncError:
        member = None
    path = store.config.database_path
    files = (path, path.with_name(path.name + "-wal"))
    with begin_read(store.engine) as connection:
        values = membership.get_all(connection)
        pending = _counts(connection, f"SELECT kind, count(*) FROM change WHERE {WAITING} GROUP BY kind")
        oldest = connection.exec_driver_sql(f"SELECT min(hlc) FROM change WHERE {WAITING}").scalar()
        aside = _counts(connection, "SELECT reason, count(*) FROM change WHERE state <> 0 GROUP BY reason")
        return Standing(
            facility=member.facility if member else None,
            facility_name=member.facility_name if member else "",
            node=member.node if member else None,
            environment=member.environment if member else None,
            hub_url=(store.config.hub_url or member.hub_url) if member else "",
            schema_version=migrations.version(connection) or "",
            pending_changes=sum(pending.values()),
            pending_by_kind=pending,
            oldest_pending_ms=None if oldest is None else to_ms(Hlc(oldest)),
            unsent_changes=_count(connection, f"SELECT count(*) FROM change WHERE segment IS NULL AND {WAITING}"),
            set_aside=sum(aside.values()),
            set_aside_reasons=aside,
            unread_items=_count(connection, "SELECT count(*) FROM unread_item"),
            questioned=_count(connection, "SELECT count(*) FROM questioned WHERE verdict = 'open'"),
            conflicts_open=_conflicts_open(connection),
            records=_count(connection, "SELECT count(*) FROM record"),
            changes=_count(connection, "SELECT count(*) FROM change"),
            cursor_position=outbox.cursor(connection).position,
            feed_position=values.get(membership.FEED_POSITION),
            digest=_digest(connection),
            last_attempt_ms=values.get(membership.LAST_ATTEMPT_MS),
            last_success_ms=values.get(membership.LAST_SUCCESS_MS),
            last_error=values.get(membership.LAST_ERROR, ""),
            hub_time_ms=values.get(membership.HUB_TIME_MS),
            clock_error_ms=values.get(membership.CLOCK_ERROR_MS),
            hub_epoch=values.get(membership.EPOCH, b""),
            last_backup_ms=values.get(membership.LAST_BACKUP_MS),
            enrolled_ms=values.get(membership.ENROLLED_MS),
            database_bytes=sum(file.stat().st_size for file in files if file.exists()),
        )


def pending_changes(store: Store) -> int:
    """Changes without a position on the feed, not set aside."""
    with begin_read(store.engine) as connection:
        return _count(connection, f"SELECT count(*) FROM change WHERE {WAITING}")


def conflicts_open(store: Store) -> int:
    """Fields that a person must decide."""
    with begin_read(store.engine) as connection:
        return _conflicts_open(connection)


def digest(store: Store) -> int:
    """The facility's digest: the sum over its patients."""
    with begin_read(store.engine) as connection:
        return _digest(connection)


def set_aside(store: Store) -> Iterator[KeptChange]:
    """What the hub reported as quarantined, oldest first."""
    yield from kept_changes(store, "c.state <> 0", ())


def _count(connection: Connection, query: str) -> int:
    return int(connection.exec_driver_sql(query).scalar() or 0)


def _counts(connection: Connection, query: str) -> dict[str, int]:
    return {str(name): int(count) for name, count in connection.exec_driver_sql(query)}


def _conflicts_open(connection: Connection) -> int:
    return _count(connection, "SELECT sum(conflicts) FROM record WHERE conflicts > 0")


def _digest(connection: Connection) -> int:
    rows = connection.exec_driver_sql("SELECT digest FROM patient_digest")
    return merge.add_digests(int.from_bytes(raw, "big") for (raw,) in rows)


# -- what a sync would send --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sync would send, estimated. Nothing was packed or written for it."""

    pending_changes: int
    estimated_segments: int
    estimated_bytes: int


def plan(store: Store) -> Plan:
    """For a dry run: what is not held by the hub yet, and what it will be on this link."""
    with begin_read(store.engine) as connection:
        link = membership.link_of(membership.get_all(connection))
        waiting = _count(connection, f"SELECT count(*) FROM change WHERE segment IS NULL AND {WAITING}")
        ready = connection.exec_driver_sql(
            "SELECT count(*), sum(length(raw)), sum(length(change_ids)) FROM envelope WHERE held = 0"
        ).one()
    room = max(link.segment_bytes - envelope.OVERHEAD_BYTES, 1)
    body_bytes = waiting * PLAN_BYTES_A_CHANGE
    segments = -(-body_bytes // room)
    return Plan(
        waiting + int(ready[2] or 0) // ID_BYTES,
        int(ready[0]) + segments,
        int(ready[1] or 0) + body_bytes + segments * envelope.OVERHEAD_BYTES,
    )


# -- notices -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoticeKept:
    """What the hub told. kind: a word and a code, such as "quarantined: E_NOT_ALLOWED"."""

    id: int
    at_ms: int
    kind: str
    text: str
    seen: bool


def notices(store: Store, limit: int = NOTICES_SHOWN) -> list[NoticeKept]:
    """Newest first."""
    with begin_read(store.engine) as connection, Session(bind=connection) as rows:
        found = rows.exec(select(NoticeRow).order_by(col(NoticeRow.id).desc()).limit(limit))
        return [NoticeKept(row.id or 0, row.at_ms, row.kind, row.text, row.seen) for row in found]


def mark_notices_seen(store: Store) -> None:
    with begin_write(store.engine) as connection:
        connection.exec_driver_sql("UPDATE notice SET seen = 1 WHERE seen = 0")


# -- soundness ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be."""

    code: str
    message: str
    next_step: str


def integrity(store: Store, *, sample: int = SAMPLE_CHANGES) -> list[Finding]:
    """Check the file, a sample of the changes, and all that was computed from them. Empty when everything is sound."""
    findings = []
    try:
        damaged, rotten, differs = _looked_at(store, sample)
    except TheirBytes as error:
        if error.code != "E_DB_CORRUPT":
            raise
        damaged, rotten, differs = True, 0, False
    if damaged or rotten:
        seen = f": {rotten} of the sampled changes do not match their name" if rotten else ""
        findings.append(
            Finding(
                "E_DB_CORRUPT",
                f"The database file is damaged{seen}.",
                "Keep the file; enrol anew, and the hub gives back what it holds.",
            )
        )
    if differs:
        findings.append(
            Finding(
                "E_DIGEST",
                "The stored digest is not that of the stored changes.",
                "Keep the file and report this: hwc support FILE.",
            )
        )
    return findings


def _looked_at(store: Store, sample: int) -> tuple[bool, int, bool]:
    """Whether the file is damaged, how many changes of the sample have rotted, whether the digest is another.

    Every page in use is read anew, and its seal checked with it. SQLCipher's own check of the file's pages will not do:
    it takes for damage what a checkpoint has not filled in yet, since the log has it.
    """
    with begin_read(store.engine) as connection:  # one state for all of it: others may save and sync meanwhile
        connection.exec_driver_sql("PRAGMA shrink_memory")
        if [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check(5)")] != ["ok"]:
            return True, 0, False
        query = "SELECT id, raw FROM change ORDER BY random() LIMIT ?"
        rotten = sum(1 for name, raw in connection.exec_driver_sql(query, (sample,)) if changes.change_id(raw) != name)
        return False, rotten, _recomputed_digest(connection) != _digest(connection)


def _recomputed_digest(connection: Connection) -> int:
    parts = (merge.digests_by_patient(one.key, one.record.changes.values()) for one in records_at_once(connection))
    return merge.add_digests(part for of_patient in parts for part in of_patient.values())


def dangling(store: Store) -> int:
    """How many names point at changes that have not arrived. Folds every record: for a check, not for a status."""
    return sum(one.record.dangling for one in store.records())
