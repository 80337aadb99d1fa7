"""`hub serve` as it is, in a program that ends itself at a chosen moment of its work on the database.

Run as ``python -m tests.hub.killing_hub FUSE STALL_S``. The driver's methods are wrapped from outside, the product has
no hook. A moment is the point before each statement that writes, and those just before and just after the commit of a
transaction that wrote. How many moments are still to pass stands in the file FUSE, which the test shares: at zero the
program is killed as by a power cut, SIGKILL and nothing else.

For each line on stdin one hub is begun, by a fork of this program, which has imported everything already. Its own line
on stdout tells its address; one more tells how it ended. Only the patience with a stalled request is set from here.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import sys
import threading
from pathlib import Path
from typing import Any
from weakref import WeakSet

import psycopg

from hub_server import cli, sync_api
from tests import warm

FUSE = struct.Struct("<q")
WRITES = ("INSERT", "UPDATE", "DELETE", "COPY")
AT_WORK = ("AnyIO worker thread", "keeper", "admitter")  # not the clockwork, whose hours are its own


class Fuse:
    """Counts moments down."""

    def __init__(self, file: Path) -> None:
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), FUSE.size)
        self._lock = threading.Lock()

    def moment(self) -> None:
        if not threading.current_thread().name.startswith(AT_WORK):
            return
        with self._lock:
            (left,) = FUSE.unpack_from(self._shared)
            if left > 0:
                FUSE.pack_into(self._shared, 0, left - 1)
            if left == 1:
                os.kill(os.getpid(), signal.SIGKILL)


def wrap(fuse: Fuse) -> None:
    """Put moments around what the driver does."""
    written: WeakSet[Any] = WeakSet()
    execute, copy, commit, rollback = (
        psycopg.Cursor.execute,
        psycopg.Cursor.copy,
        psycopg.Connection.commit,
        psycopg.Connection.rollback,
    )

    def before(cursor: Any, query: Any) -> None:
        text = query.decode() if isinstance(query, bytes) else str(query)
        if text.lstrip().upper().startswith(WRITES):
            written.add(cursor.connection)
            fuse.moment()

    def executing(self: Any, query: Any, *rest: Any, **named: Any) -> Any:
        before(self, query)
        return execute(self, query, *rest, **named)

    def copying(self: Any, statement: Any, *rest: Any, **named: Any) -> Any:
        before(self, statement)
        return copy(self, statement, *rest, **named)

    def committing(self: Any) -> None:
        wrote = self in written
        written.discard(self)
        if wrote:
            fuse.moment()
        commit(self)
        if wrote:
            fuse.moment()

    def rolling_back(self: Any) -> None:
        written.discard(self)
        rollback(self)

    psycopg.Cursor.execute = executing  # type: ignore[method-assign]
    psycopg.Cursor.copy = copying  # type: ignore[method-assign]
    psycopg.Connection.commit = committing  # type: ignore[method-assign]
    psycopg.Connection.rollback = rolling_back  # type: ignore[method-assign]


def main() -> None:
    warm.load(*warm.HUBS)
    wrap(Fuse(Path(sys.argv[1])))
    sync_api.MAX_STALL_S = float(sys.argv[2])  # type: ignore[misc]
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(cli.run(["serve", "--port", "0", "--workers", "0", "--json"]))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"ended": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
