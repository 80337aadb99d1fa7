"""A centre enrolled over HTTP at a paper hub: its home, its commands, and what it holds, for tests of the whole sync."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import places
from hwc_node import config as settings
from hwc_node import enrolment, outbox, standing
from hwc_node.config import NodeConfig
from hwc_node.engine import begin_read
from hwc_node.store import Store
from sync_protocol import documents
from sync_protocol.change import ChangeId
from sync_protocol.feed_page import Cursor, Position
from tests.node.enrolled_home import FACILITY, PASSPHRASE, PERSON_NAME
from tests.node.paper_hub import NOW_MS
from tests.node.peer import Peer

ROOT = Path(__file__).parents[2]


def environment(home: Path) -> dict[str, str]:
    """The shell's, without its own node, pointing at this home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HWC_")}
    own = {"HWC_HOME": str(home), "HWC_PASSPHRASE": PASSPHRASE, "HWC_PERSON_NAME": PERSON_NAME}
    return {**kept, **own, "PYTHONPATH": str(ROOT)}


def patients(first: int, count: int) -> list[dict[str, Any]]:
    """Lines of an import."""
    made = (documents.derived_id("patient", str(number)) for number in range(first, first + count))
    return [
        {"kind": "patient", "id": documents.id_text(name), "fields": {"name": f"Sita {at}", "village": "Rampur"}}
        for at, name in enumerate(made, first)
    ]


def save_lines(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@dataclass(frozen=True)
class Held:
    """What must not move when nothing was applied."""

    cursor: Cursor
    positions: dict[ChangeId, Position | None]
    pending: int


@dataclass
class Centre:
    peer: Peer
    config: NodeConfig
    key: bytes

    @classmethod
    def enrol(cls, peer: Peer, home: Path) -> Centre:
        config = settings.load(home, {})
        code = peer.new_code(FACILITY)
        made = enrolment.enrol(config, code, person_name=PERSON_NAME, passphrase=PASSPHRASE, now_ms=NOW_MS)
        return cls(peer, config, made.store_key)

    def open(self) -> Store:
        return Store.open(self.config, self.key)

    def held(self) -> Held:
        with self.open() as store:
            positions = {one.held.change.id: one.position for one in store.changes()}
            with begin_read(store.engine) as connection:
                return Held(outbox.cursor(connection), positions, standing.pending_changes(store))

    def spawn(self, *arguments: str, installed: bool = False) -> subprocess.Popen[bytes]:
        """The command in a process of its own. installed: as people start it, for who looks at that process."""
        command = [str((Path(sys.executable).parent if installed else places.BIN) / "hwc"), *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment(self.config.home), **streams)  # type: ignore[call-overload, no-any-return]

    def assert_in_step(self) -> None:
        """The hub has everything once, and this replica is what the hub says it is."""
        hub = self.peer.hub
        with self.open() as store:
            assert {one.held.change.id for one in store.changes()} == set(hub.by_change)
            assert standing.digest(store) == hub.digest
            assert standing.integrity(store) == []
            assert standing.pending_changes(store) == 0
        assert len(hub.feed) == len(hub.by_change)
