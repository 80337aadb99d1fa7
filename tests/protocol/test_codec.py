"""The column codec: every change comes back byte for byte, and no block can harm its reader."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import canonical, codec
from sync_protocol import change as changes
from sync_protocol.change import Change, PatientId, RecordId
from sync_protocol.errors import Malformed, TheirBytes, TooLarge
from tests import strategies
from tests.strategies import FACILITIES, NODE, PERSONS, RECORDS, SALTS

PARTS = (
    "count nodes persons facilities afters kinds shapes columns times tails patients salts hlcs supersedes bodies raws"
).split()
BOUNDED_S = 20.0  # of a processor, however slow: what this catches takes minutes or gigabytes
BOUNDED_BYTES = 100 * 1024 * 1024  # of memory for reading any block of at most 4 MiB


def _change(writes: dict[str, canonical.Value], record: RecordId = RECORDS[0], kind: str = "case") -> Change:
    return changes.make(
        kind=kind,
        record=record,
        patient=PatientId(RECORDS[0]),
        facility=FACILITIES[0],
        node=NODE,
        person=PERSONS[0],
        hlc=7,
        after=9,
        salt=SALTS[0],
        writes=writes,
        supersedes={},
    )


@given(strategies.batches())
def test_changes_survive_their_block_byte_for_byte(batch: list[Change]) -> None:
    assert codec.unpack(codec.pack(batch)) == batch


@given(st.lists(st.dictionaries(strategies.texts.filter(bool), strategies.values, min_size=1, max_size=3), max_size=4))
def test_any_field_names_and_values_survive(written: list[dict[str, canonical.Value]]) -> None:
    batch = [_change(writes) for writes in written]
    assert codec.unpack(codec.pack(batch)) == batch


@given(st.lists(st.sampled_from([37, 36.6, 0.5, 1e-7, 12345.678, 1e15, 2.5e9, None, "x", True]), min_size=1))
def test_columns_of_numbers_survive(column: list[canonical.Value]) -> None:
    batch = [_change({"temperature_c": value}) for value in column]
    assert codec.unpack(codec.pack(batch)) == batch


@given(st.lists(st.tuples(st.sampled_from(RECORDS), st.sampled_from([*RECORDS, None, b"elsewhere.......", 3]))))
def test_references_backward_forward_and_to_itself_survive(rows: list[tuple[RecordId, canonical.Value]]) -> None:
    batch = [_change({"case": value}, record) for record, value in rows]
    assert codec.unpack(codec.pack(batch)) == batch


@given(strategies.batches(3), strategies.texts.filter(lambda key: key > "z"), strategies.scalars)
def test_a_change_with_keys_of_a_newer_author_travels_raw(
    batch: list[Change], key: str, value: canonical.Value
) -> None:
    newer = changes.parse(canonical.encode(canonical.decode(batch[0].raw) | {key: value}))
    mixed = [*batch, newer, *batch]
    assert codec.unpack(codec.pack(mixed)) == mixed


def test_an_empty_block_is_empty() -> None:
    assert codec.unpack(codec.pack([])) == []


def test_too_many_changes_are_refused_on_both_sides() -> None:
    change = _change({"plan": "rest"})
    with pytest.raises(TooLarge):
        codec.pack([change] * (codec.MAX_CHANGES + 1))
    with pytest.raises(TooLarge):
        codec.unpack(_block(count=codec.MAX_CHANGES + 1))


# -- against whoever writes blocks ------------------------------------------------------------------------------------


def _block(batch: list[Change] | None = None, **altered: Any) -> bytes:
    """A block with some of its parts replaced."""
    parts = dict(zip(PARTS, msgspec.msgpack.decode(codec.pack(batch or [_change({"plan": "rest"})])), strict=True))
    return msgspec.msgpack.encode(list((parts | altered).values()))


def _read(block: bytes) -> list[codec.Outcome]:
    """What `unpack` gives, or nothing; the rule under test is that it raises TheirBytes only, in bounded time."""
    began = time.process_time()
    try:
        outcomes = codec.unpack(block)
    except TheirBytes:
        outcomes = []
    assert time.process_time() - began < BOUNDED_S
    for outcome in outcomes:
        if isinstance(outcome, Change):
            assert changes.parse(outcome.raw) == outcome
        else:
            assert isinstance(outcome, TheirBytes)
    return outcomes


@given(strategies.batches(4), st.data())
def test_a_block_with_any_bytes_flipped_is_read_or_refused(batch: list[Change], data: st.DataObject) -> None:
    block = bytearray(codec.pack(batch))
    for at in data.draw(st.lists(st.integers(0, len(block) - 1), min_size=1, max_size=3)):
        block[at] ^= data.draw(st.integers(1, 255))
    _read(bytes(block))


@given(strategies.batches(2))
def test_a_block_cut_short_at_every_byte_is_refused(batch: list[Change]) -> None:
    block = codec.pack(batch)
    for at in range(len(block)):
        with pytest.raises(Malformed):
            codec.unpack(block[:at])


@given(st.binary(max_size=100))
def test_any_bytes_are_a_block_or_refused(block: bytes) -> None:
    _read(block)


parts_of_any_type: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(-3, 300), st.integers(-(1 << 63), 1 << 63), st.binary(max_size=33), st.text(max_size=4)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=12,
)


@given(strategies.batches(4), st.sampled_from(PARTS), parts_of_any_type)
def test_a_block_with_any_part_replaced_is_read_or_refused(batch: list[Change], part: str, value: Any) -> None:
    _read(_block(batch, **{part: value}))


@given(st.integers(0, 9), st.lists(parts_of_any_type | st.none() | st.floats(), max_size=2), st.booleans())
def test_a_column_with_anything_in_it_is_read_or_refused(encoding: int, column: list[Any], element: bool) -> None:
    name = "complaints/" if element else "plan"
    _read(_block(shapes=[[0, name]], bodies=[[[encoding, column]]]))


def test_a_column_of_texts_that_claim_to_be_decimals_is_refused() -> None:
    """In Python ``text % number`` formats: a width of a thousand million would be filled with spaces."""
    for bad in ("%999999999d", b"%999999999d", [1], {"a": 1}, None, 1.5):
        _read(_block(bodies=[[[1, [bad]]]]))


def test_an_element_column_that_holds_no_map_is_refused() -> None:
    for bad in (7, [1], "text", b"raw", None):
        outcomes = _read(_block(shapes=[[0, "complaints/"]], bodies=[[[0, [bad]]]]))
        assert not any(isinstance(outcome, Change) for outcome in outcomes)


@pytest.mark.parametrize("part", ["nodes", "persons", "facilities", "kinds", "name", "element", "one element"])
def test_a_long_name_that_many_rows_share_costs_no_more_than_its_bytes(part: str) -> None:
    """Two million bytes that 8,000 rows refer to would be 16 GB of encoding."""
    batch = [_change({"plan": "rest"}, RecordId(at.to_bytes(16, "big"))) for at in range(8_000)]
    long: Any = "\u0967" * 700_000
    altered: dict[str, Any] = {part: [long]}
    if part in ("nodes", "persons"):
        altered = {part: [long.encode()]}
    elif part == "name":
        altered = {"shapes": [[0, long]]}
    elif part == "element":
        altered = {"shapes": [[0, long + "/"]], "bodies": [[[0, [{"a": 0}] * 8_000]]]}
    elif part == "one element":
        long = "x" * 190
        elements = {str(at): 0 for at in range(400_000)}
        altered = {"shapes": [[0, long + "/"]], "bodies": [[[0, [elements] + [{"a": 0}] * 7_999]]]}
    block = _block(batch, **altered)
    tracemalloc.start()
    try:
        _read(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BOUNDED_BYTES


def test_a_bad_row_never_hides_its_neighbours() -> None:
    good = _change({"plan": "rest"})
    newer = changes.parse(canonical.encode(canonical.decode(good.raw) | {"zz": 1}))
    outcomes = codec.unpack(_block([good, newer, good], raws=[b"junk"]))
    assert outcomes[0] == outcomes[2] == good and isinstance(outcomes[1], Malformed)


def test_nesting_a_hundred_thousand_deep_is_refused() -> None:
    for deep in (b"\x91" * 100_000 + b"\xc0", b"\xdc\x00\x10" + b"\x91" * 100_000, b"\x81\xa0" * 100_000 + b"\xc0"):
        with pytest.raises(Malformed):
            codec.unpack(deep)
