"""Exports: the records of a feed, or their raw history, as lines. Whoever asks is noted in the audit first.

Of the whole hub each patient stands there once, by its home; of one facility all that stands in its feed. A patient is
exported whole or not at all; memory is bounded by the store's groups of patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub_server import audit, registry
from hub_server.database import Connection
from hub_server.store import Store
from sync_protocol import exports, merge
from sync_protocol.change import ChangeId, PatientId, RecordKey
from sync_protocol.errors import InvalidValue
from sync_protocol.merge import Held

SYNC: Final = "admitted"  # what the contract calls a record that has reached the hub


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export; None for no limit. changes: the raw history."""

    facility: str | None = None
    kind: str | None = None
    patient: PatientId | None = None
    changes: bool = False


def lines(store: Store, wanted: Wanted, actor: str, now_ms: int) -> Iterator[dict[str, Any]]:
    """The lines. Raises InvalidValue (``E_UNKNOWN_FACILITY``, ``E_UNKNOWN_PATIENT``) before the first."""
    with store.database.transaction() as connection:
        places = _places(connection, wanted)
        verb = "export changes" if wanted.changes else "export records"
        audit.note(connection, actor, verb, wanted.facility or "", wanted.patient or b"", now_ms)
    return _lines(store, wanted, places)


def _places(connection: Connection, wanted: Wanted) -> list[str]:
    """The feeds to read."""
    found = [one.code for one in registry.facilities(connection, wanted.facility)]
    if wanted.patient is None:
        return found
    rows = connection.execute(
        "SELECT s.facility FROM subscription s JOIN patient p ON p.patient = s.patient WHERE s.patient = %s"
        " AND s.facility = coalesce(%s, p.facility)",
        (wanted.patient, wanted.facility),
    ).fetchall()
    if not rows:
        raise InvalidValue("The hub has no such patient there.", field="patient", code="E_UNKNOWN_PATIENT")
    return [row[0] for row in rows]


def _lines(store: Store, wanted: Wanted, places: Sequence[str]) -> Iterator[dict[str, Any]]:
    for feed in places:
        with store.database.transaction() as connection:
            for group in _groups(connection, store, feed, wanted):
                found = (held for _, held in store.changes(connection, feed, group))
                chosen = (held for held in found if wanted.kind in (None, held.change.kind))
                yield from _history(chosen) if wanted.changes else _records(chosen)


def _groups(connection: Connection, store: Store, feed: str, wanted: Wanted) -> Iterator[list[PatientId]]:
    if wanted.patient is not None:
        yield [wanted.patient]
        return
    for group in store.patients(connection, feed):
        if wanted.facility is not None:
            yield group
            continue
        rows = connection.execute(
            "SELECT patient FROM patient WHERE patient = ANY(%s) AND facility = %s ORDER BY patient", (group, feed)
        ).fetchall()
        yield [PatientId(bytes(row[0])) for row in rows]


def _history(found: Iterator[Held]) -> Iterator[dict[str, Any]]:
    """Each change once, with the earliest receipt that the feed has of it."""
    earliest: dict[ChangeId, Held] = {}
    for held in found:
        there = earliest.get(held.change.id)
        if there is None or (held.receipt_ms or 0) < (there.receipt_ms or 0):
            earliest[held.change.id] = held
    return (exports.change_line(held) for held in earliest.values())


def _records(found: Iterator[Held]) -> Iterator[dict[str, Any]]:
    by_key: dict[RecordKey, list[Held]] = {}
    for held in found:
        by_key.setdefault(held.change.key, []).append(held)
    return (exports.export_line(merge.fold(key, changes), SYNC) for key, changes in by_key.items())
