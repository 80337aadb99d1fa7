"""Real programs on this machine, each with a home of its own: a hub that serves, nodes that are run command by command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.peaks import peak_mb, peak_of_children_mb
from hub_server import config as hub_settings
from hub_server import postgres as hub_postgres

PEAKS_FILE: Final = "hub.peaks"  # the most memory that a hub held before it was stopped
START_TIMEOUT_S: Final = 180  # some 2 s on an idle machine; the rest is for what else runs beside
COMMAND_TIMEOUT_S: Final = 300
INSTALLED: Final = Path(sys.executable).parent
BIN = INSTALLED
"""Where commands are taken from; tests put others here. What is looked at for its memory is taken from `INSTALLED`."""


class StepFailed(Exception):
    """Something that was promised did not hold."""


def hold(condition: object, what: str) -> None:
    if not condition:
        raise StepFailed(what)


@dataclass
class Place:
    """Where one program keeps itself, and how it is run."""

    program: str
    environment: dict[str, str]

    def run(self, *words: str, given: str = "", expect: int = 0) -> str:
        """What the command printed. Raises StepFailed on another exit status."""
        done = subprocess.run(
            [str(BIN / self.program), *words],
            env=os.environ | self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        if done.returncode != expect:
            told = (done.stderr.strip() or done.stdout.strip())[-2000:]
            raise StepFailed(f"{self.program} {' '.join(words)} ended with {done.returncode}, not {expect}:\n{told}")
        return done.stdout

    def ask(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json"))

    def lines(self, *words: str) -> list[Any]:
        return [json.loads(line) for line in self.run(*words).splitlines() if line.strip()]


_HELD: Final[list[socket.socket]] = []


def free_port() -> int:
    """A port for a program that is started later, again and again: no other program is given it while this one lives.

    It stays bound here and nobody listens. A program that takes it with SO_REUSEADDR, as ours do, listens all the same.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _HELD.append(held)
    return int(held.getsockname()[1])


@dataclass
class HubPlace(Place):
    """A hub below a folder, with a PostgreSQL of its own where no other is given. It can be started, stopped and started
    again. serving: words for `hub serve`."""

    folder: Path = field(kw_only=True)
    port: int = field(kw_only=True)
    serving: tuple[str, ...] = ()
    server: subprocess.Popen[bytes] | None = None

    @classmethod
    def below(cls, folder: Path, *serving: str, database_url: str = "") -> HubPlace:
        port = free_port()
        environment = {
            "HUB_HOME": str(folder / "hub"),
            "HUB_PG_FOLDER": str(folder / "pg"),
            "HUB_PORT": str(port),
            "HUB_PUBLIC_URL": f"http://127.0.0.1:{port}",
        }
        if database_url:
            environment["HUB_DATABASE_URL"] = database_url
        return cls("hub", environment, folder=folder, port=port, serving=serving)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it is ready. Raises StepFailed."""
        with (self.folder / "hub.log").open("ab") as log:
            self.server = subprocess.Popen(
                [str(BIN / "hub"), "serve", *self.serving],
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until_ready(f"{self.url}/readyz", self.server, self.folder / "hub.log")

    def stop(self) -> None:
        if self.server is not None:
            self._note_peaks(self.server.pid)
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(START_TIMEOUT_S)
            self.server = None

    def _note_peaks(self, server: int) -> None:
        postgres = hub_postgres.status(hub_settings.load(None, self.environment)).pid
        told = {
            "hub_mb": peak_mb(server),
            "worker_mb": peak_of_children_mb(server),
            "postgres_mb": peak_of_children_mb(postgres) if postgres else 0.0,
        }
        (self.folder / PEAKS_FILE).write_text(json.dumps(told))


@dataclass
class Served:
    """The pages of a centre: `hwc serve` of its home."""

    url: str
    server: subprocess.Popen[bytes] | None

    @classmethod
    def start(cls, node: Place, folder: Path, *words: str) -> Served:
        """Returns when they answer. folder: for its log. Raises StepFailed."""
        port, log = free_port(), folder / "node.log"
        with log.open("ab") as opened:
            server = subprocess.Popen(
                [str(INSTALLED / "hwc"), "serve", "--port", str(port), *words],
                env=os.environ | node.environment,
                stdout=opened,
                stderr=opened,
                start_new_session=True,
            )
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(f"{url}/healthz", server, log)
        return cls(url, server)

    def stop(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(START_TIMEOUT_S)
            self.server = None


def wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Returns once the address answers with success. Raises StepFailed."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        hold(server.poll() is None, f"a server ended: see {log}")
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise StepFailed(f"a server was not ready in {START_TIMEOUT_S} seconds")


def database_given() -> str:
    """For the next hub, of a PostgreSQL that is there already. None: each makes its own. Tests give theirs."""
    return ""


@contextmanager
def running_hub(folder: Path) -> Iterator[HubPlace]:
    hub = HubPlace.below(folder, database_url=database_given())
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


@contextmanager
def database_url(hub: HubPlace) -> Iterator[str]:
    """Where the hub's PostgreSQL is, kept running meanwhile."""
    with hub_postgres.ensure_running(hub_settings.load(None, hub.environment)) as running:
        yield running.url
