"""The one door to patients' data: receive what was admitted, write as a hub's author, subscribe, read records.

A write at the hub is one transaction: read the record, author, receive. What it read there is what the person was
shown. Who may write what is `intake`'s and `replica.author`'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hub_server import feed, tallies
from hub_server.database import Connection, Database
from hub_server.receiving import DIGEST_BYTES, Incoming, Received, Receiving
from hub_server.records import Records
from hub_server.vault import Vault
from sync_protocol import hlc, replica
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, FacilityCode, PatientId, PersonId, RecordKey
from sync_protocol.errors import InvalidValue
from sync_protocol.hlc import Hlc
from sync_protocol.replica import Author
from sync_protocol.schema import Writer


@dataclass(frozen=True, slots=True)
class Entry:
    """One record's writes by a person at the hub. shown: field → the live writes that the person was shown."""

    key: RecordKey
    patient: PatientId
    writes: Mapping[str, Value]
    shown: Mapping[str, Sequence[ChangeId]] = field(default_factory=dict)


class Store(Records):
    """Thread-safe: it holds no state but the vault's caches."""

    def __init__(self, database: Database, vault: Vault) -> None:
        super().__init__(vault)
        self.database = database
        self._receiving = Receiving(self)

    def receive(self, connection: Connection, incoming: Sequence[Incoming], now_ms: int) -> Received:
        """Join checked changes into every feed they belong to, inside the caller's transaction (see `receiving`)."""
        return self._receiving.receive(connection, incoming, now_ms)

    # -- writing

    def write(
        self, facility: FacilityCode, entries: Sequence[Entry], *, person: PersonId, writer: Writer, now_ms: int
    ) -> list[Change]:
        """Author changes at the hub and put them into the feeds, in one transaction of their own.

        Raises what `replica.author` raises.
        """
        with self.database.transaction() as connection:
            return self.write_in(connection, facility, entries, person=person, writer=writer, now_ms=now_ms)

    def write_in(
        self,
        connection: Connection,
        facility: FacilityCode,
        entries: Sequence[Entry],
        *,
        person: PersonId,
        writer: Writer,
        now_ms: int,
    ) -> list[Change]:
        """As `write`, inside the caller's transaction: what it read there is what the person was shown."""
        stamp = self.hold_stamp(connection)
        authored = []
        for entry in entries:
            stamp = hlc.tick(stamp, now_ms)
            by = Author(
                writer, facility, self.vault.identity.hub, person, stamp, now_ms, self.vault.salt_of(entry.patient)
            )
            existing = self.record(connection, facility, entry.patient, entry.key)
            authored.append(replica.author(by, entry.key, entry.patient, entry.writes, entry.shown, existing=existing))
        connection.execute("UPDATE setting SET value = %s WHERE key = 'hlc'", (stamp.to_bytes(8, "big"),))
        self.receive(connection, [Incoming(facility, change, writer, now_ms) for change in authored], now_ms)
        return authored

    @staticmethod
    def hold_stamp(connection: Connection) -> Hlc:
        """The stamp of the hub's last change, held: who writes comes one after the other. It is held behind patients and
        before feeds, so whoever locks feeds of their own accord, and writes then, holds it first."""
        connection.execute("INSERT INTO setting (key, value) VALUES ('hlc', %s) ON CONFLICT DO NOTHING", (bytes(8),))
        row = connection.execute("SELECT value FROM setting WHERE key = 'hlc' FOR UPDATE").fetchone()
        return Hlc(int.from_bytes(row[0], "big")) if row else Hlc(0)

    # -- subscribing

    def subscribe(self, connection: Connection, patient: PatientId, facility: FacilityCode, now_ms: int) -> int:
        """Put a patient's whole history into one more feed; from the commit on every new change too.

        Returns how many items were added. Holding the patient FOR UPDATE, nothing of it can be admitted meanwhile.
        Raises InvalidValue (``E_UNKNOWN_PATIENT``, ``E_UNKNOWN_FACILITY``).
        """
        held = connection.execute("SELECT 1 FROM patient WHERE patient = %s FOR UPDATE", (patient,)).fetchone()
        if held is None:
            raise InvalidValue("the hub does not have this patient", code="E_UNKNOWN_PATIENT")
        if facility in feed.subscribers(connection, [patient]).get(patient, ()):
            return 0
        feed.head(connection, facility)
        history = self.history(connection, patient)
        connection.execute(
            "INSERT INTO subscription (facility, patient, digest, subscribed, since_ms) VALUES (%s, %s, %s, true, %s)"
            " ON CONFLICT (facility, patient) DO UPDATE SET subscribed = true",
            (facility, patient, bytes(DIGEST_BYTES), now_ms),
        )
        incoming = [
            Incoming(facility, held.change, held.origin, held.receipt_ms, vouched=True)
            for held in history
            if held.receipt_ms is not None
        ]
        return self.receive(connection, incoming, now_ms).admitted

    def move_home(self, connection: Connection, patient: PatientId, to: FacilityCode) -> None:
        """Another facility turns out to have registered the patient. The patient must be held FOR UPDATE."""
        row = connection.execute(
            "SELECT facility, wrapped_key FROM patient WHERE patient = %s", (patient,), binary=True
        ).fetchone()
        if row is not None:
            home, wrapped = row
            self.learn_facilities(connection, {FacilityCode(home), to})
            feed.lock(connection, {FacilityCode(home), to})
            tallies.mark_patient(connection, patient)
            connection.execute(
                "UPDATE patient SET facility = %s, wrapped_key = %s WHERE patient = %s",
                (to, self.vault.rewrap_patient_key(patient, home, wrapped, to), patient),
            )
            tallies.mark_patient(connection, patient)
