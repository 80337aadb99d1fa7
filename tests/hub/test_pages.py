"""Pages that are made while the link takes the ones before: what befalls the hub or the link between two of them."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from hub_server import ahead
from hub_server.app import Hub, make_app
from hub_server.feed import READ_BYTES
from hub_server.pages import ITEMS_A_PAGE
from hub_server.workers import Threads
from sync_protocol.ahead_page import BEGIN
from sync_protocol.feed_page import Erased
from sync_protocol.schema import LONG_CHARS
from sync_protocol.session import NodeSession
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import HubWorld

PAGES = 3
ITEMS = PAGES * ITEMS_A_PAGE
LARGE = 40  # items of 48 kB


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> HubWorld:
    """A hub with a feed of three pages."""
    made = HubWorld.make(database_url, tmp_path / "keys")
    made.facility("HWC1")
    writer = made.node("HWC1")
    for _ in range(PAGES):
        changes = [writer.write("patient", {"name": "Asha Devi"}) for _ in range(ITEMS_A_PAGE)]
        while changes:
            packed = writer.pack(changes)
            made.exchange(writer, [packed.envelope.raw])
            changes = changes[len(packed.changes) :]
        made.admit()
    return made


@pytest.fixture
def client(world: HubWorld) -> Iterator[TestClient]:
    with TestClient(make_app(Hub(world.store, Threads(world.store, 1, lambda: NOW_MS), now_ms=lambda: NOW_MS))) as made:
        yield made


def request(node: BareNode) -> tuple[NodeSession, bytes]:
    asked = node.session()
    return asked, b"".join(asked.request())


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body


def test_where_the_database_goes_away_between_two_pages_the_answer_ends_with_the_last_whole_one(
    world: HubWorld, database_url: str
) -> None:
    node = world.node("HWC1")
    asked, body = request(node)
    name = database_url.rsplit("/", 1)[1].partition("?")[0]

    async def broken(owner: psycopg.Connection[tuple[object, ...]]) -> bytes:
        answer = await world.edge.answer(_pieces(body), world.edge.gate.enter())
        assert answer.rest is not None
        whole = answer.first + await anext(answer.rest)
        owner.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0".encode())
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return whole + b"".join([piece async for piece in answer.rest])

    with psycopg.connect(database_url, autocommit=True) as owner:
        answer = asyncio.run(broken(owner))
        owner.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1".encode())
    assert node.read(asked, answer).feed_position == ITEMS
    assert node.cursor.position == 2 * ITEMS_A_PAGE
    world.exchange(node, with_grant=False)
    assert node.cursor.position == ITEMS
    assert len(node.items) == ITEMS


def test_the_length_is_told_where_it_is_known_and_many_pages_come_as_they_are_made(
    world: HubWorld, client: TestClient
) -> None:
    node = world.node("HWC1")
    asked, body = request(node)
    many = client.post("/v1/sync", content=body)
    assert "content-length" not in many.headers
    node.read(asked, many.content)
    assert node.cursor.position == ITEMS
    asked, body = request(node)
    none = client.post("/v1/sync", content=body)
    assert int(none.headers["content-length"]) == len(none.content)
    assert node.read(asked, none.content).feed_position == ITEMS


def test_an_item_whose_key_was_destroyed_a_moment_ago_is_told_as_erased(world: HubWorld) -> None:
    """An erasure is committed between the reading of an item and of its patient's key."""
    node = world.node("HWC1")
    with world.database.transaction() as connection:
        connection.execute(
            "UPDATE patient SET wrapped_key = '' WHERE patient = (SELECT patient FROM item WHERE position = 2)"
        )
    world.exchange(node, with_grant=False)
    assert node.cursor.position == ITEMS
    assert [one.position for one in node.items if isinstance(one.body, Erased)] == [2]


def test_no_page_is_made_for_a_node_that_is_gone(world: HubWorld) -> None:
    app = make_app(Hub(world.store, Threads(world.store, 1, lambda: NOW_MS), now_ms=lambda: NOW_MS))
    node = world.node("HWC1")
    asked, body = request(node)
    messages: Iterator[Message] = iter([{"type": "http.request", "body": body}])
    sent: list[Message] = []

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/sync", "headers": [], "query_string": b"", "app": app}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 200
    node.read(asked, b"".join(one.get("body", b"") for one in sent))
    assert node.cursor.position == ITEMS_A_PAGE


@pytest.mark.parametrize("mark", [b"", BEGIN.encode()], ids=["feed", "ahead"])
def test_while_a_slow_link_takes_a_page_few_items_are_held_however_large_they_are(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: bytes
) -> None:
    monkeypatch.setattr(ahead, "LEAST_ITEMS", 1)
    world = HubWorld.make(database_url, tmp_path / "keys")
    world.facility("HWC1")
    writer, node = world.node("HWC1"), world.node("HWC1")
    long = {"history": "क" * LONG_CHARS, "examination": "ख" * LONG_CHARS}
    for _ in range(LARGE):
        world.exchange(writer, [writer.pack([writer.write("case", long)]).envelope.raw])
    world.admit()
    asked = node.session(ahead=mark)
    body = b"".join(asked.request())

    async def taken() -> tuple[int, bytes]:
        answer = await world.edge.answer(_pieces(body), world.edge.gate.enter())
        assert answer.rest is not None
        held_bytes, _ = tracemalloc.get_traced_memory()
        return held_bytes, answer.first + b"".join([piece async for piece in answer.rest])

    tracemalloc.start()
    try:
        held_bytes, answer = asyncio.run(taken())
    finally:
        tracemalloc.stop()
    node.read(asked, answer)
    assert sorted(one.position for one in node.items) == list(range(1, LARGE + 1))
    assert held_bytes < 3 * READ_BYTES
