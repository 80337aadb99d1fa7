"""The admitting program: ``python -m hub_server.admitting``, started by a hub that serves (see `workers`).

It reads where everything is from stdin, then a byte whenever something was kept; when stdin ends, it ends its pass and
stops. It tells what it did on stdout. Signals for the whole group, as Ctrl-C sends one, are left to the program that
serves. Started by hand it finds no first line, says so and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

import msgspec
import structlog

from hub_server import logs
from hub_server.clock import wall_ms
from hub_server.database import Database
from hub_server.intake import Admitter
from hub_server.ledger import Ledger
from hub_server.store import Store
from hub_server.vault import Vault, load_or_make
from hub_server.workers import MAX_LINE_BYTES, Access, Report, code_of, collect_seldom

CONNECTIONS: Final = 1
FAILED: Final = 1
WRONG_USAGE: Final = 2
_WAKES_A_READ: Final = 4096  # they all say the same

log = structlog.get_logger("hub.admitting")


def main() -> int:
    """Returns the exit status: 0 when the serving program ended it, 1 after an error, 2 when nobody told it anything."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        with open(0, "rb", buffering=0, closefd=False) as told:  # not a byte more than the line
            access = msgspec.json.decode(told.readline(MAX_LINE_BYTES), type=Access)
    except msgspec.DecodeError:
        sys.stderr.write("This program is started by hub serve.\n")
        return WRONG_USAGE
    logs.configure(access.log_level)
    try:
        _serve(access)
    except Exception:  # whatever it is: Python itself would print its text, which may quote a row
        log.exception("admission_ended")
        return FAILED
    return 0


def _serve(access: Access) -> None:
    database = Database(access.url, CONNECTIONS)
    try:
        _admit(_store(access, database))
    finally:
        database.close()


def _store(access: Access, database: Database) -> Store:
    identity = load_or_make(Path(access.keys_folder), wall_ms())
    ledger = Ledger(Path(access.ledger_file), identity.signing, identity.environment, identity.retired_verifiers)
    return Store(database, Vault(identity, ledger=ledger))


def _admit(store: Store) -> None:
    """Until stdin ends."""
    admitter = Admitter(store, lambda done: _tell(Report(did=done)))
    threading.Thread(target=_listen, args=(admitter,), name="listener", daemon=True).start()
    collect_seldom()
    _tell(Report(ready=True))
    admitter.run(wall_ms, lambda error: _tell(Report(error=code_of(error))))


def _listen(admitter: Admitter) -> None:
    while os.read(0, _WAKES_A_READ):
        admitter.wake()
    admitter.stop()


def _tell(report: Report) -> None:
    """To the program that serves; nobody is left to be told where that one was killed, and the pass ends as it would."""
    try:
        os.write(1, msgspec.json.encode(report) + b"\n")
    except BrokenPipeError:
        return


if __name__ == "__main__":
    sys.exit(main())
