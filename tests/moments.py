"""At which moments of its work a program is killed, where there are more than a run has time for: each in `make soak`,
elsewhere some of them, drawn anew each time, so that a few runs have seen all.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator, Sequence
from typing import Final

THOROUGH: Final = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
APART: Final = 1 if THOROUGH else 4
OTHERS: Final = 6


def numbers() -> Iterator[int]:
    """Of moments from 1 on, without an end: each, or every few from one that is drawn."""
    return itertools.count(random.randint(1, APART), APART)


def some_of(moments: Sequence[str]) -> list[int]:
    """Numbers of named moments, from 1, in order: each, or one of each name and a few others."""
    if THOROUGH:
        return list(range(1, len(moments) + 1))
    named: dict[str, list[int]] = {}
    for number, moment in enumerate(moments, 1):
        named.setdefault(moment, []).append(number)
    drawn = {random.choice(same) for same in named.values()}
    others = sorted(set(range(1, len(moments) + 1)) - drawn)
    return sorted({*drawn, *random.sample(others, min(OTHERS, len(others)))})
