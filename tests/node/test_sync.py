"""A whole sync over real HTTP: whoever answers and whatever comes, nothing is lost, and the error says what it was."""

from __future__ import annotations

import gzip
import itertools
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hwc_node import outbox, standing, sync
from hwc_node.store import SyncState
from hwc_node.sync import Body, HubOutOfReach
from sync_protocol import wire
from sync_protocol.schema import Writer
from sync_protocol.wire import Frame, FrameType
from tests.moments import APART, numbers
from tests.node.command_line import Runner
from tests.node.paper_hub import PaperHub
from tests.node.paper_node import PaperNode, by_hub
from tests.node.peer import HTML, PORTAL, Peer, Request, Trick
from tests.node.served_centre import Centre, environment, patients, save_lines

CUTS = 25
DRIP_S = 0.02
TIMEOUT_S = 3.0  # of a sync with whom no answer ends: enough for a busy machine to send what it has
IN_TIME_S = 60.0  # far more than that takes on a busy machine, far less than a stall


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(PaperHub(items_a_page=4)).answering() as answering:
        yield answering


@pytest.fixture
def centre(peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Centre:
    """Enrolled and synced once; since then both sides have written."""
    made = Centre.enrol(peer, tmp_path / "home")
    for name, value in environment(made.config.home).items():
        monkeypatch.setenv(name, value)
    peer.hub.publish(by_hub(peer.hub, "message", {"text": "before"}), Writer.DOCTOR)
    with made.open() as store:
        sync.run(store)
    peer.hub.publish(by_hub(peer.hub, "message", {"text": "since"}), Writer.DOCTOR)
    return made


@pytest.fixture
def hwc(capfdbinary: pytest.CaptureFixture[bytes]) -> Runner:
    return Runner(capfdbinary)


# -- who else may answer -----------------------------------------------------------------------------------------------


def portal(request: Request) -> None:
    request.reply(200, PORTAL, HTML)


def redirect(request: Request) -> None:
    request.reply(302, PORTAL, HTML, Location=f"{request.peer.url}/login")


def moved_post(request: Request) -> None:
    request.reply(307, b"", Location=f"{request.peer.url}/login")


def login_wanted(request: Request) -> None:
    request.reply(511, PORTAL, HTML)


def not_here(request: Request) -> None:
    request.reply(404, PORTAL, HTML)


def replayed(request: Request) -> None:
    request.reply(200, request.peer.last_answer)


def empty(request: Request) -> None:
    request.reply(200)


def cut_link(request: Request) -> None:
    request.begin(200, Content_Length="1000")
    request.put(wire.PREAMBLE)
    request.break_off()


def no_http(request: Request) -> None:
    request.put(b"\x16\x03\x01\x02\x00\x01" * 20)
    request.break_off()


def flipped_heads(request: Request) -> None:
    answer = bytearray(request.honest())
    answer[40] ^= 0x20
    request.reply(200, bytes(answer))


def endless_rubbish(request: Request) -> None:
    request.begin(200)
    while request.put(bytes(range(256)) * 64):
        pass


def endless_frames(request: Request) -> None:
    request.begin(200)
    request.put(wire.PREAMBLE)
    while request.put(wire.encode(Frame(99, bytes(60_000)))):
        pass


def too_large_a_frame(request: Request) -> None:
    request.reply(200, wire.PREAMBLE + bytes([FrameType.HEADS]) + b"\xff\xff\xff\x7f" + bytes(5000))


def bomb(request: Request) -> None:
    request.reply(200, gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")


def busy(request: Request) -> None:
    request.reply(503, b'{"code":"E_BUSY","message":"many nodes","next":""}', "application/json", Retry_After="7")


def busy_until_a_day(request: Request) -> None:
    request.reply(429, b"", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT")


def broken(request: Request) -> None:
    request.reply(500, b"Traceback (most recent call last):")


def too_slow(request: Request) -> None:
    request.reply(408, b'{"code":"E_TOO_SLOW","message":"nothing more came","next":""}', "application/json")


def unknown_node(request: Request) -> None:
    request.peer.refusal("E_UNKNOWN_NODE")(request)


def odd_refusal(request: Request) -> None:
    request.peer.refusal("E_SOMETHING_NEW")(request)


def endless_refusal(request: Request) -> None:
    request.begin(403, "application/json")
    while request.put(b'{"code":"E_UNKNOWN_NODE","message":"' + b"x" * 10_000):
        pass


def silent(request: Request) -> None:
    request.peer.leaving.wait(IN_TIME_S)
    request.break_off()


def drip(request: Request, drop: bytes) -> None:
    """Until nobody takes it any more. What takes it for too long gets an end that no test expects."""
    ends_s = time.monotonic() + IN_TIME_S
    while request.put(drop):
        if time.monotonic() > ends_s:
            request.break_off()
        time.sleep(DRIP_S)


def dripping_head(request: Request) -> None:
    request.put(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(request, b"a")


def dripping_body(request: Request) -> None:
    request.begin(200)
    request.put(wire.PREAMBLE + b"\x63\xff\x7f")
    drip(request, b"a")


def dripping_refusal(request: Request) -> None:
    request.begin(403, "application/json")
    drip(request, b" ")


NOT_THE_HUB = "E_NOT_OUR_ANSWER"
ANSWERS: list[tuple[Trick, str, int]] = [
    (portal, NOT_THE_HUB, 5),
    (redirect, NOT_THE_HUB, 5),
    (moved_post, NOT_THE_HUB, 5),
    (login_wanted, "E_HUB_FAILED", 5),
    (not_here, NOT_THE_HUB, 5),
    (replayed, NOT_THE_HUB, 5),
    (empty, "E_LINK_BROKE", 5),
    (cut_link, "E_LINK_BROKE", 5),
    (no_http, "E_LINK_BROKE", 5),
    (flipped_heads, "E_BAD_SIGNATURE", 6),
    (endless_rubbish, NOT_THE_HUB, 5),
    (endless_frames, "E_TOO_LARGE", 6),
    (too_large_a_frame, "E_TOO_LARGE", 6),
    (bomb, NOT_THE_HUB, 5),
    (busy, "E_HUB_BUSY", 5),
    (busy_until_a_day, "E_HUB_BUSY", 5),
    (broken, "E_HUB_FAILED", 5),
    (too_slow, "E_LINK_BROKE", 5),
    (unknown_node, "E_UNKNOWN_NODE", 4),
    (odd_refusal, "E_SOMETHING_NEW", 6),
    (endless_refusal, NOT_THE_HUB, 5),
    (silent, "E_SYNC_TIMEOUT", 5),
    (dripping_head, "E_SYNC_TIMEOUT", 5),
    (dripping_body, "E_SYNC_TIMEOUT", 5),
    (dripping_refusal, NOT_THE_HUB, 5),
]
WITHOUT_END = (silent, dripping_head, dripping_body, dripping_refusal)


@pytest.mark.parametrize(("trick", "code", "status"), ANSWERS, ids=[one[0].__name__ for one in ANSWERS])
def test_whoever_answers_in_the_hubs_place_gets_nothing_moved_and_is_told(
    centre: Centre, hwc: Runner, tmp_path: Path, trick: Trick, code: str, status: int
) -> None:
    assert hwc("import", save_lines(tmp_path / "lines", patients(1, 3))).status == 0
    before = centre.held()
    assert before.pending == 3
    centre.peer.trick = trick
    began_s = time.monotonic()
    ended = hwc("sync", "--json", *(("--timeout", str(TIMEOUT_S)) if trick in WITHOUT_END else ()))
    assert time.monotonic() - began_s < IN_TIME_S
    assert (ended.status, ended.shape["error"]) == (status, code), ended.err
    assert f"[{code}]" in ended.err
    assert (ended.shape["requests"], ended.shape["pending_changes"]) == (1, 3)
    assert centre.held() == before
    assert hwc("status", "--json").shape["last_error"] == code
    assert centre.peer.counts["/login"] == 0
    centre.peer.trick = None
    again = hwc("sync", "--json")
    assert (again.status, again.shape["pending_changes"], again.shape["received_changes"]) == (0, 0, 1), again.err
    assert hwc("status", "--json").shape["last_error"] is None
    centre.assert_in_step()


def test_the_bytes_count_and_not_what_they_are_called(centre: Centre) -> None:
    centre.peer.trick = lambda request: request.reply(200, request.honest(), HTML)
    with centre.open() as store:
        sync.run(store)
    centre.assert_in_step()


def test_how_long_a_busy_hub_wants_to_be_left_alone_is_told(centre: Centre) -> None:
    with centre.open() as store:
        for trick, seconds in ((busy, 7), (busy_until_a_day, 0), (broken, 0)):
            centre.peer.trick = trick
            with pytest.raises(HubOutOfReach) as refused:
                sync.run(store)
            assert sync.retry_after_s(refused.value) == seconds


def test_a_hub_that_nobody_answers_for_has_got_no_request(centre: Centre, hwc: Runner) -> None:
    ended = hwc("sync", "--json")
    assert (ended.status, ended.shape["requests"]) == (0, 1)
    with socket_of_nobody() as port:
        (centre.config.home / "config.toml").write_text(f'hub_url = "http://127.0.0.1:{port}"\n')
        ended = hwc("sync", "--json")
    assert (ended.status, ended.shape["error"], ended.shape["requests"]) == (5, "E_HUB_UNREACHABLE", 0)


@contextmanager
def socket_of_nobody() -> Iterator[int]:
    """A port that is taken and not listened at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_revoked_node_is_told_so_and_keeps_everything(centre: Centre, hwc: Runner, tmp_path: Path) -> None:
    hwc("import", save_lines(tmp_path / "lines", patients(1, 3)))
    with centre.open() as store:
        member = centre.peer.hub.members[store.membership.node]
    member.revoked, centre.peer.hub.admits = True, False
    before = centre.held()
    for _ in range(3):
        ended = hwc("sync", "--json")
        assert (ended.status, ended.shape["error"]) == (4, "E_REVOKED")
    assert centre.held() == before
    with centre.open() as store:
        assert [one.kind for one in standing.notices(store)] == ["revoked: E_REVOKED"]
    member.revoked, centre.peer.hub.admits = False, True
    assert hwc("sync").status == 0
    centre.assert_in_step()


def test_the_hubs_advice_is_handed_on_and_no_part_of_the_contract(centre: Centre) -> None:
    with centre.open() as store:
        assert sync.run(store).advised_s is None
        centre.peer.hub.interval_s = 900
        done = sync.run(store)
    assert done.advised_s == 900 and "advised_s" not in done.as_json()


# -- cut anywhere ------------------------------------------------------------------------------------------------------


def _cut_once(at: float, *, with_length: bool) -> Trick:
    """Of the honest answer only so much, in parts of the whole; then the link is gone."""

    def trick(request: Request) -> None:
        request.peer.trick = None
        answer = request.honest()
        cut = min(int(len(answer) * at), len(answer) - 1)
        if with_length:
            request.begin(200, Content_Length=str(len(answer)))
        else:
            request.begin(200)
        request.put(answer[:cut])
        request.break_off()

    return trick


@pytest.mark.parametrize("with_length", [True, False])
def test_an_answer_cut_on_its_way_loses_nothing(centre: Centre, with_length: bool) -> None:
    hub = centre.peer.hub
    with centre.open() as store:
        for number in range(CUTS):
            hub.publish(by_hub(hub, "message", {"text": f"{number}"}), Writer.DOCTOR)
            before = centre.held()
            centre.peer.trick = _cut_once(number / (CUTS - 1), with_length=with_length)
            with pytest.raises(HubOutOfReach) as cut:
                sync.run(store)
            assert cut.value.code == "E_LINK_BROKE"
            after = centre.held()
            assert after.cursor.position >= before.cursor.position
            has = [position for position in after.positions.values() if position is not None]
            assert sorted(has) == list(range(1, after.cursor.position + 1))
            if number % 5 == 0:
                sync.run(store)
        sync.run(store)
    centre.assert_in_step()


def _frame_ends(answer: bytes) -> list[int]:
    """Where each frame of an answer ends."""
    reader, ends = wire.FrameReader(), []
    for at in range(len(answer)):
        if reader.feed(answer[at : at + 1]):
            ends.append(at + 1)
    return ends


class Cutting:
    """A link that ends after so many bytes of the answer, as if that were all."""

    def __init__(self, hub: PaperHub) -> None:
        self.hub, self.cut, self.answer = hub, 0, b""
        self.ends: list[int] = []

    @contextmanager
    def post(self, path: str, body: Body) -> Iterator[Iterator[bytes]]:
        self.answer = self.hub.answer(b"".join(body))
        self.ends = _frame_ends(self.answer)
        yield iter([self.answer[: self.cut]])

    def get_document(self, path: str, limit_bytes: int) -> bytes:
        raise AssertionError("nobody asks for keys here")


def test_an_answer_cut_at_any_byte_moves_nothing_until_it_is_whole(tmp_path: Path) -> None:
    node = PaperNode.make(PaperHub(), tmp_path)
    node.hub.publish(by_hub(node.hub, "message", {"text": "first"}), Writer.DOCTOR)
    node.settle()
    written = node.write()
    node.hub.publish(by_hub(node.hub, "message", {"text": "next"}), Writer.DOCTOR)
    carrier, before, whole, drawn = Cutting(node.hub), node.positions(), False, next(numbers()) % APART
    while not whole:
        assert (node.positions(), outbox.outlook(node.store).nothing) == (before, False), carrier.cut
        assert node.states()[written.id] is not SyncState.ADMITTED or carrier.cut > carrier.ends[0]
        try:
            sync.exchange(node.store, carrier, clock=lambda: node.now_ms)
            assert carrier.cut in carrier.ends  # the length that HTTP tells is what tells such an end from a cut
        except HubOutOfReach as error:
            assert error.code == "E_LINK_BROKE" and carrier.cut not in carrier.ends
        whole = carrier.cut == len(carrier.answer)
        near = {end + by for end in carrier.ends for by in (-1, 0, 1)}
        carrier.cut = next(at for at in itertools.count(carrier.cut + 1) if at in near or at % APART == drawn)
    assert len(carrier.ends) == 2 and len(node.hub.segments_seen) == 1
    assert outbox.outlook(node.store).nothing
    node.assert_in_step()
    node.store.close()


# -- two at once -------------------------------------------------------------------------------------------------------


class Gate:
    """Holds back the honest answer to the first sync, whose segments the hub has then, until it is opened."""

    def __init__(self, peer: Peer) -> None:
        self._asked, self._open = threading.Event(), threading.Event()
        peer.trick = self._hold

    def _hold(self, request: Request) -> None:
        request.peer.trick = None
        answer = request.honest()  # before anybody else can ask: the order of two syncs is not left to chance
        self._asked.set()
        self._open.wait(IN_TIME_S)
        request.reply(200, answer)

    def wait_until_asked(self) -> None:
        assert self._asked.wait(IN_TIME_S)

    def open(self) -> None:
        self._open.set()


def _wait_at_the_lock(ran: subprocess.Popen[bytes], centre: Centre) -> None:
    """Until the program has the lock's file open: it holds it or waits for it."""
    lock, until_s = centre.config.sync_lock_path, time.monotonic() + IN_TIME_S
    while ran.poll() is None and time.monotonic() < until_s:
        with suppress(OSError):
            if any(one.readlink() == lock for one in Path(f"/proc/{ran.pid}/fd").iterdir()):
                return
        time.sleep(0.02)
    raise AssertionError("it never came to the lock")


def _ended(ran: subprocess.Popen[bytes]) -> tuple[int, Any, str]:
    out, err = ran.communicate(timeout=4 * IN_TIME_S)
    return ran.returncode, json.loads(out or b"null"), err.decode()


def test_of_two_syncs_at_once_one_waits_or_says_so(centre: Centre, hwc: Runner, tmp_path: Path) -> None:
    hwc("import", save_lines(tmp_path / "lines", patients(1, 30)))
    gate, asked = Gate(centre.peer), centre.peer.counts["/v1/sync"]
    first = centre.spawn("sync", "--json", installed=True)
    gate.wait_until_asked()
    hurried, second = centre.spawn("sync", "--json", "--timeout", "0.3"), centre.spawn("sync", "--json", installed=True)
    status, _, said = _ended(hurried)
    assert status == 1 and "[E_SYNC_RUNNING]" in said
    _wait_at_the_lock(second, centre)
    assert centre.peer.counts["/v1/sync"] == asked + 1
    gate.open()
    (status, told, _), (later, again, _) = _ended(first), _ended(second)
    assert (status, later) == (0, 0)
    assert (told["sent_changes"], told["received_changes"]) == (30, 1)
    assert (again["sent_changes"], again["received_changes"], again["requests"]) == (0, 0, 1)
    assert len(centre.peer.hub.segments_seen) == len(set(centre.peer.hub.segments_seen))
    assert hwc("status", "--json").shape["last_error"] is None
    centre.assert_in_step()


def test_a_sync_that_is_killed_lets_the_next_one_go_on(centre: Centre, hwc: Runner, tmp_path: Path) -> None:
    hwc("import", save_lines(tmp_path / "lines", patients(1, 30)))
    gate = Gate(centre.peer)
    first = centre.spawn("sync", "--json", installed=True)
    gate.wait_until_asked()
    second = centre.spawn("sync", "--json", installed=True)
    _wait_at_the_lock(second, centre)
    first.kill()
    assert _ended(first)[0] == -signal.SIGKILL
    gate.open()
    status, told, _ = _ended(second)
    assert (status, told["pending_changes"], told["received_changes"]) == (0, 0, 1)
    assert len(centre.peer.hub.segments_seen) == len(set(centre.peer.hub.segments_seen))
    centre.assert_in_step()


def test_syncs_while_people_save_send_everything_once(centre: Centre, tmp_path: Path) -> None:
    files = [save_lines(tmp_path / f"{at}", patients(100 * at, 100)) for at in range(3)]
    ran = [centre.spawn(*one) for file in files for one in (("import", file), ("sync", "--json"))]
    assert [_whole(one)[0] for one in ran] == [0] * len(ran)
    with centre.open() as store:
        sync.run(store)
    assert len(centre.peer.hub.segments_seen) == len(set(centre.peer.hub.segments_seen))
    assert len(centre.peer.hub.feed) == 300 + 3
    centre.assert_in_step()


def _whole(ran: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    out, _ = ran.communicate(timeout=4 * IN_TIME_S)
    return ran.returncode, out
