"""Tells each centre of itself: its name, its hospital, whom it calls. The hub is the author (PROTOCOL.md §5).

The entry is a record in the centre's own feed, written where it differs from what the hub has now, one centre a
transaction: a number that every centre calls reaches them one after the other, and holds nobody up. Nothing is written
for a centre without a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hub_server import directory_due, duty, facilities, hospitals
from hub_server.database import Connection
from hub_server.store import Entry, Store
from sync_protocol import canonical, directory, documents
from sync_protocol.canonical import Value
from sync_protocol.change import FacilityCode, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.directory import Contact, Particulars
from sync_protocol.merge import Record
from sync_protocol.schema import SET_SEPARATOR, Writer

ENTRIES_A_RUN: Final = 2_000  # some twenty seconds of one core, then others of the clockwork have their turn
FIELDS_A_CHANGE: Final = 200  # of the 256 that a change may have


def settle(store: Store, now_ms: int, limit: int = ENTRIES_A_RUN) -> int:
    """Tell marked centres, at most so many; how many were told something."""
    told = 0
    for _ in range(limit):
        with store.database.transaction() as connection:
            facility = directory_due.take_next(connection)
            if facility is None:
                break
            told += _tell(connection, store, FacilityCode(facility), now_ms)
    return told


def settle_one(store: Store, facility: FacilityCode, now_ms: int) -> bool:
    """Tell one centre, if it is marked: whose node was enrolled just now. Whether it was told something."""
    with store.database.transaction() as connection:
        return directory_due.take(connection, facility) and _tell(connection, store, facility, now_ms)


def _tell(connection: Connection, store: Store, facility: FacilityCode, now_ms: int) -> bool:
    scope = PatientId(_scope(store, facility))
    key = RecordKey(directory.KIND, RecordId(scope))
    there = store.record(connection, facility, scope, key)
    writes = _missing(there, directory.fields_of(_particulars(connection, facility)))
    if not writes:
        return False
    shown = {name: list(there.live.get(name, ())) for name in writes} if there is not None else {}
    names = sorted(writes)
    groups = [names[at : at + FIELDS_A_CHANGE] for at in range(0, len(names), FIELDS_A_CHANGE)]
    entries = [
        Entry(key, scope, {name: writes[name] for name in group}, {name: shown.get(name, ()) for name in group})
        for group in groups
    ]
    hub = PersonId(store.vault.identity.hub)
    store.write_in(connection, facility, entries, person=hub, writer=Writer.HUB, now_ms=now_ms)
    return True


def _scope(store: Store, facility: FacilityCode) -> bytes:
    """The record's id: always the same, also after a restore, and none that a centre could guess and begin before."""
    return documents.derived_id("facility", store.vault.keyed_hash(b"directory entry", facility.encode()))


def _particulars(connection: Connection, facility: FacilityCode) -> Particulars:
    one = facilities.find_all(connection, facility)[0]
    hospital = hospitals.lookup(connection, one.hub)
    contacts = {
        specialty or directory.ANY: Contact(said.name, said.phone)
        for specialty, said in duty.contacts_for(connection, one.hub).items()
    }
    return Particulars(one.name, one.district, one.state, hospital.name if hospital is not None else "", contacts)


def _missing(there: Record | None, wanted: Mapping[str, Value]) -> dict[str, Value]:
    """What has to be written so that the record says what is wanted, and no contact more."""
    view = there.view() if there is not None else {}
    gone = _contacts(view).keys() - wanted.keys()
    found = {name: value for name, value in wanted.items() if not _same(view.get(name, ""), value)}
    return found | {name: {"present": False} for name in gone}


def _contacts(view: Mapping[str, Value]) -> dict[str, Value]:
    """The contacts that a record says are there."""
    begin = directory.CONTACTS + SET_SEPARATOR
    return {
        name: value
        for name, value in view.items()
        if name.startswith(begin) and isinstance(value, dict) and value.get("present") is not False
    }


def _same(one: Value, other: Value) -> bool:
    return canonical.encode(canonical.normalise(one)) == canonical.encode(canonical.normalise(other))
