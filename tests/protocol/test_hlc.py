"""The hybrid logical clock: it never goes back and never refuses, whatever the wall clock says (law 7 of DESIGN §9)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import hlc
from sync_protocol.hlc import MAX_TIME_MS, Hlc
from tests.strategies import ODD_TIMES_MS, TIME_NOW_MS

walls = st.one_of(st.sampled_from(ODD_TIMES_MS), st.integers(-(1 << 70), 1 << 70))


@given(st.lists(st.tuples(walls, st.sampled_from([0, TIME_NOW_MS])), max_size=20))
def test_each_stamp_is_after_the_last(clock: list[tuple[int, int]]) -> None:
    last = Hlc(0)
    for wall_ms, hub_ms in clock:
        stamp = hlc.tick(last, wall_ms, hub_ms)
        assert last < stamp <= hlc.MAX_HLC
        assert hlc.to_ms(stamp) >= min(max(wall_ms, hub_ms), MAX_TIME_MS)
        last = stamp


def test_a_full_counter_carries_into_the_milliseconds() -> None:
    full = Hlc(TIME_NOW_MS << 16 | 0xFFFF)
    assert hlc.tick(full, TIME_NOW_MS) == (TIME_NOW_MS + 1) << 16


@given(walls.filter(lambda wall: wall >= 0), st.sampled_from(ODD_TIMES_MS), st.none() | st.sampled_from(ODD_TIMES_MS))
def test_effective_time_is_bounded_by_the_receipt(wall_ms: int, after_ms: int, receipt_ms: int | None) -> None:
    stamp = hlc.tick(Hlc(0), wall_ms)
    effective = hlc.effective_ms(stamp, after_ms, receipt_ms)
    claimed = max(stamp, after_ms << 16)
    if receipt_ms is None:
        assert effective == claimed
    else:
        assert effective <= claimed and effective >> 16 <= receipt_ms
