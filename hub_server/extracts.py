"""Exports: the records of a feed, their raw history, or FHIR documents, as lines. Whoever asks is noted in the audit first.

Of the whole hub each patient stands there once, by its home; of one facility all that stands in its feed. A patient is
exported whole or not at all; memory is bounded by the store's groups of patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub_server import audit, charts, facilities
from hub_server.database import Connection
from hub_server.store import Store
from sync_protocol import documents, exports, merge
from sync_protocol.change import ChangeId, PatientId, PersonId, RecordKey
from sync_protocol.errors import InvalidValue
from sync_protocol.fhir import writing
from sync_protocol.fhir.datatypes import Key
from sync_protocol.fhir.leaving import Entry
from sync_protocol.merge import Held, Record

SYNC: Final = "admitted"  # what the contract calls a record that has reached the hub


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export; None for no limit. changes: the raw history. fhir: documents, of all kinds of record."""

    facility: str | None = None
    kind: str | None = None
    patient: PatientId | None = None
    changes: bool = False
    fhir: bool = False

    @property
    def verb(self) -> str:
        """What the audit says of it."""
        return "export changes" if self.changes else "export fhir" if self.fhir else "export records"


def lines(store: Store, wanted: Wanted, actor: str, now_ms: int) -> Iterator[dict[str, Any]]:
    """The lines. Raises InvalidValue (``E_UNKNOWN_FACILITY``, ``E_UNKNOWN_PATIENT``) before the first."""
    with store.database.transaction() as connection:
        places = _places(connection, wanted)
        audit.note(connection, actor, wanted.verb, wanted.facility or "", wanted.patient or b"", now_ms)
    return _lines(store, wanted, places)


def _places(connection: Connection, wanted: Wanted) -> list[str]:
    """The feeds to read."""
    found = [one.code for one in facilities.find_all(connection, wanted.facility)]
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
    names: dict[PersonId, str] = {}
    for feed in places:
        with store.database.transaction() as connection:
            for group in _groups(connection, store, feed, wanted):
                found = (held for _, held in store.changes(connection, feed, group))
                chosen = (held for held in found if wanted.kind in (None, held.change.kind))
                if wanted.fhir:
                    yield from _documents(connection, store, feed, _folded(chosen), names)
                else:
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
    return (exports.export_line(record, SYNC) for record in _folded(found))


def _folded(found: Iterator[Held]) -> list[Record]:
    by_key: dict[RecordKey, list[Held]] = {}
    for held in found:
        by_key.setdefault(held.change.key, []).append(held)
    return [merge.fold(key, changes) for key, changes in by_key.items()]


def _documents(
    connection: Connection, store: Store, feed: str, records: Sequence[Record], names: dict[PersonId, str]
) -> Iterator[dict[str, Any]]:
    """Each patient's documents. names: of members of staff, as far as they were looked up before."""
    authors = {charts.author(record) for record in records}
    names |= dict.fromkeys(authors - names.keys(), "") | charts.names(connection, store, feed, authors - names.keys())
    by_patient: dict[PatientId, list[Entry]] = {}
    for record in records:
        by_patient.setdefault(record.patient, []).append(_entry(record, names[charts.author(record)]))
    for entries in by_patient.values():
        yield from writing.bundles(entries)


def _entry(record: Record, author: str) -> Entry:
    line = exports.export_line(record, SYNC)
    saved_ms = min(exports.at_ms(held) for held in record.changes.values())
    return Entry(
        Key(record.key.kind, record.key.record),
        line["facility"],
        Key("patient", record.patient),
        line["at"],
        line["fields"],
        documents.time_text(saved_ms),
        author,
    )
