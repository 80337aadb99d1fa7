"""Frames on the wire, to and from bytes: typed, versioned, every size capped (PROTOCOL.md §9).

A stream is the four bytes of `PREAMBLE`, then frames: one byte of type, the length as LEB128, the payload. Types that
this program does not know are skipped, so later issues of the protocol can add some. Payloads that are structures are
msgpack arrays; elements may be added at their end, never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeVar

import msgspec

from sync_protocol.change import NodeId
from sync_protocol.envelope import ENVELOPE_ID_BYTES, MAX_ENVELOPE_BYTES, EnvelopeId
from sync_protocol.errors import Malformed, NotOurAnswer, TooLarge, Truncated
from sync_protocol.keys import MAX_DOCUMENT_BYTES, SIGNATURE_BYTES, EnvironmentId, Identity, Verifier

PREAMBLE: Final = b"HSX1"
PROTOCOL_VERSION: Final = 1
MAX_AWAITING: Final = 128  # what one HELLO may ask about: 1 KiB of ids
MAX_NONCE_BYTES: Final = 16
MAX_AHEAD_BYTES: Final = 64  # a new device's mark: a place, a rank, a patient, a position
POSITION_BYTES: Final = 8
PLACE_BYTES: Final = POSITION_BYTES + 16  # with the running hash
MAX_SIGNED_BYTES: Final = 16 * 1024  # HELLO and HEADS: 128 ids of 8 bytes, 64 missing grants, and room to grow
MAX_UNKNOWN_BYTES: Final = 1024 * 1024  # a frame of a later version: skipped, but not without end
_MAX_LENGTH_BYTES: Final = 4


class FrameType(IntEnum):
    HELLO = 1
    GRANT = 2
    SEGMENT = 3
    CHUNK = 4
    HEADS = 5
    FEED = 6
    NOTICE = 7
    AHEAD = 8


MAX_PAYLOAD_BYTES: Final[dict[int, int]] = {
    FrameType.HELLO: MAX_SIGNED_BYTES,
    FrameType.GRANT: MAX_DOCUMENT_BYTES,
    FrameType.SEGMENT: MAX_ENVELOPE_BYTES,
    FrameType.CHUNK: MAX_ENVELOPE_BYTES,
    FrameType.HEADS: MAX_SIGNED_BYTES,
    FrameType.FEED: MAX_ENVELOPE_BYTES,
    FrameType.NOTICE: MAX_SIGNED_BYTES,
    FrameType.AHEAD: MAX_ENVELOPE_BYTES,
}


class NoticeKind(IntEnum):
    CURSOR = 1
    QUARANTINED = 2
    SCOPE = 3
    KEYS = 4
    UPGRADE = 5
    REVOKED = 6
    TWINS = 7
    REFUSED = 8  # a segment whose signature or form does not hold: nothing was stored


@dataclass(frozen=True, slots=True)
class Frame:
    type: int
    payload: bytes


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """What a node says first. cursor: where it stands on its feed, as `feed_place`. nonce: the last one handed out to
    it, empty at first. awaiting: 8-byte ids of segments without receipts. hub_grant: the newest grant held of the
    hub's making, empty if none. max_answer_bytes: what this link can carry now. ahead: a new device's mark of how far
    it came (`ahead_page`), empty for one that follows its feed."""

    version: int
    environment: bytes
    node: bytes
    cursor: bytes
    nonce: bytes
    awaiting: bytes
    hub_grant: bytes
    max_answer_bytes: int
    wall_ms: int
    hlc: int
    ahead: bytes = b""

    @property
    def cursor_position(self) -> int:
        return int.from_bytes(self.cursor[:POSITION_BYTES], "big")

    @property
    def cursor_hash(self) -> bytes:
        return self.cursor[POSITION_BYTES:]

    @property
    def awaited(self) -> list[EnvelopeId]:
        return split_ids(self.awaiting)


class Heads(msgspec.Struct, array_like=True, frozen=True):
    """What the hub answers. hello_hash: of the HELLO it answers. held, admitted: 8-byte ids, of the segments in the
    request and those awaited. head: the feed's, as `feed_place`. interval_s, segment_bytes, retry_after_s:
    advice, 0 for none. epoch: 8 bytes drawn when the hub's database was made or put back."""

    version: int
    hello_hash: bytes
    held: bytes
    admitted: bytes
    head: bytes
    hub_time_ms: int
    nonce: bytes
    epoch: bytes
    grants_missing: list[bytes] = []
    interval_s: int = 0
    segment_bytes: int = 0
    retry_after_s: int = 0
    audit_head: bytes = b""
    backup_position: int = 0
    keys_serial: int = 0

    @property
    def feed_position(self) -> int:
        return int.from_bytes(self.head[:POSITION_BYTES], "big")

    @property
    def feed_hash(self) -> bytes:
        return self.head[POSITION_BYTES:]


class Notice(msgspec.Struct, array_like=True, frozen=True):
    """kind: a NoticeKind, or one of a later version. subject: an id it is about. indexes: rows of a segment, empty for
    all of it. reason: a stable code. Signed together with the HELLO it answers, so none can be replayed."""

    kind: int
    hello_hash: bytes
    subject: bytes = b""
    indexes: list[int] = []
    reason: str = ""
    position: int = 0


Signed = TypeVar("Signed", Hello, Heads, Notice)
_PURPOSE: Final[dict[type[Any], str]] = {Hello: "hello", Heads: "heads", Notice: "notice"}
_FRAME: Final[dict[type[Any], FrameType]] = {
    Hello: FrameType.HELLO,
    Heads: FrameType.HEADS,
    Notice: FrameType.NOTICE,
}


def feed_place(position: int, running_hash: bytes) -> bytes:
    """A place on a feed: the position in 8 bytes, big-endian, and the running hash there in 16. Of one size whatever
    the position, so that a sync with nothing to do costs the same on an old feed as on a new one."""
    return position.to_bytes(POSITION_BYTES, "big") + running_hash


def sign(message: Signed, signer: Identity, environment: EnvironmentId) -> Frame:
    """The frame of a signed structure: 64 bytes of signature, then msgpack."""
    body = msgspec.msgpack.encode(message)
    return Frame(_FRAME[type(message)], signer.sign(_PURPOSE[type(message)], environment, body) + body)


def read_signed(payload: bytes, shape: type[Signed]) -> Signed:
    """The structure, not verified yet: what names the key to verify with. Raises Truncated, TooLarge or Malformed."""
    if len(payload) <= SIGNATURE_BYTES:
        raise Truncated(f"a {_PURPOSE[shape]} ends before its signature does")
    if len(payload) > MAX_SIGNED_BYTES:
        raise TooLarge(f"a {_PURPOSE[shape]} of more than {MAX_SIGNED_BYTES} bytes")
    try:
        message = msgspec.msgpack.decode(payload[SIGNATURE_BYTES:], type=shape)
    except (msgspec.MsgspecError, RecursionError, ValueError, TypeError):
        raise Malformed(f"a {_PURPOSE[shape]} cannot be read") from None
    if isinstance(message, Hello):
        _check_hello(message)
    elif isinstance(message, Heads):
        _check_heads(message)
    return message


def verify_signed(payload: bytes, shape: type[Signed], by: Verifier, environment: EnvironmentId) -> Signed:
    """The structure, verified. Raises Truncated, TooLarge, Malformed or BadSignature."""
    message = read_signed(payload, shape)
    by.verify(_PURPOSE[shape], environment, payload[SIGNATURE_BYTES:], payload[:SIGNATURE_BYTES])
    return message


def _check_hello(hello: Hello) -> None:
    sizes_ok = len(hello.node) == len(hello.environment) == 16 and len(hello.cursor) == PLACE_BYTES
    if not sizes_ok or len(hello.nonce) > MAX_NONCE_BYTES or len(hello.hub_grant) not in (0, 16):
        raise Malformed("a hello has an id of the wrong size")
    if len(hello.ahead) > MAX_AHEAD_BYTES:
        raise Malformed("a hello's mark is too long")
    if len(hello.awaiting) > MAX_AWAITING * ENVELOPE_ID_BYTES or len(hello.awaiting) % ENVELOPE_ID_BYTES:
        raise Malformed(f"a hello awaits more than {MAX_AWAITING} segments, or a broken id")
    if not (hello.cursor_position < 1 << 62 and 0 <= hello.hlc < 1 << 64 and abs(hello.wall_ms) < 1 << 62):
        raise Malformed("a hello has a number out of range")


def _check_heads(heads: Heads) -> None:
    if len(heads.hello_hash) != 16 or len(heads.head) != PLACE_BYTES or len(heads.nonce) > MAX_NONCE_BYTES:
        raise Malformed("a heads has an id of the wrong size")
    if len(heads.held) % ENVELOPE_ID_BYTES or len(heads.admitted) % ENVELOPE_ID_BYTES:
        raise Malformed("a heads has a broken segment id")
    if not (heads.feed_position < 1 << 62 and 0 <= heads.hub_time_ms < 1 << 47):
        raise Malformed("a heads has a number out of range")


def split_ids(joined: bytes) -> list[EnvelopeId]:
    return [EnvelopeId(joined[at : at + ENVELOPE_ID_BYTES]) for at in range(0, len(joined), ENVELOPE_ID_BYTES)]


def node_of(hello: Hello) -> NodeId:
    return NodeId(hello.node)


def encode(frame: Frame) -> bytes:
    """One frame as bytes."""
    length, out = len(frame.payload), bytearray([frame.type])
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out) + frame.payload


class FrameReader:
    """Bytes as they come → frames. Holds at most one frame's bytes; refuses a stream that does not start as ours."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._started = False

    def feed(self, arrived: bytes) -> list[Frame]:
        """The frames that are whole now. Raises NotOurAnswer (another stream), TooLarge or Malformed."""
        self._held += arrived
        if not self._started:
            if not PREAMBLE.startswith(bytes(self._held[: len(PREAMBLE)])):
                raise NotOurAnswer("what came is not this protocol: a login page of the network may stand between")
            if len(self._held) < len(PREAMBLE):
                return []
            del self._held[: len(PREAMBLE)]
            self._started = True
        frames = []
        while (found := self._next()) is not None:
            frames.append(found)
        return [frame for frame in frames if frame.type in MAX_PAYLOAD_BYTES]

    def _next(self) -> Frame | None:
        held, length = self._held, 0
        for at in range(1, _MAX_LENGTH_BYTES + 1):
            if at >= len(held):
                return None
            length |= (held[at] & 0x7F) << (7 * (at - 1))
            if not held[at] & 0x80:
                break
        else:
            raise Malformed("a frame's length is longer than four bytes")
        if length > MAX_PAYLOAD_BYTES.get(held[0], MAX_UNKNOWN_BYTES):
            raise TooLarge(f"a frame of {length} bytes is over its limit")
        if len(held) < at + 1 + length:
            return None
        frame = Frame(held[0], bytes(held[at + 1 : at + 1 + length]))
        del held[: at + 1 + length]
        return frame

    def finish(self) -> None:
        """Raise Truncated unless the stream ended at a frame's end."""
        if not self._started or self._held:
            raise Truncated("the stream broke off in the middle of a frame")
