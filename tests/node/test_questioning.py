"""News that would hide or erase most of what is here is put aside, and a person decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hwc_node import outbox, questioning, standing
from hwc_node.engine import begin_write
from hwc_node.ledger import Arrived
from hwc_node.store import Store
from sync_protocol.change import Change
from sync_protocol.feed_page import Position
from sync_protocol.merge import Held
from sync_protocol.schema import Writer
from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import make_home
from tests.node.paper_hub import NOW_MS, PaperHub
from tests.node.paper_node import PaperNode, by_hub

RECORDS = 200
ALLOWED = RECORDS // questioning.SHARE


@pytest.fixture
def hub() -> PaperHub:
    return PaperHub(items_a_page=16)


@pytest.fixture
def node(hub: PaperHub, tmp_path: Path) -> Iterator[PaperNode]:
    made = PaperNode.make(hub, tmp_path / "a")
    yield made
    made.store.close()


def hide(node: PaperNode, changes: Sequence[Change]) -> None:
    """Another node of the centre marks these as entered in error."""
    for change in changes:
        mark = {"entered_in_error": {"hidden": True, "reason": "test", "shown": [change.id]}}
        marked = by_hub(node.hub, "patient", mark, record=change.record, writer=Writer.CENTRE)
        node.hub.publish(marked, Writer.CENTRE)


def hidden(node: PaperNode) -> int:
    return sum(1 for kept in node.store.records() if kept.record.shown("entered_in_error") is not None)


def test_a_days_corrections_are_obeyed_without_asking(node: PaperNode) -> None:
    changes = node.write_many(RECORDS)
    node.settle()
    hide(node, changes[:ALLOWED])
    node.settle()
    assert hidden(node) == ALLOWED
    assert standing.standing(node.store).questioned == 0
    node.assert_in_step()


def test_what_would_hide_most_is_put_aside_and_work_goes_on(node: PaperNode) -> None:
    changes = node.write_many(RECORDS)
    node.settle()
    hide(node, changes[: RECORDS - 10])
    node.settle()
    assert hidden(node) == ALLOWED
    assert standing.standing(node.store).questioned == RECORDS - 10 - ALLOWED
    assert outbox.outlook(node.store).nothing
    own = node.write()
    node.settle()
    assert own.id in node.hub.by_change
    told = questioning.questioned(node.store)
    assert (told.count, told.erasures, told.since_ms) == (RECORDS - 10 - ALLOWED, 0, NOW_MS)
    assert questioning.accept(node.store, NOW_MS) == told.count
    assert hidden(node) == RECORDS - 10
    node.assert_in_step()


def test_refused_news_stays_put_aside_and_can_be_accepted_later(node: PaperNode) -> None:
    changes = node.write_many(RECORDS)
    node.settle()
    hide(node, changes)
    node.settle()
    assert questioning.refuse(node.store) == RECORDS - ALLOWED
    assert standing.standing(node.store).questioned == 0
    assert standing.digest(node.store) != node.hub.digest
    assert questioning.accept(node.store, NOW_MS) == RECORDS - ALLOWED
    node.assert_in_step()


def test_orders_to_erase_most_patients_are_questioned_too(node: PaperNode) -> None:
    changes = node.write_many(RECORDS)
    node.settle()
    for change in changes[:100]:
        node.hub.erase(change.patient)
    node.settle()
    left = standing.standing(node.store)
    assert left.questioned == 100 - ALLOWED
    told = questioning.questioned(node.store)
    assert told.erasures == told.count == left.questioned
    questioning.accept(node.store, NOW_MS)
    assert node.count("erased_patient") == 100
    assert standing.digest(node.store) == node.hub.digest
    assert standing.integrity(node.store) == []


def test_the_next_day_counts_anew(node: PaperNode) -> None:
    changes = node.write_many(RECORDS)
    node.settle()
    hide(node, changes[:ALLOWED])
    node.settle()
    node.now_ms += questioning.DAY_MS
    hide(node, changes[ALLOWED : 2 * ALLOWED])
    node.settle()
    assert hidden(node) == 2 * ALLOWED


def test_what_a_person_here_marked_is_no_news_and_a_feed_that_went_back_brings_it_again(node: PaperNode) -> None:
    changes = node.write_many(60)
    node.settle()
    before = len(node.hub.feed)
    for change in changes:
        mark = {"entered_in_error": {"hidden": True, "reason": "test", "shown": [change.id]}}
        node.write("patient", mark, record=change.record)
    node.settle()
    assert hidden(node) == 60
    assert standing.standing(node.store).questioned == 0
    fresh = by_hub(node.hub, "patient", {"name": "Meena"}, writer=Writer.CENTRE)
    node.hub.publish(fresh, Writer.CENTRE)
    hide(node, [fresh, *changes])
    node.settle()
    assert standing.standing(node.store).questioned == 60 + 1 - max(questioning.FREE, 61 // questioning.SHARE)
    node.hub.restore(before)
    node.settle()
    assert standing.standing(node.store).questioned == 0
    assert hidden(node) == 61


def test_the_commands_tell_ask_and_obey(
    node: PaperNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    home = make_home(tmp_path / "real")
    point_at(home, monkeypatch)
    hwc = Runner(capfdbinary)
    told = hwc("news", "--json")
    assert (told.status, told.shape["count"], told.shape["since"]) == (0, 0, None)
    assert hwc("news", "refuse", "--json").shape == {"schema": "hwc.news/1", "verdict": "refused", "count": 0}
    with Store.open(home.config, home.key) as store, begin_write(store.engine) as connection:
        change = node.write()
        questioning.put_aside(connection, [Arrived(Held(change, NOW_MS), Position(7), b"8 bytes.")], NOW_MS)
    assert hwc("news").out.startswith("1 pieces of news wait")
    assert hwc("status", "--check").status == 3
    assert hwc("news", "accept").status == 1  # nobody to ask
    assert hwc("news", "accept", "--yes").out == "1 accepted\n"
    assert hwc("news", "list", "--json").shape["count"] == 0
