"""A hub in one piece on a real PostgreSQL, driven without HTTP: for tests of its inner parts."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hub_server import facilities, vault
from hub_server.database import Database
from hub_server.facilities import Facility
from hub_server.intake import Admitter
from hub_server.store import Store
from hub_server.sync_api import SyncEdge
from sync_protocol.change import FacilityCode
from sync_protocol.envelope import EnvelopeId
from sync_protocol.session import NodeSession
from sync_protocol.wire import Heads
from tests.hub.bare_node import NOW_MS, BareNode

PATIENCE_S = 120
DAY_S, NOON_S, INDIA_S = 86_400, 43_200, 19_800


@dataclass
class HubWorld:
    database: Database
    vault: vault.Vault
    store: Store
    admitter: Admitter
    edge: SyncEdge
    folder: Path
    now_ms: int = NOW_MS

    @classmethod
    def make(cls, url: str, folder: Path) -> HubWorld:
        database = Database(url)
        database.migrate()
        keys = vault.Vault(vault.load_or_make(folder, NOW_MS))
        store = Store(database, keys)
        world = cls(
            database, keys, store, Admitter(store), SyncEdge(store, lambda: None, lambda: NOW_MS, bytes(8)), folder
        )
        world.edge = SyncEdge(store, lambda: None, lambda: world.now_ms, bytes(8))
        return world

    def facility(self, code: str, district: str = "", state: str = "", hub: str = "") -> FacilityCode:
        with self.database.transaction() as connection:
            facilities.add(connection, self.vault, Facility(code, f"Centre {code}", district, state, hub), NOW_MS)
        return FacilityCode(code)

    def node(self, facility: str) -> BareNode:
        made = BareNode(self.vault, FacilityCode(facility))
        made.enrol(self.database)
        return made

    def answer(self, request: bytes, piece_bytes: int = 1000) -> bytes:
        async def stream() -> AsyncIterator[bytes]:
            for at in range(0, len(request), piece_bytes):
                yield request[at : at + piece_bytes]

        return asyncio.run(self.edge.exchange(stream()))

    def exchange(
        self,
        node: BareNode,
        segments: Sequence[bytes] = (),
        *,
        awaiting: Sequence[EnvelopeId] = (),
        with_grant: bool = True,
    ) -> Heads:
        asked: NodeSession = node.session(awaiting)
        grants = [node.grant_frame()] if with_grant and segments else []
        return node.read(asked, self.answer(b"".join(asked.request(grants, segments))))

    def admit(self) -> int:
        """Admit until nothing is left; the number of new items."""
        total = 0
        while True:
            done = self.admitter.admit_once(self.now_ms)
            if not done.segments:
                return total
            total += done.changes

    def somebody_waits(self) -> bool:
        """One of two who want the same rows waits for the other."""
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone()
            return row is not None and row[0] > 0


def hours_away() -> str:
    """A time of day in India that is half a day away or more, whenever this runs."""
    return "23:59" if (time.time() + INDIA_S) % DAY_S < NOON_S else "11:59"


def random_record() -> bytes:
    return os.urandom(16)


def wait_until(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(PATIENCE_S * 100):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError("what was waited for did not come")
