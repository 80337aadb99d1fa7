"""Receiving: the hub's half of "load, call, keep, commit", in batches.

It takes the locks in their one order (patients, then feeds), looks up which changes are held already, folds only records
that existed before, and writes the rest with one binary COPY (PROTOCOL.md §10). Nothing here checks who may write what:
`intake` and `replica.author` do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from hub_server import feed, queue, tallies
from hub_server.database import Connection
from hub_server.feed import Row
from hub_server.records import ORIGINS, Records
from hub_server.vault import NONCE_BYTES, PatientKey
from sync_protocol import change as changes
from sync_protocol import merge, replica, subscription
from sync_protocol.change import Change, ChangeId, FacilityCode, PatientId, RecordKey
from sync_protocol.feed_page import Cursor, Position, next_hash
from sync_protocol.merge import Held
from sync_protocol.replica import Joined
from sync_protocol.schema import Writer

DIGEST_BYTES: Final = 16
_COUNTED: Final = ("case", "referral")


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
    """What a batch came to. admitted: new items over all feeds; already_held: changes that were there before.

    due: patients whose subscriptions have to be looked at again. erased: changes of erased patients, not stored.
    """

    admitted: int
    already_held: int
    due: int = 0
    erased: int = 0


@dataclass(slots=True)
class _Batch:
    """What `receive` gathers while it holds its locks."""

    keys: dict[PatientId, PatientKey] = field(default_factory=dict)
    homes: dict[PatientId, FacilityCode] = field(default_factory=dict)
    new_patients: set[PatientId] = field(default_factory=set)
    arriving: dict[FacilityCode, list[Incoming]] = field(default_factory=dict)
    digests: dict[tuple[FacilityCode, PatientId], int] = field(default_factory=dict)
    subscribed: set[tuple[FacilityCode, PatientId]] = field(default_factory=set)
    receipts: dict[tuple[FacilityCode, bytes], int] = field(default_factory=dict)  # of what the feeds hold
    held_records: dict[tuple[FacilityCode, bytes], int] = field(default_factory=dict)  # and their first receipts
    days: set[tallies.Key] = field(default_factory=set)  # of which something is counted that changes
    already_held: int = 0
    erased: set[PatientId] = field(default_factory=set)


class Receiving:
    """Joins checked changes into the feeds. Thread-safe, as its records are."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._vault = records.vault

    def receive(self, connection: Connection, incoming: Sequence[Incoming], now_ms: int) -> Received:
        """Join checked changes into every feed they belong to, inside the caller's transaction.

        The same change twice is one change, and its receipt stands, unless a node shows an earlier one that this hub
        gave before it was put back (PROTOCOL.md §10.2). Raises InvalidValue (``E_UNKNOWN_FACILITY``).
        """
        if not incoming:
            return Received(0, 0)
        batch = _Batch()
        self._records.learn_facilities(connection, {one.facility for one in incoming})
        self._records.learn_facilities(connection, {one.change.facility for one in incoming if one.vouched})
        targets = self._hold_patients(connection, batch, incoming, now_ms)
        arrived = len(incoming)
        if batch.erased:
            incoming = [one for one in incoming if one.change.patient not in batch.erased]
        heads = feed.lock(connection, {facility for feeds in targets.values() for facility in feeds})
        self._load_held(connection, batch, targets)
        self._spare_the_provisional(batch, incoming)
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
            self._keep_queue(connection, batch, facility, results, now_ms)
            self._note_days(batch, facility)
        tallies.mark(connection, batch.days)
        due = self._mark_due(connection, batch)
        feed.advance(connection, heads)
        admitted = sum(len(items) for items in batch.arriving.values())
        return Received(admitted, batch.already_held, due, arrived - len(incoming))

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
        missing = [patient for patient in wanted if patient not in batch.keys and patient not in batch.erased]
        if missing:
            self._add_patients(connection, batch, missing, incoming, now_ms)
            self._share(connection, batch, [patient for patient in missing if patient not in batch.keys])
        standing = [patient for patient in wanted if patient in batch.keys and patient not in batch.new_patients]
        targets = {patient: set(feeds) for patient, feeds in senders.items() if patient in batch.keys}
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
        self._records.learn_facilities(connection, {FacilityCode(home) for _, home, _ in rows})
        for patient, home, wrapped in rows:
            if not wrapped:
                batch.erased.add(PatientId(patient))
                continue
            batch.keys[PatientId(patient)] = self._vault.patient_key(PatientId(patient), home, wrapped)
            batch.homes[PatientId(patient)] = FacilityCode(home)

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
        for one in sorted(incoming, key=lambda one: one.change.kind != "patient"):  # who registers it, if it is here
            first.setdefault(one.change.patient, one.change.facility if one.vouched else one.facility)
        homes = [first[patient] for patient in missing]
        made = [self._vault.new_patient_key(patient, home) for patient, home in zip(missing, homes, strict=True)]
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
                batch.homes[patient] = home
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
            first_ms = batch.held_records.get((facility, record), receipt_ms)
            batch.held_records[facility, record] = min(receipt_ms, first_ms)
        for facility, patient, digest in connection.execute(
            "SELECT s.facility, s.patient, s.digest FROM unnest(%b::text[], %b::bytea[]) AS wanted (f, p)"
            " JOIN subscription s ON s.facility = f AND s.patient = p",
            arguments,
            binary=True,
        ):
            batch.digests[facility, PatientId(patient)] = int.from_bytes(digest, "big")

    @staticmethod
    def _spare_the_provisional(batch: _Batch, incoming: Sequence[Incoming]) -> None:
        """Who wrote of a patient before anybody registered it is its home only until then, and gets nothing more."""
        for one in incoming:
            patient = one.change.patient
            home = batch.homes[patient]
            if one.change.facility == home or patient in batch.new_patients or (home, patient) in batch.held_records:
                continue
            if subscription.registers(one.change):
                batch.subscribed.discard((home, patient))

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
                raw = self._vault.open_payload(batch.keys[PatientId(patient)], payload, ChangeId(change))
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
        seal, tag_of = self._vault.seal_payload, self._vault.tag
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
                    [value.to_bytes(DIGEST_BYTES, "big") for value in changed.values()],
                    [name in batch.subscribed for name in changed],
                ),
            )

    def _keep_queue(
        self,
        connection: Connection,
        batch: _Batch,
        facility: FacilityCode,
        results: Sequence[Joined],
        now_ms: int,
    ) -> None:
        """The doctors' queue and the list of conflicts follow what was joined."""
        items = batch.arriving[facility]
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
            records = self._records.patient_records(connection, facility, patient)
            received = queue.derive(connection, facility, patient, records)
            if batch.homes[patient] == facility:
                batch.days.update((facility, tallies.day_of(received_ms)) for received_ms in received)

    @staticmethod
    def _note_days(batch: _Batch, facility: FacilityCode) -> None:
        """The days of which this feed's new items change a count (see `tallies`)."""
        for one in batch.arriving[facility]:
            change = one.change
            if change.kind in _COUNTED and batch.homes[change.patient] == facility:
                batch.days.add((facility, tallies.day_of(one.receipt_ms)))
                first_ms = batch.held_records.get((facility, change.record))
                if first_ms is not None and first_ms > one.receipt_ms:  # it counted for a later day before
                    batch.days.add((facility, tallies.day_of(first_ms)))
            elif one.origin is Writer.DOCTOR and change.facility == facility:
                batch.days.add((facility, tallies.day_of(one.receipt_ms)))

    @staticmethod
    def _mark_due(connection: Connection, batch: _Batch) -> int:
        """Patients of whom something arrived that says who is subscribed: most registrations are at home, and say
        nothing new."""
        due = {
            one.change.patient
            for items in batch.arriving.values()
            for one in items
            if one.change.kind in subscription.KINDS
            or (subscription.registers(one.change) and one.change.facility != batch.homes[one.change.patient])
        }
        feed.mark_due(connection, sorted(due))
        return len(due)
