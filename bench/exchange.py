"""`exchange`: thousands of nodes, a new connection each, eight new changes each, one exchange, answered with HEADS.

Every node has a history: before, it has sent eight changes, and has their positions. Its request is sealed beforehand;
every answer is verified afterwards. Then it is waited until each change has a position on its feed. Beside it, in the
same rounds with the same requests: `bench.skeleton`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import psycopg

from bench import crowd
from bench.crowd import CrowdNode
from bench.figures import Figure, of_rounds
from bench.knocks import Knocked, knock
from bench.places import HubPlace, database_url, free_port, hold, running_hub, wait_until_ready
from hub_server.vault import Vault

NODES: Final = 3_000
CHANGES: Final = 8
FIRST: Final = 10_000
AT_ONCE: Final = 128  # half of what the hub lets in at a time: nobody is told to come later
LOOK_S: Final = 0.02
PATIENCE_S: Final = 300
SYNC_PATH: Final = "/v1/sync"
CORES: Final = os.cpu_count() or 1
AGAINST: Final = "signature and COPY"

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Round:
    hub: Knocked
    skeleton: Knocked
    admitted_after_s: float

    @property
    def client_share(self) -> float:
        """Of what all cores could do meanwhile."""
        return self.hub.client_s / (self.hub.seconds * CORES)


def run(folder: Path, rounds: int, count: int = NODES) -> list[Figure]:
    with running_hub(folder) as hub, crowd.opened_hub(hub) as (database, vault):
        nodes = crowd.enrol(database, vault, range(FIRST, FIRST + count))
        with database_url(hub) as url, psycopg.connect(url, autocommit=True) as connection:
            _converse(hub, nodes, CHANGES, with_grant=True)
            _until_admitted(connection, CHANGES * count)
            done = []
            for number in range(1, rounds + 1):
                _converse(hub, nodes, 0)
                done.append(_round(hub, url, connection, vault, nodes, folder, number))
    return _figures(done)


def _round(
    hub: HubPlace,
    url: str,
    connection: Connection,
    vault: Vault,
    nodes: Sequence[CrowdNode],
    folder: Path,
    number: int,
) -> Round:
    bodies = [one.request(CHANGES) for one in nodes]
    with skeleton(url, vault, folder) as port:
        compared = knock(port, SYNC_PATH, bodies, AT_ONCE)
    knocked = knock(hub.port, SYNC_PATH, bodies, AT_ONCE)
    admitted_after_s = _until_admitted(connection, CHANGES * len(nodes) * (number + 1))
    for one, answer in zip(nodes, knocked.answers, strict=True):
        one.read(answer)
    return Round(knocked, compared, admitted_after_s)


def _converse(hub: HubPlace, nodes: Sequence[CrowdNode], changes: int, *, with_grant: bool = False) -> None:
    """One exchange of every node, not measured: its first, or the one that brings it the positions of what it sent."""
    bodies = [one.request(changes, with_grant=with_grant) for one in nodes]
    for one, answer in zip(nodes, knock(hub.port, SYNC_PATH, bodies, AT_ONCE).answers, strict=True):
        heads = one.read(answer)
        hold(changes or heads.feed_position == one.cursor.position, "a node has not received its own feed")


def _until_admitted(connection: Connection, wanted: int) -> float:
    """Seconds until all feeds together have so many positions."""
    began = time.perf_counter()
    while True:
        row = connection.execute("SELECT coalesce(sum(position), 0)::bigint FROM feed").fetchone()
        if row and row[0] >= wanted:
            hold(row[0] == wanted, "a feed holds what nobody wrote")
            return time.perf_counter() - began
        hold(time.perf_counter() - began < PATIENCE_S, "the hub has not admitted everything in five minutes")
        time.sleep(LOOK_S)


@contextmanager
def skeleton(url: str, vault: Vault, folder: Path) -> Iterator[int]:
    """The skeleton's port, while it runs as a process of its own with an empty table."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS skeleton")
    port, log = free_port(), folder / "skeleton.log"
    with log.open("ab") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "bench.skeleton", str(port)],
            env=os.environ | {"DATABASE_URL": url, "ENVIRONMENT_ID": vault.identity.environment.hex()},
            stdout=out,
            stderr=out,
        )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", server, log)
        yield port
    finally:
        server.terminate()
        server.wait()


def _figures(done: Sequence[Round]) -> list[Figure]:
    def ms(percent: int, knocked: Sequence[Knocked]) -> list[float]:
        return [quantiles(one.latencies_s, n=100)[percent - 1] * 1000 for one in knocked]

    def rates(knocked: Sequence[Knocked]) -> list[float]:
        return [one.a_second for one in knocked]

    hub, bare = [one.hub for one in done], [one.skeleton for one in done]
    return [
        of_rounds("exchange", "answered", "exchanges/s", rates(hub), rates(bare), AGAINST),
        of_rounds("exchange", f"median, {AT_ONCE} at a time", "ms", ms(50, hub), ms(50, bare), AGAINST),
        of_rounds("exchange", f"99 of 100, {AT_ONCE} at a time", "ms", ms(99, hub), ms(99, bare), AGAINST),
        of_rounds("exchange", "all admitted after the last answer", "s", [one.admitted_after_s for one in done]),
        of_rounds("exchange", f"the client's share of {CORES} cores", "%", [one.client_share * 100 for one in done]),
        of_rounds("exchange", "told to come later", "requests", [float(one.busy) for one in hub]),
    ]
