"""The one door to patients' data: receive what was admitted, write as a hub's author, read records.

`receive` is the hub's half of "load, call, keep, commit" in batches: it takes the locks in their one order (patients,
then feeds), looks up which changes are held already, folds only records that existed before, and writes the rest with
one binary COPY (PROTOCOL.md §10). Nothing here checks who may write what: `intake` and `replica.author` do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub_server import feed, queue
from hub_server.database import Connection, Database
from hub_server.feed import Row
from hub_server.vault import NONCE_BYTES, Vault
from sync_protocol import change as changes
from sync_protocol import hlc, merge, replica
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, FacilityCode, PatientId, PersonId, RecordKey
from sync_protocol.errors import InvalidValue
from sync_protocol.feed_page import Cursor, Position, next_hash
from sync_protocol.hlc import Hlc
from sync_protocol.merge import Held, Record
from sync_protocol.replica import Author, Joined
from sync_protocol.schema import Writer

ORIGINS: Final = (Writer.CENTRE, Writer.DOCTOR, Writer.HUB)
_DIGEST_BYTES: Final = 16
_PATIENTS_A_READ: Final = 200  # whole patients at a time: bounds the memory of an export


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """A checked change on its way into the feeds. facility: of the node that sent it, or whose referral it answers.

    vouched: this hub's own tag came with it, so that its receipt counts even where the change is held already.
    """

    facility: FacilityCode
    change: Change
    origin: Writer
    receipt_ms: int
    segment: bytes = b""
    segment_row: int = 0
    vouched: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """What a batch came to. admitted: new items over all feeds; already_held: changes that were there before."""

    admitted: int
    already_held: int


@dataclass(slots=True)
class _Batch:
    """What `receive` gathers while it holds its locks."""

    keys: dict[PatientId, AESGCM] = field(default_factory=dict)
    new_patients: set[PatientId] = field(default_factory=set)
    arriving: dict[FacilityCode, list[Incoming]] = field(default_factory=dict)
    digests: dict[tuple[FacilityCode, PatientId], int] = field(default_factory=dict)
    subscribed: set[tuple[FacilityCode, PatientId]] = field(default_factory=set)
    receipts: dict[tuple[FacilityCode, bytes], int] = field(default_factory=dict)  # of what the feeds hold
    held_records: set[tuple[FacilityCode, bytes]] = field(default_factory=set)
    already_held: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One record's writes by a person at the hub. shown: field → the live writes that the person was shown."""

    key: RecordKey
    patient: PatientId
    writes: Mapping[str, Value]
    shown: Mapping[str, Sequence[ChangeId]] = field(default_factory=dict)


class Store:
    """Thread-safe: it holds no state but the vault's caches."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self.database = database
        self.vault = vault

    # -- receiving

    def receive(self, connection: Connection, incoming: Sequence[Incoming], now_ms: int) -> Received:
        """Join checked changes into every feed they belong to, inside the caller's transaction.

        The same change twice is one change, and its receipt stands, unless a node shows an earlier one that this hub
        gave before it was put back (PROTOCOL.md §10.2). Raises InvalidValue (``E_UNKNOWN_FACILITY``).
        """
        if not incoming:
            return Received(0, 0)
        batch = _Batch()
        self._learn_facilities(connection, {one.facility for one in incoming})
        targets = self._hold_patients(connection, batch, incoming, now_ms)
        heads = feed.lock(connection, {facility for feeds in targets.values() for facility in feeds})
        self._load_held(connection, batch, targets)
        self._sort_out(batch, incoming, targets)
        joined = {
            facility: replica.receive(
                self._load_edited(connection, batch, facility, items),
                [Held(one.change, one.receipt_ms, one.origin) for one in items],
            )
            for facility, items in batch.arriving.items()
        }
        heads = self._append(connection, batch, heads)
        self._keep_digests(connection, batch, joined, now_ms)
        for facility, results in joined.items():
            self._keep_queue(connection, facility, results, batch.arriving[facility], now_ms)
        feed.advance(connection, heads)
        return Received(sum(len(items) for items in batch.arriving.values()), batch.already_held)

    def _learn_facilities(self, connection: Connection, facilities: set[FacilityCode]) -> None:
        unknown = [facility for facility in facilities if not self.vault.knows_facility(facility)]
        if unknown:
            for facility, wrapped in connection.execute(
                "SELECT facility, wrapped_key FROM facility WHERE facility = ANY(%s)", (unknown,)
            ).fetchall():
                self.vault.learn_facility(facility, wrapped)
            if not all(self.vault.knows_facility(facility) for facility in unknown):
                raise InvalidValue("a change is for a facility that the hub does not have", code="E_UNKNOWN_FACILITY")

    def _hold_patients(
        self, connection: Connection, batch: _Batch, incoming: Sequence[Incoming], now_ms: int
    ) -> dict[PatientId, set[FacilityCode]]:
        """Hold the patients' rows and say to which feeds each one's changes go: its subscribers', and the senders'."""
        senders: dict[PatientId, set[FacilityCode]] = {}
        for one in incoming:
            senders.setdefault(one.change.patient, set()).add(one.facility)
            if one.vouched:
                senders[one.change.patient].add(one.change.facility)  # whose node may have lost it
        wanted = sorted(senders)
        self._share(connection, batch, wanted)
        missing = [patient for patient in wanted if patient not in batch.keys]
        if missing:
            self._add_patients(connection, batch, missing, incoming, now_ms)
            self._share(connection, batch, [patient for patient in missing if patient not in batch.keys])
        standing = [patient for patient in wanted if patient not in batch.new_patients]
        targets = {patient: set(feeds) for patient, feeds in senders.items()}
        for patient, feeds in feed.subscribers(connection, standing).items():
            targets[patient].update(feeds)
            batch.subscribed.update((facility, patient) for facility in feeds)
        return targets

    def _share(self, connection: Connection, batch: _Batch, patients: Sequence[PatientId]) -> None:
        if not patients:
            return
        rows = connection.execute(
            "SELECT patient, facility, wrapped_key FROM patient WHERE patient = ANY(%b) ORDER BY patient FOR SHARE",
            (list(patients),),
            binary=True,
        ).fetchall()
        self._learn_facilities(connection, {FacilityCode(home) for _, home, _ in rows})
        for patient, home, wrapped in rows:
            batch.keys[PatientId(patient)] = self.vault.patient_key(PatientId(patient), home, wrapped)

    def _add_patients(
        self,
        connection: Connection,
        batch: _Batch,
        missing: Sequence[PatientId],
        incoming: Sequence[Incoming],
        now_ms: int,
    ) -> None:
        """Rows for patients that are new. Where another transaction is adding the same, this waits and takes its key.

        Home is the facility of the patient's first change, also where another one gives it back to a restored hub.
        """
        first: dict[PatientId, FacilityCode] = {}
        for one in incoming:
            first.setdefault(one.change.patient, one.change.facility if one.vouched else one.facility)
        homes = [first[patient] for patient in missing]
        made = [self.vault.new_patient_key(patient, home) for patient, home in zip(missing, homes, strict=True)]
        added = connection.execute(
            "INSERT INTO patient (patient, facility, wrapped_key, created_ms)"
            " SELECT p, f, k, %s FROM unnest(%b::bytea[], %b::text[], %b::bytea[]) AS fresh (p, f, k)"
            " ON CONFLICT DO NOTHING RETURNING patient",
            (now_ms, list(missing), homes, [wrapped for wrapped, _ in made]),
            binary=True,
        ).fetchall()
        fresh = {row[0] for row in added}
        for patient, home, (_, key) in zip(missing, homes, made, strict=True):
            if patient in fresh:
                batch.keys[patient] = key
                batch.new_patients.add(patient)
                batch.subscribed.add((home, patient))

    @staticmethod
    def _load_held(connection: Connection, batch: _Batch, targets: Mapping[PatientId, set[FacilityCode]]) -> None:
        """What the locked feeds hold of patients that existed before: ids, records, digests."""
        pairs = [
            (facility, patient)
            for patient, feeds in targets.items()
            if patient not in batch.new_patients
            for facility in feeds
        ]
        if not pairs:
            return
        arguments = ([facility for facility, _ in pairs], [patient for _, patient in pairs])
        for facility, change, record, receipt_ms in connection.execute(
            "SELECT i.facility, i.change, i.record, i.receipt_ms FROM unnest(%b::text[], %b::bytea[]) AS wanted (f, p)"
            " JOIN item i ON i.facility = f AND i.patient = p",
            arguments,
            binary=True,
        ):
            batch.receipts[facility, change] = min(receipt_ms, batch.receipts.get((facility, change), receipt_ms))
            batch.held_records.add((facility, record))
        for facility, patient, digest in connection.execute(
            "SELECT s.facility, s.patient, s.digest FROM unnest(%b::text[], %b::bytea[]) AS wanted (f, p)"
            " JOIN subscription s ON s.facility = f AND s.patient = p",
            arguments,
            binary=True,
        ):
            batch.digests[facility, PatientId(patient)] = int.from_bytes(digest, "big")

    @staticmethod
    def _sort_out(batch: _Batch, incoming: Sequence[Incoming], targets: Mapping[PatientId, set[FacilityCode]]) -> None:
        """Fill ``arriving``: for each feed, what it does not hold yet, or holds with a later receipt than is known."""
        receipts = batch.receipts
        for one in incoming:
            change = one.change
            name, patient = change.id, change.patient
            # the sender's and the author's feed hold what they sent; another feed only if it is subscribed
            feeds = [
                facility
                for facility in targets[patient]
                if facility in (one.facility, change.facility) or (facility, patient) in batch.subscribed
            ]
            told = [receipts[facility, name] for facility in feeds if (facility, name) in receipts]
            receipt_ms = min(told) if told else one.receipt_ms
            if one.vouched:
                receipt_ms = min(receipt_ms, one.receipt_ms)
            item = one if receipt_ms == one.receipt_ms else msgspec.structs.replace(one, receipt_ms=receipt_ms)
            new = False
            for facility in feeds:
                if receipt_ms < receipts.get((facility, name), receipt_ms + 1):
                    receipts[facility, name] = receipt_ms
                    batch.arriving.setdefault(facility, []).append(item)
                    new = True
            batch.already_held += not new

    def _load_edited(
        self, connection: Connection, batch: _Batch, facility: FacilityCode, items: Sequence[Incoming]
    ) -> dict[RecordKey, list[Held]]:
        """All held changes of the records that existed before: the only ones that have to be folded."""
        edited = {
            one.change.record: one.change.patient
            for one in items
            if (facility, one.change.record) in batch.held_records
        }
        held: dict[RecordKey, list[Held]] = {}
        if edited:
            for patient, change, receipt_ms, origin, payload in connection.execute(
                "SELECT i.patient, i.change, i.receipt_ms, i.origin, i.payload"
                " FROM unnest(%b::bytea[], %b::bytea[]) AS wanted (r, p)"
                " JOIN item i ON i.facility = %s AND i.patient = p AND i.record = r ORDER BY i.position",
                (list(edited), list(edited.values()), facility),
                binary=True,
            ):
                raw = self.vault.open_payload(batch.keys[PatientId(patient)], payload, ChangeId(change))
                one = Held(changes.parse(raw), receipt_ms, ORIGINS[origin])
                held.setdefault(one.change.key, []).append(one)
        return held

    def _append(
        self, connection: Connection, batch: _Batch, heads: Mapping[FacilityCode, Cursor]
    ) -> dict[FacilityCode, Cursor]:
        """Seal, tag and number the new items of all feeds; one COPY. Returns where the feeds end then."""
        rows: list[Row] = []
        sealed: dict[bytes, bytes] = {}
        moved: dict[FacilityCode, Cursor] = {}
        total = sum(len(items) for items in batch.arriving.values())
        nonces = os.urandom(NONCE_BYTES * total)
        at = 0
        seal, tag_of = self.vault.seal_payload, self.vault.tag
        for facility, items in batch.arriving.items():
            position, hashed = heads[facility].position, heads[facility].hash
            for one in items:
                change = one.change
                payload = sealed.get(change.id)
                if payload is None:
                    payload = seal(batch.keys[change.patient], change, nonces[at : at + NONCE_BYTES])
                    sealed[change.id] = payload
                    at += NONCE_BYTES
                origin = ORIGINS.index(one.origin)
                tag = tag_of(change.id, origin, one.receipt_ms)
                position = Position(position + 1)
                hashed = next_hash(hashed, tag)
                rows.append(
                    Row(
                        facility,
                        position,
                        change.id,
                        change.patient,
                        change.record,
                        change.kind,
                        one.receipt_ms,
                        origin,
                        tag,
                        hashed,
                        one.segment,
                        one.segment_row,
                        payload,
                    )
                )
            moved[facility] = Cursor(position, hashed)
        if rows:
            feed.append(connection, rows)
        return moved

    @staticmethod
    def _keep_digests(
        connection: Connection, batch: _Batch, joined: Mapping[FacilityCode, list[Joined]], now_ms: int
    ) -> None:
        changed: dict[tuple[FacilityCode, PatientId], int] = {}
        for facility, results in joined.items():
            for one in results:
                name = (facility, one.patient)
                before = changed.get(name, batch.digests.get(name, 0))
                changed[name] = merge.add_digests((before, one.digest_delta))
        if changed:
            connection.execute(
                "INSERT INTO subscription (facility, patient, digest, subscribed, since_ms)"
                " SELECT f, p, d, s, %s FROM unnest(%b::text[], %b::bytea[], %b::bytea[], %b::bool[]) AS kept (f, p, d, s)"
                " ON CONFLICT (facility, patient) DO UPDATE SET digest = EXCLUDED.digest",
                (
                    now_ms,
                    [facility for facility, _ in changed],
                    [patient for _, patient in changed],
                    [value.to_bytes(_DIGEST_BYTES, "big") for value in changed.values()],
                    [name in batch.subscribed for name in changed],
                ),
            )

    def _keep_queue(
        self,
        connection: Connection,
        facility: FacilityCode,
        results: Sequence[Joined],
        items: Sequence[Incoming],
        now_ms: int,
    ) -> None:
        """The doctors' queue and the list of conflicts follow what was joined."""
        folded = [one for one in results if one.record is not None]
        queue.keep_conflicts(connection, facility, folded, now_ms)
        again = {one.patient for one in folded if one.key.kind in queue.QUEUE_KINDS}
        again |= {one.change.patient for one in items if one.change.kind in queue.ANSWER_KINDS}
        queue.add_new(
            connection,
            facility,
            [
                (one.change, one.receipt_ms)
                for one in items
                if one.change.kind == "referral" and one.change.patient not in again
            ],
        )
        for patient in sorted(again):
            queue.derive(connection, facility, patient, self.patient_records(connection, facility, patient))

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
        stamp = self._last_stamp(connection)
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
    def _last_stamp(connection: Connection) -> Hlc:
        connection.execute("INSERT INTO setting (key, value) VALUES ('hlc', %s) ON CONFLICT DO NOTHING", (bytes(8),))
        row = connection.execute("SELECT value FROM setting WHERE key = 'hlc' FOR UPDATE").fetchone()
        return Hlc(int.from_bytes(row[0], "big")) if row else Hlc(0)

    # -- reading

    def changes(
        self, connection: Connection, facility: str, patients: Sequence[PatientId]
    ) -> Iterator[tuple[Position, Held]]:
        """The changes of these patients in a feed, patient by patient, in the order of their positions."""
        opened = self.keys_of(connection, patients)
        for position, change, patient, receipt_ms, origin, payload in connection.execute(
            "SELECT position, change, patient, receipt_ms, origin, payload FROM item"
            " WHERE facility = %s AND patient = ANY(%b) ORDER BY patient, position",
            (facility, list(patients)),
            binary=True,
        ):
            raw = self.vault.open_payload(opened[PatientId(patient)], payload, ChangeId(change))
            yield position, Held(changes.parse(raw), receipt_ms, ORIGINS[origin])

    def keys_of(self, connection: Connection, patients: Sequence[PatientId]) -> dict[PatientId, AESGCM]:
        """Patient → its key, for those that were not erased."""
        rows = connection.execute(
            "SELECT patient, facility, wrapped_key FROM patient WHERE patient = ANY(%b)", (list(patients),), binary=True
        ).fetchall()
        self._learn_facilities(connection, {FacilityCode(home) for _, home, _ in rows})
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
