"""The background sync: its pauses, and that nothing ends it but being told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from hwc_node.scheduler import ADVICE_BOUNDS_S, FIRST_RETRY_S, SOONEST_S, BackgroundSync, Outcome, pause_s
from hwc_node.sync import HubOutOfReach
from sync_protocol.errors import NeedsPerson

DRAWS = st.floats(0, 1)
PATIENCE_S = 120.0


@given(st.integers(1, 10_000), DRAWS, st.floats(10, 86_400))
def test_a_pause_after_failures_is_random_up_to_a_doubling_bound_and_its_cap(
    failures: int, draw: float, cap_s: float
) -> None:
    bound_s = min(cap_s, FIRST_RETRY_S * 2.0 ** min(failures - 1, 60))
    assert SOONEST_S <= pause_s(failures, 300, cap_s, draw) <= max(SOONEST_S, bound_s)
    assert pause_s(failures, 300, cap_s, 1.0) == max(SOONEST_S, bound_s)


@given(st.integers(1, 100), DRAWS, st.floats(0, 3_600))
def test_the_hub_is_left_alone_for_as_long_as_it_asked(failures: int, draw: float, asked_s: float) -> None:
    assert pause_s(failures, 300, 3_600, draw, asked_s=asked_s) >= asked_s


@given(DRAWS, st.floats(-1e9, 1e9))
def test_a_success_is_followed_by_the_interval_or_bounded_advice(draw: float, advised_s: float) -> None:
    assert 270 <= pause_s(0, 300, 3_600, draw) <= 330
    low_s, high_s = ADVICE_BOUNDS_S
    assert 0.9 * low_s <= pause_s(0, 300, 3_600, draw, Outcome(advised_s)) <= 1.1 * high_s
    assert pause_s(0, 300, 3_600, draw, Outcome(advised_s)) <= 1.1 * 3_600, "longer than the settings allow"
    assert 809 <= pause_s(0, 300, 3_600, draw, Outcome(900)) <= 991
    assert pause_s(0, 300, 3_600, draw, Outcome(900, more=True)) == SOONEST_S


def _background(exchange: Callable[[], Outcome]) -> BackgroundSync:
    return BackgroundSync(exchange, interval_s=300, cap_s=3_600, draw=lambda: 0.0)


def test_neither_a_coded_error_nor_a_bug_ends_it() -> None:
    turns: list[int] = []
    enough = threading.Event()

    def exchange() -> Outcome:
        turns.append(len(turns))
        if len(turns) == 1:
            raise NeedsPerson("revoked", code="E_REVOKED")
        if len(turns) == 2:
            raise ZeroDivisionError
        enough.set()
        return Outcome()

    background = _background(exchange)
    background.start()
    assert enough.wait(PATIENCE_S)
    assert background.stop(PATIENCE_S)
    assert turns == [0, 1, 2]


def test_one_exchange_at_a_time_and_none_after_the_stop() -> None:
    running, most = 0, 0
    begun, leave = threading.Event(), threading.Event()

    def exchange() -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        begun.set()
        leave.wait(PATIENCE_S)
        running -= 1
        return Outcome(more=True)

    background = _background(exchange)
    background.start()
    assert begun.wait(PATIENCE_S)
    assert not background.stop(0.2)
    leave.set()
    assert background.stop(PATIENCE_S)
    assert (most, running) == (1, 0)


def test_what_is_urgent_does_not_wait_for_the_next_turn() -> None:
    turns: list[int] = []
    urgent, first, second = (threading.Event() for _ in range(3))

    def exchange() -> Outcome:
        turns.append(len(turns))
        urgent.clear()
        (first if len(turns) == 1 else second).set()
        return Outcome()

    background = BackgroundSync(exchange, interval_s=3_600, cap_s=3_600, is_urgent=urgent.is_set, watch_s=0.05)
    background.start()
    try:
        assert first.wait(PATIENCE_S)
        assert not second.wait(0.5)
        urgent.set()
        assert second.wait(PATIENCE_S)
    finally:
        background.stop(PATIENCE_S)
    assert len(turns) == 2


def test_what_left_while_it_was_looked_for_is_not_urgent_any_more() -> None:
    def is_urgent() -> bool:
        background._run()  # the exchange that takes it along
        return True

    background = BackgroundSync(Outcome, interval_s=3_600, cap_s=3_600, is_urgent=is_urgent, watch_s=3_600)
    background.start(first_pause_s=3_600)
    background._scheduler.pause()
    background._watch()
    next_in_s = background.next_in_s
    background.stop(PATIENCE_S)
    assert next_in_s is not None and next_in_s > 1_800, "another exchange is at once, with nothing to take along"


def test_what_is_urgent_is_not_tried_without_end_while_the_link_is_down() -> None:
    turns: list[int] = []
    first = threading.Event()

    def exchange() -> Outcome:
        turns.append(len(turns))
        first.set()
        raise HubOutOfReach("no link")

    background = BackgroundSync(
        exchange, interval_s=3_600, cap_s=3_600, is_urgent=lambda: True, watch_s=0.05, draw=lambda: 1.0
    )
    background.start()
    assert first.wait(PATIENCE_S)
    threading.Event().wait(0.5)
    background.stop(PATIENCE_S)
    assert len(turns) == 1
