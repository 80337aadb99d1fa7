"""Frames: any bytes are frames or refused, in pieces of any size, and a stream that is not ours is known at once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import wire
from sync_protocol.errors import BadSignature, Malformed, NotOurAnswer, TheirBytes, TooLarge, Truncated
from sync_protocol.wire import Frame, FrameReader, FrameType, Heads, Hello, Notice
from tests.strategies import (
    ENVIRONMENT,
    HUB_IDENTITY,
    NODE,
    NODE_IDENTITY,
    OTHER_ENVIRONMENT,
    OTHER_IDENTITY,
    TIME_NOW_MS,
)

CURSOR = wire.feed_place(7, b"hash of a cursor")
HELLO = Hello(1, ENVIRONMENT, NODE, CURSOR, b"nonce", b"envelope" * 2, b"", 4096, TIME_NOW_MS, 1 << 60)
HEADS = Heads(1, b"hash of a hello.", b"", b"envelope", CURSOR, TIME_NOW_MS, b"nonce", b"epoch...")
PORTAL = b"<!DOCTYPE html><html><head><title>Free Wi-Fi: please sign in</title></head></html>"

frames = st.builds(Frame, st.sampled_from(sorted(FrameType)), st.binary(max_size=300))


def _pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    return [stream[start:end] for start, end in zip(at, at[1:], strict=False)]


def _read(pieces: list[bytes]) -> list[Frame]:
    reader = FrameReader()
    found = [frame for piece in pieces for frame in reader.feed(piece)]
    reader.finish()
    return found


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 1000), max_size=8))
def test_frames_survive_their_stream_in_pieces_of_any_size(sent: list[Frame], cuts: list[int]) -> None:
    stream = wire.PREAMBLE + b"".join(wire.encode(frame) for frame in sent)
    assert _read(_pieces(stream, cuts)) == sent


@given(st.lists(frames, min_size=1, max_size=3))
def test_a_stream_cut_at_every_byte_gives_whole_frames_only(sent: list[Frame]) -> None:
    stream = wire.PREAMBLE + b"".join(wire.encode(frame) for frame in sent)
    ends = {len(wire.PREAMBLE) + sum(len(wire.encode(frame)) for frame in sent[:count]) for count in range(len(sent))}
    for cut in range(len(stream)):
        reader = FrameReader()
        found = reader.feed(stream[:cut])
        assert found == sent[: len(found)]
        if cut in ends:
            reader.finish()
        else:
            with pytest.raises(Truncated):
                reader.finish()


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_frames_or_refused(junk: bytes, ours: bool) -> None:
    try:
        _read([wire.PREAMBLE + junk if ours else junk])
    except TheirBytes:
        return


@pytest.mark.parametrize("size", [1, 2, 3, 4, 50, len(PORTAL)])
def test_a_captive_portal_is_known_by_its_first_byte(size: int) -> None:
    with pytest.raises(NotOurAnswer):
        FrameReader().feed(PORTAL[:size])


@pytest.mark.parametrize("kind", sorted(FrameType))
def test_a_frame_over_its_limit_is_refused_before_its_bytes_come(kind: FrameType) -> None:
    limit = wire.MAX_PAYLOAD_BYTES[kind]
    largest = wire.encode(Frame(kind, bytes(limit)))
    assert _read([wire.PREAMBLE + largest]) == [Frame(kind, bytes(limit))]
    too_large = wire.encode(Frame(kind, bytes(limit + 1)))
    with pytest.raises(TooLarge):
        FrameReader().feed(wire.PREAMBLE + too_large[:5])


def test_a_length_without_end_is_refused() -> None:
    with pytest.raises(Malformed):
        FrameReader().feed(wire.PREAMBLE + b"\x03" + b"\x80" * 5)


def test_frames_of_later_versions_are_skipped_but_not_without_end() -> None:
    later = wire.encode(Frame(99, bytes(wire.MAX_UNKNOWN_BYTES)))
    known = Frame(FrameType.FEED, b"page")
    assert _read([wire.PREAMBLE + later + wire.encode(known) + later]) == [known]
    with pytest.raises(TooLarge):
        FrameReader().feed(wire.PREAMBLE + wire.encode(Frame(99, bytes(wire.MAX_UNKNOWN_BYTES + 1)))[:5])


def test_a_hundred_thousand_empty_frames_are_read_quickly() -> None:
    assert len(_read([wire.PREAMBLE + b"\x07\x00" * 100_000])) == 100_000


# -- signed structures -------------------------------------------------------------------------------------------------


def _verify(payload: bytes) -> Hello:
    return wire.verify_signed(payload, Hello, NODE_IDENTITY.verifier, ENVIRONMENT)


def test_a_signed_structure_survives() -> None:
    assert _verify(wire.sign(HELLO, NODE_IDENTITY, ENVIRONMENT).payload) == HELLO
    frame = wire.sign(HEADS, HUB_IDENTITY, ENVIRONMENT)
    assert wire.verify_signed(frame.payload, Heads, HUB_IDENTITY.verifier, ENVIRONMENT) == HEADS
    assert frame.type == FrameType.HEADS
    assert [bytes(name) for name in HELLO.awaited] == [b"envelope"] * 2


def test_any_flipped_byte_of_a_signed_structure_is_refused() -> None:
    payload = wire.sign(HELLO, NODE_IDENTITY, ENVIRONMENT).payload
    for at in range(len(payload)):
        with pytest.raises(TheirBytes):
            _verify(payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :])


def test_a_signed_structure_cut_at_every_byte_is_refused() -> None:
    payload = wire.sign(HELLO, NODE_IDENTITY, ENVIRONMENT).payload
    for at in range(len(payload)):
        with pytest.raises(TheirBytes):
            _verify(payload[:at])


def test_the_signature_binds_signer_environment_and_purpose() -> None:
    with pytest.raises(BadSignature):
        _verify(wire.sign(HELLO, OTHER_IDENTITY, ENVIRONMENT).payload)
    with pytest.raises(BadSignature):
        _verify(wire.sign(HELLO, NODE_IDENTITY, OTHER_ENVIRONMENT).payload)
    body = msgspec.msgpack.encode(HELLO)
    for purpose in ("heads", "notice", "segment", "grant"):
        with pytest.raises(BadSignature):
            _verify(NODE_IDENTITY.sign(purpose, ENVIRONMENT, body) + body)


def test_elements_added_by_a_later_version_are_passed_over() -> None:
    body = msgspec.msgpack.encode([*msgspec.structs.astuple(HELLO), "something of 2030"])
    assert _verify(NODE_IDENTITY.sign("hello", ENVIRONMENT, body) + body) == HELLO


@pytest.mark.parametrize(
    "altered",
    [
        {"environment": b"short"},
        {"node": bytes(17)},
        {"cursor": bytes(23)},
        {"cursor": bytes(25)},
        {"nonce": bytes(17)},
        {"hub_grant": b"x"},
        {"awaiting": bytes(9)},
        {"awaiting": bytes(8 * 129)},
        {"cursor": wire.feed_place(1 << 62, bytes(16))},
        {"hlc": -1},
        {"wall_ms": 1 << 63},
    ],
    ids=repr,
)
def test_a_hello_that_cannot_be_is_refused(altered: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        _verify(wire.sign(msgspec.structs.replace(HELLO, **altered), NODE_IDENTITY, ENVIRONMENT).payload)


@pytest.mark.parametrize(
    "altered",
    [
        {"hello_hash": b"x"},
        {"head": b""},
        {"nonce": bytes(17)},
        {"held": bytes(7)},
        {"admitted": bytes(1)},
        {"head": wire.feed_place(1 << 62, bytes(16))},
        {"hub_time_ms": -1},
        {"hub_time_ms": 1 << 47},
    ],
    ids=repr,
)
def test_a_heads_that_cannot_be_is_refused(altered: dict[str, Any]) -> None:
    payload = wire.sign(msgspec.structs.replace(HEADS, **altered), HUB_IDENTITY, ENVIRONMENT).payload
    with pytest.raises(Malformed):
        wire.verify_signed(payload, Heads, HUB_IDENTITY.verifier, ENVIRONMENT)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=20) | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from([Hello, Heads, Notice]), st.lists(anything, max_size=17))
def test_any_array_is_a_structure_or_refused(shape: type[Any], parts: list[Any]) -> None:
    body = msgspec.msgpack.encode(parts)
    purpose = shape.__name__.lower()
    try:
        wire.verify_signed(
            NODE_IDENTITY.sign(purpose, ENVIRONMENT, body) + body, shape, NODE_IDENTITY.verifier, ENVIRONMENT
        )
    except TheirBytes:
        return


@pytest.mark.parametrize("shape", [Hello, Heads, Notice])
def test_nesting_a_hundred_thousand_deep_is_refused(shape: type[Any]) -> None:
    for deep in (b"\x91" * 15_000 + b"\xc0", b"\x91" * 100_000 + b"\xc0", b"\x81\xa0" * 7_000 + b"\xc0"):
        with pytest.raises((Malformed, TooLarge)):
            wire.read_signed(bytes(64) + deep, shape)
