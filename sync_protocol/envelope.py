"""The sealed envelope of segments and feed pages: seal, parse, verify, open (PROTOCOL.md §7).

    version 1 | suite 1 | lane 1 | dictionary 2 | sender 16 | grant 16 | plain size 4 | nonce 12 | ciphertext | signature 64

AES-256-GCM-SIV with a random nonce (a cloned disk repeats counters, and two nonces that collide give away no more than
equality), then Ed25519 over everything before it. Header and environment are authenticated twice: as associated data
and by the signature. Checks run in the order size, version, sender, signature, grant, seal, each with its own error.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final, NewType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from sync_protocol.change import NodeId
from sync_protocol.errors import BadSignature, Malformed, MissingGrant, TooLarge, Truncated, Unsupported
from sync_protocol.keys import SIGNATURE_BYTES, EnvironmentId, Grant, GrantId, Identity, Verifier

EnvelopeId = NewType("EnvelopeId", bytes)
"""8 bytes: the start of the SHA-256 of the envelope's bytes. Short, since only one node's are ever compared."""

ENVELOPE_VERSION: Final = 1
SUITE: Final = 1  # AES-256-GCM-SIV, Ed25519, HKDF-SHA256
ENVELOPE_ID_BYTES: Final = 8
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MAX_ENVELOPE_BYTES: Final = 192 * 1024  # three times the 64 KiB a node aims at: one change of the largest size fits
MAX_PLAIN_BYTES: Final = 4 * 1024 * 1024  # what a segment may unpack to: 64 KiB of text at its best, and no bomb

MAX_LANE: Final = 3

_HEADER: Final = struct.Struct(">BBBH16s16sI12s")
HEADER_BYTES: Final = _HEADER.size
OVERHEAD_BYTES: Final = HEADER_BYTES + TAG_BYTES + SIGNATURE_BYTES
_PURPOSE: Final = "segment"


@dataclass(frozen=True, slots=True)
class Header:
    """What stands in the clear. plain_size: bytes before compression. lane: 0 most urgent."""

    lane: int
    dictionary: int
    sender: NodeId
    grant: GrantId
    plain_size: int
    nonce: bytes

    def pack(self) -> bytes:
        return _HEADER.pack(
            ENVELOPE_VERSION,
            SUITE,
            self.lane,
            self.dictionary,
            self.sender,
            self.grant,
            self.plain_size,
            self.nonce,
        )


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope, nothing verified yet. raw: all its bytes."""

    header: Header
    raw: bytes
    id: EnvelopeId


def envelope_id(raw: bytes) -> EnvelopeId:
    return EnvelopeId(hashlib.sha256(raw).digest()[:ENVELOPE_ID_BYTES])


def seal(header: Header, compressed: bytes, grant: Grant, signer: Identity) -> Envelope:
    """Seal compressed bytes. The header names the grant, the sender and a fresh random nonce."""
    packed = header.pack()
    body = packed + AESGCMSIV(grant.key).encrypt(header.nonce, compressed, _associated(packed, grant.environment))
    raw = body + signer.sign(_PURPOSE, grant.environment, body)
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise TooLarge(f"an envelope of {len(raw)} bytes where at most {MAX_ENVELOPE_BYTES} are allowed")
    return Envelope(header, raw, envelope_id(raw))


def _associated(header: bytes, environment: EnvironmentId) -> bytes:
    return b"health-sync/1 segment seal\x00" + environment + header


def parse(raw: bytes) -> Envelope:
    """The envelope's header. Raises TooLarge, Truncated, Unsupported or Malformed."""
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise TooLarge(f"an envelope of {len(raw)} bytes where at most {MAX_ENVELOPE_BYTES} are allowed")
    if len(raw) < OVERHEAD_BYTES:
        raise Truncated("an envelope is shorter than its header, tag and signature")
    version, suite, lane, dictionary, sender, grant, plain_size, nonce = _HEADER.unpack_from(raw)
    if version != ENVELOPE_VERSION or suite != SUITE:
        raise Unsupported("an envelope of a version or suite that this program does not know")
    if lane > MAX_LANE:
        raise Malformed("an envelope names a lane that does not exist")
    if plain_size > MAX_PLAIN_BYTES:
        raise TooLarge(f"an envelope claims {plain_size} bytes where at most {MAX_PLAIN_BYTES} are allowed")
    header = Header(lane, dictionary, NodeId(sender), GrantId(grant), plain_size, nonce)
    return Envelope(header, raw, envelope_id(raw))


def verify(envelope: Envelope, sender: Verifier, environment: EnvironmentId) -> None:
    """Raise BadSignature unless the sender signed exactly these bytes for this environment."""
    body, signature = envelope.raw[:-SIGNATURE_BYTES], envelope.raw[-SIGNATURE_BYTES:]
    sender.verify(_PURPOSE, environment, body, signature)


def open_(envelope: Envelope, grant: Grant | None) -> bytes:
    """The compressed bytes inside. Raises MissingGrant, or BadSignature when the seal does not hold."""
    if grant is None or grant.id != envelope.header.grant:
        raise MissingGrant("the grant that opens this envelope is not here")
    packed = envelope.raw[:HEADER_BYTES]
    try:
        return AESGCMSIV(grant.key).decrypt(
            envelope.header.nonce,
            envelope.raw[HEADER_BYTES:-SIGNATURE_BYTES],
            _associated(packed, grant.environment),
        )
    except InvalidTag:
        raise BadSignature("the envelope's seal does not hold", code="E_BAD_SEAL") from None
