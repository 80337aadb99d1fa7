"""A hub that has too much to do, or whose database cannot: 503 with a time to come again, and nothing lost or set aside."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from hub_server import gate, keeper, nodes, sync_api
from hub_server.gate import ENTRY_BYTES, LEAST_ANSWER_BYTES, RETRY_AFTER_S, SMALL_BYTES, Busy, Gate
from hub_server.intake import BYTES_A_PASS, SEGMENTS_A_PASS
from hub_server.nodes import Arrived
from hub_server.sync_api import SyncEdge
from sync_protocol import wire
from sync_protocol.wire import Heads
from tests.hub.bare_node import BareNode
from tests.hub.hub_world import HubWorld
from tests.hub.served_hub import PATIENCE_S, Answered, ServedHub
from tests.hub.test_database import SECRET, failing_table
from tests.hub.test_intake import sealed

MAX_GROWTH_BYTES = 96 * 1024 * 1024


@pytest.fixture(scope="module")
def served(module_database_url: str, module_folder: Path) -> Iterator[ServedHub]:
    home = module_folder / "home"
    home.mkdir()
    with ServedHub(home, module_database_url) as made:
        made.start()
        made.world.facility("HWC1")
        yield made
        assert made.stop() == 0
        assert SECRET not in made.log.read_text()


def body(node: BareNode) -> bytes:
    packed = node.pack([node.write("patient", {"name": SECRET})])
    return b"".join(node.session().request([node.grant_frame()], [packed.envelope.raw]))


def told_to_wait(answer: Answered, code: str) -> int:
    """How long the hub asks to wait, in seconds."""
    assert (answer.status, answer.code) == (503, code)
    told = json.loads(answer.body)
    assert set(told) == {"code", "message", "next"}
    assert SECRET not in answer.body.decode()
    wait_s = int(answer.headers["Retry-After"])
    assert RETRY_AFTER_S[0] <= wait_s <= RETRY_AFTER_S[1]
    return wait_s


# -- too many ----------------------------------------------------------------------------------------------------------


def begun(hub: ServedHub, request: bytes) -> http.client.HTTPConnection:
    """A request that goes on: all of it but the last byte."""
    link = http.client.HTTPConnection(hub.host, hub.port, timeout=PATIENCE_S)
    link.putrequest("POST", "/v1/sync")
    link.putheader("Content-Length", str(len(request)))
    link.endheaders(request[:-1])
    return link


def test_a_full_hub_says_when_to_come_again_before_it_reads_and_lets_in_when_there_is_room(served: ServedHub) -> None:
    node = served.node("HWC1")
    request = body(node)
    served.forget_peak()
    before_bytes = served.peak_bytes()
    with ExitStack() as crowd:
        links = [crowd.enter_context(_closing(begun(served, request))) for _ in range(gate.MAX_REQUESTS)]
        deadline = time.monotonic() + PATIENCE_S
        while served.ask("POST", "/v1/sync", request).status != 503:
            assert time.monotonic() < deadline, "it was never full"
        waits = [told_to_wait(only_head(served), "E_HUB_BUSY") for _ in range(12)]
        assert len(set(waits)) > 3
        assert served.ask("POST", "/v1/enrol", b"x").code == "E_HUB_BUSY"
        for path in ("/healthz", "/readyz", "/v1/keys"):
            assert served.ask("GET", path).status == 200
        links[0].send(request[-1:])
        assert links[0].getresponse().status == 200
        assert served.sync(request).status == 200
        assert served.peak_bytes() - before_bytes < MAX_GROWTH_BYTES
    deadline = time.monotonic() + PATIENCE_S
    while any(served.ask("POST", "/v1/sync", request).status != 200 for _ in range(3)):
        assert time.monotonic() < deadline, "those who left still count"


@contextmanager
def _closing(link: http.client.HTTPConnection) -> Iterator[http.client.HTTPConnection]:
    try:
        yield link
    finally:
        link.close()


def only_head(hub: ServedHub) -> Answered:
    """What a request's head alone is answered."""
    with hub.connected() as link:
        link.putrequest("POST", "/v1/sync")
        link.putheader("Content-Length", "1000000")
        link.endheaders()
        answer = link.getresponse()
        return Answered(answer.status, answer.headers, answer.read())


# -- the gate ----------------------------------------------------------------------------------------------------------


def test_the_gate_counts_requests_and_what_they_may_hold() -> None:
    small = Gate(max_requests=3, max_bytes=2 * ENTRY_BYTES)
    stays = [small.enter(100), small.enter()]
    assert small.held_bytes == 100 + SMALL_BYTES + ENTRY_BYTES
    with pytest.raises(Busy):
        small.enter(10**9)  # charged as what it may hold, whatever it declares
    stays.append(small.enter(0))
    with pytest.raises(Busy):
        small.enter(0)
    for stay in stays * 2:
        stay.leave()
    assert (small.requests, small.held_bytes) == (0, 0)


def test_an_answer_is_as_large_as_there_is_room_and_never_less_than_a_page() -> None:
    small = Gate(max_bytes=2 * ENTRY_BYTES)
    stay = small.enter()
    assert stay.room_for_answer(1000) == 1000
    assert stay.room_for_answer(4 * 1024 * 1024) == LEAST_ANSWER_BYTES + ENTRY_BYTES
    assert small.held_bytes == small.max_bytes
    assert stay.room_for_answer(4 * 1024 * 1024) == LEAST_ANSWER_BYTES
    stay.leave()
    assert small.held_bytes == 0


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> HubWorld:
    made = HubWorld.make(database_url, tmp_path / "keys")
    made.facility("HWC1")
    return made


def test_what_was_let_into_a_crowded_hub_ends_and_leaves_nothing_behind(world: HubWorld) -> None:
    """No byte of room is left: each request waits for its own segments, piece by piece, and all are kept."""
    world.edge = SyncEdge(world.store, lambda: None, lambda: world.now_ms, bytes(8), Gate(max_bytes=ENTRY_BYTES))
    node = world.node("HWC1")
    segments = [node.pack([node.write("patient", {"name": os.urandom(90).hex()})]).envelope for _ in range(200)]
    heads: Heads = world.exchange(node, [one.raw for one in segments])
    assert set(wire.split_ids(heads.held)) == {one.id for one in segments}
    assert (world.edge.gate.requests, world.edge.gate.held_bytes) == (0, 0)
    assert world.admit() == 200


def test_a_request_with_many_bad_grants_is_read_to_its_end(world: HubWorld) -> None:
    node = world.node("HWC1")
    asked = node.session()
    grants = [node.grant_frame()] + [os.urandom(40)] * (sync_api.MAX_GRANTS * 2)
    packed = node.pack([node.write("patient", {"name": "A"})])
    heads = node.read(asked, world.answer(b"".join(asked.request(grants, [packed.envelope.raw]))))
    assert heads.held == packed.envelope.id
    assert world.admit() == 1


def test_a_group_to_keep_is_bounded_by_bytes(world: HubWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_KEEP_GROUP_BYTES", 1)
    node = world.node("HWC1")
    segments = [node.pack([node.write("patient", {"name": "A"})]).envelope for _ in range(5)]
    assert len(world.exchange(node, [one.raw for one in segments]).held) == 40


def test_segments_of_a_request_that_broke_off_do_not_stop_the_keeper(world: HubWorld) -> None:
    """Its loop is gone before they are durable: whoever comes next is served."""
    node = world.node("HWC1")
    lost = node.pack([node.write("patient", {"name": "A"})]).envelope
    edge_keeper = world.edge._keeper

    async def leave() -> None:
        with world.database.transaction() as connection:
            found = nodes.find(connection, node.node)
        edge_keeper.keep(Arrived(found, lost, world.now_ms))

    with world.database.transaction() as connection:
        connection.execute("LOCK TABLE arrival IN ACCESS EXCLUSIVE MODE")
        asyncio.run(leave())
    packed = node.pack([node.write("patient", {"name": "B"})])
    assert world.exchange(node, [packed.envelope.raw]).held == packed.envelope.id
    assert world.admit() == 2


# -- the database cannot -----------------------------------------------------------------------------------------------


@contextmanager
def failing(url: str, table: str, state: str) -> Iterator[None]:
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(failing_table(table, state).encode())
        try:
            yield
        finally:
            owner.execute(f"DROP TRIGGER failing ON {table}".encode())


@pytest.mark.parametrize(("state", "code"), [("53100", "E_DISK_FULL"), ("40P01", "E_PG_BUSY")])
def test_what_cannot_be_kept_is_not_acknowledged_and_comes_again(
    served: ServedHub, module_database_url: str, state: str, code: str
) -> None:
    node = served.node("HWC1")
    request = body(node)
    with failing(module_database_url, "arrival", state):
        told_to_wait(served.sync(request), code)
    assert served.sync(request).status == 200
    served.wait("SELECT state FROM arrival WHERE node = %s", node.node, expected="admitted")


@pytest.mark.parametrize("state", ["53100", "53300", "40P01", "57P01"])
def test_what_cannot_be_admitted_now_waits_and_is_never_set_aside(
    served: ServedHub, module_database_url: str, state: str
) -> None:
    node = served.node("HWC1")
    failures = f'hub_admission_failures_total{{error="{"E_DISK_FULL" if state == "53100" else "E_PG"}'
    with failing(module_database_url, "item", state):
        before = metric(served, failures)
        assert served.sync(body(node)).status == 200
        deadline = time.monotonic() + PATIENCE_S
        while metric(served, failures) < before + 2:
            assert time.monotonic() < deadline, "admission was not tried"
            time.sleep(0.05)
    served.wait("SELECT state FROM arrival WHERE node = %s", node.node, expected="admitted")
    assert served.value("SELECT count(*) FROM item WHERE facility = 'HWC1' AND segment = ANY"
                        "(SELECT segment FROM arrival WHERE node = %s)", node.node) == 1  # fmt: skip
    assert served.value("SELECT count(*) FROM quarantine") == 0


def metric(hub: ServedHub, name: str) -> float:
    lines = hub.ask("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def test_a_database_that_takes_nobody_is_told_and_the_hub_goes_on_when_it_is_back(
    served: ServedHub, module_database_url: str
) -> None:
    node = served.node("HWC1")
    request = body(node)
    name = module_database_url.rsplit("/", 1)[1].partition("?")[0]
    with psycopg.connect(module_database_url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0".encode())
        owner.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"  # and waits until each is gone
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        told_to_wait(served.sync(request), "E_PG_BUSY")
        assert served.ask("GET", "/readyz").status == 503
        assert served.ask("GET", "/healthz").status == 200
        assert served.ask("GET", "/metrics").status == 200
        owner.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1".encode())
    assert served.ask("GET", "/readyz").status == 200
    assert served.sync(request).status == 200
    served.wait("SELECT state FROM arrival WHERE node = %s", node.node, expected="admitted")


def test_a_long_backlog_is_read_a_pass_at_a_time_and_shared_by_the_workers(world: HubWorld) -> None:
    node = world.node("HWC1")
    segments = [sealed(node, b"", compressed=os.urandom(60_000)).raw for _ in range(100)]
    for at in range(0, 100, 50):
        world.exchange(node, segments[at : at + 50])
    tracemalloc.start()
    with world.database.transaction() as first, world.database.transaction() as second:
        shares = [nodes.next_kept(one, SEGMENTS_A_PASS, BYTES_A_PASS) for one in (first, second)]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(share) for share in shares] == [3, 3]
    assert not {one.segment for one in shares[0]} & {one.segment for one in shares[1]}
    assert peak_bytes < 100 * 60_000
