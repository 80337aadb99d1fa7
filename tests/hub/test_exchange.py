"""Keep, admit and answer, on a real PostgreSQL: what arrives, what comes back, what is set aside."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from sync_protocol import merge
from sync_protocol.change import Change, PatientId
from sync_protocol.feed_page import Reference
from sync_protocol.merge import Held
from sync_protocol.schema import Writer
from sync_protocol.wire import NoticeKind
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.hub_world import HubWorld


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> HubWorld:
    return HubWorld.make(database_url, tmp_path / "keys")


def consultation(node: BareNode) -> list[Change]:
    patient = node.write("patient", {"name": "Asha Devi", "sex": "F", "allergies/penicillin": {"present": True}})
    case = node.write("case", {"history": "fever for 3 days", "duration_days": 3}, patient=patient.record)
    referral = node.write(
        "referral",
        {"case": case.record, "specialty": "dermatology", "urgency": "urgent"},
        patient=patient.record,
    )
    return [patient, case, referral]


def test_a_kept_segment_is_held_then_admitted_and_comes_back_as_references(hub: HubWorld) -> None:
    hub.facility("HWC1")
    node = hub.node("HWC1")
    batch = consultation(node)
    packed = node.pack(batch)
    heads = hub.exchange(node, [packed.envelope.raw])
    assert heads.held == packed.envelope.id
    assert heads.admitted == b""
    assert hub.admit() == 3
    heads = hub.exchange(node, awaiting=[packed.envelope.id])
    assert heads.admitted == packed.envelope.id
    assert [item.body for item in node.items] == [Reference(packed.envelope.id, at) for at in range(3)]
    assert node.cursor.position == heads.feed_position == 3
    assert node.cursor.hash == heads.feed_hash
    expected = merge.add_digests(merge.contribution(Held(change, NOW_MS)) for change in batch)
    with hub.database.transaction() as connection:
        assert hub.store.digest(connection, "HWC1") == expected


def test_another_node_of_the_facility_gets_full_copies(hub: HubWorld) -> None:
    hub.facility("HWC1")
    first, second = hub.node("HWC1"), hub.node("HWC1")
    batch = consultation(first)
    hub.exchange(first, [first.pack(batch).envelope.raw])
    hub.admit()
    hub.exchange(second)
    assert [item.body for item in second.items] == batch
    assert all(item.receipt_ms == NOW_MS for item in second.items)


def test_long_texts_that_do_not_compress_come_in_several_pages(hub: HubWorld) -> None:
    hub.facility("HWC1")
    first, second = hub.node("HWC1"), hub.node("HWC1")
    batch = [first.write("case", {"history": secrets.token_hex(2_000)}, patient=bytes(16)) for _ in range(150)]
    for at in range(0, len(batch), 25):
        hub.exchange(first, [first.pack(batch[at : at + 25]).envelope.raw])
    hub.admit()
    while second.cursor.position < len(batch):
        before = second.cursor.position
        hub.exchange(second)
        assert second.cursor.position > before
    assert [item.body for item in second.items] == batch


def test_redelivery_changes_nothing(hub: HubWorld) -> None:
    hub.facility("HWC1")
    node = hub.node("HWC1")
    batch = consultation(node)
    raw = node.pack(batch).envelope.raw
    for _ in range(3):
        hub.exchange(node, [raw])
        hub.admit()
    hub.exchange(node, [node.pack(batch).envelope.raw, node.pack(batch[1:]).envelope.raw])
    assert hub.admit() == 0
    assert hub.exchange(node).feed_position == 3


def test_an_edit_supersedes_and_a_concurrent_one_is_a_conflict(hub: HubWorld) -> None:
    hub.facility("HWC1")
    node = hub.node("HWC1")
    patient = node.write("patient", {"name": "A"})
    hub.exchange(node, [node.pack([patient]).envelope.raw])
    hub.admit()
    left = node.write("patient", {"name": "B"}, record=patient.record, shown={"name": [patient.id]})
    right = node.write("patient", {"name": "C"}, record=patient.record, shown={"name": [patient.id]})
    hub.exchange(node, [node.pack([left]).envelope.raw])
    hub.admit()
    hub.exchange(node, [node.pack([right]).envelope.raw])
    hub.admit()
    with hub.database.transaction() as connection:
        (record,) = hub.store.patient_records(connection, "HWC1", PatientId(patient.record))
        assert set(record.conflicts()) == {"name"}
        assert hub.store.digest(connection, "HWC1") == merge.digest(record)
        assert connection.execute("SELECT count(*) FROM conflicted").fetchone() == (1,)
    settled = node.write("patient", {"name": "C"}, record=patient.record, shown={"name": [left.id, right.id]})
    hub.exchange(node, [node.pack([settled]).envelope.raw])
    hub.admit()
    with hub.database.transaction() as connection:
        (record,) = hub.store.patient_records(connection, "HWC1", PatientId(patient.record))
        assert record.conflicts() == {}
        assert hub.store.digest(connection, "HWC1") == merge.digest(record)
        assert connection.execute("SELECT count(*) FROM conflicted").fetchone() == (0,)


def test_a_reply_by_a_node_is_quarantined_and_the_rest_of_its_segment_admitted(hub: HubWorld) -> None:
    hub.facility("HWC1")
    node = hub.node("HWC1")
    batch = consultation(node)
    forged = node.write(
        "reply",
        {"referral": batch[2].record, "advice": "none"},
        patient=batch[0].record,
        writer=Writer.DOCTOR,
    )
    packed = node.pack([batch[0], forged, *batch[1:]])
    hub.exchange(node, [packed.envelope.raw])
    assert hub.admit() == 3
    hub.exchange(node, awaiting=[packed.envelope.id])
    (notice,) = node.notices
    assert notice.kind == NoticeKind.QUARANTINED
    assert (notice.subject, notice.indexes, notice.reason) == (packed.envelope.id, [1], "E_NOT_ALLOWED")


def test_a_segment_waits_for_its_grant(hub: HubWorld) -> None:
    hub.facility("HWC1")
    node = hub.node("HWC1")
    packed = node.pack(consultation(node))
    hub.exchange(node, [packed.envelope.raw], with_grant=False)
    assert hub.admit() == 0
    heads = hub.exchange(node, awaiting=[packed.envelope.id])
    assert heads.grants_missing == [node.grant.id]
    asked = node.session()
    node.read(asked, hub.answer(b"".join(asked.request([node.grant_frame()]))))
    assert hub.admit() == 3


def test_a_cursor_of_another_history_is_told(hub: HubWorld) -> None:
    hub.facility("HWC1")
    node = hub.node("HWC1")
    hub.exchange(node, [node.pack(consultation(node)).envelope.raw])
    hub.admit()
    other = hub.node("HWC1")
    other.cursor = type(other.cursor)(other.cursor.position, b"x" * 16)
    hub.exchange(other)
    assert [notice.kind for notice in other.notices] == [NoticeKind.CURSOR]
    assert other.items == []
