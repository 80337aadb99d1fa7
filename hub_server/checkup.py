"""``hub doctor``: does everything hold, and which command mends what does not. It changes nothing.

Quick checks look at settings, heads and counts. Deep ones read everything: running hashes without a gap, every payload
opened and hashed to its id, digests computed anew. A finding names places and counts, never what a record says.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hub_server import audit, registry
from hub_server.config import HubConfig
from hub_server.database import Connection
from hub_server.store import Store
from sync_protocol import merge
from sync_protocol.change import PatientId, RecordKey
from sync_protocol.errors import HealthSyncError
from sync_protocol.feed_page import FIRST_HASH, next_hash
from sync_protocol.merge import Held

MIN_FREE_BYTES: Final = 1 << 30  # room for a day's segments and PostgreSQL's log
MIN_SERVER_VERSION: Final = 150_000
SLOW_ADMISSION_MS: Final = 10 * 60_000  # a worker that runs takes seconds
SILENT_NODE_MS: Final = 7 * 86_400_000  # weeks without a link are ordinary; a week is worth a telephone call
WRONG_CLOCK_MS: Final = 5 * 60_000
CLOCK_TOLERANCE_MS: Final = 5_000
_ITEMS_A_READ: Final = 5_000


class State(str, Enum):
    FINE = "fine"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. mend: the command or the step that mends it."""

    check: str
    state: State
    said: str
    mend: str = ""


Check = Callable[[Connection, Store, HubConfig, int], Iterator[Finding]]


def examine(store: Store, config: HubConfig, now_ms: int, *, deep: bool = False) -> Iterator[Finding]:
    """All findings, in order. A check that cannot be carried out is a problem, not the end."""
    yield from _home(config)
    for check in (*_QUICK, *(_DEEP if deep else ())):
        try:
            with store.database.transaction() as connection:
                yield from check(connection, store, config, now_ms)
        except HealthSyncError as error:
            name = check.__name__.strip("_").replace("_", " ")
            yield Finding(name, State.PROBLEM, f"{error.message} [{error.code}]", error.next_step)


def _home(config: HubConfig) -> Iterator[Finding]:
    mode = stat.S_IMODE(config.keys_folder.stat().st_mode)
    if mode & 0o077:
        yield Finding("keys", State.PROBLEM, "others may read the folder of keys", f"chmod 700 {config.keys_folder}")
    else:
        yield Finding("keys", State.FINE, "only the hub's user may read its keys")
    recovery = sorted(config.keys_folder.glob("recovery-key*"))
    if recovery:
        yield Finding(
            "recovery key",
            State.WARNING,
            "the recovery key is on this machine; it opens everything that the hub can open",
            f"move {recovery[0]} to a safe that is elsewhere",
        )
    free = shutil.disk_usage(config.home).free
    if free < MIN_FREE_BYTES:
        yield Finding("disk", State.PROBLEM, f"only {free >> 20} MiB are free", f"free some space on {config.home}")
    else:
        yield Finding("disk", State.FINE, f"{free >> 30} GiB are free")


def _postgresql(connection: Connection, _store: Store, _config: HubConfig, now_ms: int) -> Iterator[Finding]:
    version = connection.info.server_version
    off = sorted(
        name
        for (name,) in connection.execute(
            "SELECT name FROM pg_settings WHERE setting = 'off'"
            " AND name IN ('fsync', 'full_page_writes', 'synchronous_commit')"
        ).fetchall()
    )
    if version < MIN_SERVER_VERSION:
        yield Finding("postgresql", State.PROBLEM, f"its version is {version // 10_000}", "upgrade it to 15 or later")
    elif off:
        yield Finding(
            "postgresql",
            State.PROBLEM,
            f"{', '.join(off)} is off: what is acknowledged may be lost in a power cut",
            f"ALTER SYSTEM SET {off[0]} = on; then reload the server",
        )
    else:
        yield Finding("postgresql", State.FINE, f"version {version // 10_000}, durable")
    row = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetchone()
    if row is not None and abs(row[0] - now_ms) > CLOCK_TOLERANCE_MS:
        yield Finding(
            "clock",
            State.WARNING,
            f"this machine and the database server differ by {abs(row[0] - now_ms) // 1000} s",
            "set both by NTP",
        )


def _feeds(connection: Connection, _store: Store, _config: HubConfig, _now_ms: int) -> Iterator[Finding]:
    wrong = connection.execute(
        "SELECT f.facility FROM feed f LEFT JOIN item i ON i.facility = f.facility AND i.position = f.position"
        " LEFT JOIN item n ON n.facility = f.facility AND n.position = f.position + 1"
        " WHERE (f.position > 0 AND i.hash IS DISTINCT FROM f.hash) OR n.position IS NOT NULL ORDER BY 1"
    ).fetchall()
    for row in wrong:
        yield Finding("feeds", State.PROBLEM, f"the head of the feed of {row[0]} is not its last item", _RESTORE)
    without = connection.execute(
        "SELECT f.facility FROM facility f LEFT JOIN feed USING (facility) WHERE feed.facility IS NULL ORDER BY 1"
    ).fetchall()
    for row in without:
        yield Finding("feeds", State.PROBLEM, f"{row[0]} has no feed", _RESTORE)
    if not wrong and not without:
        yield Finding("feeds", State.FINE, "every head is the last item of its feed")


_RESTORE: Final = "restore the database from its last backup; the nodes bring back what it lacks"


def _arrivals(connection: Connection, _store: Store, _config: HubConfig, now_ms: int) -> Iterator[Finding]:
    counts = registry.counts(connection)
    if counts.oldest_ms is not None and now_ms - counts.oldest_ms > SLOW_ADMISSION_MS:
        minutes = (now_ms - counts.oldest_ms) // 60_000
        yield Finding(
            "admission",
            State.PROBLEM,
            f"{counts.pending_to_admit} segments wait to be admitted, the oldest since {minutes} minutes",
            "start the worker: hub serve",
        )
    else:
        yield Finding("admission", State.FINE, f"{counts.pending_to_admit} segments wait to be admitted")
    if counts.quarantined:
        yield Finding(
            "quarantine",
            State.PROBLEM,
            f"{counts.quarantined} entries wait for a person's decision",
            "hub quarantine list; then hub quarantine release ID, or leave it",
        )
    if counts.waiting_for_grant:
        yield Finding(
            "grants",
            State.WARNING,
            f"{counts.waiting_for_grant} segments wait for the key that opens them",
            "their nodes bring it with their next sync",
        )


def _nodes(connection: Connection, _store: Store, _config: HubConfig, now_ms: int) -> Iterator[Finding]:
    working = [one for one in registry.list_nodes(connection) if one.revoked_ms is None]
    silent = [one for one in working if now_ms - (one.last_seen_ms or one.enrolled_ms) > SILENT_NODE_MS]
    wrong = [one for one in working if abs(one.clock_error_ms or 0) > WRONG_CLOCK_MS]
    if silent:
        yield Finding("nodes", State.WARNING, f"{len(silent)} nodes were not seen for a week", "hub nodes list")
    if wrong:
        yield Finding(
            "nodes", State.WARNING, f"the clocks of {len(wrong)} nodes are wrong by over five minutes", "hub nodes list"
        )
    if not silent and not wrong:
        yield Finding("nodes", State.FINE, f"{len(working)} nodes, all seen lately and with good clocks")


def _audit(connection: Connection, _store: Store, _config: HubConfig, _now_ms: int) -> Iterator[Finding]:
    verified = audit.verify(connection)
    if verified.broken_at is None:
        yield Finding("audit", State.FINE, f"the chain of {verified.rows} entries holds")
    else:
        yield Finding(
            "audit",
            State.PROBLEM,
            f"the chain breaks at entry {verified.broken_at}: somebody altered or removed an entry",
            "keep this database for an inquiry, and compare it with its backups",
        )


# -- deep --------------------------------------------------------------------------------------------------------------


def _running_hashes(connection: Connection, _store: Store, _config: HubConfig, _now_ms: int) -> Iterator[Finding]:
    broken = 0
    for (facility,) in connection.execute("SELECT facility FROM feed ORDER BY facility").fetchall():
        position = _first_broken(connection, facility)
        if position is not None:
            broken += 1
            yield Finding("hashes", State.PROBLEM, f"the feed of {facility} breaks at position {position}", _RESTORE)
    if not broken:
        yield Finding("hashes", State.FINE, "every feed is without a gap and its running hash holds")


def _first_broken(connection: Connection, facility: str) -> int | None:
    position, hashed = 0, FIRST_HASH
    while True:
        rows = connection.execute(
            "SELECT position, tag, hash FROM item WHERE facility = %s AND position > %s ORDER BY position LIMIT %s",
            (facility, position, _ITEMS_A_READ),
            binary=True,
        ).fetchall()
        if not rows:
            return None
        for found, tag, stored in rows:
            hashed = next_hash(hashed, tag)
            if found != position + 1 or stored != hashed:
                return position + 1
            position = found


def _contents(connection: Connection, store: Store, _config: HubConfig, _now_ms: int) -> Iterator[Finding]:
    changes, wrong = 0, 0
    for (facility,) in connection.execute("SELECT facility FROM feed ORDER BY facility").fetchall():
        stored = {
            PatientId(bytes(patient)): int.from_bytes(digest, "big")
            for patient, digest in connection.execute(
                "SELECT patient, digest FROM subscription WHERE facility = %s", (facility,)
            ).fetchall()
        }
        for group in store.patients(connection, facility):
            by_key: dict[tuple[PatientId, RecordKey], list[Held]] = {}
            for _, held in store.changes(connection, facility, group):
                changes += 1
                by_key.setdefault((held.change.patient, held.change.key), []).append(held)
            found: dict[PatientId, int] = {}
            for (patient, key), of_record in by_key.items():
                part = merge.digest(merge.fold(key, of_record))
                found[patient] = merge.add_digests((found.get(patient, 0), part))
            wrong += sum(1 for patient in group if found.get(patient, 0) != stored.get(patient, 0))
    if wrong:
        yield Finding("contents", State.PROBLEM, f"the digests of {wrong} patients do not hold", _RESTORE)
    else:
        yield Finding("contents", State.FINE, f"{changes} changes open, hash to their ids and make the digests")


_QUICK: Final[tuple[Check, ...]] = (_postgresql, _feeds, _arrivals, _nodes, _audit)
_DEEP: Final[tuple[Check, ...]] = (_running_hashes, _contents)
