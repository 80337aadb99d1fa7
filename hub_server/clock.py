"""The hub's clock. Whoever needs a time is given one; the programs begin here."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
