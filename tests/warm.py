"""Programs that start at once: a process that has loaded `hwc` and `hub` already forks one for each command.

Loading takes a second of work each time, and tests run hundreds of commands. What is forked is the real program in a
process of its own, with its own environment, folder, streams, signals and exit status; only the loading was done before,
and what it costs to make a passphrase was set (`tests.costs`).
`programs` makes a folder with two small executables in the place of the installed ones. The installed ones are run by
`tests.hub.test_wheel`, `tests.test_completion` and whatever spawns its own; a fork is wrong where memory is measured.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.costs import make_cheap

ROOT: Final = Path(__file__).resolve().parents[1]
STARTS: Final = {"hwc": "hwc_node.start", "hub": "hub_server.start"}
NODES: Final = (
    "hwc_node.start",
    "hwc_node.cli.paperwork",
    "hwc_node.cli.serving",
    "hwc_node.fhir_import",
    "hwc_node.finding",
    "hwc_node.migrations.running",
    "hwc_node.sync.hub_http",
    "rich.progress",
)
"""All that a command of a node may need: its first module, and what some load only when they come to it."""
HUBS: Final = ("hub_server.start", "hub_server.cli.program", "hub_server.migrations.running", "hub_server.sync_api")
STREAMS: Final = 3
LENGTH_BYTES: Final = 4

CLIENT: Final = """#!{python} -ISB
import array, json, os, signal, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
passed_on = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
for number in passed_on:
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, lambda number, _: link.send(bytes([number])))
asked = json.dumps([{program!r}, sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
streams = array.array("i", [0, 1, 2])
link.sendmsg([len(asked).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
link.sendall(asked)
signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
told = link.recv(1)
status = told[0] if told else 70
if status > 128 and len(told := link.recv(1)) == 1 and told[0]:
    signal.signal(told[0], signal.SIG_DFL)
    os.kill(os.getpid(), told[0])
os._exit(status)
"""
"""What comes back is the status, and behind one above 128 the signal that ended the program, or 0.

A signal waits until everything was asked: the program may be there before this one goes on."""


@contextmanager
def programs() -> Iterator[Path]:
    """The folder of the two executables."""
    with tempfile.TemporaryDirectory(prefix="warm-") as made:
        folder = Path(made).resolve()
        address = str(folder / "socket")
        for program in STARTS:
            text = CLIENT.format(python=sys.executable, address=address, program=program)
            (folder / program).write_text(text)
            (folder / program).chmod(0o755)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.warm", address], cwd=ROOT, stdout=subprocess.PIPE
        ) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == b"ready\n"
                yield folder
            finally:
                server.terminate()


def load(*modules: str) -> None:
    """Before this process is forked."""
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # else each fork copies what it never uses, at its first collection


class _Server:
    """Children by their link; each ends when its link does."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._waiting = selectors.DefaultSelector()
        self._waiting.register(listening, selectors.EVENT_READ)
        self._child: dict[socket.socket, int] = {}
        self._link: dict[int, socket.socket] = {}

    def run(self) -> None:
        while True:
            for key, _ in self._waiting.select():
                if key.fileobj is self._listening:
                    self._begin(self._listening.accept()[0])
                elif not isinstance(key.fileobj, socket.socket):
                    self._end(int(key.fd))
                elif key.fileobj in self._child:  # else it ended a moment ago, in this same round
                    self._signal(key.fileobj)

    def _begin(self, link: socket.socket) -> None:
        try:
            asked, streams = _received(link)
        except EOFError:  # whoever asked was killed while asking
            link.close()
            return
        child = os.fork()
        if child == 0:
            status = 70
            try:
                status = _live(asked, streams, [self._listening, link, *self._child])
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        for one in streams:
            os.close(one)
        watched = os.pidfd_open(child)
        self._child[link], self._link[watched] = child, link
        self._waiting.register(link, selectors.EVENT_READ)
        self._waiting.register(watched, selectors.EVENT_READ)

    def _signal(self, link: socket.socket) -> None:
        """One that the client got; without a client the program has nobody any more."""
        number = link.recv(1)
        if not number:
            self._waiting.unregister(link)
        os.kill(self._child[link], number[0] if number else signal.SIGKILL)

    def _end(self, watched: int) -> None:
        link = self._link.pop(watched)
        status = os.waitstatus_to_exitcode(os.waitpid(self._child.pop(link), 0)[1])
        self._waiting.unregister(watched)
        os.close(watched)
        if link in self._waiting.get_map():
            self._waiting.unregister(link)
        with suppress(BrokenPipeError):
            link.sendall(bytes([status]) + b"\0" if status >= 0 else bytes([128 - status, -status]))
        link.close()


def _received(link: socket.socket) -> tuple[list[Any], list[int]]:
    """What to run, and its streams. Raises EOFError when it does not come."""
    streams = array.array("i")
    head, given, _, _ = link.recvmsg(LENGTH_BYTES, socket.CMSG_LEN(STREAMS * streams.itemsize))
    if not given:
        raise EOFError
    streams.frombytes(given[0][2])
    size, body = int.from_bytes(head, "big"), b""
    while len(body) < size:
        piece = link.recv(size - len(body))
        if not piece:
            for one in streams:
                os.close(one)
            raise EOFError
        body += piece
    return json.loads(body), list(streams)


def _live(asked: Sequence[Any], streams: Sequence[int], not_mine: Sequence[socket.socket]) -> int:
    """The program from its first line to its exit status."""
    for other in not_mine:
        other.close()
    program, words, environment, folder = asked
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.setsid()
    for number, one in enumerate(streams):
        os.dup2(one, number)
        os.close(one)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    sys.argv = [program, *words]
    status = 0
    try:
        sys.modules[STARTS[program]].main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does at its end
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def main() -> None:
    load(*NODES, *HUBS)
    make_cheap(setattr)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(sys.argv[1])
    listening.listen(64)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    _Server(listening).run()


if __name__ == "__main__":
    main()
