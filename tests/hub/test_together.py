"""What many exchanges ask at once goes to the database together, and each is told its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from hub_server.database import DatabaseAway
from hub_server.together import Together
from sync_protocol.errors import UnknownSender
from tests.hub.bare_node import BareNode
from tests.hub.hub_world import PATIENCE_S, HubWorld


async def ask_all(together: Together[int, int], asked: Sequence[int]) -> list[int | BaseException]:
    return await asyncio.gather(*(together.ask(one) for one in asked), return_exceptions=True)


def test_what_comes_while_one_group_is_at_work_makes_the_next() -> None:
    groups: list[list[int]] = []
    first_is_in, go_on = threading.Event(), threading.Event()

    def work(group: Sequence[int]) -> list[int]:
        groups.append(list(group))
        first_is_in.set()
        go_on.wait(PATIENCE_S)
        return [one * 10 for one in group]

    async def run() -> list[int]:
        first = together.ask(0)
        await asyncio.to_thread(first_is_in.wait, PATIENCE_S)
        others = [together.ask(one) for one in range(1, 6)]
        go_on.set()
        return [await first, *(await asyncio.gather(*others))]

    together = Together("test", work)
    assert asyncio.run(run()) == [0, 10, 20, 30, 40, 50]
    assert groups == [[0], [1, 2, 3, 4, 5]]
    together.close()


def test_one_that_fails_stands_alone() -> None:
    def work(group: Sequence[int]) -> list[int]:
        if 3 in group:
            raise ValueError("three")
        return list(group)

    together = Together("test", work)
    told = asyncio.run(ask_all(together, range(6)))
    assert [one for one in told if not isinstance(one, BaseException)] == [0, 1, 2, 4, 5]
    assert isinstance(told[3], ValueError)
    together.close()


def test_where_the_database_is_away_nobody_waits_for_it_twice() -> None:
    asked: list[int] = []

    def work(group: Sequence[int]) -> list[int]:
        asked.extend(group)
        raise DatabaseAway("away")

    together = Together("test", work)
    told = asyncio.run(ask_all(together, range(6)))
    assert all(isinstance(one, DatabaseAway) for one in told)
    assert sorted(asked) == list(range(6))
    together.close()


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> HubWorld:
    made = HubWorld.make(database_url, tmp_path / "keys")
    made.facility("HWC1")
    made.facility("HWC2")
    return made


async def piece(body: bytes) -> AsyncIterator[bytes]:
    yield body


def exchange_at_once(world: HubWorld, bodies: Sequence[bytes]) -> list[bytes | BaseException]:
    async def run() -> list[bytes | BaseException]:
        return await asyncio.gather(*(world.edge.exchange(piece(body)) for body in bodies), return_exceptions=True)

    return asyncio.run(run())


def test_exchanges_at_once_are_each_told_their_own(world: HubWorld) -> None:
    nodes = [world.node("HWC1" if at % 3 else "HWC2") for at in range(30)]
    packed = [one.pack([one.write("patient", {"name": f"P{at}"})]) for at, one in enumerate(nodes)]
    asked = [one.session() for one in nodes]
    bodies = [
        b"".join(session.request([node.grant_frame()], [sent.envelope.raw]))
        for node, session, sent in zip(nodes, asked, packed, strict=True)
    ]
    for node, session, sent, answer in zip(nodes, asked, packed, exchange_at_once(world, bodies), strict=True):
        assert isinstance(answer, bytes)
        assert node.read(session, answer).held == sent.envelope.id
    assert len({one.nonce for one in nodes}) == 30
    assert world.admit() == 30
    asked = [one.session([two.envelope.id]) for one, two in zip(nodes, packed, strict=True)]
    answers = exchange_at_once(world, [b"".join(one.request([], [])) for one in asked])
    for node, session, sent, answer in zip(nodes, asked, packed, answers, strict=True):
        assert isinstance(answer, bytes)
        heads = node.read(session, answer)
        assert heads.admitted == sent.envelope.id
        assert heads.feed_position == node.cursor.position == (20 if node.facility == "HWC1" else 10)
        assert not node.notices


def test_a_stranger_among_many_is_refused_alone(world: HubWorld) -> None:
    nodes = [world.node("HWC1") for _ in range(5)]
    stranger = BareNode(world.vault, nodes[0].facility)
    asked = [one.session() for one in (*nodes, stranger)]
    answers = exchange_at_once(world, [b"".join(one.request([], [])) for one in asked])
    assert isinstance(answers.pop(), UnknownSender)
    for node, session, answer in zip(nodes, asked, answers, strict=False):
        assert isinstance(answer, bytes)
        node.read(session, answer)


def test_one_node_that_asks_many_times_at_once_gets_a_nonce_each_and_is_no_twin(world: HubWorld) -> None:
    node = world.node("HWC1")
    world.exchange(node)
    asked = [node.session() for _ in range(6)]
    answers = exchange_at_once(world, [b"".join(one.request([], [])) for one in asked])
    nonces = set()
    for session, answer in zip(asked, answers, strict=True):
        assert isinstance(answer, bytes)
        nonces.add(node.read(session, answer).nonce)
    assert len(nonces) == 6
    assert not node.notices
