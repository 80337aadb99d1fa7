"""The outbox: what leaves first, what leaves again, and what never leaves more than three times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwc_node import membership, outbox, standing
from hwc_node.engine import begin_read, begin_write
from hwc_node.store import Store, SyncState
from hwc_node.sync import HubOutOfReach
from sync_protocol import envelope, segment
from sync_protocol.change import Change
from sync_protocol.segment import Link
from tests.node.paper_hub import NOW_MS, PaperHub
from tests.node.paper_node import DATABASE_KEY, PaperNode

MONTH_MS = 31 * 86_400_000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[PaperNode]:
    made = PaperNode.make(PaperHub(), tmp_path)
    yield made
    made.store.close()


def _set_link(node: PaperNode, segment_bytes: int, bytes_per_s: float = 0.0) -> None:
    with begin_write(node.store.engine) as connection:
        membership.put(connection, membership.link_values(Link(segment_bytes, bytes_per_s)))


def _link(node: PaperNode) -> Link:
    with begin_read(node.store.engine) as connection:
        return membership.link_of(membership.get_all(connection))


# -- what leaves first -------------------------------------------------------------------------------------------------


def test_emergencies_leave_first_and_take_along_what_a_doctor_needs(node: PaperNode) -> None:
    _set_link(node, segment.MIN_SEGMENT_BYTES)
    node.write_many(40)
    patient = node.write("patient", {"name": "Sita"})
    case = node.write("case", {"history": "fever"}, patient=patient.record)
    node.write("vitals", {"pulse_bpm": 80, "case": case.record}, patient=patient.record)
    vitals = node.write("vitals", {"pulse_bpm": 120, "case": case.record}, patient=patient.record)
    asked = {"case": case.record, "specialty": "medicine", "urgency": "routine"}
    routine = node.write("referral", asked, patient=patient.record)
    emergency = node.write("referral", asked | {"urgency": "emergency"}, patient=patient.record)
    node.settle()
    came = [entry.held.change.id for entry in node.hub.feed]
    assert set(came[:4]) == {patient.id, case.id, vitals.id, emergency.id}
    assert routine.id in came[4:6] and len(came) == 46
    node.assert_in_step()


def test_no_more_is_packed_ahead_than_eight_seconds_of_airtime(node: PaperNode) -> None:
    _set_link(node, 4096, bytes_per_s=1000)
    node.write_many(2000)
    outgoing = outbox.pack(node.store, NOW_MS)
    sizes = [len(one.raw) for one in outgoing.segments]
    assert 4000 < sum(sizes) <= 8 * 1000 and max(sizes) <= 4096
    assert outgoing.view.max_answer_bytes == 8000
    assert standing.plan(node.store).pending_changes == 2000


def test_a_budget_is_kept_to_and_nothing_is_packed_for_what_is_too_small(node: PaperNode) -> None:
    _set_link(node, 4096, bytes_per_s=100_000)
    node.write_many(500)
    assert outbox.pack(node.store, NOW_MS, 200).segments == ()
    outgoing = outbox.pack(node.store, NOW_MS, 3000)
    assert 0 < sum(len(one.raw) for one in outgoing.segments) <= 3000


def test_one_huge_change_still_leaves_over_a_thin_link(node: PaperNode) -> None:
    _set_link(node, segment.MIN_SEGMENT_BYTES)
    text = "".join(chr(0x905 + byte % 50) for byte in os.urandom(7_900))
    huge = node.write("case", {"history": text})
    node.settle()
    assert node.positions()[huge.id] == 1


def test_nothing_leaves_before_it_is_durable(node: PaperNode) -> None:
    node.write_many(10)
    outgoing = outbox.pack(node.store, NOW_MS)
    with Store.open(node.store.config, DATABASE_KEY) as other, begin_read(other.engine) as connection:
        kept = {bytes(raw) for (raw,) in connection.exec_driver_sql("SELECT raw FROM envelope")}
        assert membership.get(connection, membership.HELLO_ALONE) is True
    assert {one.raw for one in outgoing.segments} == kept


# -- what leaves again -------------------------------------------------------------------------------------------------


def test_a_sync_with_nothing_to_do_costs_one_small_request(node: PaperNode) -> None:
    node.write_many(50)
    node.settle()
    before = node.hub.requests
    done = node.settle()
    assert len(done) == 1 and node.hub.requests == before + 1
    assert done[0].bytes_up + done[0].bytes_down <= 400
    assert not done[0].advanced


def test_what_never_went_out_goes_out_as_it_is(node: PaperNode) -> None:
    change = node.write()
    node.link.refuses = True
    for _ in range(5):
        with pytest.raises(HubOutOfReach):
            node.exchange()
    assert node.states()[change.id] is SyncState.SAVED and node.count("envelope") == 1
    packed = outbox.pack(node.store, NOW_MS).segments[0].id
    node.link.refuses = False
    with begin_write(node.store.engine) as connection:
        membership.put(connection, {membership.HELLO_ALONE: False})
    node.settle()
    assert node.hub.segments_seen == [packed]


def test_after_a_lost_answer_comes_hello_alone_and_nothing_is_sent_twice(node: PaperNode) -> None:
    changes = node.write_many(30)
    node.link.cut_answer = 0
    with pytest.raises(HubOutOfReach):
        node.exchange()
    assert set(node.states().values()) == {SyncState.SENT}
    seen = list(node.hub.segments_seen)
    alone = node.exchange()
    assert alone.sent_changes == 30 and node.hub.segments_seen == seen and alone.bytes_up < 400
    node.settle()
    assert node.hub.segments_seen == seen and set(node.positions()) == {one.id for one in changes}
    node.assert_in_step()


def test_what_a_cut_lost_is_packed_again_smaller(node: PaperNode) -> None:
    _set_link(node, 4096, bytes_per_s=100_000)
    node.write_many(400)
    node.link.cut_request = 9_000
    with pytest.raises(HubOutOfReach):
        node.exchange()
    assert _link(node).segment_bytes == 2048
    held = len(node.hub.arrivals)
    assert held >= 1
    lost = node.count("envelope") - held
    assert lost >= 1
    assert node.exchange().sent_segments == held
    assert node.states() and node.count("envelope") <= held
    node.settle()
    assert len(set(node.hub.segments_seen)) == len(node.hub.segments_seen)
    node.assert_in_step()


def test_no_bytes_are_sent_more_than_three_times(node: PaperNode) -> None:
    node.write_many(5)
    forgetful = node.hub
    for _ in range(10):
        node.exchange()
        forgetful.restore(0)  # kept nothing of what it just said it holds
        with begin_write(node.store.engine) as connection:
            connection.exec_driver_sql("UPDATE envelope SET held = 0, admitted = 0")
            connection.exec_driver_sql("UPDATE change SET position = NULL, segment = (SELECT id8 FROM envelope)")
            connection.exec_driver_sql("DELETE FROM cursor")
    seen = forgetful.segments_seen
    assert max(seen.count(one) for one in seen) <= outbox.MAX_TRIES


def test_an_envelope_whose_bytes_rotted_is_packed_again(node: PaperNode) -> None:
    change = node.write()
    node.link.refuses = True
    with pytest.raises(HubOutOfReach):
        node.exchange()
    with begin_write(node.store.engine) as connection:
        connection.exec_driver_sql("UPDATE envelope SET raw = ?", (b"x" * 300,))
    node.link.refuses = False
    node.settle()
    assert node.positions()[change.id] == 1 and len(node.hub.segments_seen) == 1


def test_an_envelope_that_became_too_big_for_the_link_is_packed_again(node: PaperNode) -> None:
    _set_link(node, 16_384)
    node.write_many(300)
    node.link.refuses = True
    with pytest.raises(HubOutOfReach):
        node.exchange()
    _set_link(node, 1024)
    node.link.refuses = False
    node.settle()
    sizes = [len(one.envelope.raw) for one in node.hub.arrivals.values()]
    assert max(sizes) <= 16_384 and min(sizes) <= 1024
    node.assert_in_step()


# -- grants ------------------------------------------------------------------------------------------------------------


def test_a_grant_goes_along_until_the_hub_has_it_and_not_again(node: PaperNode) -> None:
    node.write()
    outgoing = outbox.pack(node.store, NOW_MS)
    assert len(outgoing.frames) == 2 and len(outgoing.grants) == 1
    node.settle()
    assert list(node.hub.grants) == list(outgoing.grants)
    node.write()
    assert outbox.pack(node.store, NOW_MS).frames == ()


def test_a_grant_that_the_hub_lost_is_sent_again(node: PaperNode) -> None:
    node.write()
    node.settle()
    node.hub.grants.clear()
    change = node.write()
    node.exchange()
    assert node.states()[change.id] is SyncState.HELD
    node.settle()
    assert node.states()[change.id] is SyncState.ADMITTED


def test_a_grant_is_made_anew_monthly_and_after_ten_thousand_segments(node: PaperNode) -> None:
    node.write()
    node.settle()
    node.now_ms = node.hub.now_ms = NOW_MS + MONTH_MS
    node.write()
    node.settle()
    assert len(node.hub.grants) == 2
    with begin_write(node.store.engine) as connection:
        connection.exec_driver_sql("UPDATE grant_ SET used = 10000")
    node.write()
    node.settle()
    assert len(node.hub.grants) == 3
    node.assert_in_step()


# -- what the hub refuses ----------------------------------------------------------------------------------------------


def _is_in(sealed: envelope.Envelope, hub: PaperHub, bad: Change) -> bool:
    return bad in segment.unpack(sealed, hub.grants[sealed.header.grant]).outcomes


def test_one_bad_change_ends_up_alone_and_is_set_aside(node: PaperNode) -> None:
    changes = node.write_many(120)
    bad = changes[60]
    node.hub.refuses = lambda sealed: "E_MALFORMED" if _is_in(sealed, node.hub, bad) else ""
    node.settle()
    states = node.states()
    assert states[bad.id] is SyncState.QUARANTINED
    assert {state for name, state in states.items() if name != bad.id} == {SyncState.ADMITTED}
    assert [(one.held.change, one.reason) for one in standing.set_aside(node.store)] == [(bad, "E_MALFORMED")]
    refused = [name for name in node.hub.segments_seen if name not in node.hub.arrivals]
    assert len(refused) == outbox.MAX_TRIES
    before = len(node.hub.segments_seen)
    node.settle()
    assert len(node.hub.segments_seen) == before and node.count("envelope") == 0


def test_a_refused_segment_delays_no_later_one(node: PaperNode) -> None:
    bad = node.write()
    node.hub.refuses = lambda sealed: "E_MALFORMED" if _is_in(sealed, node.hub, bad) else ""
    node.exchange()
    later = node.write()
    node.exchange()
    assert node.states()[later.id] is SyncState.ADMITTED


def test_the_outlook_says_what_is_left(node: PaperNode) -> None:
    assert outbox.outlook(node.store).nothing
    node.write()
    assert outbox.outlook(node.store) == outbox.Outlook(unsent=True, awaiting=False, behind=False)
    node.hub.admits = False
    node.exchange()
    assert outbox.outlook(node.store) == outbox.Outlook(unsent=False, awaiting=True, behind=False)
    node.hub.sends_items = False
    node.hub.admit()
    node.exchange()
    assert outbox.outlook(node.store) == outbox.Outlook(unsent=False, awaiting=True, behind=True)
    node.hub.sends_items = True
    node.exchange()
    assert outbox.outlook(node.store).nothing


def test_a_referral_that_was_never_packed_is_urgent_and_other_records_are_not(node: PaperNode) -> None:
    assert not outbox.is_urgent(node.store)
    node.write()
    assert not outbox.is_urgent(node.store)
    node.write("referral", {"urgency": "routine", "specialty": "ent"})
    assert outbox.is_urgent(node.store)
    outbox.pack(node.store, NOW_MS)
    assert not outbox.is_urgent(node.store)
