"""The link to the hub as the rest of the node knows it: a request's body, and what may go wrong on the way.

It refuses to know HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sync_protocol.errors import HealthSyncError, NeedsPerson

LINK_BROKE: Final = "E_LINK_BROKE"
TIME_IS_OVER: Final = "E_SYNC_TIMEOUT"
MAX_EXCHANGE_S: Final = 900.0  # a request and its answer: 3 MB at 32 kbit/s; what drips on for longer is no link


class HubOutOfReach(HealthSyncError):
    """The hub, or the way to it, gave no usable answer. Everything is kept; trying later is safe and useful."""

    default_code = "E_HUB_UNREACHABLE"

    def __init__(self, message: str, *, code: str | None = None, next_step: str = "", retry_after_s: float = 0) -> None:
        super().__init__(message, code=code, next_step=next_step or "Everything is kept here. Try again later.")
        self.retry_after_s = retry_after_s


class RefusedByHub(NeedsPerson):
    """The hub does not take this node, or its enrolment code. A person has to speak with the hub's operator."""

    default_code = "E_UNKNOWN_NODE"


def retry_after_s(error: Exception) -> float:
    """What the hub asked for, 0 when it asked for nothing."""
    return error.retry_after_s if isinstance(error, HubOutOfReach) else 0.0


def check_time(deadline_s: float | None) -> None:
    """Raise HubOutOfReach (``E_SYNC_TIMEOUT``) once the time given is over, by the monotonic clock."""
    if deadline_s is not None and time.monotonic() > deadline_s:
        raise HubOutOfReach("The time given for this sync is over.", code=TIME_IS_OVER)


class Body:
    """A request's pieces on their way out. begun: a byte may have left. gone: how many pieces went out whole.

    on_gone: called after each piece.
    """

    def __init__(
        self, pieces: Sequence[bytes], deadline_s: float | None = None, on_gone: Callable[[], None] | None = None
    ) -> None:
        self._pieces = pieces
        self._deadline_s = deadline_s
        self._on_gone = on_gone
        self.begun = False
        self.gone = 0
        self.size_bytes = sum(map(len, pieces))

    def __iter__(self) -> Iterator[bytes]:
        self.begun = True
        for piece in self._pieces:
            self.check_time()
            yield piece
            self.gone += 1
            if self._on_gone is not None:
                self._on_gone()

    def check_time(self) -> None:
        """Raise HubOutOfReach (``E_SYNC_TIMEOUT``) once the time given is over."""
        check_time(self._deadline_s)

    @property
    def left_s(self) -> float:
        """How long the request and its answer may take from now on."""
        if self._deadline_s is None:
            return MAX_EXCHANGE_S
        return min(max(self._deadline_s - time.monotonic(), 0.0), MAX_EXCHANGE_S)

    @property
    def sent_bytes(self) -> int:
        return sum(len(piece) for piece in self._pieces[: self.gone])
