"""Segments: packed to a size and by priority, opened again whole, and no bomb inside one goes off."""

from __future__ import annotations

import random
import time
import tracemalloc
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import change as changes
from sync_protocol import codec, envelope, segment
from sync_protocol.canonical import Value
from sync_protocol.change import Change, PatientId, RecordId
from sync_protocol.envelope import Envelope, Header
from sync_protocol.errors import Malformed, NotCanonical, TheirBytes, TooLarge, Unsupported
from sync_protocol.segment import Link, Packed, Voucher
from tests import strategies
from tests.strategies import FACILITIES, GRANT, NODE, NODE_IDENTITY, NONCE, PERSONS, RECORDS, SALTS

BOMB_BYTES = 200_000_000
BOUNDED_BYTES = 32 * 1024 * 1024
BOUNDED_S = 20.0  # of a processor, however slow: what this catches takes minutes or gigabytes


def _change(kind: str = "case", at: int = 0, **written: Value) -> Change:
    return changes.make(
        kind=kind,
        record=RecordId(at.to_bytes(16, "big")),
        patient=PatientId(RECORDS[0]),
        facility=FACILITIES[0],
        node=NODE,
        person=PERSONS[0],
        hlc=at,
        after=0,
        salt=SALTS[0],
        writes=written or {"plan": "rest"},
        supersedes={},
    )


def _pack(pending: list[Change], limit_bytes: int = 4096, **options: Any) -> Packed:
    return segment.pack(
        pending, limit_bytes, lane=2, grant=GRANT, sender=NODE, signer=NODE_IDENTITY, nonce=NONCE, **options
    )


def _sealed(
    plain: bytes, plain_size: int | None = None, compressed: bytes | None = None, dictionary: int = 0
) -> Envelope:
    """A well-signed, well-sealed envelope around anything: what a hostile but enrolled node can send."""
    size = len(plain) if plain_size is None else plain_size
    inside = segment.compress(plain, 0) if compressed is None else compressed
    return envelope.seal(Header(2, dictionary, NODE, GRANT.id, size, NONCE), inside, GRANT, NODE_IDENTITY)


@given(strategies.batches(), st.sampled_from([0, 1]))
def test_what_was_packed_unpacks(batch: list[Change], dictionary: int) -> None:
    packed = _pack(batch, 1 << 16, dictionary=dictionary)
    assert segment.unpack(packed.envelope, GRANT).outcomes == list(packed.changes) == batch


@given(st.integers(1, 120), st.integers(0, 3000))
def test_a_segment_keeps_to_its_size_or_has_one_change(count: int, limit_bytes: int) -> None:
    chance = random.Random(count)
    pending = [_change(at=at, plan=chance.randbytes(20).hex()) for at in range(count)]
    packed = _pack(pending, limit_bytes)
    assert list(packed.changes) == pending[: len(packed.changes)] and packed.changes
    assert len(packed.envelope.raw) <= max(limit_bytes, envelope.OVERHEAD_BYTES + 64) or len(packed.changes) == 1


def test_a_backlog_of_any_length_is_packed_from_its_front() -> None:
    pending = [_change(at=at) for at in range(20_000)]
    packed = _pack(pending, segment.MAX_SEGMENT_BYTES)
    assert 1_000 < len(packed.changes) <= codec.MAX_CHANGES
    assert segment.unpack(packed.envelope, GRANT).outcomes == pending[: len(packed.changes)]


def test_one_change_of_the_largest_size_fits_a_segment() -> None:
    chance = random.Random(7)
    large = _change(history=chance.randbytes(changes.MAX_CHANGE_BYTES - 400))
    packed = _pack([large, large], segment.MIN_SEGMENT_BYTES)
    assert packed.changes == (large,)
    assert segment.unpack(packed.envelope, GRANT).outcomes == [large]


def test_the_same_changes_and_nonce_make_the_same_bytes() -> None:
    pending = [_change(at=at) for at in range(5)]
    assert _pack(pending).envelope == _pack(pending).envelope


@given(strategies.batches(4), st.data())
def test_vouchers_come_back_with_their_rows(batch: list[Change], data: st.DataObject) -> None:
    told = data.draw(st.sets(st.integers(0, len(batch) - 1)))
    vouchers = {batch[row].id: Voucher(5 + row, row % 3, bytes([row] * 8)) for row in told}
    contents = segment.unpack(_pack(batch, 1 << 16, vouchers=vouchers).envelope, GRANT)
    assert contents.vouchers == {row: vouchers[one.id] for row, one in enumerate(batch) if one.id in vouchers}


# -- hostile contents --------------------------------------------------------------------------------------------------


def _read(sealed: Envelope) -> segment.Contents | None:
    """What `unpack` gives, None where it refuses; anything else than TheirBytes is a fault."""
    began = time.process_time()
    try:
        contents = segment.unpack(sealed, GRANT)
    except TheirBytes:
        contents = None
    assert time.process_time() - began < BOUNDED_S
    return contents


def _peak_bytes(sealed: Envelope) -> int:
    tracemalloc.start()
    try:
        assert _read(sealed) is None
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _bomb(with_size: bool) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=with_size, write_checksum=0, write_dict_id=0
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(BOMB_BYTES))


@pytest.mark.parametrize("with_size", [False, True])
def test_200_megabytes_from_six_kilobytes_are_refused_in_bounded_memory(with_size: bool) -> None:
    bomb = _bomb(with_size)
    assert len(bomb) < 24_000
    for claimed in (0, 1, len(bomb), envelope.MAX_PLAIN_BYTES):
        assert _peak_bytes(_sealed(b"", claimed, bomb)) < BOUNDED_BYTES
    with pytest.raises(TooLarge):
        segment.decompress(bomb, BOMB_BYTES, 0)


def test_a_window_larger_than_a_segment_may_be_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, window_log=27, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=0, write_checksum=0
    )
    wide = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    compressed = wide.compress(bytes(1000)) + wide.flush()
    assert _peak_bytes(_sealed(b"", 1000, compressed)) < BOUNDED_BYTES


@given(st.binary(max_size=200), st.integers(0, envelope.MAX_PLAIN_BYTES), st.sampled_from([0, 1, 2, 65_535]))
def test_any_compressed_bytes_are_read_or_refused(compressed: bytes, plain_size: int, dictionary: int) -> None:
    _read(_sealed(b"", plain_size, compressed or b"\x00", dictionary))


def test_a_size_that_is_not_the_stated_one_is_refused() -> None:
    plain = msgspec.msgpack.encode([codec.pack([_change()]), []])
    assert segment.unpack(_sealed(plain), GRANT).outcomes == [_change()]
    for wrong in (len(plain) - 1, len(plain) + 1, 0):
        with pytest.raises(Malformed):
            segment.unpack(_sealed(plain, wrong), GRANT)


def test_bytes_behind_the_frame_do_not_come_in() -> None:
    plain = msgspec.msgpack.encode([codec.pack([_change()]), []])
    contents = _read(_sealed(plain, compressed=segment.compress(plain, 0) + segment.compress(b"more", 0)))
    assert contents is None or contents.outcomes == [_change()]


def test_an_unknown_dictionary_is_refused() -> None:
    with pytest.raises(Unsupported):
        segment.unpack(_sealed(b"x", dictionary=999), GRANT)


@given(st.binary(max_size=60))
def test_any_plain_bytes_are_read_or_refused(plain: bytes) -> None:
    _read(_sealed(plain))


@pytest.mark.parametrize(
    "plain",
    [
        b"\x91" * 100_000 + b"\xc0",
        b"\x92\xc4\x00" + b"\x91" * 100_000 + b"\xc0",
        b"\x81\xa0" * 100_000 + b"\xc0",
        msgspec.msgpack.encode([b"\x91" * 60_000 + b"\xc0", []]),
        msgspec.msgpack.encode([b"", []]),
        msgspec.msgpack.encode([[], []]),
        msgspec.msgpack.encode({}),
    ],
    ids=range(7),
)
def test_contents_nested_deep_or_of_another_shape_are_refused(plain: bytes) -> None:
    with pytest.raises(Malformed):
        segment.unpack(_sealed(plain), GRANT)


def test_a_raw_change_that_is_nested_deep_or_not_canonical_is_a_bad_row_beside_good_ones() -> None:
    good = _change()
    later = changes.parse(msgspec.msgpack.encode(msgspec.msgpack.decode(good.raw) | {"zz": 1}, order="sorted"))
    parts = msgspec.msgpack.decode(codec.pack([good, later]))
    not_canonical = later.raw[:-1] + b"\xcc\x01"
    for raw, error in ((not_canonical, NotCanonical), (later.raw[:-1] + b"\x91" * 60_000 + b"\xc0", Malformed)):
        block = msgspec.msgpack.encode([*parts[:-1], [raw]])
        outcomes = segment.unpack(_sealed(msgspec.msgpack.encode([block, []])), GRANT).outcomes
        assert outcomes[0] == good and isinstance(outcomes[1], error)


@pytest.mark.parametrize(
    "voucher",
    [[-1, 5, 0, bytes(8)], [1, 5, 0, bytes(8)], [0, -5, 0, bytes(8)], [0, 1 << 60, 0, bytes(8)], [0, 5, 3, bytes(8)],
     [0, 5, -1, bytes(8)], [0, 5, 0, b""], [0, 5, 0, bytes(9)]],
    ids=range(8),
)  # fmt: skip
def test_a_voucher_that_cannot_be_is_refused(voucher: list[Any]) -> None:
    plain = msgspec.msgpack.encode([codec.pack([_change()]), [voucher]])
    with pytest.raises(Malformed):
        segment.unpack(_sealed(plain), GRANT)


# -- priority and links ------------------------------------------------------------------------------------------------


def test_each_kind_has_its_lane() -> None:
    lanes = [
        segment.lane_of(one)
        for one in (
            _change("referral", urgency="emergency"),
            _change("referral", urgency="urgent"),
            _change("referral", reason="more"),
            _change("acknowledgement", seen=True),
            _change("case"),
            _change("a_kind_of_2030", hope=1),
            _change("attachment", title="x"),
        )
    ]
    assert lanes == [0, 1, 1, 1, 2, 2, 3]


def test_a_referral_takes_along_its_patient_case_and_latest_vitals() -> None:
    case, other_case = _change("case", 1), _change("case", 2)
    early, late = _change("vitals", 3, case=case.record), _change("vitals", 4, case=case.record)
    elsewhere = _change("vitals", 5, case=other_case.record)
    patient, follow_up = _change("patient", 6, name="x"), _change("follow_up", 7, done=True)
    pending = [early, other_case, late, patient, elsewhere, case, follow_up]
    along = segment.companions(_change("referral", 8, case=case.record), pending)
    assert sorted(one.hlc for one in along) == [1, 4, 6]
    assert segment.companions(case, pending) == []


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 40), st.floats(0, 1e9)), max_size=40))
def test_a_link_stays_within_its_bounds(events: list[tuple[bool, int, float]]) -> None:
    link = Link()
    for worked, sent_bytes, seconds in events:
        link = link.after_success(sent_bytes, seconds) if worked else link.after_break()
        assert segment.MIN_SEGMENT_BYTES <= link.segment_bytes <= segment.MAX_SEGMENT_BYTES
        assert link.segment_bytes <= link.ahead_bytes <= segment.MAX_REQUEST_BYTES
