"""Feed pages: dense, hashed, whole or refused (law 4 of DESIGN §9)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import codec, envelope, feed_page
from sync_protocol.change import Change
from sync_protocol.envelope import EnvelopeId
from sync_protocol.errors import BadSignature, Malformed, TheirBytes
from sync_protocol.feed_page import Cursor, Erased, Item, Position, Reference
from sync_protocol.hlc import MAX_TIME_MS
from sync_protocol.schema import Writer
from tests import strategies
from tests.strategies import HUB, HUB_GRANT, HUB_IDENTITY, NONCE, OTHER_GRANT

START = Cursor(Position(41), b"hash of the feed")


@st.composite
def _items(draw: st.DrawFn) -> list[Item]:
    bodies: list[Change | Reference | Erased] = list(draw(strategies.batches(5)))
    for _ in range(draw(st.integers(0, 4))):
        run = Reference(EnvelopeId(draw(st.sampled_from([b"envelope", b"another."]))), draw(st.integers(0, 3)))
        bodies.insert(draw(st.integers(0, len(bodies))), run)
    for _ in range(draw(st.integers(0, 3))):
        bodies.insert(draw(st.integers(0, len(bodies))), Erased())
    items, cursor = [], START
    for body in bodies:
        if isinstance(body, Erased):
            cursor = cursor.after(b"8 bytes.")
            items.append(Item(cursor.position, body, 0, Writer.CENTRE, b"8 bytes."))
            continue
        tag = draw(st.binary(min_size=8, max_size=8))
        cursor = cursor.after(tag)
        origin = draw(st.sampled_from(list(Writer)))
        items.append(Item(cursor.position, body, draw(strategies.receipts), origin, tag))
    return items


def _seal(items: list[Item], before: Cursor = START) -> envelope.Envelope:
    return feed_page.seal(before, items, grant=HUB_GRANT, sender=HUB, signer=HUB_IDENTITY, nonce=NONCE)


@given(_items())
def test_a_page_survives_and_has_no_gaps(items: list[Item]) -> None:
    page = feed_page.open_(_seal(items), HUB_GRANT)
    assert page.before == START and list(page.items) == items
    assert [item.position for item in page.items] == list(range(42, 42 + len(items)))
    assert page.after.position == 41 + len(items)


@given(_items(), st.data())
def test_the_cursor_behind_a_page_tells_every_tag_and_their_order(items: list[Item], data: st.DataObject) -> None:
    after = feed_page.decode(feed_page.encode(START, items)).after
    at = data.draw(st.integers(0, len(items) - 1))
    altered = [item.tag for item in items]
    altered[at] = bytes([altered[at][0] ^ 1]) + altered[at][1:]
    cursor = START
    for tag in altered:
        cursor = cursor.after(tag)
    assert cursor.position == after.position and cursor.hash != after.hash


def test_own_changes_in_a_row_cost_little_more_than_their_tags() -> None:
    items, cursor = [], START
    for at in range(1000):
        cursor = cursor.after(bytes(8))
        items.append(Item(cursor.position, Reference(EnvelopeId(b"envelope"), at), 5, Writer.CENTRE, bytes(8)))
    assert len(feed_page.encode(START, items)) < 8 * 1000 + 60


def test_an_empty_page_moves_nothing() -> None:
    page = feed_page.decode(feed_page.encode(START, []))
    assert page.before == page.after == START and page.items == ()


def test_a_page_for_another_node_does_not_open() -> None:
    sealed = _seal([])
    for grant in (OTHER_GRANT, None):
        with pytest.raises(TheirBytes):
            feed_page.open_(sealed, grant)
    with pytest.raises(BadSignature):
        envelope.verify(sealed, strategies.NODE_IDENTITY.verifier, strategies.ENVIRONMENT)


# -- hostile pages -----------------------------------------------------------------------------------------------------


def _read(plain: bytes) -> None:
    try:
        page = feed_page.decode(plain)
    except TheirBytes:
        return
    for at, item in enumerate(page.items):
        assert item.position == page.before.position + 1 + at
        assert 0 <= item.receipt_ms <= MAX_TIME_MS and len(item.tag) == feed_page.TAG_BYTES
        assert isinstance(item.body, Change | Reference | Erased | TheirBytes)
        if isinstance(item.body, Reference):
            assert item.body.index >= 0


@given(_items(), st.data())
def test_a_page_with_any_bytes_flipped_is_read_or_refused(items: list[Item], data: st.DataObject) -> None:
    plain = bytearray(feed_page.encode(START, items))
    for at in data.draw(st.lists(st.integers(0, len(plain) - 1), min_size=1, max_size=3)):
        plain[at] ^= data.draw(st.integers(1, 255))
    _read(bytes(plain))


@given(_items(), st.data())
def test_a_page_cut_anywhere_is_refused(items: list[Item], data: st.DataObject) -> None:
    plain = feed_page.encode(START, items)
    with pytest.raises(Malformed):
        feed_page.decode(plain[: data.draw(st.integers(0, len(plain) - 1))])


@given(st.binary(max_size=80))
def test_any_bytes_are_a_page_or_refused(plain: bytes) -> None:
    _read(plain)


BLOCK = codec.pack([])


@pytest.mark.parametrize(
    "page",
    [
        [0, bytes(16), []],
        [1, bytes(15), []],
        [-5, bytes(16), []],
        [1, bytes(16), [[0, b"envelope", 0, 2, 5, 0, bytes(8)]]],
        [1, bytes(16), [[0, b"envelope", 0, 1, 5, 0, bytes(9)]]],
        [1, bytes(16), [[0, b"short", 0, 1, 5, 0, bytes(8)]]],
        [1, bytes(16), [[0, b"envelope", -1, 1, 5, 0, bytes(8)]]],
        [1, bytes(16), [[0, b"envelope", 0, 1, -1, 0, bytes(8)]]],
        [1, bytes(16), [[0, b"envelope", 0, 1, 1 << 60, 0, bytes(8)]]],
        [1, bytes(16), [[0, b"envelope", 0, 1, 5, 3, bytes(8)]]],
        [1, bytes(16), [[0, b"envelope", 0, 1, 5, -1, bytes(8)]]],
        [1, bytes(16), [[0, b"envelope", 0, 5_000, 5, 0, bytes(40_000)]]],
        [1, bytes(16), [[1, BLOCK, [1], [], b""]]],
        [1, bytes(16), [[1, BLOCK, [], [], bytes(8)]]],
        [1, bytes(16), [[1, BLOCK, [], [0], b""]]],
        [1, bytes(16), [[2]]],
        [1, bytes(16), [[]]],
        [(1 << 64) - 1, bytes(16), [[0, b"envelope", 0, 1, 5, 0, bytes(8)]]],
    ],
    ids=range(18),
)
def test_a_page_that_contradicts_itself_is_refused(page: list[Any]) -> None:
    with pytest.raises(Malformed):
        feed_page.decode(msgspec.msgpack.encode(page))


@given(strategies.batches())
def test_an_item_of_an_unknown_side_or_with_an_odd_receipt_holds_up_no_other(batch: list[Change]) -> None:
    odd, fine = batch[0], batch[-1]
    receipts = [5, (1 << 50) - 5, 7 - (1 << 50), 0]  # differences: 5, 2 to the 50th, 7, 7
    run = [1, codec.pack([fine, odd, odd, fine]), receipts, [0, 1, 3, 2], bytes(4 * feed_page.TAG_BYTES)]
    page = feed_page.decode(msgspec.msgpack.encode([1, bytes(16), [run]]))
    assert [(item.body, item.receipt_ms) for item in page.items[::3]] == [(fine, 5), (fine, 7)]
    assert all(isinstance(item.body, Malformed) and item.receipt_ms == 0 for item in page.items[1:3])
    assert [item.position for item in page.items] == [1, 2, 3, 4]


def test_pages_nested_deep_are_refused() -> None:
    for deep in (b"\x91" * 100_000 + b"\xc0", b"\x93\x01\xc4\x00" + b"\x91" * 100_000 + b"\xc0"):
        with pytest.raises(Malformed):
            feed_page.decode(deep)
