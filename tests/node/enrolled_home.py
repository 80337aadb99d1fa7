"""Homes of nodes that look enrolled, for tests that need no hub: real slots, a real database, keys of a made-up hub."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hwc_node import config as settings
from hwc_node import keystore, ledger, membership
from hwc_node.config import NodeConfig
from hwc_node.engine import begin_write
from hwc_node.ledger import Arrived
from hwc_node.store import Store
from sync_protocol import change as changes
from sync_protocol import keys
from sync_protocol.change import ChangeId, FacilityCode, NodeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.feed_page import Position
from sync_protocol.keys import Certificate, EnvironmentId, HubKeys, Identity, Recipient
from sync_protocol.merge import Held
from sync_protocol.schema import Writer

ENVIRONMENT = EnvironmentId(b"tests, not a hub")
FACILITY = FacilityCode("HWC000001")
PASSPHRASE = "four words make sense"
PERSON = PersonId(b"Asha, a person :")
PERSON_NAME = "Asha Devi"
ELSEWHERE = PersonId(b"a person far off")
NOW_MS = 1_770_000_000_000


@dataclass(frozen=True, slots=True)
class Home:
    """An enrolled home and its key. Its one person is `PERSON`."""

    config: NodeConfig
    key: bytes

    def open(self) -> Store:
        return Store.open(self.config, self.key)


def make_home(folder: Path, facility: FacilityCode = FACILITY, hub_url: str = "http://127.0.0.1:9") -> Home:
    """A home below ``folder``, its person in a key slot; port 9 of its hub answers nobody."""
    config = settings.load(folder / "home", {})
    settings.make_folders(config)
    key = _unused(config)
    root, hub, signer = Identity(os.urandom(32)), NodeId(os.urandom(16)), Identity(os.urandom(32))
    recipients = [
        (role, Recipient(os.urandom(64), os.urandom(32)).public.public)
        for role in (keys.ROLE_INGEST, keys.ROLE_RECOVERY)
    ]
    hub_keys = HubKeys(keys.DOCUMENT_VERSION, ENVIRONMENT, hub, root.public, signer.public, recipients, 1, NOW_MS)
    own, recipient, node = Identity(os.urandom(32)), Recipient(os.urandom(64), os.urandom(32)), os.urandom(16)
    certificate = Certificate(
        keys.DOCUMENT_VERSION, ENVIRONMENT, node, facility, "box", own.public, recipient.public.public, NOW_MS
    )
    values = {
        membership.NODE: node,
        membership.NODE_NAME: "box",
        membership.SIGNING_SEED: own.seed,
        membership.SEALING_SEEDS: recipient.seeds,
        membership.CERTIFICATE: keys.sign_document(certificate, root, ENVIRONMENT),
        membership.HUB_KEYS: keys.sign_document(hub_keys, root, ENVIRONMENT),
        membership.ROOT_FINGERPRINT: keys.fingerprint(root.public),
        membership.HUB_URL: hub_url,
        membership.FACILITY_NAME: "Rampur",
        membership.ENROLLED_MS: NOW_MS,
    }
    with Store.open(config, key) as store, begin_write(store.engine) as connection:
        membership.put(connection, values)
    return Home(config, key)


def _unused(config: NodeConfig) -> bytes:
    """Put slots and an empty database there, and give their key: the same each time. Who the home is comes later."""
    slots, key = _slots()
    config.slots_path.write_bytes(slots)
    config.slots_path.chmod(settings.FILE_MODE)
    put_empty_database(config, key)
    return key


@cache
def _slots() -> tuple[bytes, bytes]:
    """A file of slots, and its key."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "slots"
        key = keystore.create(file, PERSON, PERSON_NAME, PASSPHRASE)
        return file.read_bytes(), key


def put_empty_database(config: NodeConfig, key: bytes) -> None:
    """As ``create`` of `Store.open` makes it: copied, since making it takes longer than many a test."""
    config.database_path.write_bytes(_empty_database(key))
    config.database_path.chmod(settings.FILE_MODE)


@cache
def _empty_database(key: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        config = settings.load(Path(folder) / "home", {})
        settings.make_folders(config)
        Store.open(config, key, create=True).close()
        return config.database_path.read_bytes()


def fresh_id() -> bytes:
    """A UUIDv7."""
    raw = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    raw[6], raw[8] = raw[6] & 0x0F | 0x70, raw[8] & 0x3F | 0x80
    return bytes(raw)


def write(
    store: Store,
    person: PersonId,
    kind: str,
    writes: Mapping[str, object],
    *,
    record: bytes | None = None,
    patient: bytes | None = None,
    shown: Mapping[str, Sequence[ChangeId]] | None = None,
    now_ms: int = NOW_MS,
) -> RecordKey:
    """One saved change; the record's key."""
    key = RecordKey(kind, RecordId(record or fresh_id()))
    with store.writing(now_ms) as tx:
        tx.author(person, key, PatientId(patient or key.record), writes, shown)
    return key


def arrive(
    store: Store,
    kind: str,
    writes: Mapping[str, object],
    position: int,
    *,
    record: bytes | None = None,
    patient: bytes | None = None,
    origin: Writer = Writer.CENTRE,
    person: PersonId = ELSEWHERE,
    now_ms: int = NOW_MS,
    facility: str = "",
) -> RecordKey:
    """A change that another node or the hub wrote, as if a page of the feed had brought it; the record's key.

    facility: of its author, where it is another.
    """
    key = RecordKey(kind, RecordId(record or fresh_id()))
    change = changes.make(
        kind=kind,
        record=key.record,
        patient=PatientId(patient or key.record),
        facility=FacilityCode(facility) if facility else store.membership.facility,
        node=NodeId(b"a node elsewhere"),
        person=person,
        hlc=now_ms << 16 | position,
        after=0,
        salt=os.urandom(16),
        writes=dict(writes),
        supersedes={},
    )
    arrived = Arrived(Held(change, now_ms, origin), Position(position), bytes(8))
    with begin_write(store.engine) as connection:
        ledger.keep(connection, ledger.load(connection, [key]), [arrived])
    return key


def give_positions(store: Store, key: RecordKey, position: int) -> None:
    """The record's changes come back from the hub, all at this position and on."""
    with begin_write(store.engine) as connection:
        held = ledger.load(connection, [key])
        arrived = [
            Arrived(Held(one.change, NOW_MS + 1_000, one.origin), Position(position + at), bytes(8))
            for at, one in enumerate(held[key])
        ]
        ledger.keep(connection, held, arrived)
