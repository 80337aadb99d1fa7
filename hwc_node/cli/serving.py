"""What `hwc serve` runs: background sync and the local pages, until it is told to stop.

Rules: one `serve` a home. The port is taken before anything starts, so that a taken one is told at once. SIGINT and
SIGTERM end it cleanly; an exchange that waits for a slow answer is left, since what it has is kept and what it lacks
comes again.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn

from hwc_node import keystore, outbox, sync, web
from hwc_node.cli import console, opening
from hwc_node.config import FILE_MODE, NodeConfig, storage_fault
from hwc_node.scheduler import BackgroundSync, Outcome
from hwc_node.store import Store
from hwc_node.sync import Progress
from hwc_node.web.premises import Premises
from sync_protocol.errors import OurFault

GRACE_S: Final = 3  # a page that is being read when the program is told to stop may end
LAST_EXCHANGE_S: Final = 5.0  # an exchange on the way may end; what is cut is repeated, so leaving it loses nothing
SYNC_TURN_S: Final = 900.0  # one turn of the background sync; what is left is the next turn's


def serve(host: str | None, port: int | None, *, locked: bool = False) -> None:
    """Serve until stopped. locked: the database is opened by the first who unlocks at a page.

    Raises OurFault (``E_PORT_TAKEN``, ``E_ADDRESS``, ``E_SERVE_RUNNING``, ``E_NO_ASSETS``).
    """
    config = opening.configured(host=host, port=port)
    with ExitStack() as closing:
        at = closing.enter_context(opening.desk(host=host, port=port)) if not locked else None
        if locked:
            keystore.slots(config.slots_path)  # not enrolled: say so now
        closing.enter_context(_only_one(config))
        listener = closing.enter_context(_listening(config))
        background = _Background(config)
        closing.callback(background.close)
        premises = Premises(config, background.open, opening.now_ms)
        names = ("*",) if config.behind_tls_proxy else ()  # the proxy's name, which it vouches for by its certificate
        app = web.make_app(premises, names)
        _log_to_stderr("debug" if console.manner.verbose else config.log_level)
        server = _server(app)
        console.text(f"serving http://{config.host}:{listener.getsockname()[1]}/")
        console.say("Stop with Ctrl-C. Each person unlocks the pages with their own passphrase.")
        background.premises = premises
        if at is not None:
            premises.store = at.store
            background.start(at.store)
        try:
            server.run(sockets=[listener])
        finally:
            ended = background.stop()
            console.say("stopped")
    if not ended:  # a thread waits for a slow answer; everything it had is kept, and the next sync repeats the rest
        console.flush()
        os._exit(console.Status.DONE)


class _Background:
    """The background sync, begun once the database is open; as the pages see it (`premises.Syncing`)."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._sync: BackgroundSync | None = None
        self._opened: Store | None = None
        self._steps: tuple[int, int] | None = None
        self.premises: Premises | None = None

    @property
    def running(self) -> bool:
        return self._sync is not None and self._sync.running

    @property
    def next_in_s(self) -> float | None:
        return self._sync.next_in_s if self._sync is not None else None

    @property
    def steps(self) -> tuple[int, int] | None:
        return self._steps

    def hurry(self) -> None:
        if self._sync is not None:
            self._sync.hurry()

    def open(self, key: bytes) -> Store:
        """Open the database for the first who unlocked at a page, and begin to sync."""
        self._opened = Store.open(self._config, key)
        self.start(self._opened)
        return self._opened

    def start(self, store: Store) -> None:
        self._sync = BackgroundSync(
            lambda: self._turn(store),
            interval_s=self._config.sync_interval_s,
            cap_s=self._config.sync_retry_cap_s,
            asked_s=sync.retry_after_s,
            is_urgent=lambda: outbox.is_urgent(store),
        )
        if self.premises is not None:
            self.premises.syncing = self
        self._sync.start()

    def _turn(self, store: Store) -> Outcome:
        try:
            done = sync.run(store, timeout_s=SYNC_TURN_S, on_progress=self._moved)
        finally:
            self._steps = None
        return Outcome(done.advised_s, more=done.pending_changes > 0 and done.sent_changes > 0)

    def _moved(self, progress: Progress) -> None:
        self._steps = (progress.done_steps, progress.total_steps)

    def stop(self) -> bool:
        """Whether nothing runs any more."""
        return self._sync is None or self._sync.stop(LAST_EXCHANGE_S)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


def _log_to_stderr(level: str) -> None:
    """One JSON object a line: words, codes and counts, never anything of a patient."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)  # a traceback's text may quote a person
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _server(app: Any) -> uvicorn.Server:
    """A server that a signal stops from now on: also one that comes before it runs, which would else be lost between
    our handlers and uvicorn's. When it has stopped, uvicorn raises the signal again for ours, which changes nothing."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_S,
        )
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return server


@contextmanager
def _only_one(config: NodeConfig) -> Iterator[None]:
    """One `hwc serve` a home. The lock's file stays; the system frees it with its owner."""
    try:
        lock = os.open(config.serve_lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise storage_fault(error, "The node's home cannot be used") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OurFault(
                "Another 'hwc serve' runs for this home.", code="E_SERVE_RUNNING", next_step="Stop that one first."
            ) from None
        yield
    finally:
        os.close(lock)


@contextmanager
def _listening(config: NodeConfig) -> Iterator[socket.socket]:
    """A socket that is bound before anything is started, so that a taken port is told at once."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, config.port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise OurFault(
                f"Port {config.port} of {config.host} cannot be used: {error.strerror}.",
                code="E_PORT_TAKEN" if taken else "E_ADDRESS",
                next_step="Choose another with --port.",
            ) from None
        yield listener
