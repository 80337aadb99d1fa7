"""The exchange, both halves wired together in memory: every cut, flip and foreign answer is refused or harmless.

Laws 5, 8 and 9 of DESIGN §9 as far as one exchange goes; the simulator goes further.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import envelope, feed_page, segment, wire
from sync_protocol.change import Change, NodeId
from sync_protocol.envelope import Envelope, EnvelopeId
from sync_protocol.errors import (
    BadSignature,
    HealthSyncError,
    Malformed,
    NotOurAnswer,
    TheirBytes,
    TooLarge,
    Truncated,
    UnknownSender,
)
from sync_protocol.feed_page import Cursor, Item, Position
from sync_protocol.keys import Identity
from sync_protocol.schema import Writer
from sync_protocol.session import (
    GrantArrived,
    HeadsArrived,
    HelloArrived,
    HubEvent,
    HubGrantArrived,
    HubSession,
    NodeEvent,
    NodeSession,
    NodeView,
    NoticeArrived,
    PageArrived,
    SegmentArrived,
    SegmentRefused,
)
from sync_protocol.wire import Frame, FrameType, Heads, Notice, NoticeKind
from tests import strategies
from tests.protocol.test_wire import PORTAL
from tests.strategies import (
    ENVIRONMENT,
    GRANT,
    HUB,
    HUB_GRANT,
    HUB_IDENTITY,
    NODE,
    NODE_IDENTITY,
    NONCE,
    OTHER_ENVIRONMENT,
    OTHER_IDENTITY,
    OTHER_NODE,
    TIME_NOW_MS,
)

HEADS = Heads(1, bytes(16), b"", b"", wire.feed_place(3, b"hash of the feed"), TIME_NOW_MS, b"fresh nonce", b"epoch...")
CHANGES = strategies.batches(3).map(tuple)


def _view(awaiting: tuple[EnvelopeId, ...] = (), nonce: bytes = b"nonce") -> NodeView:
    return NodeView(ENVIRONMENT, NODE, NODE_IDENTITY, HUB, HUB_IDENTITY.verifier, Cursor(), nonce, awaiting)


def _segment(text: bytes = b"inside", sender: NodeId = NODE, signer: Identity = NODE_IDENTITY) -> Envelope:
    header = envelope.Header(2, 0, sender, GRANT.id, len(text), NONCE)
    return envelope.seal(header, text, GRANT, signer)


def _page(signer: Identity = HUB_IDENTITY, sender: NodeId = HUB) -> Envelope:
    item = Item(Position(1), feed_page.Reference(EnvelopeId(b"envelope"), 0), 5, Writer.CENTRE, bytes(8))
    return feed_page.seal(Cursor(), [item], grant=HUB_GRANT, sender=sender, signer=signer, nonce=NONCE)


def _serve(request: Iterable[bytes]) -> tuple[HubSession, list[HubEvent]]:
    """The hub's half of an exchange, up to its answer."""
    session = HubSession(ENVIRONMENT)
    events: list[HubEvent] = []
    for piece in request:
        arrived = session.read(piece)
        events += arrived
        if any(isinstance(event, HelloArrived) for event in arrived):
            events += session.identify(NODE_IDENTITY.verifier)
    session.finish()
    return session, events


def _answer(session: HubSession) -> bytes:
    notices = [Notice(NoticeKind.CURSOR, b"", b"subject", [1], "E_X", 7), Notice(99, b"")]
    return session.answer(HEADS, HUB_IDENTITY, notices=notices, grants=[b"a sealed grant"], pages=[_page()])


def _read(session: NodeSession, answer: bytes, step: int = 1 << 20) -> list[NodeEvent]:
    events = []
    for at in range(0, len(answer), step):
        events += session.read(answer[at : at + step])
    session.finish()
    return events


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
def test_an_exchange_brings_everything_across_in_pieces_of_any_size(step: int) -> None:
    node = NodeSession(_view((EnvelopeId(b"awaited."),)))
    sealed = [_segment(b"one"), _segment(b"two")]
    stream = b"".join(node.request([b"sealed grant"], [one.raw for one in sealed]))
    hub, events = _serve(stream[at : at + step] for at in range(0, len(stream), step))
    hello, *rest = events
    assert isinstance(hello, HelloArrived) and hello.hello.awaited == [b"awaited."] and hello.hello.nonce == b"nonce"
    assert rest == [HubGrantArrived(b"sealed grant"), *[SegmentArrived(one) for one in sealed]]
    arrived = _read(node, _answer(hub), step)
    kinds = [HeadsArrived, NoticeArrived, NoticeArrived, GrantArrived, PageArrived]
    assert [type(event) for event in arrived] == kinds
    assert node.finish().feed_position == 3


def test_a_sync_with_nothing_to_do_is_two_small_frames() -> None:
    node = NodeSession(_view())
    request = b"".join(node.request())
    hub, _ = _serve([request])
    answer = hub.answer(HEADS, HUB_IDENTITY)
    assert len(request) + len(answer) <= 400
    assert len(_read(node, answer)) == 1


def test_a_request_cut_at_every_byte_keeps_exactly_the_segments_that_came_whole() -> None:
    node = NodeSession(_view())
    sealed = [_segment(b"one"), _segment(b"two"), _segment(b"three")]
    pieces = node.request([b"grant"], [one.raw for one in sealed])
    stream = b"".join(pieces)
    for cut in range(len(stream)):
        session = HubSession(ENVIRONMENT)
        events = session.read(stream[:cut])
        if events:
            events += session.identify(NODE_IDENTITY.verifier)
        kept = [event.envelope for event in events if isinstance(event, SegmentArrived)]
        whole = sum(1 for count in range(3) if len(b"".join(pieces[: 3 + count])) <= cut)
        assert kept == sealed[:whole]
        if cut < len(pieces[0]):
            with pytest.raises(Truncated):
                session.finish()


def test_an_answer_cut_at_every_byte_is_known_to_be_cut_or_gives_whole_events() -> None:
    node = NodeSession(_view())
    request = b"".join(node.request())
    answer = _answer(_serve([request])[0])
    whole = _read(node, answer)
    ends = set()
    for cut in range(len(answer)):
        again = NodeSession(_view())
        events = again.read(answer[:cut])
        assert events == whole[: len(events)]
        try:
            again.finish()
            ends.add(cut)
        except Truncated:
            continue
    assert len(ends) == len(whole) - 1, "only a cut between two frames looks like an end"


def test_any_flipped_byte_of_an_answer_is_refused_or_changes_no_event() -> None:
    request = b"".join(NodeSession(_view()).request())
    answer = _answer(_serve([request])[0])
    whole = _read(NodeSession(_view()), answer)
    for at in range(len(answer)):
        flipped = answer[:at] + bytes([answer[at] ^ 0x20]) + answer[at + 1 :]
        events: list[NodeEvent] = []
        try:
            events = _read(NodeSession(_view()), flipped)
        except HealthSyncError:
            continue
        told = [event for event in events if not isinstance(event, GrantArrived)]
        assert all(event in whole for event in told), "a grant is verified where it is opened; all else here"


def test_any_flipped_byte_of_a_request_keeps_no_altered_segment() -> None:
    sealed = _segment(b"one")
    stream = b"".join(NodeSession(_view()).request([], [sealed.raw]))
    for at in range(len(stream)):
        session = HubSession(ENVIRONMENT)
        events: list[HubEvent] = []
        try:
            events = session.read(stream[:at] + bytes([stream[at] ^ 0x20]) + stream[at + 1 :])
            events += session.identify(NODE_IDENTITY.verifier)
        except HealthSyncError:
            continue
        kept = [event for event in events if isinstance(event, SegmentArrived)]
        assert kept in ([], [SegmentArrived(sealed)])


def test_a_bad_segment_never_delays_a_later_one() -> None:
    good = _segment(b"good")
    bad = [
        b"",
        b"short",
        good.raw[:-1],
        good.raw[:-1] + b"\x00",
        _segment(signer=OTHER_IDENTITY).raw,
        _segment(sender=OTHER_NODE, signer=OTHER_IDENTITY).raw,
        b"\xff" * 200,
    ]
    _, events = _serve(NodeSession(_view()).request([], [*bad, good.raw, good.raw]))
    refused = [event for event in events if isinstance(event, SegmentRefused)]
    assert [event.id for event in refused] == [envelope.envelope_id(raw) for raw in bad]
    assert all(isinstance(event.error, TheirBytes) for event in refused)
    assert events[-2:] == [SegmentArrived(good), SegmentArrived(good)]


def test_a_captive_portal_is_no_answer() -> None:
    with pytest.raises(NotOurAnswer):
        NodeSession(_view()).read(PORTAL)
    empty = NodeSession(_view())
    assert empty.read(b"") == []
    with pytest.raises(Truncated):
        empty.finish()


def test_the_answer_to_another_hello_is_refused_before_anything_of_it_counts() -> None:
    hub, _ = _serve(NodeSession(_view(nonce=b"earlier")).request())
    with pytest.raises(NotOurAnswer):
        NodeSession(_view(nonce=b"now")).read(_answer(hub))


def test_an_answer_signed_by_another_hub_or_for_another_environment_is_refused() -> None:
    node = NodeSession(_view())
    hub, _ = _serve(node.request())
    with pytest.raises(BadSignature):
        node.read(hub.answer(HEADS, OTHER_IDENTITY))
    elsewhere = HubSession(OTHER_ENVIRONMENT)
    with pytest.raises(BadSignature):
        NodeSession(_view()).read(elsewhere.answer(HEADS, HUB_IDENTITY))


def test_an_answer_that_does_not_start_with_heads_is_refused() -> None:
    page = wire.encode(Frame(FrameType.FEED, _page().raw))
    with pytest.raises(NotOurAnswer):
        NodeSession(_view()).read(wire.PREAMBLE + page)


def test_a_page_or_notice_of_another_is_refused() -> None:
    for page in (_page(signer=OTHER_IDENTITY), _page(sender=OTHER_NODE)):
        node = NodeSession(_view())
        hub, _ = _serve(node.request())
        with pytest.raises((BadSignature, UnknownSender)):
            node.read(hub.answer(HEADS, HUB_IDENTITY, pages=[page]))
    node = NodeSession(_view())
    hub, _ = _serve(node.request())
    replayed = wire.sign(Notice(NoticeKind.REVOKED, bytes(16)), HUB_IDENTITY, ENVIRONMENT)
    with pytest.raises(NotOurAnswer):
        node.read(hub.answer(HEADS, HUB_IDENTITY) + wire.encode(replayed))


def test_a_hello_must_come_first_and_be_of_this_environment_and_key() -> None:
    with pytest.raises(Malformed):
        HubSession(ENVIRONMENT).read(wire.PREAMBLE + wire.encode(Frame(FrameType.SEGMENT, _segment().raw)))
    request = NodeSession(_view()).request()
    with pytest.raises(UnknownSender) as caught:
        HubSession(OTHER_ENVIRONMENT).read(request[0])
    assert caught.value.code == "E_OTHER_ENVIRONMENT"
    session = HubSession(ENVIRONMENT)
    session.read(request[0])
    with pytest.raises(BadSignature):
        session.identify(OTHER_IDENTITY.verifier)
    assert session.read(wire.encode(Frame(FrameType.SEGMENT, _segment().raw))) == [], "nothing is taken from a stranger"


def test_a_request_without_a_hello_or_not_ours_is_refused() -> None:
    session = HubSession(ENVIRONMENT)
    session.read(wire.PREAMBLE)
    with pytest.raises(Truncated):
        session.finish()
    with pytest.raises(NotOurAnswer):
        HubSession(ENVIRONMENT).read(b"GET / HTTP/1.1\r\n\r\n")


def test_repeating_a_request_gives_the_same_events() -> None:
    request = NodeSession(_view()).request([b"grant"], [_segment().raw])
    assert _serve(request)[1] == _serve(request)[1]


def test_more_awaited_segments_than_a_hello_may_name_are_left_for_later() -> None:
    awaiting = tuple(EnvelopeId(at.to_bytes(8, "big")) for at in range(300))
    _, events = _serve(NodeSession(_view(awaiting)).request())
    assert isinstance(events[0], HelloArrived)
    assert events[0].hello.awaited == list(awaiting[: wire.MAX_AWAITING])


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_to_either_half_raise_nothing_but_our_own(junk: bytes, ours: bool) -> None:
    stream = wire.PREAMBLE + junk if ours else junk
    for read in (HubSession(ENVIRONMENT).read, NodeSession(_view()).read):
        try:
            read(stream)
        except TheirBytes:
            continue


@given(st.lists(st.builds(Frame, st.integers(0, 9), st.binary(max_size=400)), max_size=6))
def test_any_frames_behind_good_heads_raise_nothing_but_our_own(frames: list[Frame]) -> None:
    node = NodeSession(_view())
    hub, _ = _serve(node.request())
    node.read(hub.answer(HEADS, HUB_IDENTITY))
    try:
        events = node.read(b"".join(wire.encode(frame) for frame in frames))
    except TheirBytes:
        return
    assert all(isinstance(event, GrantArrived) for event in events)


def test_frames_that_are_too_large_are_refused_on_both_sides() -> None:
    too_large = b"\x03" + b"\xff\xff\x7f"
    with pytest.raises(TooLarge):
        HubSession(ENVIRONMENT).read(wire.PREAMBLE + too_large)
    with pytest.raises(TooLarge):
        NodeSession(_view()).read(wire.PREAMBLE + too_large)


@given(CHANGES)
def test_changes_cross_a_whole_exchange_unchanged(batch: tuple[Change, ...]) -> None:
    packed = segment.pack(
        batch, 1 << 16, lane=2, grant=GRANT, sender=NODE, signer=NODE_IDENTITY, nonce=NONCE, dictionary=0
    )
    _, events = _serve(NodeSession(_view()).request([], [packed.envelope.raw]))
    assert isinstance(events[-1], SegmentArrived)
    assert segment.unpack(events[-1].envelope, GRANT).outcomes == list(batch)


def test_heads_of_a_later_version_with_more_elements_are_read() -> None:
    node = NodeSession(_view())
    hub, _ = _serve(node.request())
    body = msgspec.msgpack.encode(
        [*msgspec.structs.astuple(msgspec.structs.replace(HEADS, hello_hash=hub.hash)), "2030"]
    )
    frame = Frame(FrameType.HEADS, HUB_IDENTITY.sign("heads", ENVIRONMENT, body) + body)
    assert isinstance(node.read(wire.PREAMBLE + wire.encode(frame))[0], HeadsArrived)
