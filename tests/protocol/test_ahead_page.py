"""Pages ahead of the feed: read as they were written, whole or refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import ahead_page, codec
from sync_protocol.ahead_page import BEGIN, AheadPage, Mark
from sync_protocol.change import Change
from sync_protocol.errors import Malformed, TheirBytes
from sync_protocol.feed_page import FIRST_HASH, Cursor, Item, Position
from sync_protocol.schema import Writer
from sync_protocol.wire import MAX_AHEAD_BYTES
from tests import strategies
from tests.strategies import HUB, HUB_GRANT, HUB_IDENTITY, NONCE, OTHER_GRANT

START = Cursor(Position(5_000), b"hash of the feed")
MARK = Mark(START, 1, b"a patient's name", 4_999)


@st.composite
def _pages(draw: st.DrawFn) -> AheadPage:
    items = []
    for body in draw(strategies.batches(5)):
        position, tag = draw(st.integers(1, START.position)), draw(st.binary(min_size=8, max_size=8))
        items.append(
            Item(Position(position), body, draw(strategies.receipts), draw(st.sampled_from(list(Writer))), tag)
        )
    before = draw(st.sampled_from([BEGIN, Mark(START, 0, b"", 0), MARK]))
    after = Mark(START, draw(st.integers(0, 2)), draw(st.binary(min_size=16, max_size=16)), draw(st.integers(0, 5_000)))
    return AheadPage(before, after, draw(st.booleans()), tuple(items))


@given(_pages())
def test_a_page_survives(page: AheadPage) -> None:
    sealed = ahead_page.seal(page, grant=HUB_GRANT, sender=HUB, signer=HUB_IDENTITY, nonce=NONCE)
    assert ahead_page.open_(sealed, HUB_GRANT) == page
    with pytest.raises(TheirBytes):
        ahead_page.open_(sealed, OTHER_GRANT)


@given(_pages())
def test_a_mark_survives_and_fits_a_hello(page: AheadPage) -> None:
    for mark in (page.before, page.after, Mark(Cursor(Position(1 << 61), START.hash), 2, b"p" * 16, 1 << 61)):
        assert len(mark.encode()) <= MAX_AHEAD_BYTES
    assert ahead_page.parse_mark(page.after.encode()) == page.after


@given(_pages(), st.data())
def test_a_page_with_any_bytes_flipped_is_read_or_refused(page: AheadPage, data: st.DataObject) -> None:
    plain = bytearray(ahead_page.encode(page))
    for at in data.draw(st.lists(st.integers(0, len(plain) - 1), min_size=1, max_size=3)):
        plain[at] ^= data.draw(st.integers(1, 255))
    try:
        read = ahead_page.decode(bytes(plain))
    except TheirBytes:
        return
    for item in read.items:
        assert 1 <= item.position <= read.after.start.position
        assert isinstance(item.body, Change | TheirBytes)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_mark_or_refused(raw: bytes) -> None:
    try:
        ahead_page.parse_mark(raw)
    except Malformed:
        return


NO_COPIES = [1, codec.pack([]), [], 0, b""]
PLACE = [5_000, START.hash, 0, b"", 0]


@pytest.mark.parametrize(
    "page",
    [
        [PLACE, PLACE, True, [1], NO_COPIES],
        [PLACE, PLACE, True, [0] * 5_000, NO_COPIES],
        [PLACE, [5_000, START.hash, 3, b"", 0], True, [], NO_COPIES],
        [PLACE, [5_000, START.hash, 0, b"short", 0], True, [], NO_COPIES],
        [PLACE, [5_000, START.hash, 0, b"", 5_001], True, [], NO_COPIES],
        [PLACE, [5_000, b"", 0, b"", 0], True, [], NO_COPIES],
        [PLACE, [4_000, START.hash, 0, b"", 0], True, [], NO_COPIES],
        [PLACE, [0, START.hash, 0, b"", 0], True, [], NO_COPIES],
        [PLACE, PLACE, True, [], [0, b"segment!", 0, 0, 0, 0, b""]],
        [[0, FIRST_HASH, 0, b""], PLACE, True, [], NO_COPIES],
    ],
)
def test_a_page_of_a_wrong_form_is_refused(page: list[Any]) -> None:
    with pytest.raises(TheirBytes):
        ahead_page.decode(msgspec.msgpack.encode(page))
