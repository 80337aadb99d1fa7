"""Keys and what is said about them: identities, recipients, grants, certificates, the hub's key list, enrolment codes.

Compositions (PROTOCOL.md §7), none of our own making: Ed25519 signatures over a label, the environment and the message;
HPKE (RFC 9180) with ML-KEM-768 + X25519 for grants; HKDF-SHA256 for the segment key. The environment's id is in every
signature and every derivation, so a test hub cannot take production's records. Randomness and the sealing function are
arguments. A hybrid private key has no serialiser of its own: it is kept as its two seeds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NewType, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sync_protocol.errors import BadSignature, InvalidValue, Malformed, TooLarge, WrongRecipient

EnvironmentId = NewType("EnvironmentId", bytes)
"""16 bytes that tell one deployment from another."""
GrantId = NewType("GrantId", bytes)
"""16 bytes: SHA-256 of a label and the secret, so the id commits to the key."""

SIGNATURE_BYTES: Final = 64
SEED_BYTES: Final = 32
ML_KEM_SEED_BYTES: Final = 64
ML_KEM_PUBLIC_BYTES: Final = 1184
RECIPIENT_PUBLIC_BYTES: Final = ML_KEM_PUBLIC_BYTES + 32
SECRET_BYTES: Final = 32
SEALED_SECRET_BYTES: Final = 1168  # 1088 (ML-KEM-768) + 32 (X25519) + 32 (the secret) + 16 (tag)
KEY_ID_BYTES: Final = 8
GRANT_ID_BYTES: Final = 16
CODE_FILE_BEGINS: Final = b"health-sync enrolment code 1"
MAX_CODE_FILE_BYTES: Final = 32 * 1024  # a code's line and a key list's
MAX_DOCUMENT_BYTES: Final = 16 * 1024  # a key list of four hybrid keys is 6 KiB
FINGERPRINT_BYTES: Final = 16
CODE_SECRET_BYTES: Final = 10  # 80 bits, single use, expiring, checked by the hub only
_CODE_CHECK_BYTES: Final = 2  # catches a mistyped code before it is sent
_CODE_BYTES: Final = CODE_SECRET_BYTES + FINGERPRINT_BYTES + _CODE_CHECK_BYTES

TO_HUB: Final = "to-hub"
TO_NODE: Final = "to-node"
ROLE_INGEST: Final = "ingest"
ROLE_RECOVERY: Final = "recovery"
ROLE_NODE: Final = "node"

_SUITE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LETTER: Final = {letter: at for at, letter in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}


def _label(purpose: str, environment: bytes) -> bytes:
    return b"health-sync/1 " + purpose.encode() + b"\x00" + environment


@dataclass(frozen=True, slots=True)
class Verifier:
    """An Ed25519 public key, 32 bytes, ready to verify."""

    public: bytes
    _key: Ed25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "_key", Ed25519PublicKey.from_public_bytes(self.public))
        except ValueError:
            raise Malformed("an Ed25519 public key is malformed") from None

    def verify(self, purpose: str, environment: EnvironmentId, message: bytes, signature: bytes) -> None:
        """Raise BadSignature unless the signature is of this key, purpose, environment and message."""
        try:
            self._key.verify(signature, _label(purpose, environment) + message)
        except InvalidSignature:
            raise BadSignature(f"the signature of this {purpose} does not verify") from None


@dataclass(frozen=True, slots=True)
class Identity:
    """An Ed25519 private key, kept as its 32-byte seed."""

    seed: bytes = field(repr=False)
    public: bytes = field(init=False)
    _key: Ed25519PrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "public", key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, purpose: str, environment: EnvironmentId, message: bytes) -> bytes:
        return self._key.sign(_label(purpose, environment) + message)

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.public)


@dataclass(frozen=True, slots=True)
class RecipientPublic:
    """A hybrid HPKE public key: 1,184 bytes of ML-KEM-768 and 32 of X25519."""

    public: bytes = field(repr=False)
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        if len(self.public) != RECIPIENT_PUBLIC_BYTES:
            raise Malformed("an HPKE public key is not 1,216 bytes")
        object.__setattr__(self, "key_id", hashlib.sha256(b"health-sync/1 hpke key\x00" + self.public).digest()[:8])

    def _loaded(self) -> hpke.MLKEM768X25519PublicKey:
        try:
            return hpke.MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.public[:ML_KEM_PUBLIC_BYTES]),
                X25519PublicKey.from_public_bytes(self.public[ML_KEM_PUBLIC_BYTES:]),
            )
        except ValueError:
            raise Malformed("an HPKE public key is malformed") from None

    def seal(self, plain: bytes, info: bytes) -> bytes:
        """HPKE base mode, single shot. The library draws the randomness. Raises Malformed for a key that is none."""
        try:
            return _SUITE.encrypt(plain, self._loaded(), info)
        except ValueError:  # a point of low order, with which no secret can be agreed
            raise Malformed("an HPKE public key is malformed") from None


@dataclass(frozen=True, slots=True)
class Recipient:
    """A hybrid HPKE private key, kept as its two seeds: 64 bytes of ML-KEM-768 and 32 of X25519."""

    ml_kem_seed: bytes = field(repr=False)
    x25519_seed: bytes = field(repr=False)
    public: RecipientPublic = field(init=False)
    _key: hpke.MLKEM768X25519PrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ml_kem = MLKEM768PrivateKey.from_seed_bytes(self.ml_kem_seed)
        x25519 = X25519PrivateKey.from_private_bytes(self.x25519_seed)
        public = ml_kem.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) + x25519.public_key().public_bytes(
            Encoding.Raw, PublicFormat.Raw
        )
        object.__setattr__(self, "public", RecipientPublic(public))
        object.__setattr__(self, "_key", hpke.MLKEM768X25519PrivateKey(ml_kem, x25519))

    @classmethod
    def from_seeds(cls, seeds: bytes) -> Recipient:
        """From the 96 bytes of `seeds`."""
        if len(seeds) != ML_KEM_SEED_BYTES + SEED_BYTES:
            raise Malformed("an HPKE private key is not two seeds of 96 bytes together")
        return cls(seeds[:ML_KEM_SEED_BYTES], seeds[ML_KEM_SEED_BYTES:])

    @property
    def seeds(self) -> bytes:
        return self.ml_kem_seed + self.x25519_seed

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Raises WrongRecipient when this was not sealed to this key with this info."""
        try:
            return _SUITE.decrypt(sealed, self._key, info)
        except Exception:  # noqa: BLE001  # the library raises several types for what is not for this key
            raise WrongRecipient("this was not sealed to this key") from None


SealFunction = Callable[[RecipientPublic, bytes, bytes], bytes]
"""(recipient, plain, info) → sealed: `RecipientPublic.seal` in earnest, a deterministic one in a simulator."""


def hpke_seal(recipient: RecipientPublic, plain: bytes, info: bytes) -> bytes:
    """The sealing function in earnest."""
    return recipient.seal(plain, info)


# -- signed documents --------------------------------------------------------------------------------------------------


class Certificate(msgspec.Struct, array_like=True, frozen=True):
    """What the hub's root key says of a node at its enrolment. issued_ms: milliseconds since 1970."""

    version: int
    environment: bytes
    node: bytes
    facility: str
    name: str
    signing_key: bytes
    sealing_key: bytes
    issued_ms: int


class HubKeys(msgspec.Struct, array_like=True, frozen=True):
    """The hub's keys, signed by its root key. recipients: (role, HPKE public key). serial: a later list has a higher."""

    version: int
    environment: bytes
    hub: bytes
    root_key: bytes
    signing_key: bytes
    recipients: list[tuple[str, bytes]]
    serial: int
    issued_ms: int

    def recipient(self, role: str) -> RecipientPublic:
        """The newest key of that role. Raises Malformed when the list has none."""
        for name, public in reversed(self.recipients):
            if name == role:
                return RecipientPublic(public)
        raise Malformed(f"the hub's key list has no {role} key")


class EnrolmentRequest(msgspec.Struct, array_like=True, frozen=True):
    """What a node asks with: signed by the key it names, sealed to the hub's ingest key."""

    version: int
    code_secret: bytes
    node: bytes
    name: str
    signing_key: bytes
    sealing_key: bytes


class GrantFrame(msgspec.Struct, array_like=True, frozen=True):
    """A grant's secret, sealed for one recipient. maker: the node, or the hub, that signed it."""

    version: int
    direction: str
    maker: bytes
    role: str
    key_id: bytes
    grant: bytes
    created_ms: int
    sealed: bytes


Document = TypeVar("Document", Certificate, HubKeys, EnrolmentRequest, GrantFrame)
_PURPOSE: Final[dict[type[Any], str]] = {
    Certificate: "certificate",
    HubKeys: "hub keys",
    EnrolmentRequest: "enrolment",
    GrantFrame: "grant",
}
DOCUMENT_VERSION: Final = 1


def sign_document(document: Document, signer: Identity, environment: EnvironmentId) -> bytes:
    """64 bytes of signature, then the document as msgpack."""
    body = msgspec.msgpack.encode(document)
    return signer.sign(_PURPOSE[type(document)], environment, body) + body


def read_document(raw: bytes, shape: type[Document]) -> tuple[Document, bytes, bytes]:
    """(document, body, signature) without verifying: what names the key to verify with. Raises Malformed, TooLarge."""
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise TooLarge(f"a {_PURPOSE[shape]} of more than {MAX_DOCUMENT_BYTES} bytes")
    try:
        return msgspec.msgpack.decode(raw[SIGNATURE_BYTES:], type=shape), raw[SIGNATURE_BYTES:], raw[:SIGNATURE_BYTES]
    except (msgspec.MsgspecError, RecursionError, ValueError, TypeError):
        raise Malformed(f"a {_PURPOSE[shape]} cannot be read") from None


def verify_document(raw: bytes, shape: type[Document], by: Verifier, environment: EnvironmentId) -> Document:
    """The document, verified. Raises Malformed, TooLarge or BadSignature."""
    document, body, signature = read_document(raw, shape)
    by.verify(_PURPOSE[shape], environment, body, signature)
    return document


def fingerprint(public: bytes) -> bytes:
    """16 bytes that stand for a public key where a person carries it."""
    return hashlib.sha256(b"health-sync/1 fingerprint\x00" + public).digest()[:FINGERPRINT_BYTES]


def verify_hub_keys(raw: bytes, root_fingerprint: bytes) -> HubKeys:
    """The hub's key list, verified against the fingerprint that the enrolment code carried."""
    document, body, signature = read_document(raw, HubKeys)
    if not hmac.compare_digest(fingerprint(document.root_key), root_fingerprint):
        raise BadSignature("the hub's root key is not the one that the code names", code="E_WRONG_HUB")
    Verifier(document.root_key).verify("hub keys", EnvironmentId(document.environment), body, signature)
    return document


# -- the code in a file ------------------------------------------------------------------------------------------------


def code_file(code: EnrolmentCode, signed_hub_keys: bytes) -> bytes:
    """A one-time code with the hub's key list, for a node that cannot ask for it (PROTOCOL.md §7.6): three lines."""
    return b"\n".join([CODE_FILE_BEGINS, code.text().encode(), base64.b64encode(signed_hub_keys), b""])


def read_code_file(raw: bytes) -> tuple[EnrolmentCode, bytes]:
    """(code, signed key list), the latter not verified yet. Raises TooLarge, Malformed, or as `parse_code`."""
    if len(raw) > MAX_CODE_FILE_BYTES:
        raise TooLarge(f"an enrolment's file of more than {MAX_CODE_FILE_BYTES} bytes")
    lines = raw.split()
    begins = CODE_FILE_BEGINS.split()
    if lines[: len(begins)] != begins or len(lines) != len(begins) + 2:
        raise Malformed("this is no whole file of an enrolment code")
    try:
        return parse_code(lines[-2].decode("ascii")), base64.b64decode(lines[-1], validate=True)
    except ValueError:
        raise Malformed("the file of an enrolment code cannot be read") from None


# -- grants ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grant:
    """A random secret that opens segments of one direction. Its id commits to it."""

    secret: bytes = field(repr=False)
    direction: str
    environment: EnvironmentId
    id: GrantId = field(init=False)
    key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", grant_id(self.secret))
        info = _label("segment key", self.environment) + self.direction.encode() + b"\x00" + self.id
        derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(self.secret)
        object.__setattr__(self, "key", derived)


def grant_id(secret: bytes) -> GrantId:
    return GrantId(hashlib.sha256(b"health-sync/1 grant\x00" + secret).digest()[:GRANT_ID_BYTES])


def _grant_info(frame: GrantFrame, environment: EnvironmentId) -> bytes:
    parts = (frame.direction.encode(), frame.maker, frame.role.encode(), frame.key_id, frame.grant)
    return _label("grant info", environment) + b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def seal_grant(
    grant: Grant, maker: bytes, signer: Identity, to: RecipientPublic, role: str, created_ms: int, seal: SealFunction
) -> bytes:
    """The GRANT frame's payload of a grant for one recipient: signed by its maker, sealed with HPKE."""
    empty = GrantFrame(DOCUMENT_VERSION, grant.direction, maker, role, to.key_id, grant.id, created_ms, b"")
    sealed = seal(to, grant.secret, _grant_info(empty, grant.environment))
    return sign_document(msgspec.structs.replace(empty, sealed=sealed), signer, grant.environment)


def open_grant(raw: bytes, maker: Verifier, recipient: Recipient, environment: EnvironmentId) -> Grant:
    """The grant in a GRANT frame's payload. Raises Malformed, BadSignature or WrongRecipient."""
    frame = verify_document(raw, GrantFrame, maker, environment)
    if frame.key_id != recipient.public.key_id:
        raise WrongRecipient("the grant is sealed to another key")
    secret = recipient.open(frame.sealed, _grant_info(frame, environment))
    if len(secret) != SECRET_BYTES or not hmac.compare_digest(grant_id(secret), frame.grant):
        raise BadSignature("the grant's id does not name its secret")
    return Grant(secret, frame.direction, environment)


# -- what people carry -------------------------------------------------------------------------------------------------


def base32_text(raw: bytes) -> str:
    """Crockford base32 in groups of five."""
    number, chars = int.from_bytes(raw, "big"), -(-len(raw) * 8 // 5)
    text = "".join(_ALPHABET[(number >> (5 * at)) & 31] for at in reversed(range(chars)))
    return "-".join(text[at : at + 5] for at in range(0, chars, 5))


def base32_bytes(text: str, size_bytes: int) -> bytes | None:
    """The bytes that `base32_text` wrote, with O, I, L, lower case and spaces forgiven; None if it is none."""
    letters = [letter for letter in unicodedata.normalize("NFKC", text).upper() if letter not in "- \t"]
    if len(letters) != -(-size_bytes * 8 // 5) or any(letter not in _LETTER for letter in letters):
        return None
    number = 0
    for letter in letters:
        number = number << 5 | _LETTER[letter]
    return number.to_bytes(size_bytes, "big") if number < 1 << (8 * size_bytes) else None


@dataclass(frozen=True, slots=True)
class EnrolmentCode:
    """What an operator hands to a centre: a one-time secret, the hub's fingerprint, and its address."""

    secret: bytes = field(repr=False)
    root_fingerprint: bytes
    url: str

    def text(self) -> str:
        """``XXXXX-…-XXXXX@https://hub.example``"""
        body = self.secret + self.root_fingerprint
        return f"{base32_text(body + _code_check(body))}@{self.url}"


def _code_check(body: bytes) -> bytes:
    return hashlib.sha256(b"health-sync/1 code\x00" + body).digest()[:_CODE_CHECK_BYTES]


def parse_code(text: str) -> EnrolmentCode:
    """Raises InvalidValue (``E_CODE_MISTYPED``) for what is no code, or one with a letter wrong."""
    letters, _, url = text.strip().partition("@")
    raw = base32_bytes(letters, _CODE_BYTES)
    body = raw[:-_CODE_CHECK_BYTES] if raw else b""
    if raw is None or _code_check(body) != raw[-_CODE_CHECK_BYTES:]:
        raise InvalidValue(
            "the enrolment code is mistyped or cut short",
            code="E_CODE_MISTYPED",
            next_step="type it again as it was printed, or ask for a new one: hub enrol FACILITY",
        )
    return EnrolmentCode(body[:CODE_SECRET_BYTES], body[CODE_SECRET_BYTES:], url.strip())


def code_hash(secret: bytes) -> bytes:
    """What the hub keeps of a code: 32 bytes."""
    return hashlib.sha256(b"health-sync/1 code secret\x00" + secret).digest()
