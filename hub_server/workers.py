"""The workers of a serving hub that admit what it keeps: programs of their own, or threads in the serving one.

A program has an interpreter of its own, so that admission takes no time from the answers: that is how a hub serves. It
is told by a pipe where everything is, and woken by a byte; the pipe's end is its order to end its pass and stop, so that
it never outlives the program that serves. It tells what each pass did. One that dies is started again: what it had not
committed is still kept. Threads are for a machine with little memory, and for tests that set the clock.

The pipes carry the database's URL, never anything of a patient.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import msgspec
import structlog

from hub_server.intake import Admitted, Admitter
from hub_server.store import Store
from sync_protocol.errors import HealthSyncError

STOP_S: Final = 60.0  # for one pass, at worst on a slow disk
START_S: Final = 60.0  # for a program to open the database
AGAIN_S: Final = 1.0  # before a program that died is started again
MAX_LINE_BYTES: Final = 64 * 1024
COLLECT_AFTER_OBJECTS: Final = 50_000  # some 10 MB that a cycle can hold for a while
MODULE: Final = "hub_server.admitting"

log = structlog.get_logger("hub.workers")

OnPass = Callable[[Admitted], None]
OnError = Callable[[str], None]


class Workers(Protocol):
    """What the serving program knows of them. on_pass is told what each pass did, on_error the code of one that failed."""

    def start(self, on_pass: OnPass, on_error: OnError) -> None:
        """Returns when they are at work, or after `START_S`."""

    def wake(self) -> None:
        """Something was kept."""

    @property
    def alive(self) -> bool:
        """Whether each of them is at work."""

    def stop(self) -> None:
        """Each ends its pass; what is not admitted is kept and admitted at the next start."""


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a program finds everything: the first line that it reads. url: of the database, with its password."""

    url: str
    keys_folder: str
    ledger_file: str
    log_level: str


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of a program: that it is at work, what a pass did, or the code of one that failed."""

    ready: bool = False
    did: Admitted | None = None
    error: str = ""


def code_of(error: Exception) -> str:
    """What is told of an error: never its text."""
    return error.code if isinstance(error, HealthSyncError) else type(error).__name__


# -- threads


class Threads:
    """Admitting threads in this process. now_ms: the hub's clock."""

    def __init__(self, store: Store, count: int, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._count = count
        self._now_ms = now_ms
        self._admitters: list[Admitter] = []
        self._threads: list[threading.Thread] = []

    def start(self, on_pass: OnPass, on_error: OnError) -> None:
        for number in range(self._count):
            admitter = Admitter(self._store, on_pass)
            arguments = (self._now_ms, lambda error: on_error(code_of(error)))
            thread = threading.Thread(target=admitter.run, args=arguments, name=f"admitter-{number}", daemon=True)
            self._admitters.append(admitter)
            self._threads.append(thread)
            thread.start()

    def wake(self) -> None:
        for admitter in self._admitters:
            admitter.wake()

    @property
    def alive(self) -> bool:
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        for admitter in self._admitters:
            admitter.stop()
        for thread in self._threads:
            thread.join(STOP_S)


# -- programs


class Programs:
    """Admitting programs, each looked after by a thread of this one."""

    def __init__(self, access: Access, count: int) -> None:
        self._attended = [_Attended(access, number) for number in range(count)]

    def start(self, on_pass: OnPass, on_error: OnError) -> None:
        for one in self._attended:
            one.start(on_pass, on_error)
        for one in self._attended:
            one.ready.wait(START_S)

    def wake(self) -> None:
        for one in self._attended:
            one.wake()

    @property
    def alive(self) -> bool:
        return all(one.ready.is_set() for one in self._attended)

    def stop(self) -> None:
        for one in self._attended:
            one.order_to_stop()
        for one in self._attended:
            one.wait_until_stopped()


class _Attended:
    """One admitting program, started again whenever it dies."""

    def __init__(self, access: Access, number: int) -> None:
        self.ready = threading.Event()
        self._access = access
        self._number = number
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # of the program: it is exchanged while others wake it
        self._program: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self, on_pass: OnPass, on_error: OnError) -> None:
        name = f"worker-{self._number}"
        self._thread = threading.Thread(target=self._attend, args=(on_pass, on_error), name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        with self._lock, suppress(BlockingIOError, BrokenPipeError):  # full: it is woken anyway; broken: it has died
            if self._program is not None and self._program.stdin is not None and not self._program.stdin.closed:
                os.write(self._program.stdin.fileno(), b"\n")

    def order_to_stop(self) -> None:
        self._stopping.set()
        with self._lock:
            self._close()

    def wait_until_stopped(self) -> None:
        if self._thread is not None:
            self._thread.join(STOP_S)
            if self._thread.is_alive() and self._program is not None:
                self._program.kill()  # nothing is lost: its transaction is rolled back

    def _close(self) -> None:
        if self._program is not None and self._program.stdin is not None:
            with suppress(BrokenPipeError):
                self._program.stdin.close()

    def _attend(self, on_pass: OnPass, on_error: OnError) -> None:
        while not self._stopping.is_set():
            try:
                with self._lock:
                    program = self._program = self._begin()
                if program is None:
                    return
                with program:
                    self._listen(program, on_pass, on_error)
                    self.ready.clear()
                    with self._lock:
                        self._close()
                ended: int | str = program.returncode
            except OSError as error:  # no room for another program just now
                ended = error.strerror or type(error).__name__
            if not self._stopping.is_set():
                log.warning("worker_ended", worker=self._number, status=ended)
                on_error("E_WORKER_ENDED")
                self._stopping.wait(AGAIN_S)

    def _begin(self) -> subprocess.Popen[bytes] | None:
        """A program that has been told where everything is; none when the order to stop has come."""
        if self._stopping.is_set():
            return None
        program = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],  # -P: nothing is imported from the folder where the hub was started
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if program.stdin is not None:
            with suppress(BrokenPipeError):
                program.stdin.write(msgspec.json.encode(self._access) + b"\n")
                program.stdin.flush()
            os.set_blocking(program.stdin.fileno(), False)
        return program

    def _listen(self, program: subprocess.Popen[bytes], on_pass: OnPass, on_error: OnError) -> None:
        """Until the program has ended."""
        while program.stdout is not None and (line := program.stdout.readline(MAX_LINE_BYTES)):
            try:
                report = msgspec.json.decode(line, type=Report)
            except msgspec.DecodeError:
                log.warning("worker_not_understood", worker=self._number)
                continue
            if report.ready:
                self.ready.set()
            if report.did is not None:
                on_pass(report.did)
            if report.error:
                on_error(report.error)


def collect_seldom() -> None:
    """Look for garbage in cycles less often, and not at all among what is here from the start.

    A pass of admission makes some ten thousand objects that live until it ends, none in a cycle; looking through them
    over and over took a fifth of its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
