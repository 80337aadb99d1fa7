"""Erasing a patient: the key and the payloads go, feeds stay whole, and it stays so on a hub that is put back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub_server import erasure, recovery, vault
from hub_server.ledger import Ledger
from hub_server.receiving import Incoming
from sync_protocol import documents, merge
from sync_protocol.change import Change, PatientId
from sync_protocol.envelope import HEADER_BYTES
from sync_protocol.errors import InvalidValue, NeedsPerson
from sync_protocol.feed_page import Erased
from sync_protocol.keys import SIGNATURE_BYTES
from sync_protocol.schema import Writer
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.command_line import terminal
from tests.hub.hub_world import HubWorld

DAY_MS = 86_400_000


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> HubWorld:
    world = HubWorld.make(database_url, tmp_path / "keys")
    identity = world.vault.identity
    world.vault.ledger = Ledger(tmp_path / "ledger", identity.signing, identity.environment)
    world.facility("HWC1")
    world.facility("HWC2")
    return world


def registered(hub: HubWorld, node: BareNode, name: str = "Sita") -> Change:
    """A patient with a case, brought by a real segment."""
    change = node.write("patient", {"name": name})
    case = node.write("case", {"plan": "rest"}, patient=change.record)
    hub.exchange(node, [node.pack([change, case]).envelope.raw])
    assert hub.admit() == 2
    return change


def one(hub: HubWorld, query: str, *arguments: object) -> object:
    with hub.database.transaction() as connection:
        row = connection.execute(query.encode(), arguments).fetchone()
    return row[0] if row is not None else None


def digests_agree(hub: HubWorld, facility: str) -> bool:
    """What the hub shows is what folding the feed gives."""
    with hub.database.transaction() as connection:
        shown = hub.store.digest(connection, facility)
        from_records = merge.add_digests(merge.digest(record) for record in hub.store.records(connection, facility))
    return shown == from_records


def test_nothing_of_the_patient_is_left_and_every_feed_stays_whole(hub: HubWorld) -> None:
    node, other = hub.node("HWC1"), hub.node("HWC2")
    gone, kept = registered(hub, node), registered(hub, node, "Meena")
    patient = PatientId(gone.record)
    with hub.database.transaction() as connection:
        hub.store.subscribe(connection, patient, other.facility, NOW_MS)
    hub.exchange(node)
    before = node.cursor
    done = erasure.erase(hub.store, patient, "operator test", NOW_MS)
    assert (done.verdict, done.facilities, done.items) == ("erased", ("HWC1", "HWC2"), 4)
    assert one(hub, "SELECT count(*) FROM item WHERE patient = %s AND payload <> ''", patient) == 0
    assert one(hub, "SELECT count(*) FROM subscription WHERE patient = %s", patient) == 0
    assert one(hub, "SELECT wrapped_key FROM patient WHERE patient = %s", patient) == b""
    segment = one(hub, "SELECT segment FROM item WHERE patient = %s AND segment <> ''", patient)
    left = one(hub, "SELECT octet_length(raw) FROM arrival WHERE segment = %s", segment)
    assert left == HEADER_BYTES + SIGNATURE_BYTES
    assert digests_agree(hub, "HWC1") and digests_agree(hub, "HWC2")

    hub.exchange(node)
    orders = [item.body.writes for item in node.items[before.position :] if isinstance(item.body, Change)]
    assert [writes["erased"] for writes in orders] == [patient]
    fresh = hub.node("HWC1")
    hub.exchange(fresh)
    assert fresh.cursor == node.cursor
    bodies = [item.body for item in fresh.items]
    assert sum(isinstance(body, Erased) for body in bodies) == 2
    assert {body.record for body in bodies if isinstance(body, Change)} >= {kept.record}
    assert erasure.erase(hub.store, patient, "operator test", NOW_MS).verdict == "erased_before"


def test_what_arrives_later_about_the_patient_is_not_stored(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    gone = registered(hub, node)
    erasure.erase(hub.store, PatientId(gone.record), "operator test", NOW_MS)
    late = node.write("case", {"plan": "late"}, patient=gone.record)
    fine = node.write("patient", {"name": "Radha"})
    hub.exchange(node, [node.pack([late, fine]).envelope.raw])
    hub.admit()
    assert one(hub, "SELECT count(*) FROM item WHERE change = %s", late.id) == 0
    assert one(hub, "SELECT count(*) FROM item WHERE change = %s", fine.id) == 1
    assert one(hub, "SELECT count(*) FROM quarantine") == 0
    assert digests_agree(hub, "HWC1")


def test_a_hub_that_was_put_back_erases_again_and_orders_it_again(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    gone = registered(hub, node)
    patient = PatientId(gone.record)
    with hub.database.transaction() as connection:
        history = hub.store.history(connection, patient)
    erasure.erase(hub.store, patient, "operator test", NOW_MS)
    with hub.database.transaction() as connection:  # as if the backup were from before the patient was there
        for table in ("item", "patient", "subscription"):
            connection.execute(f"DELETE FROM {table}".encode())
        connection.execute("UPDATE feed SET position = 0, hash = %s", (bytes(16),))
        connection.execute("DELETE FROM setting WHERE key = 'ledger'")
    again = vault.Vault(hub.vault.identity, ledger=hub.vault.ledger)
    assert recovery.replay(hub.database, again) > 0
    assert one(hub, "SELECT wrapped_key FROM patient WHERE patient = %s", patient) == b""
    with hub.database.transaction() as connection:
        given = [
            Incoming(node.facility, each.change, Writer.CENTRE, each.receipt_ms or 0, vouched=True) for each in history
        ]
        assert hub.store.receive(connection, given, NOW_MS).erased == len(history)
    assert one(hub, "SELECT count(*) FROM item WHERE patient = %s", patient) == 0


def test_a_held_erasure_waits_for_its_day(hub: HubWorld) -> None:
    node = hub.node("HWC1")
    gone = registered(hub, node)
    patient = PatientId(gone.record)
    with pytest.raises(InvalidValue):
        erasure.hold(hub.store, patient, NOW_MS - 1, "kept 7 years", "operator test", NOW_MS)
    assert erasure.hold(hub.store, patient, NOW_MS + DAY_MS, "kept 7 years", "operator test", NOW_MS).verdict == "held"
    with pytest.raises(NeedsPerson) as refused:
        erasure.erase(hub.store, patient, "operator test", NOW_MS)
    assert refused.value.code == "E_HELD"
    assert erasure.carry_out_due(hub.store, NOW_MS) == 0
    assert erasure.carry_out_due(hub.store, NOW_MS + DAY_MS) == 1
    assert one(hub, "SELECT wrapped_key FROM patient WHERE patient = %s", patient) == b""
    assert one(hub, "SELECT count(*) FROM held_erasure") == 0
    with pytest.raises(InvalidValue):
        erasure.release(hub.store, patient, "operator test", NOW_MS)


def test_the_command_asks_lists_and_says_what_it_did(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    hub = terminal(database_url, tmp_path, monkeypatch, capfdbinary)
    hub("facility", "add", "HWC1", "HWC Rampur")
    world = hub.world(database_url)
    patient = documents.id_text(registered(world, world.node("HWC1")).record)
    assert hub("erase").status == 2
    assert hub("erase", patient, "--hold-until", "2099-13-01", "--reason", "law").status == 2
    assert hub("erase", patient, "--hold-until", "2099-01-01").status == 2
    assert hub("erase", patient, "--hold-until", "2099-01-01", "--reason", "kept 7 years").status == 0
    (held,) = hub("erase", "--held", "--json").json["held"]
    assert (held["patient"], held["until"], held["reason"]) == (patient, "2099-01-01T00:00:00.000Z", "kept 7 years")
    assert hub("erase", patient, "--yes").status == 3
    assert hub("erase", patient, "--release").status == 0
    assert hub("erase", patient).status == 3  # nobody to ask
    assert hub("erase", documents.id_text(os.urandom(16)), "--yes").status == 1
    told = hub("erase", patient, "--yes", "--json").json
    assert (told["verdict"], told["facilities"], told["items"]) == ("erased", ["HWC1"], 2)
    assert hub("export", "--patient", patient).status == 1
