"""A hub with a new signing key: the node learns of it by itself, and believes nobody but the root key it knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwc_node.sync.course import SyncResult, run_over
from sync_protocol import keys
from sync_protocol.errors import BadSignature
from sync_protocol.keys import HubKeys, Identity, Recipient
from tests.node.paper_hub import PaperHub
from tests.node.paper_node import PaperNode


class RotatingHub(PaperHub):
    """A paper hub that can take new keys into use, and tells the serial of its list."""

    serial = 1

    def keys_document(self) -> bytes:
        recipients = [
            (keys.ROLE_INGEST, self.ingest.public.public),
            (keys.ROLE_RECOVERY, self.recovery.public.public),
        ]
        root, signing = self.root.public, self.signing.public
        document = HubKeys(1, self.environment, self.hub, root, signing, recipients, self.serial, self.now_ms)
        return keys.sign_document(document, self.root, self.environment)

    def rotate(self) -> None:
        self.signing, self.serial = Identity(os.urandom(32)), self.serial + 1
        for member in self.members.values():
            member.grant = keys.Grant(os.urandom(32), keys.TO_NODE, self.environment)


@pytest.fixture
def hub() -> RotatingHub:
    return RotatingHub()


@pytest.fixture
def node(hub: RotatingHub, tmp_path: Path) -> Iterator[PaperNode]:
    made = PaperNode.make(hub, tmp_path / "a")
    yield made
    made.store.close()


def sync(node: PaperNode) -> SyncResult:
    return run_over(node.store, node.link, clock=lambda: node.now_ms)


def test_a_sync_goes_on_by_itself_after_one_rotation_or_two(node: PaperNode, hub: RotatingHub) -> None:
    node.write()
    sync(node)
    hub.rotate()
    hub.rotate()
    written = node.write()
    done = sync(node)
    assert any(one.startswith("keys:") for one in done.notices)
    assert written.id in hub.by_change
    assert node.store.membership.hub_keys.serial == 3
    node.assert_in_step()
    assert not sync(node).notices


def test_another_root_or_an_older_list_is_not_believed(node: PaperNode, hub: RotatingHub) -> None:
    sync(node)
    hub.rotate()
    hub.rotate()
    sync(node)
    known = node.store.membership.hub_keys
    node.write()
    good = hub.root, hub.signing, hub.serial
    for root, serial, code in (
        (Identity(os.urandom(32)), 9, "E_WRONG_HUB"),
        (good[0], 2, "E_KEYS_OLDER"),
        (good[0], 3, "E_BAD_SIGNATURE"),
    ):
        hub.root, hub.signing, hub.serial = root, Identity(os.urandom(32)), serial
        with pytest.raises(BadSignature) as refused:
            sync(node)
        assert refused.value.code == code
        assert node.store.membership.hub_keys == known
    hub.root, hub.signing, hub.serial = good
    sync(node)
    node.assert_in_step()


def test_new_grants_go_to_the_newest_ingest_key(node: PaperNode, hub: RotatingHub) -> None:
    """The list is fetched for its serial alone: nothing that the hub signs has changed."""
    sync(node)
    hub.ingest, hub.serial = Recipient(os.urandom(64), os.urandom(32)), 2
    hub.keys_serial = 2
    sync(node)
    assert node.store.membership.hub_keys.recipient(keys.ROLE_INGEST).key_id == hub.ingest.public.key_id
    written = node.write()
    sync(node)
    assert written.id in hub.by_change
