"""The hybrid logical clock: one integer that never goes back on one device, whatever its wall clock does.

A stamp is 64 bits: milliseconds since 1970-01-01 UTC in the upper 48, a counter in the lower 16. A counter that
overflows carries into the milliseconds, so stamps stay ordered without a limit on writes a millisecond.

The stamp orders screens and breaks ties between siblings; it never decides what is lost, and nothing is refused for
it (PROTOCOL.md §2). It does not observe other nodes' stamps: one clock at 2098 would drag every node there.
Reads no clock of its own.
"""

from __future__ import annotations

from typing import NewType

Hlc = NewType("Hlc", int)
"""A hybrid logical clock stamp: milliseconds << 16 | counter."""

TimeMs = NewType("TimeMs", int)
"""Milliseconds since 1970-01-01 UTC."""

COUNTER_BITS = 16
MAX_HLC = (1 << 64) - 1  # what an unsigned msgpack integer holds
MAX_TIME_MS = (1 << 47) - 1  # the year 6429: room for the counter to carry, and shifted it still fits 63 bits


def tick(last: Hlc, wall_ms: int, hub_time_ms: int = 0) -> Hlc:
    """The stamp of the next save: after ``last``, and not before the device's clock or the hub's last signed time.

    A wall clock before 1970 or after the year 6429 is taken as that limit. Never raises.
    """
    now = min(max(wall_ms, hub_time_ms, 0), MAX_TIME_MS)
    return Hlc(min(max(last + 1, now << COUNTER_BITS), MAX_HLC))


def to_ms(stamp: Hlc) -> TimeMs:
    """The milliseconds of a stamp, its counter dropped."""
    return TimeMs(stamp >> COUNTER_BITS)


def effective_ms(stamp: Hlc, after_ms: int, receipt_ms: int | None) -> int:
    """Effective time of a write (PROTOCOL.md §2): ``min(max(hlc, after), receipt)``, in stamp units.

    Without a receipt the write is "not yet timed" and counts as ``max(hlc, after)``. Returned in stamp units (64 bits)
    so that the counter still orders writes of one millisecond; a receipt counts as the end of its millisecond, so that
    two writes of that millisecond keep their order.
    """
    claimed = max(stamp, min(after_ms, MAX_TIME_MS) << COUNTER_BITS)
    if receipt_ms is None:
        return claimed
    return min(claimed, (receipt_ms << COUNTER_BITS) | ((1 << COUNTER_BITS) - 1))
