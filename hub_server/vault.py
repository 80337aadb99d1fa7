"""The hub's own keys and the patients' keys: seal, open, tag, wrap.

Payloads are encrypted under a key per patient, wrapped by a key per facility, wrapped by a key-encryption key behind
the small interface `KeyWrapper` (a file for trials; a KMS or PKCS#11 in production: one call a facility, not one a
patient). Opened bytes must hash to their id, which binds rows to their place. Destroying a patient's key erases the
patient (PROTOCOL.md §7 and §12). The recovery key's private half is written once to a file of its own, to be moved away.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub_server.database import Connection
from hub_server.ledger import Ledger
from sync_protocol.change import Change, ChangeId, FacilityCode, NodeId, PatientId, change_id
from sync_protocol.errors import BadSignature, NeedsPerson, OurFault
from sync_protocol.feed_page import TAG_BYTES
from sync_protocol.keys import (
    ML_KEM_SEED_BYTES,
    ROLE_INGEST,
    ROLE_RECOVERY,
    SEED_BYTES,
    EnvironmentId,
    HubKeys,
    Identity,
    Recipient,
    RecipientPublic,
    Verifier,
    sign_document,
)

ROLE_SIGNING: Final = "signing"
ROLE_KEK: Final = "kek"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SALT_BYTES: Final = 16
_NOTED: Final = (
    "INSERT INTO setting (key, value) VALUES ('ledger', %s)"
    " ON CONFLICT (key) DO UPDATE SET value = GREATEST(setting.value, EXCLUDED.value)"
)
_CACHED_KEYS: Final = 20_000  # 32 bytes each and their cipher: about 10 MB
KEYS_FILE: Final = "hub-keys.json"
_RECOVERY_FILE: Final = "recovery-key.json"

PatientKey = AESGCM
"""A patient's key, ready to use. Nothing outside of this file looks into it."""


class KeyWrapper(Protocol):
    """Wraps facility keys. One call a facility."""

    def wrap(self, key: bytes, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FileWrapper:
    """The key-encryption key from a file: for trials. AES-256-GCM, random nonce, the context authenticated.

    retired: keys that what was wrapped before a rotation still opens with, also in an old backup.
    """

    key: bytes = field(repr=False)
    retired: tuple[bytes, ...] = field(default=(), repr=False)

    def wrap(self, key: bytes, context: bytes) -> bytes:
        return _wrap(AESGCM(self.key), key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        *others, last = (self.key, *self.retired)
        for key in others:
            with suppress(BadSignature):
                return _unwrap(AESGCM(key), wrapped, context)
        return _unwrap(AESGCM(last), wrapped, context)


def _wrap(cipher: AESGCM, key: bytes, context: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, key, context)


def _unwrap(cipher: AESGCM, wrapped: bytes, context: bytes) -> bytes:
    try:
        return cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
    except InvalidTag:
        raise BadSignature("a stored key or payload does not open: it was altered", code="E_STORED_ALTERED") from None


@dataclass(frozen=True, slots=True)
class Retired:
    """A key that was replaced. key: seeds of an ingest key, a key-encryption key; of others the public half alone."""

    role: str
    key: bytes = field(repr=False)
    at_ms: int


@dataclass(frozen=True, slots=True)
class HubIdentity:
    """Everything secret that the hub holds, as read from its key file."""

    environment: EnvironmentId
    hub: NodeId
    root: Identity
    signing: Identity
    ingest: Recipient
    recovery: RecipientPublic
    kek: bytes = field(repr=False)
    tag_key: bytes = field(repr=False)
    created_ms: int = 0
    serial: int = 1
    made_ms: Mapping[str, int] = field(default_factory=dict)  # role → when its newest key was made
    retired: tuple[Retired, ...] = ()

    def signed_keys(self) -> bytes:
        """The key list that nodes verify against the fingerprint in their code."""
        recipients = [(ROLE_INGEST, self.ingest.public.public), (ROLE_RECOVERY, self.recovery.public)]
        issued_ms = max((self.created_ms, *self.made_ms.values()))
        keys = HubKeys(
            1, self.environment, self.hub, self.root.public, self.signing.public, recipients, self.serial, issued_ms
        )
        return sign_document(keys, self.root, self.environment)

    def born_ms(self, role: str) -> int:
        """When the newest key of that role was made."""
        return self.made_ms.get(role, self.created_ms)

    @property
    def ingest_keys(self) -> tuple[Recipient, ...]:
        """All that a grant may be sealed to, the newest first."""
        return (self.ingest, *(Recipient.from_seeds(one.key) for one in self.retired if one.role == ROLE_INGEST))

    @property
    def retired_verifiers(self) -> tuple[Verifier, ...]:
        """Of what was signed before: the ledger keeps its old lines."""
        return tuple(Verifier(one.key) for one in self.retired if one.role == ROLE_SIGNING)

    @property
    def wrapper(self) -> FileWrapper:
        return FileWrapper(self.kek, tuple(one.key for one in self.retired if one.role == ROLE_KEK))


def load_or_make(folder: Path, now_ms: int) -> HubIdentity:
    """The hub's keys from their file, made on the first start. Raises NeedsPerson (``E_KEYS_DAMAGED``)."""
    file = folder / KEYS_FILE
    if not file.exists():
        _make(folder, now_ms)
    try:
        stored = json.loads(file.read_text())
        raw = {name: bytes.fromhex(value) for name, value in stored["keys"].items()}
        return HubIdentity(
            EnvironmentId(raw["environment"]),
            NodeId(raw["hub"]),
            Identity(raw["root"]),
            Identity(raw["signing"]),
            Recipient.from_seeds(raw["ingest"]),
            RecipientPublic(raw["recovery_public"]),
            raw["kek"],
            raw["tag"],
            int(stored["created_ms"]),
            int(stored.get("serial", 1)),
            {role: int(at_ms) for role, at_ms in stored.get("made_ms", {}).items()},
            tuple(
                Retired(str(one["role"]), bytes.fromhex(one["key"]), int(one["at_ms"]))
                for one in reversed(stored.get("retired", []))
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise NeedsPerson(
            "the hub's key file cannot be read; nothing was changed",
            code="E_KEYS_DAMAGED",
            next_step="put it back from the backup of the keys",
        ) from None


def _make(folder: Path, now_ms: int) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    recovery = Recipient(os.urandom(ML_KEM_SEED_BYTES), os.urandom(SEED_BYTES))
    keys = {
        "environment": os.urandom(16),
        "hub": os.urandom(16),
        "root": os.urandom(SEED_BYTES),
        "signing": os.urandom(SEED_BYTES),
        "ingest": os.urandom(ML_KEM_SEED_BYTES + SEED_BYTES),
        "recovery_public": recovery.public.public,
        "kek": os.urandom(KEY_BYTES),
        "tag": os.urandom(KEY_BYTES),
    }
    write_new(folder / _RECOVERY_FILE, {"keys": {"recovery": recovery.seeds.hex()}, "created_ms": now_ms})
    write_new(folder / KEYS_FILE, {"keys": {name: key.hex() for name, key in keys.items()}, "created_ms": now_ms})


def write_new(file: Path, content: Mapping[str, object]) -> None:
    """Write a secret file that did not exist: whole and durable, or not at all. Raises OurFault (``E_DISK_FULL``)."""
    temporary = file.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as out:
            json.dump(content, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(temporary, file)  # fails if another process made the file meanwhile: then its keys are the keys
        except FileExistsError:
            return
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OurFault(f"the hub's keys cannot be written ({error.strerror})", code="E_DISK_FULL") from None
    finally:
        temporary.unlink(missing_ok=True)


class Vault:
    """Opens and seals what stands in the database. Thread-safe: its caches are only ever added to and cleared."""

    def __init__(self, identity: HubIdentity, wrapper: KeyWrapper | None = None, ledger: Ledger | None = None) -> None:
        self.identity = identity
        self.ledger = ledger
        self._wrapper: KeyWrapper = wrapper or identity.wrapper
        self._tags = hmac.new(identity.tag_key, digestmod="sha256")  # keyed once: a copy costs less than a key
        self._facilities: dict[str, AESGCM] = {}
        self._patients: dict[bytes, AESGCM] = {}
        self._salts: dict[bytes, bytes] = {}

    def note(self, connection: Connection, kind: str, body: dict[str, Any], now_ms: int) -> None:
        """Into the ledger, before the caller's transaction commits what it says (see `ledger`). Who notes comes one after
        the other: behind the rows of what it says, before the hub's stamp and feeds are held (`feed`), and the audit."""
        if self.ledger is not None:
            seq = self.ledger.append(kind, body, now_ms)
            connection.execute(_NOTED, (seq.to_bytes(8, "big"),))

    # -- facility keys

    def new_facility_key(self, facility: FacilityCode) -> bytes:
        """A new facility's key, wrapped for its row. `learn_facility` once the row is there, and is this one."""
        return self._wrapper.wrap(os.urandom(KEY_BYTES), b"facility\x00" + facility.encode())

    def knows_facility(self, facility: str) -> bool:
        return facility in self._facilities

    def learn_facility(self, facility: str, wrapped: bytes) -> None:
        self._facilities[facility] = AESGCM(self._wrapper.unwrap(wrapped, b"facility\x00" + facility.encode()))

    # -- patient keys

    def new_patient_key(self, patient: PatientId, home: str) -> tuple[bytes, AESGCM]:
        """(wrapped for the patient's row, ready to use). Remember it with `remember_patient` once it is committed."""
        key = os.urandom(KEY_BYTES)
        return _wrap(self._facilities[home], key, b"patient\x00" + patient), AESGCM(key)

    def patient_key(self, patient: PatientId, home: str, wrapped: bytes) -> AESGCM:
        """A patient's key from its row. Raises BadSignature (``E_STORED_ALTERED``)."""
        cached = self._patients.get(patient)
        if cached is None:
            cached = AESGCM(_unwrap(self._facilities[home], wrapped, b"patient\x00" + patient))
            self.remember_patient(patient, cached)
        return cached

    def rewrap_patient_key(self, patient: PatientId, home: str, wrapped: bytes, to: str) -> bytes:
        """A patient's key for the row of a patient that moves to another home. Raises BadSignature."""
        context = b"patient\x00" + patient
        return _wrap(self._facilities[to], _unwrap(self._facilities[home], wrapped, context), context)

    def remember_patient(self, patient: PatientId, key: AESGCM) -> None:
        if len(self._patients) >= _CACHED_KEYS:
            self._patients.clear()
        self._patients[patient] = key

    def forget_patient(self, patient: PatientId) -> None:
        """Its key is destroyed. Other programs' caches open nothing either: there is no payload any more."""
        self._patients.pop(patient, None)

    def salt_of(self, patient: PatientId) -> bytes:
        """16 bytes for the hub's own changes, drawn once for each run and patient (PROTOCOL.md §3)."""
        if len(self._salts) >= _CACHED_KEYS:
            self._salts.clear()
        return self._salts.setdefault(patient, os.urandom(SALT_BYTES))

    # -- payloads, tags, secrets

    @staticmethod
    def seal_payload(key: AESGCM, change: Change, nonce: bytes) -> bytes:
        """nonce: 12 random bytes."""
        return nonce + key.encrypt(nonce, change.raw, change.id)

    @staticmethod
    def open_payload(key: AESGCM, payload: bytes, name: ChangeId) -> bytes:
        """A change's bytes. Raises BadSignature (``E_STORED_ALTERED``) unless they open and hash to their id."""
        raw = _unwrap(key, payload, name)
        if change_id(raw) != name:
            raise BadSignature("a stored payload is not the change that its row names", code="E_STORED_ALTERED")
        return raw

    @staticmethod
    def seal_text(key: AESGCM, text: bytes, context: bytes, nonce: bytes) -> bytes:
        """What the hub keeps of a patient beside the records: a doctor's draft, a reason. context: what it is, and whose;
        longer than an id, so that no payload is taken for it. nonce: 12 random bytes."""
        return nonce + key.encrypt(nonce, text, b"text\x00" + context)

    @staticmethod
    def open_text(key: AESGCM, sealed: bytes, context: bytes) -> bytes:
        """Raises BadSignature (``E_STORED_ALTERED``)."""
        return _unwrap(key, sealed, b"text\x00" + context)

    def tag(self, name: bytes, origin: int, receipt_ms: int) -> bytes:
        """The hub's MAC over change id, origin and receipt, with a key kept outside the database: 8 bytes."""
        mac = self._tags.copy()
        mac.update(name + bytes([origin]) + receipt_ms.to_bytes(8, "big"))
        return mac.digest()[:TAG_BYTES]

    def holds_tag(self, name: bytes, origin: int, receipt_ms: int, tag: bytes) -> bool:
        """Whether this hub once said this of the change."""
        if not 0 <= origin < 256 or not 0 <= receipt_ms < 1 << 63:
            return False
        return hmac.compare_digest(self.tag(name, origin, receipt_ms), tag)

    def rewrap_facility(self, facility: str, wrapped: bytes) -> bytes:
        """What a retired key-encryption key may have wrapped, under the newest. Raises BadSignature."""
        return self._rewrap(wrapped, b"facility\x00" + facility.encode())

    def rewrap_secret(self, wrapped: bytes, context: bytes) -> bytes:
        """The same for a grant's secret."""
        return self._rewrap(wrapped, b"grant\x00" + context)

    def _rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        return self._wrapper.wrap(self._wrapper.unwrap(wrapped, context), context)

    def rewrap_credential(self, wrapped: bytes, context: bytes) -> bytes:
        """The same for what somebody signs in with."""
        return self._rewrap(wrapped, b"credential\x00" + context)

    def wrap_secret(self, secret: bytes, context: bytes) -> bytes:
        return self._wrapper.wrap(secret, b"grant\x00" + context)

    def unwrap_secret(self, wrapped: bytes, context: bytes) -> bytes:
        return self._wrapper.unwrap(wrapped, b"grant\x00" + context)

    def wrap_credential(self, secret: bytes, context: bytes) -> bytes:
        """So that a backup alone holds nothing to guess passwords from. context: what it is, and whose."""
        return self._wrapper.wrap(secret, b"credential\x00" + context)

    def unwrap_credential(self, wrapped: bytes, context: bytes) -> bytes:
        """Raises BadSignature (``E_STORED_ALTERED``)."""
        return self._wrapper.unwrap(wrapped, b"credential\x00" + context)

    def keyed_hash(self, purpose: bytes, value: bytes) -> bytes:
        """What is only looked for again, under a key kept outside the database: 32 bytes. purpose: without a zero byte."""
        key = hmac.digest(self.identity.tag_key, b"hub keyed hash 1\x00" + purpose, "sha256")
        return hmac.digest(key, value, "sha256")
