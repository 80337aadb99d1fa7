"""Nodes enrolled at a paper hub, without passphrases and without HTTP: a store, its link, and few verbs for tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hwc_node import config as settings
from hwc_node import membership, outbox, standing, sync
from hwc_node.engine import begin_read, begin_write
from hwc_node.store import KeptRecord, Store, SyncState
from hwc_node.sync import ExchangeResult
from sync_protocol import keys, replica
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, FacilityCode, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.hlc import Hlc
from sync_protocol.keys import EnrolmentRequest, Identity, Recipient
from sync_protocol.replica import Author
from sync_protocol.schema import Writer
from tests.node.enrolled_home import put_empty_database
from tests.node.paper_hub import NOW_MS, PaperHub, PaperLink

FACILITY = FacilityCode("HWC000001")
PERSON = PersonId(b"Asha, a person :")
DOCTOR = PersonId(b"a doctor far off")
DATABASE_KEY = b"k" * 32
MANY_EXCHANGES = 60


@dataclass
class PaperNode:
    """A node in this program. Its clock stands still unless a test moves it."""

    store: Store
    hub: PaperHub
    link: PaperLink
    now_ms: int = NOW_MS

    @classmethod
    def make(cls, hub: PaperHub, folder: Path, facility: FacilityCode = FACILITY) -> PaperNode:
        """Enrol at the hub, and open."""
        config = settings.load(folder, {})
        settings.make_folders(config)
        put_empty_database(config, DATABASE_KEY)
        store = Store.open(config, DATABASE_KEY)
        identity, recipient = Identity(os.urandom(32)), Recipient(os.urandom(64), os.urandom(32))
        node, code = os.urandom(16), keys.parse_code(hub.new_code(facility, "http://127.0.0.1:9"))
        asked = EnrolmentRequest(1, code.secret, node, "box", identity.public, recipient.public.public)
        signed = keys.sign_document(asked, identity, hub.environment)
        sealed = keys.hpke_seal(hub.ingest.public, signed, b"health-sync/1 enrolment\x00" + hub.environment)
        status, answer = hub.enrol(sealed)
        assert status == 200
        certificate, hub_keys, _, name = msgspec.msgpack.decode(answer)
        values = {
            membership.NODE: node,
            membership.NODE_NAME: "box",
            membership.SIGNING_SEED: identity.seed,
            membership.SEALING_SEEDS: recipient.seeds,
            membership.CERTIFICATE: certificate,
            membership.HUB_KEYS: hub_keys,
            membership.ROOT_FINGERPRINT: code.root_fingerprint,
            membership.HUB_URL: code.url,
            membership.FACILITY_NAME: name,
            membership.ENROLLED_MS: NOW_MS,
        }
        with begin_write(store.engine) as connection:
            membership.put(connection, values)
        return cls(store, hub, PaperLink(hub))

    @property
    def folder(self) -> Path:
        return self.store.config.home

    def write(
        self,
        kind: str = "patient",
        writes: Mapping[str, Value] | None = None,
        *,
        record: bytes | None = None,
        patient: bytes | None = None,
        shown: Mapping[str, list[ChangeId]] | None = None,
    ) -> Change:
        """One saved change."""
        name = RecordId(record or os.urandom(16))
        with self.store.writing(self.now_ms) as block:
            return block.author(
                PERSON,
                RecordKey(kind, name),
                PatientId(patient or name),
                {"name": "Sita"} if writes is None else writes,
                shown,
            )

    def write_many(self, count: int) -> list[Change]:
        with self.store.writing(self.now_ms) as block:
            return [
                block.author(PERSON, RecordKey("patient", RecordId(name)), PatientId(name), {"name": f"Sita {at}"})
                for at, name in enumerate(os.urandom(16) for _ in range(count))
            ]

    def exchange(self, *, max_bytes: int | None = None) -> ExchangeResult:
        return sync.exchange(self.store, self.link, max_bytes=max_bytes, clock=lambda: self.now_ms)

    def settle(self) -> list[ExchangeResult]:
        """Exchange until nothing is left to do."""
        done = []
        for _ in range(MANY_EXCHANGES):
            done.append(self.exchange())
            if outbox.outlook(self.store).nothing:
                return done
        raise AssertionError(f"not settled after {MANY_EXCHANGES} exchanges: {outbox.outlook(self.store)}")

    def states(self) -> dict[ChangeId, SyncState]:
        return {one.held.change.id: one.sync for one in self.store.changes()}

    def positions(self) -> dict[ChangeId, int | None]:
        return {one.held.change.id: one.position for one in self.store.changes()}

    def kept(self, change: Change) -> KeptRecord:
        found = self.store.record(change.key)
        assert found is not None
        return found

    def assert_in_step(self) -> None:
        """This replica and the hub hold the same changes, and say so by the same digest."""
        assert set(self.states()) == set(self.hub.by_change)
        assert standing.digest(self.store) == self.hub.digest
        assert standing.integrity(self.store) == []

    def count(self, table: str) -> int:
        with begin_read(self.store.engine) as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() or 0)


def by_hub(
    hub: PaperHub,
    kind: str,
    writes: Mapping[str, Value],
    *,
    record: bytes | None = None,
    patient: bytes | None = None,
    writer: Writer = Writer.DOCTOR,
    stamp_ms: int = NOW_MS,
    shown: Mapping[str, list[ChangeId]] | None = None,
) -> Change:
    """A change that a doctor wrote at the hub, or another centre's node; not on the feed yet."""
    name = RecordId(record or os.urandom(16))
    by = Author(writer, FACILITY, hub.hub, DOCTOR, Hlc(stamp_ms << 16), 0, b"s" * 16)
    return replica.author(by, RecordKey(kind, name), PatientId(patient or name), writes, shown)
