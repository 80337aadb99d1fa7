"""The first half of *keep, then admit*: segments of many exchanges made durable together, one fsync for all.

While one commit runs, whatever arrives gathers for the next. Each exchange learns of its own segments' commit, and
answers only then. It refuses to look into a segment.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from hub_server import nodes
from hub_server.nodes import Arrived
from hub_server.store import Store

_KEEP_GROUP: Final = 256  # segments in one commit at most
_KEEP_GROUP_BYTES: Final = 8 * 1024 * 1024  # and of about this size: bounds the memory of one statement


class Keeper:
    """Commits the segments of many concurrent exchanges together: one fsync for all that came meanwhile."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._waiting: list[tuple[Arrived, asyncio.Future[None], asyncio.AbstractEventLoop]] = []
        self._lock = threading.Lock()
        self._busy = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="keeper")

    def keep(self, arrived: Arrived) -> asyncio.Future[None]:
        """A future that is done once the segment is durable."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting.append((arrived, done, loop))
            start = not self._busy
            self._busy = True
        if start:
            self._pool.submit(self._drain)
        return done

    def _drain(self) -> None:
        while True:
            with self._lock:
                count = _group(self._waiting)
                group, self._waiting = self._waiting[:count], self._waiting[count:]
                if not group:
                    self._busy = False
                    return
            error: Exception | None = None
            try:
                with self._store.database.transaction() as connection:
                    nodes.keep(connection, [arrived for arrived, _, _ in group])
            except Exception as failed:  # noqa: BLE001  # it is told to every exchange that waits
                error = failed
            for _, done, loop in group:
                with suppress(RuntimeError):  # a loop that was closed meanwhile: nobody waits there any more
                    loop.call_soon_threadsafe(_settle, done, error)
            self._wake()

    def close(self) -> None:
        self._pool.shutdown(wait=True)


def _group(waiting: Sequence[tuple[Arrived, object, object]]) -> int:
    """How many from the front to commit together."""
    size_bytes = 0
    for count, (arrived, _, _) in enumerate(waiting[:_KEEP_GROUP]):
        size_bytes += len(arrived.envelope.raw)
        if count and size_bytes > _KEEP_GROUP_BYTES:
            return count
    return min(len(waiting), _KEEP_GROUP)


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
