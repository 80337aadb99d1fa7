"""Envelopes: any flipped byte is refused, any cut is refused, and each refusal has its own error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import envelope
from sync_protocol.envelope import Envelope, Header
from sync_protocol.errors import BadSignature, Malformed, MissingGrant, TheirBytes, TooLarge, Truncated, Unsupported
from sync_protocol.keys import TO_NODE, Grant, Identity, Verifier
from tests.strategies import (
    ENVIRONMENT,
    GRANT,
    NODE,
    NODE_IDENTITY,
    NONCE,
    OTHER_ENVIRONMENT,
    OTHER_GRANT,
    OTHER_IDENTITY,
)

INSIDE = b"compressed bytes of a segment"


def _header(grant: Grant = GRANT) -> Header:
    return Header(2, 0, NODE, grant.id, len(INSIDE), NONCE)


def _sealed(grant: Grant = GRANT, signer: Identity = NODE_IDENTITY) -> Envelope:
    return envelope.seal(_header(grant), INSIDE, grant, signer)


def _accept(raw: bytes, grant: Grant | None = GRANT, sender: Verifier = NODE_IDENTITY.verifier) -> bytes:
    """What a receiver does, in its order."""
    parsed = envelope.parse(raw)
    envelope.verify(parsed, sender, ENVIRONMENT)
    return envelope.open_(parsed, grant)


def test_what_was_sealed_opens() -> None:
    sealed = _sealed()
    assert _accept(sealed.raw) == INSIDE
    assert envelope.parse(sealed.raw) == sealed
    assert len(sealed.raw) == len(INSIDE) + envelope.OVERHEAD_BYTES


def test_any_flipped_byte_is_refused() -> None:
    raw = _sealed().raw
    for at in range(len(raw)):
        for mask in (1, 0x80, 0xFF):
            with pytest.raises(TheirBytes):
                _accept(raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :])


def test_an_envelope_cut_short_at_every_byte_or_grown_is_refused() -> None:
    raw = _sealed().raw
    for at in range(len(raw)):
        with pytest.raises(Truncated if at < envelope.OVERHEAD_BYTES else BadSignature):
            _accept(raw[:at])
    with pytest.raises(BadSignature):
        _accept(raw + b"\x00")


def test_an_envelope_signed_by_another_is_refused() -> None:
    with pytest.raises(BadSignature):
        _accept(_sealed(signer=OTHER_IDENTITY).raw)


def test_an_envelope_of_another_environment_is_refused() -> None:
    foreign = Grant(GRANT.secret, GRANT.direction, OTHER_ENVIRONMENT)
    assert foreign.id == GRANT.id
    with pytest.raises(BadSignature):
        _accept(_sealed(foreign).raw)


def test_an_envelope_for_another_direction_or_grant_is_refused() -> None:
    with pytest.raises(MissingGrant):
        _accept(_sealed().raw, OTHER_GRANT)
    with pytest.raises(MissingGrant):
        _accept(_sealed().raw, None)
    backwards = Grant(GRANT.secret, TO_NODE, ENVIRONMENT)
    with pytest.raises(BadSignature) as caught:
        _accept(_sealed().raw, backwards)
    assert caught.value.code == "E_BAD_SEAL"


def test_an_envelope_with_nothing_inside_is_refused_with_our_own_error() -> None:
    packed = _header().pack() + bytes(envelope.TAG_BYTES)
    with pytest.raises(BadSignature):
        _accept(packed + NODE_IDENTITY.sign("segment", ENVIRONMENT, packed))


@pytest.mark.parametrize(
    ("at", "form", "value", "error"),
    [
        (0, ">B", 2, Unsupported),
        (1, ">B", 9, Unsupported),
        (2, ">B", 4, Malformed),
        (37, ">I", envelope.MAX_PLAIN_BYTES + 1, TooLarge),
        (37, ">I", 200_000_000, TooLarge),
    ],
)
def test_the_header_is_checked_before_the_signature(at: int, form: str, value: int, error: type[TheirBytes]) -> None:
    raw = bytearray(_sealed().raw)
    struct.pack_into(form, raw, at, value)
    with pytest.raises(error):
        envelope.parse(bytes(raw))


def test_a_large_envelope_is_refused_unread_and_cannot_be_made() -> None:
    with pytest.raises(TooLarge):
        envelope.parse(bytes(envelope.MAX_ENVELOPE_BYTES + 1))
    with pytest.raises(TooLarge):
        envelope.seal(_header(), bytes(envelope.MAX_ENVELOPE_BYTES), GRANT, NODE_IDENTITY)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(TheirBytes):
        _accept(raw)
