"""One disk image on two machines is told to the operator; a lost answer, a late request or a restored copy is none."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest

from hub_server import registry, twins
from sync_protocol.wire import NoticeKind
from tests.hub.bare_node import BareNode
from tests.hub.hub_world import HubWorld


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> HubWorld:
    world = HubWorld.make(database_url, tmp_path / "keys")
    world.facility("HWC1")
    return world


def copied(node: BareNode) -> BareNode:
    """The same disk a second time, as it is now."""
    other = copy.copy(node)
    other.notices = []
    return other


def told(node: BareNode) -> int:
    return sum(notice.kind == NoticeKind.TWINS for notice in node.notices)


def seen_by_operator(hub: HubWorld, node: BareNode) -> bool:
    with hub.database.transaction() as connection:
        return registry.list_nodes(connection, node=node.node)[0].twins_ms is not None


def lost(hub: HubWorld, node: BareNode) -> None:
    """An exchange whose answer never arrives."""
    hub.answer(b"".join(node.session().request([], [])))


def test_two_copies_that_both_go_on_are_told(hub: HubWorld) -> None:
    first = hub.node("HWC1")
    for _ in range(3):
        hub.exchange(first)
    second = copied(first)
    hub.exchange(first)
    hub.exchange(second)
    hub.exchange(second)
    assert not seen_by_operator(hub, first)
    hub.exchange(first)
    hub.exchange(first)
    hub.exchange(second)
    hub.exchange(second)
    assert told(first) + told(second) >= 1
    assert seen_by_operator(hub, first)


def test_copies_that_each_sync_in_long_turns_are_told(hub: HubWorld) -> None:
    first = hub.node("HWC1")
    hub.exchange(first)
    second = copied(first)
    for node in (first, second, first):
        for _ in range(twins.KEPT + 5):
            hub.exchange(node)
    assert told(first) == 1


def test_a_node_alone_is_never_a_twin_whatever_is_lost_late_or_repeated(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    earlier: list[bytes] = []
    for turn in range(60):
        if turn % 3 == 0:
            lost(hub, node)
        if turn % 4 == 0:
            earlier.append(b"".join(node.session().request([], [])))
        if turn % 7 == 0 and earlier:
            hub.answer(earlier[turn % len(earlier)])
        hub.exchange(node)
    assert told(node) == 0
    assert not seen_by_operator(hub, node)


def test_a_node_put_back_once_or_twice_is_no_twin(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    hub.exchange(node)
    saved = [copied(node)]
    for _ in range(5):
        hub.exchange(node)
    saved.append(copied(node))
    hub.exchange(node)
    for old in saved[::-1]:
        for _ in range(5):
            hub.exchange(old)
        assert told(old) == 0
    assert not seen_by_operator(hub, node)


def test_what_is_kept_of_nonces_is_bounded(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    for _ in range(3 * twins.KEPT):
        hub.exchange(node)
    with hub.database.transaction() as connection:
        row = connection.execute("SELECT count(*) FROM handed_nonce").fetchone()
        assert row is not None
        assert row[0] == twins.KEPT


def test_a_nonce_that_nobody_handed_out_says_nothing(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    hub.exchange(node)
    for _ in range(5):
        stranger = copied(node)
        stranger.nonce = os.urandom(8)
        hub.exchange(stranger)
        hub.exchange(node)
    assert not seen_by_operator(hub, node)
