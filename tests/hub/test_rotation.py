"""Rotated keys: nodes go on without a person, and what the old keys made is still read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hub_server import nodes, rotation, vault
from hub_server.intake import Admitter
from hub_server.ledger import Ledger
from hub_server.store import Store
from sync_protocol import keys
from sync_protocol.errors import BadSignature, NeedsPerson, NotAllowed
from tests.hub.bare_node import NOW_MS
from tests.hub.command_line import Terminal, terminal
from tests.hub.hub_world import HubWorld


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> HubWorld:
    world = HubWorld.make(database_url, tmp_path / "keys")
    world.facility("HWC1")
    return world


def rotated(hub: HubWorld, database_url: str, role: str, now_ms: int = NOW_MS + 1_000) -> HubWorld:
    rotation.rotate(hub.folder, role, now_ms)
    world = HubWorld.make(database_url, hub.folder)
    world.now_ms = now_ms
    return world


def test_an_old_key_file_is_read_and_rotating_keeps_the_former_one(tmp_path: Path) -> None:
    """The form of the file before there was any rotation."""
    folder = tmp_path / "keys"
    before = vault.load_or_make(folder, NOW_MS)
    stored = json.loads((folder / vault.KEYS_FILE).read_text())
    assert set(stored) == {"keys", "created_ms"}
    after = rotation.rotate(folder, "signing", NOW_MS + 5)
    assert (before.serial, after.serial, after.born_ms("signing")) == (1, 2, NOW_MS + 5)
    assert after.signing.public != before.signing.public
    assert after.root.public == before.root.public
    assert after.tag_key == before.tag_key
    assert [one.role for one in after.retired] == ["signing"]
    assert before.signing.seed.hex() not in (folder / vault.KEYS_FILE).read_text()
    (kept,) = folder.glob("hub-keys-1.*.json")
    assert json.loads(kept.read_text()) == stored
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())
    listed = keys.verify_hub_keys(after.signed_keys(), keys.fingerprint(before.root.public))
    assert (listed.serial, listed.issued_ms) == (2, NOW_MS + 5)


def test_a_stop_before_the_new_file_is_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "keys"
    before = vault.load_or_make(folder, NOW_MS)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            rotation.rotate(folder, "ingest", NOW_MS + 5)
    assert vault.load_or_make(folder, NOW_MS) == before
    after = rotation.rotate(folder, "ingest", NOW_MS + 6)
    assert after.ingest.public.key_id != before.ingest.public.key_id
    assert [one.public.key_id for one in after.ingest_keys] == [after.ingest.public.key_id, before.ingest.public.key_id]


def test_a_grant_to_a_retired_ingest_key_opens_and_new_ones_go_to_the_newest(hub: HubWorld, database_url: str) -> None:
    node = hub.node("HWC1")
    old_frame = node.grant_frame()
    packed = node.pack([node.write("patient", {"name": "Sita"})])
    late = hub.node("HWC1")
    request = late.enrolment(os.urandom(10))
    hub = rotated(rotated(hub, database_url, "ingest"), database_url, "ingest", NOW_MS + 2_000)
    asked = node.session()
    node.read(asked, hub.answer(b"".join(asked.request([old_frame], [packed.envelope.raw]))))
    assert hub.admit() == 1
    with hub.database.transaction() as connection, pytest.raises(NotAllowed) as refused:
        nodes.enrol(connection, hub.vault, request, NOW_MS)
    assert refused.value.code == "E_CODE_UNKNOWN", "the request was opened"


def test_a_new_signing_key_signs_heads_and_grants_anew(hub: HubWorld, database_url: str) -> None:
    node = hub.node("HWC1")
    hub.exchange(node, [node.pack([node.write("patient", {"name": "Sita"})]).envelope.raw])
    hub.admit()
    hub.exchange(node)
    assert node.hub_grant is not None
    before = node.hub_grant.id
    hub = rotated(hub, database_url, "signing")
    asked = node.session()
    with pytest.raises(BadSignature):
        node.read(asked, hub.answer(b"".join(asked.request())))
    node.vault = hub.vault  # what the node's fetching of the key list comes to
    heads = hub.exchange(node, [node.pack([node.write("patient", {"name": "Meena"})]).envelope.raw])
    assert heads.keys_serial == 2
    hub.admit()
    hub.exchange(node)
    assert len(node.items) == 2
    assert node.hub_grant.id != before


def test_everything_is_wrapped_anew_and_an_old_backup_still_opens(hub: HubWorld, database_url: str) -> None:
    node = hub.node("HWC1")
    hub.exchange(node, [node.pack([node.write("patient", {"name": "Sita"})]).envelope.raw])
    hub.admit()
    with hub.database.transaction() as connection:
        old_rows = connection.execute("SELECT facility, wrapped_key FROM facility").fetchall()
    hub = rotated(hub, database_url, "kek")
    assert hub.vault.identity.serial == 1, "nodes know nothing of this key"
    with hub.database.transaction() as connection:
        digest = hub.store.digest(connection, "HWC1")
        assert len(list(hub.store.records(connection, "HWC1"))) == 1, "before anything is wrapped anew"
        assert rotation.rewrap(connection, hub.vault) > 1
    alone = vault.Vault(hub.vault.identity, vault.FileWrapper(hub.vault.identity.kek))
    store = Store(hub.database, alone)
    with hub.database.transaction() as connection:
        assert len(list(store.records(connection, "HWC1"))) == 1, "the newest key alone opens everything"
        assert store.digest(connection, "HWC1") == digest
        connection.execute("UPDATE facility SET wrapped_key = %s", (old_rows[0][1],))  # a backup from before
        fresh = Store(hub.database, vault.Vault(hub.vault.identity))
        assert len(list(fresh.records(connection, "HWC1"))) == 1
    hub.exchange(node, [node.pack([node.write("patient", {"name": "Meena"})]).envelope.raw])
    assert Admitter(store).admit_once(NOW_MS).changes == 1


def test_the_ledgers_old_lines_are_believed_and_a_strangers_are_not(tmp_path: Path) -> None:
    folder, path = tmp_path / "keys", tmp_path / "ledger"
    before = vault.load_or_make(folder, NOW_MS)
    Ledger(path, before.signing, before.environment).append("facility", {"facility": "HWC1"}, NOW_MS)
    after = rotation.rotate(folder, "signing", NOW_MS)
    ledger = Ledger(path, after.signing, after.environment, after.retired_verifiers)
    ledger.append("facility", {"facility": "HWC2"}, NOW_MS)
    assert [line.body["facility"] for line in ledger.lines()] == ["HWC1", "HWC2"]
    stranger = Ledger(path, keys.Identity(b"s" * 32), after.environment, after.retired_verifiers)
    stranger.append("facility", {"facility": "HWC3"}, NOW_MS)
    with pytest.raises(NeedsPerson):
        list(ledger.lines())


def test_a_new_recovery_key_leaves_its_private_half_in_a_file_to_be_moved_away(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    vault.load_or_make(folder, NOW_MS)
    after = rotation.rotate(folder, "recovery", NOW_MS)
    file = folder / "recovery-key-2.json"
    seeds = bytes.fromhex(json.loads(file.read_text())["keys"]["recovery"])
    assert keys.Recipient.from_seeds(seeds).public == after.recovery
    assert seeds.hex() not in (folder / vault.KEYS_FILE).read_text()


@pytest.fixture
def command(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Terminal:
    return terminal(database_url, tmp_path, monkeypatch, capfdbinary)


def test_the_commands_list_ask_and_rotate(command: Terminal) -> None:
    assert command("facility", "add", "HWC1", "Rampur").status == 0
    before = command("keys", "list", "--json").json
    assert [one["role"] for one in before["keys"]] == ["root", "signing", "ingest", "recovery", "kek", "tag"]
    assert command("keys", "rotate", "root", "--yes").status == 2
    assert command("keys", "rotate", "signing").status == 3  # nobody to ask
    for role in ("signing", "ingest", "kek", "recovery"):
        done = command("keys", "rotate", role, "--yes", "--json")
        assert (done.status, done.json["rotated"]) == (0, role)
    after = command("keys", "list", "--json")
    assert after.json["serial"] == 4
    retired = [one["role"] for one in after.json["keys"] if one["retired_at"] is not None]
    assert retired == ["recovery", "kek", "ingest", "signing"]
    assert "HWC1" in command("facility", "list").out
    told = command("keys", "list").out
    secrets = json.loads((command.home / "keys" / vault.KEYS_FILE).read_text())["keys"]
    for name in ("root", "signing", "ingest", "kek", "tag"):
        assert secrets[name] not in told + json.dumps(after.json)
