"""The exchange by a file: nothing is lost or believed too early, whenever an answer comes, and however often."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwc_node import courier, membership, outbox, standing
from hwc_node.engine import begin_read, begin_write
from hwc_node.store import SyncState
from sync_protocol import segment, session, wire
from sync_protocol.errors import HealthSyncError, NeedsPerson, NotOurAnswer, OurFault, TheirBytes, TooLarge
from sync_protocol.schema import Writer
from sync_protocol.segment import Link
from sync_protocol.wire import FrameReader, FrameType
from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import PERSON, make_home, write
from tests.node.paper_hub import NOW_MS, PaperHub
from tests.node.paper_node import PaperNode, by_hub

WEEK_MS = 7 * 86_400_000


@pytest.fixture
def hub() -> PaperHub:
    return PaperHub(items_a_page=20)


@pytest.fixture
def node(hub: PaperHub, tmp_path: Path) -> Iterator[PaperNode]:
    made = PaperNode.make(hub, tmp_path / "home")
    yield made
    made.store.close()


def written(node: PaperNode) -> bytes:
    """A courier file's bytes."""
    target = node.folder.parent / "out.courier"
    courier.write(node.store, target, node.now_ms)
    return target.read_bytes()


def read(node: PaperNode, answer: bytes) -> courier.Taken:
    return courier.read(node.store, answer, node.now_ms)


def settings_of(node: PaperNode) -> dict[str, object]:
    with begin_read(node.store.engine) as connection:
        return membership.get_all(connection)


def image(node: PaperNode) -> list[object]:
    """All that an answer could change."""
    tables = "setting change envelope cursor grant_ notice courier courier_segment unread_item".split()
    with begin_read(node.store.engine) as connection:
        return [sorted(map(tuple, connection.exec_driver_sql(f"SELECT * FROM {name}")), key=repr) for name in tables]


def with_thin_link(node: PaperNode) -> None:
    with begin_write(node.store.engine) as connection:
        membership.put(connection, membership.link_values(Link(segment.MIN_SEGMENT_BYTES)))


# -- the way out and back ----------------------------------------------------------------------------------------------


def test_a_file_carries_all_that_is_pending_and_its_answer_all_that_is_new(node: PaperNode, hub: PaperHub) -> None:
    with_thin_link(node)
    node.write_many(3_000)
    hub.publish(by_hub(hub, "message", {"text": "from the hub"}), Writer.DOCTOR)
    out = written(node)
    frames = FrameReader().feed(out)
    assert [one.type for one in frames[:3]] == [FrameType.HELLO, FrameType.GRANT, FrameType.GRANT]
    assert wire.read_signed(frames[0].payload, wire.Hello).wall_ms == 0
    assert standing.pending_changes(node.store) == 3_000, "writing is no acknowledgement"
    assert set(node.states().values()) == {SyncState.SAVED}
    node.now_ms += WEEK_MS
    hub.now_ms += WEEK_MS - 1_000
    taken = read(node, hub.answer(out))
    assert (taken.done.sent_changes, taken.done.received_changes, taken.nothing_new) == (3_000, 1, False)
    assert taken.hub_time_ms == hub.now_ms
    assert standing.pending_changes(node.store) == 0 and outbox.outlook(node.store).nothing
    node.assert_in_step()


def test_the_clocks_error_and_the_link_are_not_judged_by_a_file(node: PaperNode, hub: PaperHub) -> None:
    node.write()
    node.settle()
    before = settings_of(node)
    node.write()
    out = written(node)
    assert settings_of(node).get(membership.HELLO_ALONE) == before.get(membership.HELLO_ALONE)
    hub.now_ms += WEEK_MS
    answer = hub.answer(out)
    node.now_ms += 3 * WEEK_MS
    read(node, answer)
    after = settings_of(node)
    for name in (membership.CLOCK_ERROR_MS, membership.LINK, membership.HELLO_ALONE):
        assert after.get(name) == before.get(name)
    assert after[membership.HUB_TIME_MS] == hub.now_ms
    assert after[membership.LAST_SUCCESS_MS] == hub.now_ms, "the last sync is as of when the hub answered"


def test_the_last_sync_is_never_put_back_nor_into_the_future(node: PaperNode, hub: PaperHub) -> None:
    node.write()
    out = written(node)
    node.now_ms += WEEK_MS
    hub.now_ms = node.now_ms + WEEK_MS  # the hub's clock, or this one, is wrong
    read(node, hub.answer(out))
    assert settings_of(node)[membership.LAST_SUCCESS_MS] == node.now_ms
    out = written(node)
    hub.now_ms = node.now_ms - 2 * WEEK_MS
    read(node, hub.answer(out))
    assert settings_of(node)[membership.LAST_SUCCESS_MS] == node.now_ms


def test_what_does_not_fit_waits_for_the_next_file(node: PaperNode, hub: PaperHub) -> None:
    for _ in range(70):
        node.write("case", {"history": os.urandom(4_000).hex()})
    made = courier.make(node.store, node.now_ms, courier.MIN_BYTES)
    courier.remember(node.store, made, node.now_ms)
    assert 0 < made.changes < 70 and made.left == 70 - made.changes
    assert len(made.raw) < courier.MIN_BYTES + 8_192
    read(node, hub.answer(made.raw))
    assert standing.pending_changes(node.store) == made.left
    read(node, hub.answer(written(node)))
    node.assert_in_step()


def test_a_hub_that_admits_later_is_asked_again_with_the_same_file(node: PaperNode, hub: PaperHub) -> None:
    hub.admits = False
    node.write_many(5)
    out = written(node)
    first = read(node, hub.answer(out))
    assert first.done.sent_changes == 5 and standing.pending_changes(node.store) == 5
    assert set(node.states().values()) == {SyncState.HELD}
    hub.admits, hub.now_ms = True, hub.now_ms + 1
    second = read(node, hub.answer(out))
    assert not second.nothing_new and standing.pending_changes(node.store) == 0
    node.assert_in_step()


# -- again, late, between syncs ----------------------------------------------------------------------------------------


def test_an_answer_that_is_read_twice_brings_nothing_new(node: PaperNode, hub: PaperHub) -> None:
    node.write_many(3)
    hub.publish(by_hub(hub, "message", {"text": "once"}), Writer.DOCTOR)
    answer = hub.answer(written(node))
    assert not read(node, answer).nothing_new
    before = image(node)
    again = read(node, answer)
    assert again.nothing_new and again.again
    assert image(node) == before


def test_a_cut_while_an_answer_is_read_is_mended_by_reading_it_again(
    node: PaperNode, hub: PaperHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.write_many(30)
    hub.publish(by_hub(hub, "message", {"text": "behind"}), Writer.DOCTOR)
    answer = hub.answer(written(node))
    with monkeypatch.context() as patch:
        patch.setattr("hwc_node.inbox.apply_page", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            read(node, answer)
    assert not read(node, answer).nothing_new
    node.assert_in_step()


def test_an_older_answer_takes_nothing_back(node: PaperNode, hub: PaperHub) -> None:
    """HEADS of an older answer: neither the hub's time nor the nonce, the epoch or the feed's head go back."""
    node.write_many(4)
    late = hub.answer(written(node))
    hub.now_ms += WEEK_MS
    hub.publish(by_hub(hub, "message", {"text": "newer"}), Writer.DOCTOR)
    node.settle()
    before = settings_of(node)
    taken = read(node, late)
    assert taken.older and taken.nothing_new
    assert settings_of(node) == before
    node.assert_in_step()


def test_a_link_that_packed_it_all_smaller_meanwhile_does_not_stop_the_answers_pages(
    node: PaperNode, hub: PaperHub
) -> None:
    """The answer refers to rows of the file's segments, which a sync that never came through has dropped."""
    node.write_many(400)
    out = written(node)
    large = {one.id for one in courier.make(node.store, node.now_ms).outgoing.segments}
    with_thin_link(node)
    node.link.refuses = True
    for _ in range(3):
        with pytest.raises(HealthSyncError):
            node.exchange()
    with begin_read(node.store.engine) as connection:
        left = {name for (name,) in connection.exec_driver_sql("SELECT id8 FROM envelope")}
    assert not large & left, "the sync packed what it sends anew"
    answer = hub.answer(out)
    hub.publish(by_hub(hub, "message", {"text": "the doctor's"}), Writer.DOCTOR)
    taken = read(node, answer)
    assert taken.done.page_error is None
    assert standing.pending_changes(node.store) == 0
    assert node.count("envelope") == 0
    node.link.refuses = False
    node.settle()
    node.assert_in_step()


def test_several_files_are_out_at_once_and_come_back_in_any_order(node: PaperNode, hub: PaperHub) -> None:
    files = []
    for at in range(courier.KEPT_FILES + 1):
        node.write("patient", {"name": f"Sita {at}"})
        files.append(written(node))
        hub.now_ms += 1_000
    answers = [hub.answer(one) for one in files]
    with pytest.raises(NotOurAnswer):
        read(node, answers[0])  # the ninth from the end: forgotten, and nothing lost by that
    for at in (3, 1, 8, 5, 2, 8, 4, 7, 6):
        read(node, answers[at])
    node.assert_in_step()
    assert standing.pending_changes(node.store) == 0
    assert node.count("courier") == courier.KEPT_FILES


def test_the_same_question_asked_again_is_one_file(node: PaperNode, hub: PaperHub) -> None:
    node.write_many(3)
    first, second = written(node), written(node)
    assert first == second and node.count("courier") == 1
    read(node, hub.answer(first))
    node.assert_in_step()


def test_a_nonce_is_taken_only_in_the_place_of_the_one_that_was_shown(node: PaperNode, hub: PaperHub) -> None:
    """Two nonces that answer the same one, both shown, would make one node look like two."""
    node.write()
    node.settle()
    node.write()
    first = written(node)
    node.write()
    second = written(node)
    shown = settings_of(node)[membership.NONCE]
    hub.now_ms += 1
    answers = [hub.answer(first), hub.answer(second)]
    read(node, answers[0])
    taken = settings_of(node)[membership.NONCE]
    assert taken != shown
    hub.now_ms += 1
    read(node, answers[1])
    assert settings_of(node)[membership.NONCE] == taken
    node.write()
    third = written(node)
    node.settle()
    synced = settings_of(node)[membership.NONCE]
    hub.now_ms += 1
    read(node, hub.answer(third))
    assert settings_of(node)[membership.NONCE] == synced


def test_news_of_a_restored_hub_is_obeyed_once_and_not_when_it_is_old(node: PaperNode, hub: PaperHub) -> None:
    node.write_many(10)
    node.settle()
    hub.restore(4)
    node.write()
    out = written(node)
    hub.now_ms += 1
    answer = hub.answer(out)
    taken = read(node, answer)
    assert taken.done.notices == ["cursor: E_CURSOR"]
    hub.now_ms += 1
    node.settle()
    node.assert_in_step()
    before = image(node)[1:4]
    hub.now_ms -= 1
    late = hub.answer(out)  # somebody hands the old file in once more
    hub.now_ms += 1
    read(node, late)
    assert image(node)[1:4] == before
    node.assert_in_step()


def test_what_an_answer_from_before_the_restore_says_is_held_is_not_believed(node: PaperNode, hub: PaperHub) -> None:
    hub.admits = False
    node.write_many(5)
    late = hub.answer(written(node))
    hub.restore(0)
    hub.now_ms += 1
    with_thin_link(node)
    node.exchange(max_bytes=600)
    taken = read(node, late)
    assert taken.older and taken.done.sent_changes == 0
    hub.admits = True
    node.settle()
    node.assert_in_step()


def test_what_the_hub_refuses_counts_once_and_ends_alone(node: PaperNode, hub: PaperHub) -> None:
    bad = node.write("patient", {"name": "Bad"})
    node.write_many(5)
    hub.judge = lambda change: "E_NOT_ALLOWED" if change.id == bad.id else ""
    answer = hub.answer(written(node))
    taken = read(node, answer)
    assert taken.done.notices == ["quarantined: E_NOT_ALLOWED"]
    assert node.states()[bad.id] is SyncState.QUARANTINED
    assert read(node, answer).nothing_new
    assert outbox.outlook(node.store).nothing


def test_a_revoked_node_is_told_so_and_keeps_everything(node: PaperNode, hub: PaperHub) -> None:
    node.write_many(2)
    out = written(node)
    for member in hub.members.values():
        member.revoked = True
    with pytest.raises(NeedsPerson) as told:
        read(node, hub.answer(out))
    assert told.value.code == "E_REVOKED"
    assert len(node.states()) == 2


# -- what does not check out -------------------------------------------------------------------------------------------


def test_what_is_no_whole_answer_of_this_hub_to_this_node_changes_nothing(
    node: PaperNode, hub: PaperHub, tmp_path: Path
) -> None:
    other = PaperNode.make(hub, tmp_path / "other")
    strange = PaperNode.make(PaperHub(), tmp_path / "strange")
    for one in (node, other, strange):
        one.write_many(30)
    hub.publish(by_hub(hub, "message", {"text": "kept back"}), Writer.DOCTOR)
    out = written(node)
    answer = hub.answer(out)
    others, strangers = hub.answer(written(other)), strange.hub.answer(written(strange))
    flipped = bytearray(answer)
    flipped[-10] ^= 1
    before = image(node)
    wrong = {
        "empty": (b"", "E_TRUNCATED"),
        "cut at once": (answer[:7], "E_TRUNCATED"),
        "cut": (answer[:-1], "E_TRUNCATED"),
        "other node's": (others, "E_NOT_OUR_ANSWER"),
        "other hub's": (strangers, "E_BAD_SIGNATURE"),
        "the request": (out, "E_NOT_OUR_ANSWER"),
        "a login page": (b"<!DOCTYPE html><html>", "E_NOT_OUR_ANSWER"),
        "a refusal": (b'{"code": "E_TOO_SLOW", "message": "m", "next": ""}', "E_TOO_SLOW"),
        "flipped": (bytes(flipped), "E_BAD_SIGNATURE"),
        "rubbish": (wire.PREAMBLE + b"\x05\xff\xff\xff\xff", "E_MALFORMED"),
        "other frames": (wire.PREAMBLE + wire.encode(wire.Frame(FrameType.FEED, b"x")), "E_NOT_OUR_ANSWER"),
        "a heads of the hub's with a flipped hash": (
            answer[:40] + bytes([answer[40] ^ 1]) + answer[41:],
            "E_BAD_SIGNATURE",
        ),
    }
    for what, (raw, code) in wrong.items():
        with pytest.raises(TheirBytes) as told:
            read(node, raw)
        assert told.value.code == code, what
        assert image(node) == before, what
    other.store.close()
    strange.store.close()
    read(node, answer)
    assert standing.pending_changes(node.store) == 0


def test_an_answer_is_believed_only_for_what_its_request_named(node: PaperNode, hub: PaperHub) -> None:
    """A hub that says of everything that it holds it, be it ever so signed."""
    node.write_many(3)
    out = written(node)
    node.write("case", {"history": os.urandom(2_000).hex()})
    second = courier.make(node.store, node.now_ms)
    everything = b"".join(one.id for one in second.outgoing.segments)
    answering = session.HubSession(hub.environment)
    answering.read(out)
    first_place = wire.feed_place(0, bytes(16))
    said = wire.Heads(1, b"", everything, b"", first_place, NOW_MS + 1, b"n" * 8, hub.epoch)
    read(node, answering.answer(said, hub.signing))
    with begin_read(node.store.engine) as connection:
        held = [held for (held,) in connection.exec_driver_sql("SELECT held FROM envelope")]
    assert sorted(held) == [0, 1]
    node.settle()
    node.assert_in_step()


def test_a_file_of_another_kind_is_not_replaced_and_a_failure_leaves_the_old_one(
    node: PaperNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.write()
    notes = tmp_path / "notes.txt"
    notes.write_text("do not lose me")
    with pytest.raises(OurFault) as told:
        courier.write(node.store, notes, node.now_ms)
    assert told.value.code == "E_FILE_EXISTS" and notes.read_text() == "do not lose me"
    target = tmp_path / "out.courier"
    courier.write(node.store, target, node.now_ms)
    before, rows = target.read_bytes(), node.count("courier")
    node.write()
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("hwc_node.files.os.fsync", lambda _: (_ for _ in ()).throw(full))
    with pytest.raises(OurFault) as told:
        courier.write(node.store, target, node.now_ms)
    assert told.value.code == "E_DISK_FULL"
    assert target.read_bytes() == before and node.count("courier") == rows
    assert sorted(one.name for one in tmp_path.glob("*.tmp")) + sorted(tmp_path.glob(".*.tmp")) == []


# -- the commands ------------------------------------------------------------------------------------------------------


def test_the_commands_say_what_they_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    home, hwc = make_home(tmp_path), Runner(capfdbinary)
    with home.open() as store:
        write(store, PERSON, "patient", {"name": "Sita"})
    point_at(home, monkeypatch)
    target = tmp_path / "out.courier"
    told = hwc("courier", "write", str(target), "--json").shape
    assert told["schema"] == "hwc.courier/1" and told["action"] == "write"
    assert (told["changes"], told["pending_changes"], told["left_changes"]) == (1, 1, 0)
    assert told["bytes"] == target.stat().st_size
    capfdbinary.readouterr()
    assert hwc("courier", "write", str(target), "--json").status == 0
    assert hwc("courier", "read", str(target)).status == 6
    assert hwc("courier", "read", str(tmp_path / "none")).status == 1
    large = tmp_path / "large"
    large.write_bytes(bytes(courier.MAX_ANSWER_BYTES + 1))
    ended = hwc("courier", "read", str(large))
    assert ended.status == 6 and TooLarge.default_code in ended.err
    assert hwc("courier").status == 2
    assert hwc("courier", "write", "-", "--json").status == 2
    assert hwc("courier", "write", str(target), "--max-bytes", "99").status == 2
