"""A disk that takes no more: what was told as saved is there, the error says so, and with room again all goes on.

The system's limit of a file's size stands in for the disk: it is the one refusal to write that needs no root.
"""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hwc_node import outbox, standing, sync
from hwc_node.engine import begin_read
from hwc_node.line_import import ImportRules, LineImport, Verdict
from hwc_node.store import Store
from hwc_node.sync import SyncResult
from sync_protocol.errors import OurFault
from sync_protocol.schema import Writer
from tests.node.enrolled_home import NOW_MS, PERSON
from tests.node.paper_hub import PaperHub
from tests.node.paper_node import PaperNode, by_hub
from tests.node.peer import Peer
from tests.node.served_centre import Centre, patients

ROOM_BYTES = 200_000
BATCH = 20
MANY = 1_000  # batches: far more than there is room for


@contextmanager
def nearly_full(store: Store) -> Iterator[None]:
    """The database's files may grow by a little only."""
    path = store.config.database_path
    sizes = [file.stat().st_size for file in (path, path.with_name(path.name + "-wal")) if file.exists()]
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) + ROOM_BYTES, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def _batch(number: int) -> list[tuple[int, bytes | None]]:
    lines = patients(number * BATCH, BATCH)
    for one in lines:
        one["fields"]["address"] = os.urandom(200).hex()
    return [(at, json.dumps(one).encode()) for at, one in enumerate(lines)]


def _saved(store: Store) -> set[Any]:
    return {one.key.record for one in store.records()}


def test_what_was_told_is_saved_and_saving_goes_on_once_there_is_room(tmp_path: Path) -> None:
    node = PaperNode.make(PaperHub(), tmp_path)
    importing = LineImport(node.store, PERSON, ImportRules())
    told: set[Any] = set()
    number = 0
    with nearly_full(node.store):
        with pytest.raises(OurFault) as full:
            for number in range(MANY):
                told |= {one.record for one in importing.take(_batch(number), NOW_MS)}
        assert (full.value.code, bool(full.value.next_step)) == ("E_DISK_FULL", True)
        assert number > 1 and _saved(node.store) == told
        with pytest.raises(OurFault) as still:
            importing.take(_batch(number), NOW_MS)
        assert still.value.code == "E_DISK_FULL" and _saved(node.store) == told
    assert standing.integrity(node.store) == []
    assert {one.verdict for one in importing.take(_batch(number), NOW_MS)} == {Verdict.CREATED}
    assert len(_saved(node.store)) == len(told) + BATCH
    node.settle()
    node.assert_in_step()
    node.store.close()


def test_a_sync_that_finds_no_room_keeps_what_it_took_and_goes_on_later(tmp_path: Path) -> None:
    with Peer(PaperHub(items_a_page=20)).answering() as peer:
        centre = Centre.enrol(peer, tmp_path / "home")
        for _ in range(800):
            peer.hub.publish(by_hub(peer.hub, "message", {"text": os.urandom(300).hex()}), Writer.DOCTOR)
        with centre.open() as store:
            with nearly_full(store), pytest.raises(OurFault) as full:
                sync.run(store)
            assert full.value.code == "E_DISK_FULL"
            done = full.value.__dict__["result"]
            assert isinstance(done, SyncResult) and 0 < done.received_changes < 800
            with begin_read(store.engine) as connection:
                assert outbox.cursor(connection).position == done.received_changes
            assert standing.integrity(store) == []
            assert sync.run(store).received_changes == 800 - done.received_changes
        centre.assert_in_step()
