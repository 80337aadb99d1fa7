"""Canonical msgpack: one encoding a value, and nothing but our own errors for whatever else comes."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import canonical
from sync_protocol.errors import HealthSyncError, Malformed, NotCanonical, TooLarge
from tests import strategies


@given(strategies.values)
def test_a_value_survives_its_bytes(value: canonical.Value) -> None:
    raw = canonical.encode(value)
    again = canonical.decode(raw)
    assert canonical.encode(again) == raw and canonical.equal(again, value)


@given(strategies.wild)
def test_normalising_is_idempotent_or_refused(value: Any) -> None:
    try:
        normal = canonical.normalise(value)
    except Malformed:
        return
    assert canonical.encode(canonical.normalise(normal)) == canonical.encode(normal)
    assert canonical.equal(canonical.decode(canonical.encode(normal)), normal)


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    try:
        value = canonical.decode(raw)
    except HealthSyncError:
        return
    assert canonical.encode(value) == raw


@given(strategies.values, st.data())
def test_of_two_byte_strings_of_one_value_only_one_is_taken(value: canonical.Value, data: st.DataObject) -> None:
    raw = bytearray(canonical.encode(value))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        other = canonical.decode(bytes(raw))
    except HealthSyncError:
        return
    assert not canonical.equal(other, value)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xcc\x05",  # 5 in two bytes
        b"\xd3\x00\x00\x00\x00\x00\x00\x00\x05",  # 5 in nine
        b"\xd9\x01a",  # a text with a length too long
        b"\xcb\x40\x42\x80\x00\x00\x00\x00\x00",  # 37.0
        b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00",  # negative zero
        b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # NaN
        b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
        b"\xca\x42\x16\x00\x00",  # a float of four bytes
        b"\x82\xa1b\x01\xa1a\x02",  # keys out of order
        b"\x82\xa1a\x01\xa1a\x02",  # a key twice
        b"\x81\x01\x02",  # a key that is no text
        b"\xa3e\xcc\x81",  # e and a combining accent: not NFC
        b"\x81\xa3e\xcc\x81\x01",  # the same in a key
        b"\xd6\xff\x00\x00\x00\x00",  # a timestamp extension
        b"\xc7\x01\x05a",  # an extension
        b"\x91" * 9 + b"\x01",  # nested nine levels deep
    ],
    ids=lambda raw: raw[:6].hex(),
)
def test_what_is_not_canonical_is_refused(raw: bytes) -> None:
    with pytest.raises(NotCanonical):
        canonical.decode(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\x01\x02",
        b"\xa1\xff",  # text that is not UTF-8
        b"\xa3\xed\xa0\x80",  # a surrogate in UTF-8
        b"\x91" * 100_000,
        b"\x81\xa1a" * 21_000,
        b"\xdd\xff\xff\xff\xff",  # an array of four thousand million
        b"\xc6\xff\xff\xff\xff",
        b"\x81\x90\x01",  # a map with a list as its key
    ],
    ids=lambda raw: raw[:6].hex(),
)
def test_what_is_no_msgpack_is_refused(raw: bytes) -> None:
    with pytest.raises((Malformed, NotCanonical, TooLarge)):
        canonical.decode(raw)


def test_too_many_bytes_are_refused_before_they_are_read() -> None:
    with pytest.raises(TooLarge):
        canonical.decode(b"\xc1" * (canonical.MAX_CANONICAL_BYTES + 1))


def test_a_hundred_thousand_levels_are_refused_in_any_order() -> None:
    for raw in (b"\x91" * 100_000 + b"\xc0", b"\x81\xa0" * 100_000 + b"\xc0"):
        with pytest.raises(Malformed):
            canonical.decode_any(raw, limit_bytes=1_000_000)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        1 << 64,
        -(1 << 63) - 1,
        1e300,
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        {"\u00e9": 1, "e\u0301": 2},
        pytest.param(object(), id="an object"),
        1j,
        {1, 2},
        bytearray(b"x"),
        [[[[[[[[[1]]]]]]]]],
    ],
    ids=repr,
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        canonical.normalise(value)


def test_values_that_python_takes_for_equal_are_not() -> None:
    assert not canonical.equal(1, True)
    assert not canonical.equal(0, False)
    assert not canonical.equal("1", 1)
    assert not canonical.equal(b"a", "a")
    assert canonical.equal(canonical.normalise(37.0), 37)
    assert canonical.equal(canonical.normalise(-0.0), 0)
    assert canonical.equal(canonical.normalise("e\u0301"), "\u00e9")
    assert canonical.equal(canonical.normalise((1, 2)), [1, 2])


@given(st.dictionaries(strategies.texts, st.integers(0, 5), max_size=6))
def test_keys_stand_in_code_point_order(table: dict[str, int]) -> None:
    order = list(msgspec.msgpack.decode(canonical.encode(table)))
    assert order == sorted(table)


@given(st.floats())
def test_a_float_stands_only_where_it_is_not_integral(number: float) -> None:
    try:
        normal = canonical.normalise(number)
    except Malformed:
        return
    assert type(normal) is (int if number.is_integer() else float) and normal == number
    assert canonical.decode(canonical.encode(normal)) == number
