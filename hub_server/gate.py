"""How much the sync edge takes on at once: requests, and bytes of theirs in memory.

Who comes when it is full is told when to come again, before a byte of the body is read. A request's charge is fixed
when it enters; what it brings is charged until it is durable, and its answer until it is handed over. While there is
no room, each request waits for its own segments to be kept before it reads on, so that what was let in always ends.

Everything here belongs to the event loop's thread. It refuses to know what is in a request.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from sync_protocol.errors import OurFault

MAX_REQUESTS: Final = 256  # most of them wait for a slow link; a charge of this many fits below with room to spare
MAX_HELD_BYTES: Final = 96 * 1024 * 1024  # of a small machine; an answer takes as much again while it is made
ENTRY_BYTES: Final = 256 * 1024  # what one request may hold unkept: the largest frame, half there, and a piece
SMALL_BYTES: Final = 16 * 1024  # what the smallest one costs beside its body
LEAST_ANSWER_BYTES: Final = 64 * 1024  # given however full it is: without pages a node would never be done
RETRY_AFTER_S: Final = (15, 60)  # drawn anew for each, so that a district's centres do not come back together


class Busy(OurFault):
    """The hub has as much to do as it can bear."""

    default_code = "E_HUB_BUSY"


def retry_after_s() -> int:
    """When to come again, in whole seconds."""
    return random.randint(*RETRY_AFTER_S)


@dataclass(slots=True)
class Gate:
    """Counts what is inside."""

    max_requests: int = MAX_REQUESTS
    max_bytes: int = MAX_HELD_BYTES
    requests: int = 0
    held_bytes: int = 0

    def enter(self, declared_bytes: int | None = None) -> Stay:
        """Let a request in. declared_bytes: its body's size, as its head says. Raises Busy."""
        charge = ENTRY_BYTES if declared_bytes is None else min(declared_bytes + SMALL_BYTES, ENTRY_BYTES)
        if self.requests >= self.max_requests or self.held_bytes + charge > self.max_bytes:
            raise Busy("the hub is busy", next_step="try again in a minute; everything stays where it is")
        self.requests += 1
        self.held_bytes += charge
        return Stay(self, charge)

    @property
    def is_crowded(self) -> bool:
        """Whether a request has to wait for its own segments before it reads on."""
        return self.held_bytes >= self.max_bytes

    def hold(self, size_bytes: int) -> None:
        """Charge for a segment that waits to be durable."""
        self.held_bytes += size_bytes

    def free(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes


@dataclass(slots=True)
class Stay:
    """One request inside. `leave` when its answer is handed over, or there is none; twice does no harm."""

    gate: Gate
    charge_bytes: int
    _left: bool = field(default=False, repr=False)

    def room_for_answer(self, asked_bytes: int) -> int:
        """How large the answer may be: what is asked for, or less where there is no room. Charged."""
        spare_bytes = max(0, self.gate.max_bytes - self.gate.held_bytes)
        more_bytes = max(0, min(asked_bytes - LEAST_ANSWER_BYTES, spare_bytes))
        self.charge_bytes += more_bytes
        self.gate.hold(more_bytes)
        return min(asked_bytes, LEAST_ANSWER_BYTES + more_bytes)

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self.gate.requests -= 1
            self.gate.free(self.charge_bytes)
