"""Pages ahead of the feed: what a new or replaced device gets first, patient by patient (PROTOCOL.md §10.5).

A feed is told in the order of its commits, so a device that begins at its start would wait for today's patients until
the last. The hub therefore notes where the feed stands (the *start*), and sends what it holds up to there in another
order: open referrals and the directory, then the last 90 days, then the rest. The node keeps a *mark* of how far it
came, shows it with each HELLO, and takes up the feed at the start once everything has come. Nothing is lost by
stopping anywhere, and repeats are harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sync_protocol import envelope, feed_page, segment
from sync_protocol.change import NodeId
from sync_protocol.envelope import Envelope, Header
from sync_protocol.errors import Malformed
from sync_protocol.feed_page import (
    FIRST_HASH,
    HASH_BYTES,
    MAX_PAGE_ITEMS,
    MAX_POSITION,
    Cursor,
    FullRun,
    Item,
    Position,
)
from sync_protocol.keys import Grant, Identity
from sync_protocol.wire import MAX_AHEAD_BYTES

RANKS: Final = 3  # open, the last 90 days, the rest
PATIENT_BYTES: Final = 16
_LEVEL: Final = 3


class _Mark(msgspec.Struct, array_like=True, frozen=True):
    position: int
    hash: bytes
    rank: int
    patient: bytes
    item: int


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a node came. start: where it takes up the feed. What comes next lies behind (rank, patient, item)."""

    start: Cursor = Cursor()  # noqa: RUF009  # frozen
    rank: int = 0
    patient: bytes = b""
    item: int = 0

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(_Mark(self.start.position, self.start.hash, self.rank, self.patient, self.item))

    @property
    def place(self) -> tuple[int, bytes, int]:
        return self.rank, self.patient, self.item


BEGIN: Final = Mark()


def parse_mark(raw: bytes) -> Mark:
    """Raises Malformed."""
    try:
        mark = _mark_decoder.decode(raw[: MAX_AHEAD_BYTES + 1])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        raise Malformed("a mark ahead of the feed cannot be read") from None
    return _checked(mark)


def _checked(mark: _Mark) -> Mark:
    sound = (
        0 <= mark.position <= MAX_POSITION
        and len(mark.hash) == HASH_BYTES
        and (mark.position > 0 or mark.hash == FIRST_HASH)
        and 0 <= mark.rank < RANKS
        and len(mark.patient) in (0, PATIENT_BYTES)
        and 0 <= mark.item <= mark.position
    )
    if not sound:
        raise Malformed("a mark ahead of the feed is none")
    return Mark(Cursor(Position(mark.position), mark.hash), mark.rank, mark.patient, mark.item)


class _AheadPage(msgspec.Struct, array_like=True, frozen=True):
    before: _Mark
    after: _Mark
    done: bool
    positions: list[int]  # differences
    copies: FullRun


_mark_decoder = msgspec.msgpack.Decoder(_Mark)
_decoder = msgspec.msgpack.Decoder(_AheadPage)


@dataclass(frozen=True, slots=True)
class AheadPage:
    """Items with their positions on the feed, in the order of ranks and patients. done: nothing comes behind them."""

    before: Mark
    after: Mark
    done: bool
    items: tuple[Item, ...]


def encode(page: AheadPage) -> bytes:
    """Its plain bytes. All items are full copies."""
    positions, last = [], 0
    for item in page.items:
        positions.append(item.position - last)
        last = item.position
    before, after = (_Mark(mark.start.position, mark.start.hash, *mark.place) for mark in (page.before, page.after))
    return msgspec.msgpack.encode(_AheadPage(before, after, page.done, positions, feed_page.full_run(page.items)))


def seal(page: AheadPage, *, grant: Grant, sender: NodeId, signer: Identity, nonce: bytes) -> Envelope:
    """Compressed and sealed to one node, as a page of the feed is."""
    plain = encode(page)
    header = Header(segment.LANE_REST, segment.CURRENT_DICTIONARY, sender, grant.id, len(plain), nonce)
    return envelope.seal(header, segment.compress(plain, level=_LEVEL), grant, signer)


def open_(sealed: Envelope, grant: Grant | None) -> AheadPage:
    """A verified page. Raises MissingGrant, BadSignature, TooLarge, Unsupported or Malformed."""
    plain = segment.decompress(envelope.open_(sealed, grant), sealed.header.plain_size, sealed.header.dictionary)
    return decode(plain)


def decode(plain: bytes) -> AheadPage:
    """Raises Malformed or TooLarge; an item that cannot be read stands there with its error."""
    try:
        page = _decoder.decode(plain)
    except (msgspec.MsgspecError, RecursionError, ValueError, TypeError):
        raise Malformed("a page ahead of the feed cannot be read") from None
    before, after = _checked(page.before), _checked(page.after)
    if len(page.positions) > MAX_PAGE_ITEMS:
        raise Malformed(f"a page ahead of the feed has more than {MAX_PAGE_ITEMS} items")
    if before != BEGIN and before.start != after.start:
        raise Malformed("a page ahead of the feed changes where the feed is taken up")
    items = feed_page.full_items(page.copies, _summed(page.positions, after.start.position))
    return AheadPage(before, after, page.done, tuple(items))


def _summed(differences: Sequence[int], most: int) -> list[int]:
    positions, last = [], 0
    for difference in differences:
        last += difference
        if not 1 <= last <= most:
            raise Malformed("a page ahead of the feed has an item that lies beyond it")
        positions.append(last)
    return positions
