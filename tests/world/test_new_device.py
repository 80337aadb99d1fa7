"""A new device at a centre with a history: what people need today comes first, and stopping anywhere loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.places import HubPlace
from hwc_node import membership, outbox, standing, sync
from hwc_node.engine import begin_read
from sync_protocol import documents
from sync_protocol.change import PatientId
from tests.world.centres import Centre, centre, hub_digest

PATIENTS = 700  # two items each: more than a feed that is told in its order
OPEN = (17, 333, 612)
A_BIT_BYTES = 12_000


@pytest.fixture(scope="module")
def old(hub: HubPlace, folder: Path) -> Centre:
    """A centre where three of many patients wait for an answer; of one, what a doctor said meanwhile was read."""
    made = centre(hub, folder, "old")
    patients = made.take(*({"kind": "patient", "fields": {"name": f"Person {at}"}} for at in range(PATIENTS)))
    lines: list[dict[str, Any]] = [
        {"kind": "case", "patient": patient, "fields": {"plan": "rest"}} for patient in patients
    ]
    asked = {"specialty": "ent", "urgency": "routine"}
    lines += [{"kind": "referral", "patient": patients[at], "fields": asked} for at in OPEN]
    about = made.take(*lines)[-1]
    read = {"referral": about, "seen": True}
    made.take({"kind": "acknowledgement", "patient": patients[OPEN[-1]], "fields": read})
    made.sync()
    made.sync()
    return made


def mark(node: Centre) -> bytes:
    with begin_read(node.store.engine) as connection:
        return bytes(membership.get(connection, membership.AHEAD, b""))


def at(node: Centre) -> int:
    with begin_read(node.store.engine) as connection:
        return outbox.cursor(connection).position


def whole(node: Centre, patient: PatientId) -> list[str]:
    return sorted(kept.key.kind for kept in node.store.patient_records(patient))


def test_open_patients_come_first_and_the_rest_in_any_number_of_pieces(
    hub: HubPlace, folder: Path, old: Centre
) -> None:
    waiting = {kept.patient for kept in old.store.records(kind="referral")}
    new = centre(hub, folder, "new")
    assert mark(new)
    sync.run(new.store, max_bytes=A_BIT_BYTES)
    assert 0 < len(new.receipts) < len(old.receipts)
    assert at(new) == 0
    kinds = [[kind for kind in whole(new, patient) if kind != "acknowledgement"] for patient in waiting]
    assert kinds == [["case", "patient", "referral"]] * len(OPEN)
    assert standing.integrity(new.store) == []

    # it is used at once, others go on meanwhile, and it stops wherever the link breaks
    (own,) = new.take({"kind": "patient", "fields": {"name": "the first at the new device"}})
    old.visit("while the new device waits")
    old.sync()
    rounds = 0
    while mark(new):
        sync.run(new.store, max_bytes=A_BIT_BYTES)
        rounds += 1
        assert rounds < 100
    assert rounds > 1
    new.sync()
    old.sync()
    assert set(new.receipts) == set(old.receipts)
    assert new.digest == old.digest == hub_digest(hub)
    assert new.receipts == old.receipts
    assert standing.integrity(new.store) == []
    assert outbox.outlook(new.store).nothing
    assert own in {documents.id_text(kept.key.record) for kept in old.store.records(kind="patient")}


def test_a_hub_put_back_meanwhile_begins_anew(hub: HubPlace, folder: Path, old: Centre) -> None:
    """The noted start is not on the feed any more: the next answer starts again, from what the feed is now."""
    saved = folder / "early.hubbackup"
    hub.run("backup", str(saved))
    old.visit("after the backup")
    old.sync()
    new = centre(hub, folder, "newer", hub.ask("enrol", "HWC000001")["code"])
    sync.run(new.store, max_bytes=A_BIT_BYTES)
    before = mark(new)
    assert before
    hub.stop()
    hub.run("restore", str(saved), "--yes")
    hub.start()
    old.visit("after the restore")
    old.sync()
    old.sync()
    new.sync()
    old.sync()
    assert mark(new) == b""
    assert new.digest == old.digest == hub_digest(hub)
    assert set(new.receipts) == set(old.receipts)
    assert standing.integrity(new.store) == []
