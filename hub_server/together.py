"""What many requests ask of the database at the same time, done in one transaction: one round trip, one fsync for all.

While one group is at work, whatever is asked gathers for the next; nobody waits for a clock. A group that fails for what
is in it is done again one by one, so that the bad one stands alone; where the database is away all are told at once.
It refuses to know what is asked.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sync_protocol.errors import OurFault

MOST_TOGETHER: Final = 256  # as many as the gate lets in: bounds the memory of one statement

Asked = TypeVar("Asked")
Told = TypeVar("Told")


@dataclass(slots=True)
class _One(Generic[Asked, Told]):
    asked: Asked
    done: asyncio.Future[Told]
    loop: asyncio.AbstractEventLoop


class Together(Generic[Asked, Told]):
    """work: does a group in one transaction of its own and returns what to tell each, in order.

    count: how many from the front go together; without one all, up to the most.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Asked]], Sequence[Told]],
        count: Callable[[Sequence[Asked]], int] = len,
    ) -> None:
        self._work = work
        self._count = count
        self._waiting: list[_One[Asked, Told]] = []
        self._lock = threading.Lock()
        self._busy = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def ask(self, asked: Asked) -> asyncio.Future[Told]:
        """A future of what the work tells, or of the error that it raised."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Told] = loop.create_future()
        with self._lock:
            self._waiting.append(_One(asked, done, loop))
            start = not self._busy
            self._busy = True
        if start:
            self._pool.submit(self._drain)
        return done

    def close(self) -> None:
        """Returns when what was asked is done."""
        self._pool.shutdown(wait=True)

    def _drain(self) -> None:
        while True:
            with self._lock:
                count = self._count([one.asked for one in self._waiting[:MOST_TOGETHER]])
                group, self._waiting = self._waiting[:count], self._waiting[count:]
                if not group:
                    self._busy = False
                    return
            self._do(group)

    def _do(self, group: Sequence[_One[Asked, Told]]) -> None:
        try:
            told: Sequence[Told] | Exception = self._work([one.asked for one in group])
        except Exception as error:  # noqa: BLE001  # it is told to whoever asked
            if len(group) > 1 and not isinstance(error, OurFault):
                for one in group:
                    self._do([one])
                return
            told = error
        for loop in {one.loop for one in group}:
            with suppress(RuntimeError):  # a loop that was closed meanwhile: nobody waits there any more
                loop.call_soon_threadsafe(_settle, loop, group, told)


def _settle(
    loop: asyncio.AbstractEventLoop, group: Sequence[_One[Asked, Told]], told: Sequence[Told] | Exception
) -> None:
    """In the loop's own thread: every future of this loop is done."""
    for at, one in enumerate(group):
        if one.loop is not loop or one.done.done():
            continue  # of another loop, or cancelled
        if isinstance(told, Exception):
            one.done.set_exception(told)
        else:
            one.done.set_result(told[at])
