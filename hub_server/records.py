"""Reading patients' data: the changes that stand in a feed, opened, and the records that they make.

Every row is opened with its patient's key and must hash to its own id, which binds it to its place. It refuses to know
who reads and why: the verbs note that in the audit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hub_server import feed
from hub_server.database import Connection
from hub_server.vault import PatientKey, Vault
from sync_protocol import change as changes
from sync_protocol import merge
from sync_protocol.change import ChangeId, FacilityCode, PatientId, RecordKey
from sync_protocol.errors import InvalidValue
from sync_protocol.feed_page import Cursor, Position
from sync_protocol.merge import Held, Record
from sync_protocol.schema import Writer

ORIGINS: Final = (Writer.CENTRE, Writer.DOCTOR, Writer.HUB)
_PATIENTS_A_READ: Final = 200  # whole patients at a time: bounds the memory of an export


class Records:
    """Thread-safe: it holds no state but the vault's caches."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def changes(
        self, connection: Connection, facility: str, patients: Sequence[PatientId], only: Sequence[bytes] | None = None
    ) -> Iterator[tuple[Position, Held]]:
        """The changes of these patients in a feed, patient by patient, in the order of their positions.

        only: the ids of the records that are wanted; None for all.
        """
        opened = self.keys_of(connection, patients)
        for position, change, patient, receipt_ms, origin, payload in connection.execute(
            "SELECT position, change, patient, receipt_ms, origin, payload FROM item"
            " WHERE facility = %s AND patient = ANY(%b) AND payload <> ''"
            + (" AND record = ANY(%b)" if only is not None else "")
            + " ORDER BY patient, position",
            (facility, list(patients), *([list(only)] if only is not None else [])),
            binary=True,
        ):
            raw = self.vault.open_payload(opened[PatientId(patient)], payload, ChangeId(change))
            yield position, Held(changes.parse(raw), receipt_ms, ORIGINS[origin])

    def keys_of(self, connection: Connection, patients: Sequence[PatientId]) -> dict[PatientId, PatientKey]:
        """Patient → its key, for those that were not erased."""
        rows = connection.execute(
            "SELECT patient, facility, wrapped_key FROM patient WHERE patient = ANY(%b) AND wrapped_key <> ''",
            (list(patients),),
            binary=True,
        ).fetchall()
        self.learn_facilities(connection, {FacilityCode(home) for _, home, _ in rows})
        return {
            PatientId(patient): self.vault.patient_key(PatientId(patient), home, wrapped)
            for patient, home, wrapped in rows
        }

    def patient_records(self, connection: Connection, facility: str, patient: PatientId) -> list[Record]:
        """Everything a feed holds of a patient, folded."""
        by_key: dict[RecordKey, list[Held]] = {}
        for _, held in self.changes(connection, facility, [patient]):
            by_key.setdefault(held.change.key, []).append(held)
        return [merge.fold(key, held) for key, held in by_key.items()]

    def record(self, connection: Connection, facility: str, patient: PatientId, key: RecordKey) -> Record | None:
        """One record of a feed, or None."""
        found = [one for one in self.patient_records(connection, facility, patient) if one.key == key]
        return found[0] if found else None

    def patients(self, connection: Connection, facility: str) -> Iterator[list[PatientId]]:
        """The patients that stand in a feed, by id, in groups that fit in memory with all their changes."""
        last = b""
        while True:
            rows = connection.execute(
                "SELECT patient FROM subscription WHERE facility = %s AND patient > %b ORDER BY patient LIMIT %s",
                (facility, last, _PATIENTS_A_READ),
            ).fetchall()
            if not rows:
                return
            last = bytes(rows[-1][0])
            yield [PatientId(bytes(row[0])) for row in rows]

    def records(self, connection: Connection, facility: str) -> Iterator[Record]:
        """All records of a feed, patient by patient."""
        for group in self.patients(connection, facility):
            by_key: dict[RecordKey, list[Held]] = {}
            for _, held in self.changes(connection, facility, group):
                by_key.setdefault(held.change.key, []).append(held)
            for key, held_changes in by_key.items():
                yield merge.fold(key, held_changes)

    @staticmethod
    def digest(connection: Connection, facility: str) -> int:
        """The digest of everything in a feed, as a node in step shows it."""
        rows = connection.execute("SELECT digest FROM subscription WHERE facility = %s", (facility,)).fetchall()
        return merge.add_digests(int.from_bytes(row[0], "big") for row in rows)

    @staticmethod
    def head(connection: Connection, facility: str) -> Cursor:
        return feed.head(connection, facility)

    def history(self, connection: Connection, patient: PatientId) -> list[Held]:
        """All changes of a patient, whichever feeds they stand in, each once with its earliest receipt."""
        earliest: dict[ChangeId, Held] = {}
        places = connection.execute("SELECT facility FROM subscription WHERE patient = %s", (patient,)).fetchall()
        for (facility,) in places:
            for _, held in self.changes(connection, facility, [patient]):
                there = earliest.get(held.change.id)
                if there is None or (held.receipt_ms or 0) < (there.receipt_ms or 0):
                    earliest[held.change.id] = held
        return sorted(earliest.values(), key=lambda held: (held.receipt_ms or 0, held.order))

    def learn_facilities(self, connection: Connection, facilities: set[FacilityCode]) -> None:
        unknown = [facility for facility in facilities if not self.vault.knows_facility(facility)]
        if unknown:
            for facility, wrapped in connection.execute(
                "SELECT facility, wrapped_key FROM facility WHERE facility = ANY(%s)", (unknown,)
            ).fetchall():
                self.vault.learn_facility(facility, wrapped)
            if not all(self.vault.knows_facility(facility) for facility in unknown):
                raise InvalidValue("a change is for a facility that the hub does not have", code="E_UNKNOWN_FACILITY")
