"""The inbox: whatever the hub says, nothing is lost, nothing is applied twice, and the cursor tells the truth."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc_node import inbox, outbox, standing
from hwc_node.engine import begin_read, begin_write
from hwc_node.store import SyncState
from hwc_node.sync import HubOutOfReach, RefusedByHub
from hwc_node.sync.course import run_over
from sync_protocol.change import Change
from sync_protocol.envelope import EnvelopeId
from sync_protocol.errors import HealthSyncError, MissingGrant, TheirBytes
from sync_protocol.feed_page import FIRST_HASH, Cursor, Item, Position, Reference
from sync_protocol.schema import Writer
from sync_protocol.wire import Notice, NoticeKind
from tests.node.paper_hub import NOW_MS, Member, PaperHub
from tests.node.paper_node import PaperNode, by_hub


@pytest.fixture
def hub() -> PaperHub:
    return PaperHub(items_a_page=7)


@pytest.fixture
def node(hub: PaperHub, tmp_path: Path) -> Iterator[PaperNode]:
    made = PaperNode.make(hub, tmp_path / "a")
    yield made
    made.store.close()


@pytest.fixture
def other(hub: PaperHub, tmp_path: Path) -> Iterator[PaperNode]:
    made = PaperNode.make(hub, tmp_path / "b")
    yield made
    made.store.close()


def _member(node: PaperNode) -> Member:
    return node.hub.members[node.store.membership.node]


def _cursor(node: PaperNode) -> Cursor:
    with begin_read(node.store.engine) as connection:
        return outbox.cursor(connection)


def _grant(node: PaperNode) -> None:
    inbox.apply_grant(node.store, node.hub._grant_frame(_member(node)), NOW_MS)


# -- what comes down ---------------------------------------------------------------------------------------------------


def test_two_nodes_and_a_doctor_hold_the_same_in_the_end(node: PaperNode, other: PaperNode) -> None:
    patient = node.write("patient", {"name": "Sita"})
    asked = {"specialty": "medicine", "urgency": "urgent"}
    referral = node.write("referral", asked, patient=patient.record)
    node.settle()
    node.hub.now_ms += 1000
    reply = by_hub(node.hub, "reply", {"referral": referral.record, "advice": "rest"}, patient=patient.record)
    node.hub.publish(reply, Writer.DOCTOR)
    other.settle()
    other.write("patient", {"allergies/penicillin": {"present": True}}, record=patient.record)
    node.write("patient", {"allergies/latex": {"present": True}}, record=patient.record)
    for each in (other, node, other):
        each.settle()
    for each in (node, other):
        each.assert_in_step()
        assert sorted(each.kept(patient).record.view()) == ["allergies/latex", "allergies/penicillin", "name"]
        assert set(each.states().values()) == {SyncState.ADMITTED}
        assert {one.held.origin for one in each.kept(reply).kept} == {Writer.DOCTOR}
    assert standing.digest(node.store) == standing.digest(other.store)


def test_own_changes_come_back_as_references_and_get_their_receipts(node: PaperNode) -> None:
    changes = node.write_many(20)
    node.hub.now_ms = NOW_MS + 5000
    done = node.settle()
    assert sum(one.received_changes for one in done) == 0
    assert [node.positions()[change.id] for change in changes] == list(range(1, 21))
    kept = [one.held for one in node.store.changes()]
    assert {one.receipt_ms for one in kept} == {NOW_MS + 5000} and node.count("envelope") == 0
    node.assert_in_step()


def test_where_the_envelope_is_gone_full_copies_come(node: PaperNode) -> None:
    node.write_many(10)
    node.hub.admits = False
    node.exchange()
    with begin_write(node.store.engine) as connection:
        outbox.drop(connection, [EnvelopeId(name) for name in node.hub.arrivals])
        connection.exec_driver_sql("UPDATE setting SET value = x'c3' WHERE key = 'hello_alone'")
    node.hub.admit()
    node.settle()
    assert node.count("change") == 10
    node.assert_in_step()


def test_a_reference_to_what_is_not_here_stops_the_page_and_moves_nothing_else(node: PaperNode) -> None:
    _grant(node)
    fine = by_hub(node.hub, "reply", {"advice": "rest"})
    tags = [os.urandom(8), os.urandom(8), os.urandom(8)]
    items = [
        Item(Position(1), fine, NOW_MS, Writer.DOCTOR, tags[0]),
        Item(Position(2), Reference(EnvelopeId(b"unknown!"), 0), NOW_MS, Writer.CENTRE, tags[1]),
        Item(Position(3), by_hub(node.hub, "reply", {"advice": "x"}), NOW_MS, Writer.DOCTOR, tags[2]),
    ]
    page = inbox.apply_page(node.store, node.hub.page(Cursor(), items, _member(node)), NOW_MS)
    assert (page.applied, page.fresh, page.whole) == (1, 1, False)
    assert _cursor(node) == Cursor().after(tags[0]) and node.count("change") == 1


def test_a_page_that_comes_again_changes_nothing(node: PaperNode) -> None:
    for at in range(30):
        node.hub.publish(by_hub(node.hub, "message", {"text": f"{at}"}), Writer.DOCTOR)
    _grant(node)
    pages = node.hub._pages(Cursor(), _member(node), set(), 1 << 30)
    overlapping = node.hub._pages(Cursor(Position(3), node.hub.feed[2].hash), _member(node), set(), 1 << 30)
    fresh = [inbox.apply_page(node.store, page, NOW_MS).fresh for page in (*pages[:2], *overlapping, *pages)]
    assert sum(fresh) == 30 and _cursor(node) == Cursor(Position(30), node.hub.feed[-1].hash)
    assert [one.held.change for one in node.store.changes()] == [entry.held.change for entry in node.hub.feed]
    node.assert_in_step()


def test_a_check_while_pages_arrive_finds_nothing_wrong(node: PaperNode) -> None:
    done = threading.Event()

    def arrive() -> None:
        while not done.is_set():
            for at in range(20):
                node.hub.publish(by_hub(node.hub, "message", {"text": f"{at}"}), Writer.DOCTOR)
            node.settle()

    with ThreadPoolExecutor(1) as pool:
        arriving = pool.submit(arrive)
        try:
            while node.count("record") < 700:  # beyond what one query of the check reads
                assert standing.integrity(node.store, sample=50) == []
                assert not arriving.done()
        finally:
            done.set()
        arriving.result(120)
    node.assert_in_step()


def test_a_page_behind_a_gap_or_of_another_history_is_refused(node: PaperNode) -> None:
    for at in range(20):
        node.hub.publish(by_hub(node.hub, "message", {"text": f"{at}"}), Writer.DOCTOR)
    _grant(node)
    pages = node.hub._pages(Cursor(), _member(node), set(), 1 << 30)
    with pytest.raises(TheirBytes) as gap:
        inbox.apply_page(node.store, pages[1], NOW_MS)
    assert gap.value.code == "E_FEED_GAP" and _cursor(node) == Cursor()
    inbox.apply_page(node.store, pages[0], NOW_MS)
    change = by_hub(node.hub, "reply", {"advice": "poison"})
    forged = [Item(Position(at), change, NOW_MS, Writer.DOCTOR, bytes(8)) for at in range(1, 9)]
    for before in (Cursor(), Cursor(Position(7), b"h" * 16)):
        with pytest.raises(TheirBytes) as fork:
            inbox.apply_page(node.store, node.hub.page(before, forged, _member(node)), NOW_MS)
        assert fork.value.code == "E_FEED_FORK"
    assert _cursor(node).position == 7 and node.count("change") == 7


def test_what_may_not_or_cannot_be_taken_is_kept_raw_and_the_feed_goes_on(node: PaperNode) -> None:
    posing = by_hub(node.hub, "reply", {"advice": "poison"})
    node.hub.publish(posing, Writer.CENTRE)
    node.hub.publish(by_hub(node.hub, "reply", {"advice": "rest"}), Writer.DOCTOR, receipt_ms=1 << 50)
    fine = by_hub(node.hub, "reply", {"advice": "rest"})
    node.hub.publish(fine, Writer.DOCTOR)
    node.settle()
    assert set(node.states()) == {fine.id} and _cursor(node).position == 3
    with begin_read(node.store.engine) as connection:
        rows = connection.exec_driver_sql("SELECT position, raw, error FROM unread_item ORDER BY position").fetchall()
    assert [(row[0], row[2]) for row in rows] == [(1, "E_NOT_ALLOWED"), (2, "E_MALFORMED")]
    assert rows[0][1] == posing.raw
    assert standing.standing(node.store).unread_items == 2


def test_a_page_without_its_grant_is_asked_for_again_and_stops_no_sending(node: PaperNode) -> None:
    node.hub.publish(by_hub(node.hub, "message", {"text": "x"}), Writer.DOCTOR)
    node.settle()
    with begin_write(node.store.engine) as connection:
        connection.exec_driver_sql("DELETE FROM grant_ WHERE direction = 'to-node'")
    node.hub.publish(by_hub(node.hub, "message", {"text": "y"}), Writer.DOCTOR)
    change = node.write()
    done = node.exchange()
    assert isinstance(done.page_error, MissingGrant) and done.sent_changes == 1
    node.settle()
    assert node.states()[change.id] is SyncState.ADMITTED
    node.assert_in_step()


# -- notices -----------------------------------------------------------------------------------------------------------


def test_rows_in_quarantine_are_set_aside_at_once_and_come_back_when_released(node: PaperNode) -> None:
    changes = node.write_many(10)
    bad = {changes[3].id, changes[7].id}
    node.hub.judge = lambda change: "E_INVALID_VALUE" if change.id in bad else ""
    notices = [said for done in node.settle() for said in done.notices]
    assert "quarantined: E_INVALID_VALUE" in notices
    assert {name for name, state in node.states().items() if state is SyncState.QUARANTINED} == bad
    now = standing.standing(node.store)
    assert (now.set_aside, now.set_aside_reasons, now.pending_changes) == (2, {"E_INVALID_VALUE": 2}, 0)
    assert node.count("envelope") == 0
    node.hub.release()
    node.settle()
    assert set(node.states().values()) == {SyncState.ADMITTED}
    assert standing.standing(node.store).set_aside == 0
    node.assert_in_step()


def test_a_segment_in_quarantine_is_packed_again_and_then_set_aside(node: PaperNode) -> None:
    node.write_many(3)
    node.hub.admits = False
    for _ in range(12):
        node.exchange()
        for arrival in node.hub.arrivals.values():
            arrival.quarantined = "E_BAD_SEAL"
    assert set(node.states().values()) == {SyncState.QUARANTINED}
    assert len(node.hub.arrivals) <= 1 + 1 + 3


def test_a_revoked_node_keeps_everything(node: PaperNode) -> None:
    changes = node.write_many(3)
    _member(node).revoked = True
    node.hub.admits = False
    done = node.exchange()
    assert done.revoked and done.notices == ["revoked: E_REVOKED"]
    name = next(iter(node.hub.arrivals))
    for kind in (NoticeKind.QUARANTINED, NoticeKind.REFUSED):
        said = inbox.apply_notice(node.store, Notice(kind, b"", name, reason="E_REVOKED"), NOW_MS)
        assert said == "revoked: E_REVOKED"
    assert set(node.states()) == {one.id for one in changes}
    assert SyncState.QUARANTINED not in node.states().values()
    with pytest.raises(RefusedByHub) as refused:
        run_over(node.store, node.link, clock=lambda: NOW_MS)
    assert refused.value.code == "E_REVOKED"
    assert [one.kind for one in standing.notices(node.store)] == ["revoked: E_REVOKED"]


def test_notices_that_mean_nothing_here_change_nothing(node: PaperNode) -> None:
    node.write()
    for notice in (
        Notice(NoticeKind.QUARANTINED, b"", b"unknown!", [0, -1, 1 << 40], "E_X"),
        Notice(NoticeKind.REFUSED, b"", b"", [], "ü\n"),
        Notice(99, b"", b"x" * 5000, [], "E_LATER"),
        Notice(NoticeKind.TWINS, b""),
        Notice(NoticeKind.CURSOR, b"", position=-5),
    ):
        inbox.apply_notice(node.store, notice, NOW_MS)
    assert set(node.states().values()) == {SyncState.SAVED}
    assert [one.kind for one in standing.notices(node.store)] == [
        "cursor",
        "twins",
        "notice 99: E_LATER",
        "refused",
        "quarantined: E_X",
    ]
    standing.mark_notices_seen(node.store)
    assert all(one.seen for one in standing.notices(node.store))


def test_what_is_admitted_and_never_gets_a_position_is_set_aside_in_the_end(node: PaperNode) -> None:
    change, append = node.write(), node.hub._append
    node.hub._append = lambda *_: None  # type: ignore[method-assign]
    for _ in range(8):
        node.exchange()
    assert len(node.hub.segments_seen) == len(set(node.hub.segments_seen)) == outbox.MAX_TRIES
    assert node.states() == {change.id: SyncState.QUARANTINED}
    assert [one.reason for one in standing.set_aside(node.store)] == ["E_NO_RECEIPT"]
    assert outbox.outlook(node.store).nothing
    later = node.write()
    node.hub._append = append  # type: ignore[method-assign]
    node.settle()
    assert node.states() == {change.id: SyncState.QUARANTINED, later.id: SyncState.ADMITTED}
    node.hub.publish(change, Writer.CENTRE)
    node.settle()
    assert set(node.states().values()) == {SyncState.ADMITTED}
    node.assert_in_step()


# -- a hub that was put back -------------------------------------------------------------------------------------------


def test_what_a_restored_hub_lost_comes_back_with_its_receipts(node: PaperNode, other: PaperNode) -> None:
    for _ in range(6):
        node.write_many(5)
        node.hub.now_ms += 1000
        node.settle()
        node.hub.publish(by_hub(node.hub, "reply", {"advice": os.urandom(4).hex()}), Writer.DOCTOR)
    for each in (node, other):
        each.settle()
    digest, everything = node.hub.digest, dict(node.hub.by_change)
    node.hub.now_ms += 100_000
    node.hub.restore(11)
    for each in (node, other, node):
        each.settle()
    assert set(node.hub.by_change) == set(everything)
    assert node.hub.digest == digest
    for each in (node, other):
        each.assert_in_step()
        assert any(one.kind.startswith("cursor") for one in standing.notices(each.store))


def test_a_hub_put_back_to_nothing_gets_everything_again(node: PaperNode) -> None:
    bad = node.write()
    node.hub.judge = lambda change: "E_X" if change.id == bad.id else ""
    node.write_many(60)
    node.settle()
    node.hub.restore(0)
    node.hub.judge = lambda change: ""
    node.settle()
    assert len(node.hub.feed) == 61 and node.states()[bad.id] is SyncState.ADMITTED
    node.assert_in_step()


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300))
def test_past_cursors_get_ever_sparser_and_reach_back(steps: list[int]) -> None:
    kept: set[int] = set()
    at = 0
    for step in steps:
        at += step
        kept.add(at)
        kept -= set(inbox.thinned(kept))
    assert at in kept and len(kept) <= 2 * at.bit_length() + 1
    for back in range(at.bit_length()):
        near = [one for one in kept if at - one <= 1 << back]
        assert near, "none is left within that distance"
    beginning = steps[0]
    assert min(kept) <= max(beginning, at // 2 + 500)


# -- links that break --------------------------------------------------------------------------------------------------


def _settle_whatever_breaks(node: PaperNode) -> None:
    for _ in range(60):
        try:
            node.exchange()
        except HealthSyncError as error:
            assert isinstance(error, HubOutOfReach)
        if outbox.outlook(node.store).nothing:
            return
    raise AssertionError("not settled")


@pytest.mark.parametrize("piece_bytes", [1, 977])
def test_an_answer_cut_at_any_byte_loses_nothing(hub: PaperHub, tmp_path: Path, piece_bytes: int) -> None:
    node = PaperNode.make(hub, tmp_path / "cut")
    node.link.piece_bytes = piece_bytes
    for at in range(12):
        hub.publish(by_hub(hub, "message", {"text": f"{at}"}), Writer.DOCTOR)
    cut = 0
    while True:
        node.write("case", {"history": f"{cut}"})
        node.link.cut_answer = cut
        try:
            node.exchange()
        except HubOutOfReach:
            assert cut < len(node.link.last_answer)
        else:
            if cut >= len(node.link.last_answer):
                break
        cut += 41 if piece_bytes > 1 else 67
    _settle_whatever_breaks(node)
    node.assert_in_step()
    node.store.close()


def test_a_request_cut_at_any_byte_loses_nothing(node: PaperNode) -> None:
    total = 0
    for cut in range(0, 4_600, 113):
        total += len(node.write_many(2))
        node.link.cut_request = cut
        try:
            node.exchange()
        except HubOutOfReach:
            assert node.link.cut_request is None
        node.link.cut_request = None
    _settle_whatever_breaks(node)
    assert len(node.hub.feed) == total
    node.assert_in_step()


def _flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 0x20]) + raw[at + 1 :]


def test_an_answer_with_a_flipped_byte_is_refused_and_nothing_of_it_is_believed(node: PaperNode) -> None:
    node.hub.publish(by_hub(node.hub, "message", {"text": "x"}), Writer.DOCTOR)
    honest = node.hub.answer
    changes: list[Change] = []
    for at in range(0, 2_000, 59):
        changes.append(node.write())
        node.hub.answer = lambda request, at=at: _flipped(answer := honest(request), at % len(answer))  # type: ignore[method-assign, misc]
        try:
            node.exchange()
        except HealthSyncError as error:
            assert error.code.startswith("E_")
    node.hub.answer = honest  # type: ignore[method-assign]
    _settle_whatever_breaks(node)
    assert {one.id for one in changes} <= set(node.hub.by_change)
    node.assert_in_step()


def test_an_answer_to_another_request_is_not_taken(node: PaperNode) -> None:
    node.write()
    node.exchange()
    old = node.link.last_answer
    node.write()
    honest = node.hub.answer
    node.hub.answer = lambda request: old  # type: ignore[method-assign]
    with pytest.raises(HubOutOfReach) as refused:
        node.exchange()
    assert refused.value.code == "E_NOT_OUR_ANSWER"
    node.hub.answer = honest  # type: ignore[method-assign]
    node.settle()
    node.assert_in_step()


def test_the_first_cursor_is_the_feeds_beginning(node: PaperNode) -> None:
    assert _cursor(node) == Cursor(Position(0), FIRST_HASH)


# -- a hub that was put back gives a receipt anew ----------------------------------------------------------------------


def _receipts(node: PaperNode) -> dict[bytes, int | None]:
    return {one.held.change.id: one.held.receipt_ms for one in node.store.changes()}


def test_the_earliest_receipt_that_anybody_knows_comes_back(node: PaperNode, other: PaperNode) -> None:
    """The author had not heard the first receipt when the hub was put back; another node of its centre had."""
    written = node.write()
    node.link.cut_answer = 0
    with pytest.raises(HubOutOfReach):
        node.exchange()
    other.settle()
    assert _receipts(other) == {written.id: NOW_MS}
    node.hub.restore(0)
    node.hub.now_ms = NOW_MS + 5_000
    node.settle()
    assert _receipts(node) == {written.id: NOW_MS + 5_000}
    other.settle()
    node.settle()
    assert _receipts(node) == _receipts(other) == {written.id: NOW_MS}
    for each in (node, other):
        each.assert_in_step()
        assert each.positions() == {written.id: 2}
    # and once more: the position of the receipt that counts is the one that a further loss takes away
    node.hub.restore(1)
    node.hub.now_ms = NOW_MS + 9_000
    for each in (node, other, node):
        each.settle()
        assert _receipts(each) == {written.id: NOW_MS}
        each.assert_in_step()


def test_a_later_receipt_in_the_feed_leaves_the_change_to_be_given_back(node: PaperNode, other: PaperNode) -> None:
    written = node.write()
    node.settle()
    other.settle()
    node.hub.restore(0)
    node.hub.publish(written, Writer.CENTRE, receipt_ms=NOW_MS + 5_000)
    node.exchange()
    assert node.positions() == {written.id: None}
    assert standing.standing(node.store).pending_changes == 1
    node.settle()
    node.assert_in_step()
    assert _receipts(node) == {written.id: NOW_MS}
