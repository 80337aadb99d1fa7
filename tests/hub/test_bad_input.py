"""Whatever comes over HTTP, the hub answers with a code or breaks off, keeps what is good, and says nothing of patients.

One `hub serve` for all tests here, as it really runs. Each test ends with a look at what the hub logged and how much
memory it took.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub_server import nodes, sync_api
from sync_protocol import keys, segment, wire
from sync_protocol.change import FacilityCode
from sync_protocol.envelope import EnvelopeId
from sync_protocol.schema import Writer
from sync_protocol.segment import Packed
from sync_protocol.wire import Frame, FrameType, Heads, NoticeKind
from tests.hub.bare_node import NOW_MS, BareNode
from tests.hub.served_hub import PATIENCE_S, Answered, ServedHub
from tests.hub.test_intake import raw_block, sealed

SECRET = "Savitri Lakshmibai"  # stands in every patient of this module
STALL_S = 4.0  # longer than a test that is at work is kept waiting for a core, or the hub is
MAX_GROWTH_BYTES = 32 * 1024 * 1024
REFUSALS = {400, 403, 404, 405, 408, 411, 413, 431}
BROKEN = (OSError, http.client.HTTPException)


@pytest.fixture(scope="module")
def served(module_database_url: str, module_folder: Path) -> Iterator[ServedHub]:
    home = module_folder / "home"
    home.mkdir()
    with ServedHub(home, module_database_url, STALL_S) as made:
        made.start()
        made.world.facility("HWC1")
        yield made
        assert made.stop() == 0


@pytest.fixture
def hub(served: ServedHub) -> Iterator[ServedHub]:
    """The hub, quiet, and watched for this test: its memory, its log, and that nothing was wrong with itself."""
    node = served.node("HWC1")
    send(served, node, node.pack([node.write("patient", {"name": SECRET})]).envelope.raw)
    served.forget_peak()
    already_bytes, logged = served.peak_bytes(), served.log.stat().st_size
    yield served
    assert served.peak_bytes() - already_bytes < MAX_GROWTH_BYTES
    with served.log.open("rb") as opened:
        opened.seek(logged)
        told = opened.read().decode()
    assert "Savitri" not in told
    for line in told.splitlines():
        event = json.loads(line)
        assert event["level"] in ("info", "warning"), line
        assert event.get("status", 200) < 500, line
    assert served.ask("GET", "/readyz").status == 200


def send(hub: ServedHub, node: BareNode, *segments: bytes, awaiting: list[EnvelopeId] | None = None) -> Heads:
    """One exchange that is answered; its notices are the node's."""
    asked = node.session(awaiting or [])
    grants = [node.grant_frame()] if segments else []
    answer = hub.sync(b"".join(asked.request(grants, segments)))
    assert answer.status == 200, answer.body
    return node.read(asked, answer.body)


def patient(node: BareNode, **more: Any) -> Packed:
    return node.pack([node.write("patient", {"name": SECRET, **more})])


def pieces(node: BareNode) -> tuple[list[bytes], Packed]:
    """A small request: the preamble with HELLO, a grant, a segment; and what is in the segment."""
    packed = patient(node)
    return node.session().request([node.grant_frame()], [packed.envelope.raw]), packed


def kept(hub: ServedHub, node: BareNode) -> int:
    return int(hub.value("SELECT count(*) FROM arrival WHERE node = %s", node.node))


def settled(hub: ServedHub, node: BareNode) -> None:
    hub.wait("SELECT count(*) FROM arrival WHERE node = %s AND state = 'kept'", node.node, expected=0)


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :]


def is_refusal(answer: Answered) -> bool:
    """A coded sentence, without a word of what came."""
    told = json.loads(answer.body)
    return answer.status in REFUSALS and set(told) == {"code", "message", "next"} and "Savitri" not in told["message"]


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_any_flipped_byte_of_the_hello_is_refused_and_nothing_is_stored(hub: ServedHub) -> None:
    node = hub.node("HWC1")
    (hello, grant, frame), _ = pieces(node)
    for at in range(len(hello)):
        answer = hub.sync(flipped(hello, at) + grant + frame)
        assert is_refusal(answer), (at, answer)
    assert kept(hub, node) == 0
    assert hub.sync(hello + grant + frame).status == 200


def test_any_flipped_byte_of_a_segment_is_refused_and_nothing_is_stored(hub: ServedHub) -> None:
    node = hub.node("HWC1")
    (hello, _, frame), packed = pieces(node)
    for at in range(len(frame)):
        answer = hub.sync(hello + flipped(frame, at))
        assert answer.status == 200 or is_refusal(answer), (at, answer)
        assert SECRET.encode() not in answer.body
    assert kept(hub, node) == 0
    assert send(hub, node, packed.envelope.raw).held == packed.envelope.id
    settled(hub, node)
    assert hub.value("SELECT count(*) FROM item WHERE change = %s", packed.changes[0].id) == 1


def test_a_flipped_byte_of_a_grant_leaves_its_segment_waiting_for_the_good_one(hub: ServedHub) -> None:
    node = hub.node("HWC1")
    (hello, grant, frame), packed = pieces(node)
    header = len(grant) - len(node.grant_frame())
    for at in range(header, len(grant), 29):
        assert hub.sync(hello + flipped(grant, at) + frame).status == 200, at
    settled(hub, node)
    assert send(hub, node, awaiting=[packed.envelope.id]).grants_missing == [node.grant.id]
    assert hub.sync(hello + grant).status == 200
    hub.wait("SELECT state FROM arrival WHERE node = %s", node.node, expected="admitted")


def test_a_request_cut_short_at_any_byte_stores_no_half(hub: ServedHub) -> None:
    node = hub.node("HWC1")
    (hello, grant, frame), packed = pieces(node)
    body = hello + grant + frame
    for at in [*range(0, len(hello), 7), *range(len(hello), len(body), 23), len(body) - 1]:
        answer = hub.sync(body[:at])
        whole = at in (len(hello), len(hello) + len(grant))
        assert answer.status == 200 if whole else is_refusal(answer), (at, answer)
    head = f"POST /v1/sync HTTP/1.1\r\nHost: hub\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for at in range(0, len(body), 97):
        with socket.create_connection((hub.host, hub.port)) as link:
            link.sendall(head + body[:at])
    assert kept(hub, node) == 0
    assert send(hub, node, packed.envelope.raw).held == packed.envelope.id


def test_bytes_of_no_exchange_are_refused(hub: ServedHub) -> None:
    for body in (b"", b"H", b"HSX1", b"HSX2" + bytes(100), b"<html>log in</html>", os.urandom(5000), b"\x91" * 100_000):
        assert is_refusal(hub.sync(body))
    deep = wire.encode(Frame(FrameType.HELLO, bytes(64) + b"\x91" * 16_000))
    assert hub.sync(wire.PREAMBLE + deep).code == "E_MALFORMED"


# -- who sends ---------------------------------------------------------------------------------------------------------


def test_an_unknown_node_is_told_so_and_nothing_is_stored(hub: ServedHub) -> None:
    stranger = BareNode(hub.world.vault, FacilityCode("HWC1"))
    answer = hub.sync(b"".join(pieces(stranger)[0]))
    assert (answer.status, answer.code) == (403, "E_UNKNOWN_NODE")
    assert kept(hub, stranger) == 0


def test_what_a_revoked_node_sends_waits_and_it_is_told_nothing_of_its_feed(hub: ServedHub) -> None:
    node = hub.node("HWC1")
    with hub.world.database.transaction() as connection:
        assert nodes.revoke(connection, node.vault, node.node, "stolen", NOW_MS)
    send(hub, node, patient(node).envelope.raw)
    assert [notice.kind for notice in node.notices] == [NoticeKind.QUARANTINED, NoticeKind.REVOKED]
    assert node.items == []
    assert hub.value("SELECT reason FROM quarantine WHERE node = %s AND verdict = 'open'", node.node) == "E_REVOKED"


# -- law 9: what is bad is set aside by itself, and what comes behind it is admitted ------------------------------------


def bomb(node: BareNode, stated: int) -> bytes:
    """200 MB of zeros in a few kilobytes."""
    return sealed(node, b"", stated=stated, compressed=_bomb()).raw


_made: list[bytes] = []


def _bomb() -> bytes:
    if not _made:
        _made.append(segment.compress(bytes(200_000_000), 0, level=19))
    return _made[0]


def reply_by_a_node(node: BareNode) -> bytes:
    made = node.write("reply", {"referral": os.urandom(16), "advice": SECRET}, writer=Writer.DOCTOR)
    return node.pack([made]).envelope.raw


def not_canonical(node: BareNode) -> bytes:
    loose = node.write("patient", {"name": SECRET}).raw.replace(b"\xa5after\x00", b"\xa5after\xcd\x00\x00")
    return sealed(node, raw_block(loose)).raw


def by_another(node: BareNode, *, kind: str = "patient") -> bytes:
    other = BareNode(node.vault, node.facility)
    return node.pack([other.write(kind, {"name": SECRET})]).envelope.raw


def signed_by_another(node: BareNode) -> bytes:
    other = BareNode(node.vault, node.facility, node=node.node)
    return patient(other).envelope.raw


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


REFUSED, QUARANTINED = NoticeKind.REFUSED, NoticeKind.QUARANTINED
BAD: dict[str, tuple[Any, NoticeKind, str]] = {
    "signed by another": (signed_by_another, REFUSED, "E_BAD_SIGNATURE"),
    "a bomb that says so": (lambda node: bomb(node, 200_000_000), REFUSED, "E_TOO_LARGE"),
    "a bomb that does not": (lambda node: bomb(node, 6_000), QUARANTINED, "E_MALFORMED"),
    "a bomb at the limit": (lambda node: bomb(node, 4 * 1024 * 1024), QUARANTINED, "E_MALFORMED"),
    "nested 100,000 deep": (lambda node: sealed(node, nested(100_000)).raw, QUARANTINED, "E_MALFORMED"),
    "not canonical": (not_canonical, QUARANTINED, "E_NOT_CANONICAL"),
    "a row nested deep": (lambda node: sealed(node, raw_block(nested(60_000))).raw, QUARANTINED, "E_MALFORMED"),
    "a reply by a node": (reply_by_a_node, QUARANTINED, "E_NOT_ALLOWED"),
    "written by another": (by_another, QUARANTINED, "E_OTHER_AUTHOR"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_segment_has_its_reason_and_the_good_one_behind_it_is_admitted(hub: ServedHub, name: str) -> None:
    make, kind, reason = BAD[name]
    node = hub.node("HWC1")
    bad, good = make(node), patient(node)
    heads = send(hub, node, bad, good.envelope.raw)
    assert good.envelope.id in wire.split_ids(heads.held)
    settled(hub, node)
    names = [EnvelopeId(bytes(row[0])) for row in hub.rows("SELECT segment FROM arrival WHERE node = %s", node.node)]
    send(hub, node, awaiting=names)
    assert {(notice.kind, notice.reason) for notice in node.notices} == {(kind, reason)}
    assert hub.value("SELECT count(*) FROM item WHERE change = %s", good.changes[0].id) == 1
    written = hub.value("SELECT count(*) FROM item WHERE segment = ANY(%s)", names)
    assert written == 1


def test_many_bombs_at_once_take_no_more_memory_than_one(hub: ServedHub) -> None:
    node = hub.node("HWC1")
    for stated in (6_000, 4 * 1024 * 1024):
        send(hub, node, *[bomb(node, stated) for _ in range(40)])
    settled(hub, node)
    assert hub.value("SELECT count(*) FROM quarantine WHERE node = %s", node.node) == 80


def test_segments_repeated_and_out_of_order_are_admitted_once(hub: ServedHub) -> None:
    node = hub.node("HWC1")
    first = node.write("patient", {"name": SECRET})
    edit = node.write("patient", {"name": "x"}, record=first.record, shown={"name": [bytes(first.id)]})
    late, early = node.pack([edit]).envelope.raw, node.pack([first]).envelope.raw
    send(hub, node, late, late, early)
    send(hub, node, early, late)
    settled(hub, node)
    assert kept(hub, node) == 2
    assert hub.value("SELECT count(*) FROM item WHERE record = %s", first.record) == 2
    with hub.world.database.transaction() as connection:
        (record,) = hub.world.store.patient_records(connection, "HWC1", first.patient)
        assert record.view() == {"name": "x"}


def test_a_request_with_more_segments_than_one_may_bring_keeps_as_many_and_names_only_those(hub: ServedHub) -> None:
    node = hub.node("HWC1")
    many = [patient(node).envelope for _ in range(sync_api.MAX_SEGMENTS + 10)]
    heads = send(hub, node, *[one.raw for one in many])
    assert set(wire.split_ids(heads.held)) == {one.id for one in many[: sync_api.MAX_SEGMENTS]}
    assert kept(hub, node) == sync_api.MAX_SEGMENTS
    settled(hub, node)


# -- HTTP --------------------------------------------------------------------------------------------------------------


def test_a_body_over_the_limit_is_refused_at_its_head_or_where_it_passes_it(hub: ServedHub) -> None:
    with hub.connected() as link:
        link.putrequest("POST", "/v1/sync")
        link.putheader("Content-Length", str(sync_api.MAX_BODY_BYTES + 1))
        link.endheaders()  # and not a byte of it
        answer = link.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (413, "E_TOO_LARGE")
    node = hub.node("HWC1")
    filler = wire.encode(Frame(77, bytes(wire.MAX_UNKNOWN_BYTES)))
    endless = [node.session().request()[0], *[filler] * 10]
    assert hub.ask("POST", "/v1/sync", iter(endless)).code == "E_TOO_LARGE"
    assert hub.ask("POST", "/v1/enrol", bytes(sync_api.MAX_ENROL_BYTES + 1)).code == "E_TOO_LARGE"
    assert hub.sync(node.session().request()[0] + filler).status == 200


def test_requests_of_which_nothing_more_comes_are_given_up(hub: ServedHub) -> None:
    node = hub.node("HWC1")
    body = b"".join(pieces(node)[0])
    began = time.monotonic()
    with ExitStack() as stalled:
        links = []
        for at in (0, 3, 60, 2000):
            link = stalled.enter_context(socket.create_connection((hub.host, hub.port), timeout=PATIENCE_S))
            link.sendall(b"POST /v1/sync HTTP/1.1\r\nHost: hub\r\nContent-Length: 5000\r\n\r\n" + body[:at])
            links.append(link)
        for link in links:
            answer = http.client.HTTPResponse(link)
            answer.begin()
            assert (answer.status, json.loads(answer.read())["code"]) == (408, "E_TOO_SLOW")
            assert time.monotonic() - began >= STALL_S


def test_what_is_no_route_or_method_of_the_hub_is_refused(hub: ServedHub) -> None:
    for method, path, status in (
        ("GET", "/v1/sync", 405),
        ("PUT", "/v1/sync", 405),
        ("DELETE", "/v1/enrol", 405),
        ("OPTIONS", "/v1/sync", 405),
        ("POST", "/v1/keys", 405),
        ("POST", "/v1/syncs", 404),
        ("POST", "/v1/sync/../../etc/passwd", 404),
        ("POST", f"/v1/{'x' * 5000}", 404),
    ):
        answer = hub.ask(method, path, b"x" if method == "POST" else None)
        assert answer.status == status, (method, path, answer)


@pytest.mark.parametrize(
    "said", ["application/json", "text/html; charset=utf-7", "multipart/form-data; boundary=x", "\xff"]
)
def test_the_content_type_changes_nothing_the_body_says_what_it_is(hub: ServedHub, said: str) -> None:
    node = hub.node("HWC1")
    asked = node.session()
    headers = {"Content-Type": said}
    assert hub.ask("POST", "/v1/sync", b"".join(asked.request()), headers).status == 200
    assert is_refusal(hub.ask("POST", "/v1/sync", b'{"name": "Savitri"}', headers))


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"POST /v1/sync HTTP/1.1\r\n\r\n",
        b"POST /v1/sync HTTP/1.1\r\nHost: hub\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/sync HTTP/1.1\r\nHost: hub\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nHSX1x",
        b"POST /v1/sync HTTP/1.1\r\nHost: hub\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /v1/sync HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /v1/sync HTTP/1.1\r\nHost: hub\r\nX: " + b"Savitri" * 20_000 + b"\r\n\r\n",
        b"Savitri" * 30_000,
    ],
    ids=range(8),
)
def test_what_is_not_http_is_refused_or_cut_off(hub: ServedHub, raw: bytes) -> None:
    with socket.create_connection((hub.host, hub.port), timeout=PATIENCE_S) as link:
        answer = b""
        try:
            link.sendall(raw)
            answer = link.recv(4096)
        except OSError:
            pass
    assert not answer or int(answer.split()[1]) in REFUSALS
    assert b"Savitri" not in answer


# -- enrolment ---------------------------------------------------------------------------------------------------------


def new_code(hub: ServedHub, facility: str = "HWC1", valid_ms: int = 600_000) -> keys.EnrolmentCode:
    with hub.world.database.transaction() as connection:
        now_ms = time.time_ns() // 1_000_000
        return nodes.new_code(
            connection, hub.world.vault, facility, "http://127.0.0.1:1", valid_ms=valid_ms, now_ms=now_ms
        )


def enrol(hub: ServedHub, node: BareNode, secret: bytes) -> Answered:
    return hub.ask("POST", "/v1/enrol", node.enrolment(secret))


def test_a_code_works_for_one_node_and_its_facility_and_the_same_node_may_ask_again(hub: ServedHub) -> None:
    if not hub.value("SELECT count(*) FROM facility WHERE facility = 'HWC2'"):
        hub.world.facility("HWC2")
    code = new_code(hub, "HWC2")
    node, thief = (BareNode(hub.world.vault, FacilityCode("HWC1")) for _ in range(2))
    first, again = (enrol(hub, node, code.secret) for _ in range(2))
    assert first.status == again.status == 200
    answers = [msgspec.msgpack.decode(one.body)[0] for one in (first, again)]
    assert answers[0] == answers[1]
    root = keys.Verifier(hub.world.vault.identity.root.public)
    certificate = keys.verify_document(answers[0], keys.Certificate, root, hub.world.vault.identity.environment)
    assert (certificate.node, certificate.facility) == (node.node, "HWC2")
    refused = enrol(hub, thief, code.secret)
    assert (refused.status, refused.code) == (403, "E_CODE_USED")
    thief.node = node.node  # the same name with other keys is another
    assert enrol(hub, thief, code.secret).code == "E_CODE_USED"
    assert enrol(hub, thief, new_code(hub).secret).code == "E_NODE_EXISTS"


def test_a_code_that_is_guessed_or_late_is_refused(hub: ServedHub) -> None:
    """80 bits are not guessed over a network, so no guess is counted: nobody can lock a centre out by guessing."""
    node = BareNode(hub.world.vault, FacilityCode("HWC1"))
    assert keys.CODE_SECRET_BYTES * 8 >= 80
    for guess in (os.urandom(keys.CODE_SECRET_BYTES), b"", bytes(10), os.urandom(1000)):
        answer = enrol(hub, node, guess)
        assert (answer.status, answer.code) == (403, "E_CODE_UNKNOWN")
    late = new_code(hub, valid_ms=-1)
    assert enrol(hub, node, late.secret).code == "E_CODE_EXPIRED"
    assert hub.value("SELECT count(*) FROM node WHERE node = %s", node.node) == 0


def test_an_enrolment_that_was_altered_is_refused(hub: ServedHub) -> None:
    node, code = BareNode(hub.world.vault, FacilityCode("HWC1")), new_code(hub)
    request = node.enrolment(code.secret)
    for at in range(0, len(request), 41):
        assert is_refusal(hub.ask("POST", "/v1/enrol", flipped(request, at)))
        assert is_refusal(hub.ask("POST", "/v1/enrol", request[:at]))
    assert hub.value("SELECT used_by FROM enrolment_code WHERE code_hash = %s", keys.code_hash(code.secret)) is None
    assert enrol(hub, node, code.secret).status == 200
