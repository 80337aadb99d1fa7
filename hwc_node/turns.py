"""Who writes next in this program: first come, first served.

SQLite's own lock has no order: who asks sleeps and tries again, and a sync that writes page after page has it back before
the sleeper wakes. A person who saves would wait for seconds, until the sync rests. Here they wait for one page at most.
Other programs at the same database are not in this queue; with them SQLite settles it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A fair lock. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._owner: int | None = None

    @contextmanager
    def taken(self, patience_s: float) -> Iterator[None]:
        """One's turn. Who has it already, or waited so long for nothing, goes on without: SQLite then says `E_BUSY`."""
        mine = self._enter(patience_s)
        try:
            yield
        finally:
            if mine:
                self._leave()

    def _enter(self, patience_s: float) -> bool:
        own = threading.Event()
        with self._lock:
            if self._owner == threading.get_ident():
                return False
            if self._owner is None:
                self._owner = threading.get_ident()
                return True
            self._waiting.append(own)
        called = own.wait(patience_s)
        with self._lock:
            if not called and not own.is_set():
                self._waiting.remove(own)
                return False
            self._owner = threading.get_ident()
        return True

    def _leave(self) -> None:
        with self._lock:
            self._owner = None
            if self._waiting:
                self._owner = _CALLED
                self._waiting.popleft().set()


_CALLED = 0
"""No thread's number: the turn belongs to one that was woken and has not said so yet."""
