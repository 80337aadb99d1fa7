"""The hub's order to erase a patient: nothing of the patient stays, nothing of anybody else goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwc_node import migrations, outbox, standing
from hwc_node.engine import begin_read
from sync_protocol.change import Change
from sync_protocol.errors import NotAllowed
from sync_protocol.schema import Writer
from tests.node.paper_hub import NOW_MS, PaperHub
from tests.node.paper_node import PaperNode, by_hub


@pytest.fixture
def hub() -> PaperHub:
    return PaperHub(items_a_page=3)


@pytest.fixture
def node(hub: PaperHub, tmp_path: Path) -> Iterator[PaperNode]:
    made = PaperNode.make(hub, tmp_path / "a")
    yield made
    made.store.close()


def rows_about(node: PaperNode, change: Change) -> int:
    query = "SELECT (SELECT count(*) FROM {0} WHERE patient = ?)"
    with begin_read(node.store.engine) as connection:
        return sum(
            int(connection.exec_driver_sql(query.format(table), (change.patient,)).scalar() or 0)
            for table in ("change", "record", "patient_digest", "patient_word")
        )


def assert_in_step(node: PaperNode) -> None:
    assert standing.digest(node.store) == node.hub.digest
    assert standing.integrity(node.store) == []
    assert outbox.outlook(node.store).nothing
    assert node.count("unread_item") == 0


def test_the_order_is_obeyed_and_others_keep_what_they_have(node: PaperNode) -> None:
    gone, kept = node.write(), node.write()
    node.write("case", {"plan": "rest"}, patient=gone.record)
    node.settle()
    node.hub.erase(gone.patient)
    node.settle()
    assert rows_about(node, gone) == 0
    assert node.kept(kept).record.view() == {"name": "Sita"}
    assert_in_step(node)
    with pytest.raises(NotAllowed) as refused:
        node.write("case", {"plan": "rest"}, patient=gone.record)
    assert refused.value.code == "E_ERASED"
    node.write("case", {"plan": "rest"}, patient=kept.record)
    node.settle()
    assert_in_step(node)


def test_the_copy_from_before_an_upgrade_goes_with_the_patient(node: PaperNode) -> None:
    gone = node.write()
    node.settle()
    copy = migrations.kept_copy(node.store.config.database_path)
    copy.write_bytes(b"everything as it was, the patient too")
    node.write()
    node.settle()
    assert copy.exists()
    node.hub.erase(gone.patient)
    node.settle()
    assert not copy.exists()


def test_a_new_node_moves_over_what_was_erased_and_gets_the_rest(node: PaperNode, tmp_path: Path) -> None:
    gone = node.write()
    others = node.write_many(4)
    node.settle()
    node.hub.erase(gone.patient)
    fresh = PaperNode.make(node.hub, tmp_path / "fresh")
    fresh.settle()
    node.settle()
    assert rows_about(fresh, gone) == 0
    assert {one.id for one in others} <= set(fresh.states())
    assert_in_step(fresh)
    assert standing.digest(fresh.store) == standing.digest(node.store)
    fresh.store.close()


def test_what_was_never_sent_goes_too_and_its_company_is_sent_anew(node: PaperNode) -> None:
    gone = node.write()
    node.settle()
    node.hub.erase(gone.patient)
    node.write("case", {"plan": "unsent"}, patient=gone.record)
    company = node.write()
    node.link.cut_request = 0
    with pytest.raises(Exception, match="broke"):
        node.exchange()  # sealed into one envelope, and not arrived
    node.settle()
    assert rows_about(node, gone) == 0
    assert company.id in node.hub.by_change
    assert_in_step(node)


def test_only_the_hub_orders_it(node: PaperNode) -> None:
    kept = node.write()
    node.settle()
    forged = by_hub(node.hub, "erasure", {"erased": kept.patient}, writer=Writer.HUB)
    node.hub.publish(forged, Writer.CENTRE, receipt_ms=NOW_MS)
    node.exchange()
    assert rows_about(node, kept) > 0
    assert node.count("erased_patient") == 0
