"""Pages of a feed: what the hub sends of a facility's feed after a cursor, and how a node reads it (PROTOCOL.md §10).

Positions are dense and the page names its first, so none is written twice. An item is the node's own change come back
as a reference (segment, row), where the node still has that segment, or a full copy. Each carries the hub's receipt,
origin and tag; the running hash over the tags is the cursor's second half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NewType

import msgspec

from sync_protocol import codec, envelope, segment
from sync_protocol.change import Change, NodeId
from sync_protocol.envelope import ENVELOPE_ID_BYTES, Envelope, EnvelopeId, Header
from sync_protocol.errors import HealthSyncError, Malformed
from sync_protocol.hlc import MAX_TIME_MS
from sync_protocol.keys import Grant, Identity
from sync_protocol.schema import Writer

Position = NewType("Position", int)
"""1 is a feed's first item; 0 stands before it. Dense, in the order of commits."""

TAG_BYTES: Final = 8  # a MAC that can only be tried online, against an enrolled node's name
HASH_BYTES: Final = 16
FIRST_HASH: Final = bytes(HASH_BYTES)
MAX_POSITION: Final = (1 << 61) - 1  # no feed grows as long, and a HELLO can still say what comes behind it
MAX_PAGE_ITEMS: Final = 4_096
PAGE_BYTES: Final = 128 * 1024  # of full copies: what does not compress at all still fits an envelope
_LEVEL: Final = 3
_ORIGINS: Final = (Writer.CENTRE, Writer.DOCTOR, Writer.HUB)
_REFERENCE: Final = 0
_FULL: Final = 1
_ERASED: Final = 2


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a node has applied a feed: a position and the running hash there."""

    position: Position = Position(0)
    hash: bytes = FIRST_HASH

    def after(self, tag: bytes) -> Cursor:
        return Cursor(Position(self.position + 1), next_hash(self.hash, tag))


def next_hash(before: bytes, tag: bytes) -> bytes:
    """The running hash after one more item: 16 bytes."""
    return hashlib.sha256(before + tag).digest()[:HASH_BYTES]


@dataclass(frozen=True, slots=True)
class Reference:
    """The node's own change: row ``index`` of a segment that the node still has."""

    segment: EnvelopeId
    index: int


@dataclass(frozen=True, slots=True)
class Erased:
    """Nothing is left of this change at the hub but its place and its tag: its patient was erased (PROTOCOL.md §10.4)."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a feed. body: the change, a reference to it, that it was erased, or why it cannot be read (kept raw
    and counted)."""

    position: Position
    body: Change | Reference | Erased | HealthSyncError
    receipt_ms: int
    origin: Writer
    tag: bytes


class _ReferenceRun(msgspec.Struct, array_like=True, frozen=True, tag=_REFERENCE):
    segment: bytes
    index: int
    count: int
    receipt_ms: int
    origin: int
    tags: bytes


class FullRun(msgspec.Struct, array_like=True, frozen=True, tag=_FULL):
    """Full copies, in columns."""

    block: bytes
    receipts: list[int]  # differences
    origins: list[int] | int
    tags: bytes


class _ErasedRun(msgspec.Struct, array_like=True, frozen=True, tag=_ERASED):
    tags: bytes


_Run = _ReferenceRun | FullRun | _ErasedRun


class _Page(msgspec.Struct, array_like=True, frozen=True):
    first: int
    before: bytes
    runs: list[_Run]


_decoder = msgspec.msgpack.Decoder(_Page)


def encode(before: Cursor, items: Sequence[Item]) -> bytes:
    """The plain bytes of a page: ``items`` follow ``before`` without a gap."""
    runs: list[_Run] = []
    waiting: list[Item] = []
    for item in items:
        if isinstance(item.body, Reference):
            _close(runs, waiting)
            last = runs[-1] if runs else None
            if isinstance(last, _ReferenceRun) and _continues(last, item, item.body):
                runs[-1] = msgspec.structs.replace(last, count=last.count + 1, tags=last.tags + item.tag)
            else:
                origin = _ORIGINS.index(item.origin)
                body = item.body
                runs.append(_ReferenceRun(body.segment, body.index, 1, item.receipt_ms, origin, item.tag))
        elif isinstance(item.body, Erased):
            _close(runs, waiting)
            last = runs[-1] if runs else None
            if isinstance(last, _ErasedRun):
                runs[-1] = _ErasedRun(last.tags + item.tag)
            else:
                runs.append(_ErasedRun(item.tag))
        else:
            waiting.append(item)
    _close(runs, waiting)
    return msgspec.msgpack.encode(_Page(before.position + 1, before.hash, runs))


def _continues(run: _ReferenceRun, item: Item, body: Reference) -> bool:
    return (
        run.segment == body.segment
        and run.index + run.count == body.index
        and run.receipt_ms == item.receipt_ms
        and run.origin == _ORIGINS.index(item.origin)
    )


def _close(runs: list[_Run], waiting: list[Item]) -> None:
    if waiting:
        runs.append(full_run(waiting))
        waiting.clear()


def full_run(items: Sequence[Item]) -> FullRun:
    """Items that are all full copies."""
    receipts, last = [], 0
    for item in items:
        receipts.append(item.receipt_ms - last)
        last = item.receipt_ms
    origins = [_ORIGINS.index(item.origin) for item in items]
    block = codec.pack([item.body for item in items if isinstance(item.body, Change)])
    same = len(set(origins)) == 1
    return FullRun(block, receipts, origins[0] if same else origins, b"".join(item.tag for item in items))


def seal(
    before: Cursor, items: Sequence[Item], *, grant: Grant, sender: NodeId, signer: Identity, nonce: bytes
) -> Envelope:
    """A page, compressed and sealed to one node by a grant of the hub's making."""
    plain = encode(before, items)
    header = Header(segment.LANE_REST, segment.CURRENT_DICTIONARY, sender, grant.id, len(plain), nonce)
    return envelope.seal(header, segment.compress(plain, level=_LEVEL), grant, signer)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as read: its items follow ``before`` without a gap, and ``after`` is the cursor behind them."""

    before: Cursor
    items: tuple[Item, ...]
    after: Cursor


def open_(sealed: Envelope, grant: Grant | None) -> Page:
    """A verified page. Raises MissingGrant, BadSignature, TooLarge, Unsupported or Malformed."""
    plain = segment.decompress(envelope.open_(sealed, grant), sealed.header.plain_size, sealed.header.dictionary)
    return decode(plain)


def decode(plain: bytes) -> Page:
    """Raises Malformed or TooLarge for a page as a whole; an item that cannot be read stands there with its error.

    So does a full copy from a side that this program does not know, or with a receipt that is no time: one such item
    must not hold up what stands behind it.
    """
    try:
        page = _decoder.decode(plain)
    except (msgspec.MsgspecError, RecursionError, ValueError, TypeError):
        raise Malformed("a page of a feed cannot be read") from None
    if len(page.before) != HASH_BYTES or not 1 <= page.first <= MAX_POSITION:
        raise Malformed("a page of a feed has a broken cursor")
    before = cursor = Cursor(Position(page.first - 1), page.before)
    items: list[Item] = []
    for run in page.runs:
        for entry in _entries(run):
            cursor = cursor.after(entry[3])
            items.append(_item(cursor.position, *entry))
            if len(items) > MAX_PAGE_ITEMS:
                raise Malformed(f"a page of a feed has more than {MAX_PAGE_ITEMS} items")
    return Page(before, tuple(items), cursor)


def _item(position: Position, body: Any, receipt_ms: int, origin: int, tag: bytes) -> Item:
    """Raises Malformed for a reference whose receipt or origin is none; a full copy then stands as unreadable."""
    if why := _unusable(receipt_ms, origin):
        if isinstance(body, Reference):
            raise why
        body, receipt_ms, origin = why, 0, 0
    return Item(position, body, receipt_ms, _ORIGINS[origin], tag)


def full_items(run: FullRun, positions: Sequence[int]) -> list[Item]:
    """The items of a run that names their positions itself. Raises Malformed for columns of different lengths."""
    entries = list(_entries(run))
    if len(entries) != len(positions):
        raise Malformed("a page has columns of different lengths")
    return [_item(Position(position), *entry) for position, entry in zip(positions, entries, strict=True)]


def _unusable(receipt_ms: int, origin: int) -> HealthSyncError | None:
    if not 0 <= origin < len(_ORIGINS):
        return Malformed("an item of a feed names an origin that this program does not know")
    if not 0 <= receipt_ms <= MAX_TIME_MS:
        return Malformed("an item of a feed has a receipt that is no time")
    return None


def _entries(run: _Run) -> Iterable[tuple[Any, int, int, bytes]]:
    tags = [run.tags[at : at + TAG_BYTES] for at in range(0, len(run.tags), TAG_BYTES)]
    if isinstance(run, _ErasedRun):
        if not tags or len(run.tags) % TAG_BYTES:
            raise Malformed("a page of a feed has a broken run of erased items")
        return [(Erased(), 0, 0, tag) for tag in tags]
    if isinstance(run, _ReferenceRun):
        sizes_ok = len(run.segment) == ENVELOPE_ID_BYTES and len(run.tags) == run.count * TAG_BYTES
        if not sizes_ok or run.index < 0:
            raise Malformed("a page of a feed has a broken reference")
        name = EnvelopeId(run.segment)
        return [(Reference(name, run.index + at), run.receipt_ms, run.origin, tag) for at, tag in enumerate(tags)]
    bodies = codec.unpack(run.block)
    origins = [run.origins] * len(bodies) if isinstance(run.origins, int) else run.origins
    if not len(bodies) == len(run.receipts) == len(origins) == len(tags) or len(run.tags) % TAG_BYTES:
        raise Malformed("a page of a feed has columns of different lengths")
    receipts, last = [], 0
    for difference in run.receipts:
        last += difference
        receipts.append(last)
    return list(zip(bodies, receipts, origins, tags, strict=True))
