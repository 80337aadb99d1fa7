"""Disks that are copied and put back, with real nodes and a real hub: nothing is lost that still existed anywhere.

Law 6: after two copies of a node make m and n changes, the hub and both have m + n.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.places import HubPlace
from hwc_node import membership, outbox, standing
from hwc_node.engine import begin_write
from sync_protocol.change import ChangeId
from tests.world.centres import Centre, centre, copied, hub_digest, now_ms, put_back


def held(node: Centre) -> set[ChangeId]:
    return set(node.receipts)


def settle(*nodes: Centre) -> None:
    for _ in range(2):
        for node in nodes:
            node.sync()


def assert_in_step(hub: HubPlace, *nodes: Centre) -> None:
    assert {node.digest for node in nodes} == {hub_digest(hub)}
    for node in nodes:
        assert None not in node.receipts.values()
        assert standing.integrity(node.store) == []
        assert standing.standing(node.store).set_aside == 0


def test_one_disk_on_two_machines_both_drain_and_both_receive_everything(hub: HubPlace, folder: Path) -> None:
    first = centre(hub, folder, "cloned")
    first.visit("Asha before")
    first.sync()
    second = copied(first, folder / "clone")
    first.visit("Meena at the first")
    for at in range(3):
        second.visit(f"Radha {at} at the second")
    both = held(first) | held(second)
    settle(first, second)
    first.visit("Lata at the first again")
    both |= held(first)
    settle(first, second)
    assert held(first) == held(second)
    assert held(first) >= both
    assert_in_step(hub, first, second)
    told = {one.kind.partition(":")[0] for node in (first, second) for one in standing.notices(node.store)}
    assert "twins" in told
    names = {one["name"]: one for one in hub.ask("nodes", "list")["nodes"]}
    assert names["cloned"]["twins_at"] is not None


@pytest.mark.parametrize("when", ["before it sent anything", "with sealed segments", "after it had sent"])
def test_a_node_put_back_to_an_old_copy_gets_back_what_it_had_sent(hub: HubPlace, folder: Path, when: str) -> None:
    name = when.replace(" ", "-")
    node = centre(hub, folder, name)
    node.visit(f"Asha {name}")
    if when == "with sealed segments":
        with begin_write(node.store.engine) as connection:
            membership.put(connection, {membership.HELLO_ALONE: False})
        assert outbox.pack(node.store, now_ms()).segments
    elif when == "after it had sent":
        node.sync()
    old = copied(node, folder / f"{name}-old")
    node.visit(f"Meena {name}, after the copy")
    node.sync()
    sent = held(node)
    node.visit(f"Lata {name}, never sent")
    back = put_back(node, old)
    assert not sent <= held(back)
    back.visit(f"Radha {name}, written on the old copy")
    written = held(back)
    settle(back)
    assert held(back) >= sent | written
    assert_in_step(hub, back)


def test_a_node_put_back_twice_while_another_goes_on(hub: HubPlace, folder: Path) -> None:
    node, other = centre(hub, folder, "twice"), centre(hub, folder, "other")
    everything: set[ChangeId] = set()
    for turn in range(2):
        old = copied(node, folder / f"twice-old-{turn}")
        node.visit(f"Asha {turn}")
        settle(node, other)
        everything |= held(node)
        node = put_back(node, old)
        other.visit(f"Meena {turn}")
        node.visit(f"Radha {turn}")
        settle(other, node, other)
        everything |= held(node) | held(other)
    settle(node, other)
    assert held(node) == held(other) >= everything
    assert_in_step(hub, node, other)
