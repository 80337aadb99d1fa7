"""The first half of *keep, then admit*: segments of many exchanges made durable together, one fsync for all.

While one commit runs, whatever arrives gathers for the next. Each exchange learns of its own segments' commit, and
answers only then. It refuses to look into a segment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from hub_server import nodes
from hub_server.nodes import Arrived
from hub_server.store import Store
from hub_server.together import Together

_KEEP_GROUP_BYTES: Final = 8 * 1024 * 1024  # in one commit: bounds the memory of one statement


class Keeper:
    """Commits the segments of many concurrent exchanges together: one fsync for all that came meanwhile."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._together = Together("keeper", self._commit, _group)

    def keep(self, arrived: Arrived) -> asyncio.Future[None]:
        """A future that is done once the segment is durable."""
        return self._together.ask(arrived)

    def close(self) -> None:
        self._together.close()

    def _commit(self, group: Sequence[Arrived]) -> Sequence[None]:
        try:
            with self._store.database.transaction() as connection:
                nodes.keep(connection, group)
        finally:
            self._wake()  # also where the commit broke off: it may have been done
        return [None] * len(group)


def _group(waiting: Sequence[Arrived]) -> int:
    """How many from the front to commit together."""
    size_bytes = 0
    for count, arrived in enumerate(waiting):
        size_bytes += len(arrived.envelope.raw)
        if count and size_bytes > _KEEP_GROUP_BYTES:
            return count
    return len(waiting)
