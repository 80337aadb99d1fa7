"""Enrolment: makes a home's key slots, database and identity, and joins a hub by a one-time code.

Rules. The code carries the fingerprint of the hub's root key, so the first byte that is believed is already signed.
The node's keys are durable before the code is spent: when the answer is lost, or the power goes at any moment, the same
command repeated asks as the same node and gets the same certificate. Nothing is made on the disk before the right
keys of a hub are here. Once the hub has answered, the centre's own authority for its pages is made as well; what a power
cut prevents of that is made later (`server_certificate`). It refuses to know what is recorded and synced later.

Online `enrol` does it all. By files (PROTOCOL.md §7.6), for a centre without a link, people carry three of them:

    hub     hub enrol FACILITY --file code.hubcode          the code and the hub's key list       → to the centre
    centre  hwc enrol --offline code.hubcode    (`ask`)     the sealed request, code.hubrequest   → to the hub
    hub     hub enrol --answer code.hubrequest ANSWER       the certificate                       → to the centre
    centre  hwc enrol --offline ANSWER          (`complete`)

The middle two are byte for byte what POST /v1/enrol takes and gives. Each step may be repeated, and gives the same.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from typing import Final

import msgspec

from hwc_node import keystore, membership, server_certificate, sync
from hwc_node.config import NodeConfig, make_folders
from hwc_node.engine import begin_read, begin_write
from hwc_node.keystore import DatabaseKey
from hwc_node.store import Store
from sync_protocol import ahead_page, keys
from sync_protocol.change import FacilityCode, NodeId, PatientId, PersonId, RecordId, RecordKey, is_facility_code
from sync_protocol.errors import BadSignature, Malformed, NeedsPerson
from sync_protocol.hlc import MAX_TIME_MS
from sync_protocol.keys import Certificate, EnrolmentCode, EnrolmentRequest, EnvironmentId, HubKeys, Identity, Recipient

KEYS_PATH: Final = "/v1/keys"
ENROL_PATH: Final = "/v1/enrol"
ENROL_INFO: Final = b"health-sync/1 enrolment\x00"
MAX_ANSWER_BYTES: Final = 64 * 1024  # a certificate, a key list and a facility's name are some 8 KiB
MAX_NODE_NAME_CHARS: Final = 100  # what the hub takes
LOCK_WAIT_S: Final = 30.0
FIRST_ROLE: Final = "cho"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What came of it. person: the author whom the first slot belongs to."""

    node: NodeId
    facility: FacilityCode
    facility_name: str
    hub_url: str
    person: PersonId
    store_key: DatabaseKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """An enrolment by files that has begun. sealed: for the hub; the same again for the same code."""

    node: NodeId
    hub_url: str
    sealed: bytes = field(repr=False)


class _Answer(msgspec.Struct, array_like=True, frozen=True):
    certificate: bytes
    hub_keys: bytes
    directory: list[bytes]  # comes by the feed as well, with positions: what has none would be sent back as ours
    facility_name: str


def is_enrolled(config: NodeConfig) -> bool:
    """Whether there are slots and a database. Does not open them."""
    return config.slots_path.exists() and config.database_path.exists()


def enrol(
    config: NodeConfig,
    code_text: str,
    *,
    person_name: str,
    passphrase: str,
    now_ms: int,
    node_name: str = "",
    hub_url: str | None = None,
) -> Enrolled:
    """Make the home and enrol. Safe to repeat with the same passphrase.

    Raises InvalidValue (``E_CODE_MISTYPED``, ``E_WEAK_PASSPHRASE``, ``E_BAD_NAME``), NeedsPerson
    (``E_ALREADY_ENROLLED``, ``E_WRONG_PASSPHRASE``), RefusedByHub (``E_CODE_UNKNOWN``, ``E_CODE_USED``,
    ``E_CODE_EXPIRED``), HubOutOfReach, BadSignature (``E_WRONG_HUB``), OurFault (``E_HUB_ADDRESS``, the disk's).
    """
    code = keys.parse_code(code_text)
    url = hub_url or config.hub_url or code.url
    name = keystore.checked_name(person_name)
    if not config.slots_path.exists():
        keystore.checked_passphrase(passphrase, name)
    make_folders(config)
    with sync.one_at_a_time(config.lock_path, LOCK_WAIT_S), sync.open_hub(config, url) as hub:
        unlocked = _refuse_enrolled(config, passphrase, now_ms)
        listed = keys.verify_hub_keys(hub.get_document(KEYS_PATH, keys.MAX_DOCUMENT_BYTES), code.root_fingerprint)
        person, key = unlocked or _make_slots(config, name, passphrase, now_ms)
        with Store.open(config, key, create=True) as store:
            asking = _identity(store, node_name, now_ms)
            sealed = asking.request(code, listed)
            answer = _read_answer(hub.post_document(ENROL_PATH, sealed, MAX_ANSWER_BYTES))
            _join(store, asking, answer, code, url, now_ms)
            introduce(store, person, name, now_ms, FIRST_ROLE)
            server_certificate.authority(store)
            member = store.membership
    return Enrolled(member.node, member.facility, member.facility_name, member.hub_url, person, key)


def ask(
    config: NodeConfig,
    code_file: bytes,
    *,
    person_name: str,
    passphrase: str,
    now_ms: int,
    node_name: str = "",
    hub_url: str | None = None,
) -> Request:
    """Make the home, and the request that is carried to the hub. Raises as `enrol` does, without the hub's refusals."""
    code, signed = keys.read_code_file(code_file)
    listed = keys.verify_hub_keys(signed, code.root_fingerprint)
    url = sync.hub_address(config, hub_url or config.hub_url or code.url)
    name = keystore.checked_name(person_name)
    if not config.slots_path.exists():
        keystore.checked_passphrase(passphrase, name)
    make_folders(config)
    with sync.one_at_a_time(config.lock_path, LOCK_WAIT_S):
        unlocked = _refuse_enrolled(config, passphrase, now_ms)
        _, key = unlocked or _make_slots(config, name, passphrase, now_ms)
        with Store.open(config, key, create=True) as store:
            asking = _identity(store, node_name, now_ms)
            with begin_write(store.engine) as connection:
                begun = membership.get(connection, membership.ENROLLING)
                if not begun or begun[:2] != [code.text(), url]:
                    begun = [code.text(), url, asking.request(code, listed)]
                    membership.put(connection, {membership.ENROLLING: begun})
    return Request(asking.node, url, begun[2])


def complete(config: NodeConfig, raw: bytes, *, passphrase: str, now_ms: int) -> Enrolled:
    """Take in the answer to `ask` that somebody brought. The same answer again changes nothing.

    Raises NeedsPerson (``E_NO_REQUEST``, ``E_ALREADY_ENROLLED``, ``E_WRONG_PASSPHRASE``), BadSignature
    (``E_WRONG_HUB``, ``E_WRONG_CERTIFICATE``), Malformed.
    """
    expect_request(config, raw)
    answer = _read_answer(raw)
    with sync.one_at_a_time(config.lock_path, LOCK_WAIT_S):
        unlocked = keystore.unlock(config.slots_path, passphrase)
        with Store.open(config, unlocked.key) as store:
            with begin_read(store.engine) as connection:
                values = membership.get_all(connection)
            begun, certified = values.get(membership.ENROLLING), values.get(membership.CERTIFICATE)
            if certified and certified != answer.certificate:
                raise _enrolled_already()
            if not certified:
                if not begun or membership.NODE not in values:
                    raise _nothing_asked()
                _join(store, _identity(store, "", now_ms), answer, keys.parse_code(begun[0]), begun[1], now_ms)
            introduce(store, unlocked.person, unlocked.slot.name or "", now_ms)  # a power cut may have come before
            server_certificate.authority(store)
            member = store.membership
    return Enrolled(member.node, member.facility, member.facility_name, member.hub_url, unlocked.person, unlocked.key)


def expect_request(config: NodeConfig, raw: bytes) -> None:
    """Raise Malformed where this is no answer, NeedsPerson where this home never asked. Opens nothing."""
    _read_answer(raw)
    if not is_enrolled(config):
        raise _nothing_asked()


def is_code_file(raw: bytes) -> bool:
    """Whether this is what `ask` takes, and not what `complete` does."""
    return raw.lstrip().startswith(keys.CODE_FILE_BEGINS)


def _nothing_asked() -> NeedsPerson:
    return NeedsPerson(
        "This home has not asked to be enrolled, so there is nothing to complete.",
        code="E_NO_REQUEST",
        next_step="Begin with the hub's file: hwc enrol --offline code.hubcode",
    )


def _enrolled_already() -> NeedsPerson:
    return NeedsPerson(
        "This home is enrolled already.",
        code="E_ALREADY_ENROLLED",
        next_step="Look at it with: hwc status. For another node choose another folder with HWC_HOME.",
    )


def _refuse_enrolled(config: NodeConfig, passphrase: str, now_ms: int) -> tuple[PersonId, DatabaseKey] | None:
    """Of an enrolment that was begun, its person and key; None where nothing was begun."""
    if not config.slots_path.exists():
        return None
    unlocked = keystore.unlock(config.slots_path, passphrase)
    if config.database_path.exists():
        with Store.open(config, unlocked.key) as store:
            with begin_read(store.engine) as connection:
                certified = membership.get(connection, membership.CERTIFICATE)
            if certified:
                introduce(store, unlocked.person, unlocked.slot.name or "", now_ms)  # a power cut may have come before
                raise _enrolled_already()
    return unlocked.person, unlocked.key


def _make_slots(config: NodeConfig, name: str, passphrase: str, now_ms: int) -> tuple[PersonId, DatabaseKey]:
    person = PersonId(time_ordered_id(now_ms))
    return person, keystore.create(config.slots_path, person, name, passphrase)


def time_ordered_id(now_ms: int) -> bytes:
    """A new UUID of version 7: 48 bits of milliseconds, the rest random."""
    raw = bytearray(min(max(now_ms, 0), MAX_TIME_MS).to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A node that is not enrolled yet."""

    node: NodeId
    name: str
    identity: Identity
    recipient: Recipient

    def request(self, code: EnrolmentCode, listed: HubKeys) -> bytes:
        """The request: signed by the key that it names, sealed to the hub's ingest key."""
        environment = EnvironmentId(listed.environment)
        asked = EnrolmentRequest(
            keys.DOCUMENT_VERSION,
            code.secret,
            self.node,
            self.name,
            self.identity.public,
            self.recipient.public.public,
        )
        signed = keys.sign_document(asked, self.identity, environment)
        return keys.hpke_seal(listed.recipient(keys.ROLE_INGEST), signed, ENROL_INFO + environment)


def _identity(store: Store, node_name: str, now_ms: int) -> _Asking:
    """The identity that this database has, or a new one: durable before anybody hears of it."""
    with begin_write(store.engine) as connection:
        values = membership.get_all(connection)
        if membership.NODE not in values:
            values = {
                membership.NODE: time_ordered_id(now_ms),
                membership.NODE_NAME: (node_name or platform.node() or "node")[:MAX_NODE_NAME_CHARS],
                membership.SIGNING_SEED: os.urandom(keys.SEED_BYTES),
                membership.SEALING_SEEDS: os.urandom(keys.ML_KEM_SEED_BYTES + keys.SEED_BYTES),
                membership.AHEAD: ahead_page.BEGIN.encode(),  # what people need today first
            }
            membership.put(connection, values)
    return _Asking(
        NodeId(values[membership.NODE]),
        values[membership.NODE_NAME],
        Identity(values[membership.SIGNING_SEED]),
        Recipient.from_seeds(values[membership.SEALING_SEEDS]),
    )


def _read_answer(raw: bytes) -> _Answer:
    try:
        return msgspec.msgpack.decode(raw, type=_Answer)
    except (msgspec.MsgspecError, RecursionError, ValueError, TypeError):
        raise Malformed("the hub's answer to the enrolment cannot be read") from None


def _join(store: Store, asking: _Asking, answer: _Answer, code: EnrolmentCode, url: str, now_ms: int) -> None:
    """Verify what the hub certified, and keep it. Raises BadSignature or Malformed, and keeps nothing then."""
    listed = keys.verify_hub_keys(answer.hub_keys, code.root_fingerprint)
    environment = EnvironmentId(listed.environment)
    certificate = keys.verify_document(answer.certificate, Certificate, keys.Verifier(listed.root_key), environment)
    ours = (asking.node, asking.identity.public, asking.recipient.public.public, environment)
    named = (certificate.node, certificate.signing_key, certificate.sealing_key, certificate.environment)
    if named != ours:
        raise BadSignature("the hub certified another node than this one", code="E_WRONG_CERTIFICATE")
    if not is_facility_code(certificate.facility):
        raise Malformed("the hub certified a facility whose code is malformed")
    with begin_write(store.engine) as connection:
        membership.put(
            connection,
            {
                membership.CERTIFICATE: answer.certificate,
                membership.HUB_KEYS: answer.hub_keys,
                membership.ROOT_FINGERPRINT: code.root_fingerprint,
                membership.HUB_URL: sync.hub_address(store.config, url),
                membership.FACILITY_NAME: answer.facility_name,
                membership.ENROLLED_MS: now_ms,
                membership.ENROLLING: None,
            },
        )


def introduce(store: Store, person: PersonId, name: str, now_ms: int, role: str = FIRST_ROLE) -> None:
    """Write the person's entry in the directory, unless there is one: so that everyone sees a name, not an id."""
    key = RecordKey("person", RecordId(person))
    with store.writing(now_ms) as block:
        if block.record(key) is None:
            block.author(person, key, PatientId(person), {"name": name, "role": role})
