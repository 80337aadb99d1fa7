"""Who writes next: first come, first served, and nobody for ever."""

from __future__ import annotations

import threading
import time

from hwc_node.turns import Turns

LONG_S, SHORT_S = 120.0, 0.05


def test_who_asks_while_another_writes_again_and_again_is_next() -> None:
    """The other asks for its next turn before it has left the one it has had: as a sync does, page after page."""
    turns, order, asked = Turns(), [], threading.Event()

    def save() -> None:
        asked.set()
        with turns.taken(LONG_S):
            order.append("save")

    person = threading.Thread(target=save)
    with turns.taken(LONG_S):
        person.start()
        assert asked.wait(LONG_S)
        while not turns._waiting:
            time.sleep(0.001)
        order.append("page")
    for _ in range(3):
        with turns.taken(LONG_S):
            order.append("page")
    person.join(LONG_S)
    assert order == ["page", "save", "page", "page", "page"]


def test_many_have_it_one_at_a_time_and_each_gets_it() -> None:
    turns, inside, most, done = Turns(), [0], [0], []

    def write(number: int) -> None:
        for _ in range(20):
            with turns.taken(LONG_S):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0002)
                inside[0] -= 1
        done.append(number)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for one in writers:
        one.start()
    for one in writers:
        one.join(LONG_S)
    assert (sorted(done), most[0], len(turns._waiting)) == (list(range(8)), 1, 0)


def test_nobody_waits_for_ever_and_who_gave_up_is_not_called_any_more() -> None:
    turns, gone_on = Turns(), threading.Event()

    def impatient() -> None:
        with turns.taken(SHORT_S):
            gone_on.set()

    with turns.taken(LONG_S):
        other = threading.Thread(target=impatient)
        other.start()
        assert gone_on.wait(LONG_S)
        other.join(LONG_S)
        with turns.taken(LONG_S):  # the same thread again: it does not wait for itself
            pass
    with turns.taken(SHORT_S):
        assert not turns._waiting
