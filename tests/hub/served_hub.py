"""A hub that really serves: a program of its own, reached over HTTP on this machine, killed and begun again at will."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from sync_protocol.change import FacilityCode
from tests.hub.bare_node import BareNode
from tests.hub.hub_world import HubWorld
from tests.hub.killing_hub import FUSE

PATIENCE_S = 120.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Message  # names in any case
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["code"])


class ServedHub:
    """Begin it with `start`; it may be killed by its fuse, by `kill`, or end in peace by `stop`."""

    def __init__(self, home: Path, database_url: str, stall_s: float = PATIENCE_S) -> None:
        self.home = home
        self.log = home / "hub.log"
        self.world = HubWorld.make(database_url, home / "keys")
        self._fuse = home / "fuse"
        self._fuse.write_bytes(FUSE.pack(0))
        self._url = database_url
        self._stall_s = stall_s
        self._pid = 0
        self.host, self.port = "", 0

    def __enter__(self) -> Self:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HUB_")}
        environment |= {"HUB_HOME": str(self.home), "HUB_DATABASE_URL": self._url}
        with self.log.open("ab") as log:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "tests.hub.killing_hub", str(self._fuse), str(self._stall_s)],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._pid and self.is_alive:
            self.kill()
        self._driver.communicate(timeout=PATIENCE_S)
        self.world.database.close()

    def _told(self) -> dict[str, Any]:
        assert self._driver.stdout is not None
        line = self._driver.stdout.readline()
        assert line, f"the hub's program has ended: {self.log.read_text()[-2000:]}"
        return dict(json.loads(line))

    def start(self) -> None:
        """Returns when it answers."""
        assert self._driver.stdin is not None
        self._driver.stdin.write(b"\n")
        self._driver.stdin.flush()
        told = self._told()
        assert "url" in told, f"the hub did not start: {self.log.read_text()[-2000:]}"
        address = urlsplit(told["url"])
        self.host, self.port, self._pid = str(address.hostname), int(address.port or 0), int(told["pid"])

    def light_fuse(self, moments: int) -> None:
        """It is killed when it passes this many moments from now on."""
        with self._fuse.open("r+b") as opened:
            opened.write(FUSE.pack(moments))

    def put_out(self) -> bool:
        """Whether the fuse still burned: else it is killed, or dies just now."""
        burned = bool(FUSE.unpack(self._fuse.read_bytes())[0] > 0)
        self.light_fuse(0)
        return burned

    @property
    def is_alive(self) -> bool:
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> int:
        """How it ended."""
        os.kill(self._pid, signal.SIGKILL)
        return self.ended()

    def stop(self) -> int:
        """In peace; how it ended."""
        os.kill(self._pid, signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """How it ended, once it has: of its fuse, where nothing else was done."""
        deadline = time.monotonic() + PATIENCE_S
        while self.is_alive:
            assert time.monotonic() < deadline, "the hub lives on"
            time.sleep(0.005)
        self._pid = 0
        return int(self._told()["ended"])

    # -- asking it

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """One request on a connection of its own. Raises OSError or HTTPException when it breaks off."""
        with self.connected() as link:
            link.request(method, path, body, headers or {})
            answer = link.getresponse()
            return Answered(answer.status, answer.headers, answer.read())

    def sync(self, body: bytes) -> Answered:
        return self.ask("POST", "/v1/sync", body, {"Content-Type": "application/octet-stream"})

    @contextmanager
    def connected(self) -> Iterator[http.client.HTTPConnection]:
        link = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            yield link
        finally:
            link.close()

    def node(self, facility: str) -> BareNode:
        """A fresh node, enrolled."""
        made = BareNode(self.world.vault, FacilityCode(facility))
        made.enrol(self.world.database)
        return made

    def wait(self, query: str, *arguments: object, expected: object = True) -> None:
        """Until the database answers so, or the hub is dead."""
        deadline = time.monotonic() + PATIENCE_S
        while self.is_alive and self.value(query, *arguments) != expected:
            assert time.monotonic() < deadline, f"what was waited for did not come: {query}"
            time.sleep(0.005)

    def value(self, query: str, *arguments: object) -> Any:
        """One value from the database."""
        with self.world.database.transaction() as connection:
            row = connection.execute(query.encode(), arguments).fetchone()
            return row[0] if row else None

    def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        with self.world.database.transaction() as connection:
            return connection.execute(query.encode(), arguments).fetchall()

    def peak_bytes(self) -> int:
        """The most memory it has had at once since `forget_peak`."""
        (line,) = [one for one in Path(f"/proc/{self._pid}/status").read_text().splitlines() if "VmHWM" in one]
        return int(line.split()[1]) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
