"""A hub whose PostgreSQL is put back from a backup, with real programs: what the nodes still have comes back by itself.

Laws 6 and 13, and the ledger: receipts are what they were, doctors' replies come back from the centres, a node that was
revoked after the backup stays revoked, one that was enrolled after it is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.places import HubPlace
from hwc_node import standing
from hwc_node.sync import RefusedByHub
from tests.databases import Databases, throwaway_folder
from tests.world.centres import FACILITY, centre, hub_digest, serving


@pytest.fixture
def folder() -> Iterator[Path]:
    with throwaway_folder() as made:
        yield made


@pytest.fixture
def hub(folder: Path, databases: Databases) -> Iterator[HubPlace]:
    with databases.migrated() as url, serving(folder, url) as place:
        yield place


def reply(hub: HubPlace, referral: str, folder: Path) -> None:
    file = folder / "reply.json"
    answer = {"diagnosis": {"system": "ICD-10", "code": "J06.9", "text": "URI"}, "advice": "rest", "mode": "text"}
    file.write_text(json.dumps(answer | {"first": True, "prescription": []}))
    hub.run("reply", referral, "--as", "doc", "--file", str(file))


def test_what_a_restored_hub_lost_comes_back_from_the_nodes(hub: HubPlace, folder: Path) -> None:
    first, second = centre(hub, folder, "first"), centre(hub, folder, "second")
    first.visit("Asha before")
    first.sync()
    second.sync()
    saved = folder / "monday.hubbackup"
    told = hub.ask("backup", str(saved))
    assert (told["schema"], told["facilities"]) == ("hub.backup/1", 1)

    answered = first.visit("Meena after")
    first.sync()
    reply(hub, answered, folder)
    second.visit("Radha at the second")
    second.sync()
    late_code = hub.ask("enrol", FACILITY)["code"]
    late = centre(hub, folder, "late", late_code)
    late.visit("Geeta at the late one")
    late.sync()
    for each in (first, second, late, first):
        each.sync()
    stolen = next(one["node"] for one in hub.ask("nodes", "list")["nodes"] if one["name"] == "second")
    hub.run("people", "disable", "doc", "--yes")
    hub.run("nodes", "revoke", stolen, "--yes", "--reason", "stolen")
    before, receipts = hub_digest(hub), first.receipts
    assert first.digest == before
    assert all(receipt is not None for receipt in receipts.values())

    hub.stop()
    restored = hub.ask("restore", str(saved), "--yes")
    assert "_before_" in restored["kept"]
    hub.start()
    assert hub_digest(hub) != before

    for each in (first, late, first, late):
        each.sync()
    assert hub_digest(hub) == first.digest == late.digest == before
    assert first.receipts == receipts
    assert hub.ask("referrals", "show", answered)["status"] == "answered"
    with pytest.raises(RefusedByHub):
        second.sync()
    people = {one["login"]: one for one in hub.ask("people", "list")["people"]}
    assert people["doc"]["disabled_at"] is not None
    assert standing.integrity(first.store) == []

    # and once more, with what was acknowledged since, from the same backup
    first.visit("Lata since")
    first.sync()
    first.sync()
    before, receipts = hub_digest(hub), first.receipts
    hub.stop()
    hub.run("restore", str(saved), "--yes")
    hub.start()
    for each in (late, first, late):
        each.sync()
    assert hub_digest(hub) == first.digest == late.digest == before
    assert first.receipts == receipts


def test_a_backup_that_is_damaged_or_another_hubs_changes_nothing(
    hub: HubPlace, folder: Path, module_database_url: str
) -> None:
    node = centre(hub, folder, "first")
    node.visit("Asha")
    node.sync()
    saved, bad = folder / "good.hubbackup", folder / "bad.hubbackup"
    hub.run("backup", str(saved))
    assert "Asha" not in saved.read_bytes().decode("latin-1")
    hub.run("backup", str(saved), expect=1)  # there is a file of that name
    hub.run("restore", str(saved), "--yes", expect=1)  # it serves
    whole, before = saved.read_bytes(), hub_digest(hub)
    hub.stop()
    middle = len(whole) // 2
    altered = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (b"", whole[:middle], altered):
        bad.write_bytes(damaged)
        hub.run("restore", str(bad), "--yes", expect=6)
    hub.run("restore", str(folder / "nothing"), "--yes", expect=1)
    other = HubPlace.below(folder / "other", database_url=module_database_url)
    other.run("facility", "add", FACILITY, "Another hub's Rampur")
    other.run("restore", str(saved), "--yes", expect=3)
    hub.start()
    assert hub_digest(hub) == before
    node.sync()
    assert node.digest == before
