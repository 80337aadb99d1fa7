"""What `hwc serve` runs: background sync and the local pages, until it is told to stop.

Rules: one `serve` a home. The ports are taken before anything starts, so that a taken one is told at once. Plain HTTP and
HTTPS are the same application on one event loop, and end together. SIGINT and SIGTERM end it cleanly; an exchange that
waits for a slow answer is left, since what it has is kept and what it lacks comes again.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn
from anyio import to_thread

from hwc_node import keystore, lan, local_ca, outbox, sync, web
from hwc_node.cli import console, opening
from hwc_node.cli.https import Encrypted
from hwc_node.config import FILE_MODE, NodeConfig, storage_fault
from hwc_node.scheduler import BackgroundSync, Outcome
from hwc_node.store import Store
from hwc_node.sync import Progress
from hwc_node.web import addresses, certificate
from hwc_node.web.premises import Premises
from sync_protocol.errors import OurFault

GRACE_S: Final = 3  # a page that is being read when the program is told to stop may end
LAST_EXCHANGE_S: Final = 5.0  # an exchange on the way may end; what is cut is repeated, so leaving it loses nothing
THREADS: Final = 8  # pages that are made at a time: a centre's people, and a database's cache for each
ARENAS: Final = 2
LARGE_BYTES: Final = 1024 * 1024
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of glibc's malloc.h
TICK_S: Final = 0.1  # how soon a signal is seen, as by the servers themselves
SYNC_TURN_S: Final = 900.0  # one turn of the background sync; what is left is the next turn's


def serve(host: str | None, port: int | None, https_port: int | None, *, locked: bool = False) -> None:
    """Serve until stopped. locked: the database is opened by the first who unlocks at a page.

    Raises OurFault (``E_PORT_TAKEN``, ``E_ADDRESS``, ``E_SERVE_RUNNING``, ``E_NO_ASSETS``).
    """
    flags = {"host": host, "port": port, "https_port": https_port}
    config = opening.configured(**flags)
    trim = _share_memory()
    with ExitStack() as closing:
        at = closing.enter_context(opening.desk(**flags)) if not locked else None
        if locked:
            keystore.slots(config.slots_path)  # not enrolled: say so now
        closing.enter_context(_only_one(config))
        listener = closing.enter_context(_listening(config.host, config.port, "--port"))
        background = _Background(config)
        closing.callback(background.close)
        premises = Premises(config, background.open, opening.now_ms, port=listener.getsockname()[1], trim=trim)
        encrypted = _encrypted(closing, premises)
        names = ("*",) if config.behind_tls_proxy else ()  # the proxy's name, which it vouches for by its certificate
        app = web.make_app(premises, names)
        _log_to_stderr("debug" if console.manner.verbose else config.log_level)
        servers = Servers(app, listener, encrypted, behind_proxy=config.behind_tls_proxy)
        background.premises = premises
        if at is not None:
            premises.store = at.store
            background.start(at.store)
        if encrypted is not None:
            encrypted.look()
        _tell_addresses(premises, encrypted, listener.getsockname()[0])
        try:
            servers.run()
        finally:
            ended = background.stop()
            console.say("stopped")
    if not ended:  # a thread waits for a slow answer; everything it had is kept, and the next sync repeats the rest
        console.flush()
        os._exit(console.Status.DONE)


def _share_memory() -> Callable[[], object]:
    """Threads share what was freed, and what was large is given back at once: else each keeps some MB of its own, which a
    laptop of 1 GB has better uses for. What gives back the rest."""
    with suppress(OSError, AttributeError):  # glibc alone has these
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, ARENAS)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        return partial(libc.malloc_trim, 0)
    return lambda: None


def _encrypted(closing: ExitStack, premises: Premises) -> Encrypted | None:
    """The port for HTTPS, if it is wanted. One that was not asked for by number stands in nobody's way when taken."""
    config = premises.config
    if not config.secure_port:
        return None
    try:
        listener = closing.enter_context(_listening(config.host, config.secure_port, "--https-port"))
    except OurFault as error:
        if config.https_port is not None:
            raise
        console.say(f"hwc: no HTTPS: {error.message} [{error.code}]", f"     {error.next_step}")
        return None
    return Encrypted(premises, listener)


def _tell_addresses(premises: Premises, encrypted: Encrypted | None, taken: str) -> None:
    """Where the pages are: what a script waits for on stdout, what people open on stderr. taken: the address that is
    listened at, also where the setting is a name."""
    host, port = premises.config.host, premises.port
    console.text("serving " + addresses.at(host, port, "/", "http"))
    if encrypted is not None and encrypted.ready:
        console.text("serving " + addresses.at(host, encrypted.port, "/"))
    secure = encrypted if encrypted is not None and (encrypted.ready or premises.store is None) else None
    for address in lan.addresses(taken):
        one = str(address)
        console.say(f"On this centre's Wi-Fi: {addresses.at(one, port, '/', 'http')}")
        if secure is not None and local_ca.may_name(address):
            console.say(f"  encrypted:            {addresses.at(one, secure.port, '/')}")
            console.say(f"  a phone's first time: {addresses.at(one, port, certificate.PAGE, 'http')}")
    if premises.https is not None:
        console.say(f"Fingerprint to compare there: {premises.https.issued.fingerprint}")
    elif secure is not None:
        console.say("HTTPS begins once somebody has unlocked.")
    console.say("Stop with Ctrl-C. Each person unlocks the pages with their own passphrase.")


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


class _Server(uvicorn.Server):
    """One port. Signals are `Servers`' affair: each of two servers would take them from the other."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Servers:
    """The application on one or two ports, which a signal stops from now on: also one that comes before they run."""

    def __init__(
        self, app: Any, listener: socket.socket, encrypted: Encrypted | None = None, *, behind_proxy: bool = False
    ) -> None:
        self._listener, self._encrypted = listener, encrypted
        self._plain = _server(app, behind_proxy=behind_proxy)
        self._secure = _server(app, context=encrypted.context) if encrypted is not None else None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        """A second Ctrl-C waits for nobody."""
        for server in (self._plain, self._secure):
            if server is not None:
                server.force_exit = server.should_exit and number == signal.SIGINT
                server.should_exit = True

    def run(self) -> None:
        """Serve until a signal comes."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        beside = asyncio.create_task(self._run_secure()) if self._secure is not None else None
        await self._plain.serve([self._listener])
        if beside is not None:
            await beside

    async def _run_secure(self) -> None:
        encrypted, server = self._encrypted, self._secure
        if encrypted is None or server is None:
            return
        begun = asyncio.Event()
        watching = asyncio.create_task(encrypted.watch(begun.set))
        try:
            while not begun.is_set() and not server.should_exit and not watching.done():
                await asyncio.sleep(TICK_S)
            if begun.is_set() and not server.should_exit:
                await server.serve([encrypted.listener])
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


def _server(app: Any, *, context: ssl.SSLContext | None = None, behind_proxy: bool = False) -> _Server:
    """context: of TLS; None for plain HTTP. behind_proxy: what its proxy says of a request is believed."""
    return _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            proxy_headers=behind_proxy,
            timeout_graceful_shutdown=GRACE_S,
            ssl_context_factory=(lambda _config, _default: context) if context is not None else None,
        )
    )


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
def _listening(host: str, port: int, flag: str) -> Iterator[socket.socket]:
    """A socket that is bound before anything is started, so that a taken port is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise OurFault(
                f"Port {port} of {host} cannot be used: {error.strerror}.",
                code="E_PORT_TAKEN" if taken else "E_ADDRESS",
                next_step=f"Choose another with {flag}.",
            ) from None
        yield listener
