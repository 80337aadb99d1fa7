"""Segments: some of a node's pending changes, packed by priority to a size that suits the link, and opened again.

A segment is a disposable envelope around changes; nothing is numbered or chained (PROTOCOL.md §6). Packed just before
it is sent. Compression is zstd with a dictionary trained on made-up text. Against bombs: the size a frame states is
checked before, and decompression streams with a hard cap (the one-shot call does not cap a frame that states its size).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final

import msgspec
import zstandard

from sync_protocol import codec, envelope
from sync_protocol.change import Change, ChangeId, NodeId
from sync_protocol.envelope import Envelope, Header
from sync_protocol.errors import Malformed, TooLarge, Unsupported
from sync_protocol.hlc import MAX_TIME_MS
from sync_protocol.keys import Grant, Identity

LANE_EMERGENCY: Final = 0
LANE_REFERRAL: Final = 1
LANE_REST: Final = 2
LANE_ATTACHMENT: Final = 3

MIN_SEGMENT_BYTES: Final = 512  # about what a link at its worst carries before it breaks
MAX_SEGMENT_BYTES: Final = 64 * 1024  # 16 seconds at 32 kbit/s: more would be lost with each break
FIRST_SEGMENT_BYTES: Final = 4 * 1024  # one second at 32 kbit/s
AIRTIME_AHEAD_S: Final = 8  # packed ahead of the link, so an emergency never waits for a backlog
MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024  # on a quick link: bounds the memory of one exchange on both sides
CURRENT_DICTIONARY: Final = 1
NO_DICTIONARY: Final = 0
VOUCHER_TAG_BYTES: Final = 8  # a tag as it stands in a page of a feed
VOUCHER_ORIGINS: Final = 3  # the sides of `schema.Writer`, by number as in a page of a feed
_LEVEL: Final = 12  # a segment is packed once and travels slowly; beyond this the gain is below one per cent
_ROUNDS: Final = 6  # of fitting a segment to its size


@lru_cache(maxsize=8)
def _dictionary(number: int) -> zstandard.ZstdCompressionDict | None:
    if number == NO_DICTIONARY:
        return None
    file = resources.files("sync_protocol").joinpath("dictionaries", f"{number}.zdict")
    if not file.is_file():
        raise Unsupported("a segment names a dictionary that this program does not have", code="E_UNKNOWN_DICTIONARY")
    return zstandard.ZstdCompressionDict(file.read_bytes())


def _parameters(level: int) -> zstandard.ZstdCompressionParameters:
    # no magic, no checksum, no dictionary id: the envelope says and authenticates all of it
    return zstandard.ZstdCompressionParameters.from_level(
        level, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=0, write_checksum=0, write_dict_id=0
    )


def compress(plain: bytes, dictionary: int = CURRENT_DICTIONARY, level: int = _LEVEL) -> bytes:
    return zstandard.ZstdCompressor(dict_data=_dictionary(dictionary), compression_params=_parameters(level)).compress(
        plain
    )


def decompress(compressed: bytes, plain_size: int, dictionary: int) -> bytes:
    """Exactly ``plain_size`` bytes. Raises TooLarge, Unsupported or Malformed; takes bounded memory."""
    if plain_size > envelope.MAX_PLAIN_BYTES:
        raise TooLarge(f"{plain_size} bytes uncompressed where at most {envelope.MAX_PLAIN_BYTES} are allowed")
    known = _dictionary(dictionary)
    reader = zstandard.ZstdDecompressor(
        dict_data=known, format=zstandard.FORMAT_ZSTD1_MAGICLESS, max_window_size=envelope.MAX_PLAIN_BYTES * 2
    ).stream_reader(compressed, read_across_frames=False)
    try:
        plain = reader.read(plain_size + 1)
    except (zstandard.ZstdError, MemoryError):
        raise Malformed("the compressed bytes cannot be read") from None
    if len(plain) != plain_size:
        raise Malformed("the compressed bytes do not have the size that the header states")
    return bytes(plain)


def lane_of(change: Change) -> int:
    """The priority of a change by itself (PROTOCOL.md §6). 0 is most urgent."""
    if change.kind == "referral":
        return LANE_EMERGENCY if change.writes.get("urgency") == "emergency" else LANE_REFERRAL
    if change.kind == "acknowledgement":
        return LANE_REFERRAL
    return LANE_ATTACHMENT if change.kind == "attachment" else LANE_REST


def companions(urgent: Change, pending_of_patient: Iterable[Change]) -> list[Change]:
    """What a referral takes along, one level: its unsent patient, case and latest vitals."""
    if urgent.kind != "referral":
        return []
    case = urgent.writes.get("case")
    along, vitals = [], []
    for other in pending_of_patient:
        if other.kind in ("patient", "consent") or (other.kind == "case" and (case is None or other.record == case)):
            along.append(other)
        elif other.kind == "vitals" and (case is None or other.writes.get("case") in (case, None)):
            vitals.append(other)
    if vitals:
        along.append(max(vitals, key=lambda one: (one.hlc, one.id)))
    return along


@dataclass(frozen=True, slots=True)
class Packed:
    """A sealed segment and the changes in it, in order."""

    envelope: Envelope
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Voucher:
    """What the hub once said of a change, given back to a hub that was restored: it checks the tag and takes the
    receipt as it was (PROTOCOL.md §11). origin: the number of the side, as in a page of a feed."""

    receipt_ms: int
    origin: int
    tag: bytes


class _Plain(msgspec.Struct, array_like=True, frozen=True):
    block: bytes
    vouchers: list[tuple[int, int, int, bytes]]  # row, receipt, origin, tag


_plain_decoder = msgspec.msgpack.Decoder(_Plain)


def _plain(batch: Sequence[Change], sender: NodeId, vouchers: Mapping[ChangeId, Voucher]) -> bytes:
    told = [(row, vouchers[change.id]) for row, change in enumerate(batch) if change.id in vouchers]
    rows = [(row, voucher.receipt_ms, voucher.origin, voucher.tag) for row, voucher in told]
    return msgspec.msgpack.encode(_Plain(codec.pack(batch, sender), rows))


def fit(
    pending: Sequence[Change],
    limit_bytes: int,
    sender: NodeId,
    dictionary: int = CURRENT_DICTIONARY,
    vouchers: Mapping[ChangeId, Voucher] = MappingProxyType({}),
) -> tuple[int, bytes, int]:
    """How many of these changes, from the front, fit a segment of that size: (count, compressed, plain size).

    At least one change is taken, whatever its size: a segment that is too big for a link is still tried. One beyond
    the envelope's own limit cannot exist, since a change is bounded.
    """
    room = max(limit_bytes - envelope.OVERHEAD_BYTES, 64)
    count = min(len(pending), codec.MAX_CHANGES, max(1, room // 24))
    for _ in range(_ROUNDS):
        block = _plain(pending[:count], sender, vouchers)
        if len(block) <= envelope.MAX_PLAIN_BYTES:
            compressed = compress(block, dictionary)
            if len(compressed) <= room or count == 1:
                return count, compressed, len(block)
            ratio = room / len(compressed)
        else:
            ratio = envelope.MAX_PLAIN_BYTES / len(block)
        count = max(1, min(count - 1, int(count * ratio * 0.98)))
    block = _plain(pending[:1], sender, vouchers)
    return 1, compress(block, dictionary), len(block)


def pack(
    pending: Sequence[Change],
    limit_bytes: int,
    *,
    lane: int,
    grant: Grant,
    sender: NodeId,
    signer: Identity,
    nonce: bytes,
    dictionary: int = CURRENT_DICTIONARY,
    vouchers: Mapping[ChangeId, Voucher] = MappingProxyType({}),
) -> Packed:
    """Pack from the front of ``pending`` (already in order of priority) into one sealed segment.

    vouchers: for changes that had a position on a feed that the hub has lost, what it had said of them.
    """
    count, compressed, plain_size = fit(pending, limit_bytes, sender, dictionary, vouchers)
    header = Header(lane, dictionary, sender, grant.id, plain_size, nonce)
    return Packed(envelope.seal(header, compressed, grant, signer), tuple(pending[:count]))


@dataclass(frozen=True, slots=True)
class Contents:
    """What was in a segment: its changes in order, in the place of a bad one its error; vouchers by row."""

    outcomes: list[codec.Outcome]
    vouchers: dict[int, Voucher]


def unpack(sealed: Envelope, grant: Grant | None) -> Contents:
    """Open a verified segment.

    Raises MissingGrant, BadSignature, TooLarge, Unsupported or Malformed for the segment as a whole.
    """
    compressed = envelope.open_(sealed, grant)
    raw = decompress(compressed, sealed.header.plain_size, sealed.header.dictionary)
    try:
        plain = _plain_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError, TypeError):
        raise Malformed("a segment's contents cannot be read") from None
    outcomes = codec.unpack(plain.block, sealed.header.sender)
    for row, receipt_ms, origin, tag in plain.vouchers:
        row_ok, receipt_ok = 0 <= row < len(outcomes), 0 <= receipt_ms <= MAX_TIME_MS
        if not (row_ok and receipt_ok and 0 <= origin < VOUCHER_ORIGINS and len(tag) == VOUCHER_TAG_BYTES):
            raise Malformed("a segment's contents have a broken voucher")
    vouchers = {row: Voucher(receipt_ms, origin, tag) for row, receipt_ms, origin, tag in plain.vouchers}
    return Contents(outcomes, vouchers)


@dataclass(frozen=True, slots=True)
class Link:
    """What a node believes of its link: the size of its next segments, and bytes a second as last seen."""

    segment_bytes: int = FIRST_SEGMENT_BYTES
    bytes_per_s: float = 0.0

    def after_success(self, sent_bytes: int, seconds: float) -> Link:
        """Twice the size, up to the limit; the rate is the mean of the last and this one."""
        rate = sent_bytes / max(seconds, 0.001)
        seen = rate if self.bytes_per_s == 0 else (self.bytes_per_s + rate) / 2
        return Link(min(self.segment_bytes * 2, MAX_SEGMENT_BYTES), seen)

    def after_break(self) -> Link:
        """Half the size, down to the limit; what is known of the rate is halved too."""
        return Link(max(self.segment_bytes // 2, MIN_SEGMENT_BYTES), self.bytes_per_s / 2)

    @property
    def ahead_bytes(self) -> int:
        """How much to pack for one request: eight seconds of airtime, at least one segment."""
        return int(min(max(self.bytes_per_s * AIRTIME_AHEAD_S, self.segment_bytes), MAX_REQUEST_BYTES))
