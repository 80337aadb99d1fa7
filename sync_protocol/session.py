"""The exchange, both halves side by side: one request, one response, no session kept (PROTOCOL.md §9).

Sans-IO: bytes go in, events come out, and the caller does what they say with its store and its network. The node's
half makes a request and reads the answer; the hub's half reads a request and makes the answer.

    node                                  hub
    HELLO, GRANT*, SEGMENT*, CHUNK*  →    keeps each segment as it arrives, reads to the end
                                     ←    HEADS, NOTICE*, GRANT*, FEED* or AHEAD*

Checks come before effects: the form, the sender, the signature; only then an event. Events of one side are the only
way anything of the other side gets in.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sync_protocol import envelope, wire
from sync_protocol.change import NodeId
from sync_protocol.envelope import Envelope, EnvelopeId
from sync_protocol.errors import HealthSyncError, Malformed, NotOurAnswer, Truncated, UnknownSender
from sync_protocol.feed_page import Cursor
from sync_protocol.keys import EnvironmentId, Identity, Verifier
from sync_protocol.wire import Frame, FrameReader, FrameType, Heads, Hello, Notice

HELLO_HASH_BYTES: Final = 16


def hello_hash(payload: bytes) -> bytes:
    """What HEADS repeats, so that an answer belongs to its request."""
    return hashlib.sha256(b"health-sync/1 hello\x00" + payload).digest()[:HELLO_HASH_BYTES]


# -- the node's half ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node brings to an exchange. hub_signing_key: from the hub's verified key list."""

    environment: EnvironmentId
    node: NodeId
    identity: Identity
    hub: NodeId
    hub_verifier: Verifier
    cursor: Cursor
    nonce: bytes = b""
    awaiting: tuple[EnvelopeId, ...] = ()
    hub_grant: bytes = b""
    max_answer_bytes: int = 0
    wall_ms: int = 0
    hlc: int = 0
    ahead: bytes = b""


@dataclass(frozen=True, slots=True)
class HeadsArrived:
    heads: Heads


@dataclass(frozen=True, slots=True)
class NoticeArrived:
    notice: Notice


@dataclass(frozen=True, slots=True)
class GrantArrived:
    """A GRANT frame's payload, signed by its maker; its opening is the receiver's affair (`keys.open_grant`)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class PageArrived:
    """A FEED frame's envelope, signed by the hub; `feed_page.open_` reads it."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class AheadArrived:
    """An AHEAD frame's envelope, signed by the hub; `ahead_page.open_` reads it."""

    envelope: Envelope


NodeEvent = HeadsArrived | NoticeArrived | GrantArrived | PageArrived | AheadArrived


class NodeSession:
    """One exchange seen from the node. Make `request`, send it, give what comes back to `read`, then `finish`."""

    def __init__(self, view: NodeView, hello: bytes | None = None) -> None:
        """hello: the payload of one that this node signed before, whose answer is read only now (PROTOCOL.md §9.6)."""
        self._view = view
        self._hello = wire.Frame(FrameType.HELLO, hello) if hello is not None else self._signed(view)
        self._hash = hello_hash(self._hello.payload)
        self._reader = FrameReader()
        self._heads: Heads | None = None

    @staticmethod
    def _signed(view: NodeView) -> Frame:
        return wire.sign(
            Hello(
                wire.PROTOCOL_VERSION,
                view.environment,
                view.node,
                wire.feed_place(view.cursor.position, view.cursor.hash),
                view.nonce,
                b"".join(view.awaiting[: wire.MAX_AWAITING]),
                view.hub_grant,
                view.max_answer_bytes,
                view.wall_ms,
                view.hlc,
                view.ahead,
            ),
            view.identity,
            view.environment,
        )

    @property
    def hello(self) -> bytes:
        """The HELLO's payload, as it was signed."""
        return self._hello.payload

    def request(self, grants: Iterable[bytes] = (), segments: Iterable[bytes] = ()) -> list[bytes]:
        """The request as pieces, each a whole frame: a cut between pieces loses nothing that was sent."""
        pieces = [wire.PREAMBLE + wire.encode(self._hello)]
        pieces += [wire.encode(Frame(FrameType.GRANT, payload)) for payload in grants]
        pieces += [wire.encode(Frame(FrameType.SEGMENT, raw)) for raw in segments]
        return pieces

    def read(self, arrived: bytes) -> list[NodeEvent]:
        """Events, verified. Raises NotOurAnswer, BadSignature, TooLarge or Malformed: then nothing more is read."""
        return [event for frame in self._reader.feed(arrived) if (event := self._event(frame)) is not None]

    def finish(self) -> Heads:
        """Raise Truncated unless the answer came whole, which is when HEADS was read and no frame is half there."""
        self._reader.finish()
        if self._heads is None:
            raise Truncated("the answer ended before the hub's heads")
        return self._heads

    def _event(self, frame: Frame) -> NodeEvent | None:
        view = self._view
        if frame.type == FrameType.HEADS:
            heads = wire.verify_signed(frame.payload, Heads, view.hub_verifier, view.environment)
            if not hmac.compare_digest(heads.hello_hash, self._hash):
                raise NotOurAnswer("the hub's answer is to another request")
            self._heads = heads
            return HeadsArrived(heads)
        if self._heads is None:
            raise NotOurAnswer("the answer does not start with the hub's heads")
        if frame.type == FrameType.NOTICE:
            notice = wire.verify_signed(frame.payload, Notice, view.hub_verifier, view.environment)
            if not hmac.compare_digest(notice.hello_hash, self._hash):
                raise NotOurAnswer("a notice is to another request")
            return NoticeArrived(notice)
        if frame.type == FrameType.GRANT:
            return GrantArrived(frame.payload)
        if frame.type == FrameType.FEED:
            return PageArrived(self._page(frame))
        if frame.type == FrameType.AHEAD:
            return AheadArrived(self._page(frame))
        return None

    def _page(self, frame: Frame) -> Envelope:
        sealed = envelope.parse(frame.payload)
        if sealed.header.sender != self._view.hub:
            raise UnknownSender("a page of the feed is not from the hub")
        envelope.verify(sealed, self._view.hub_verifier, self._view.environment)
        return sealed


# -- the hub's half ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HelloArrived:
    """Somebody claims to be this node; `HubSession.identify` decides."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class SegmentArrived:
    """A segment whose signature holds: keep it."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class SegmentRefused:
    """A segment that is not kept, since nobody enrolled signed it. id: 8 bytes of what came."""

    id: EnvelopeId
    error: HealthSyncError


@dataclass(frozen=True, slots=True)
class HubGrantArrived:
    """A GRANT frame's payload; `keys.open_grant` verifies its maker."""

    payload: bytes


HubEvent = HelloArrived | SegmentArrived | SegmentRefused | HubGrantArrived


@dataclass(slots=True)
class HubSession:
    """One exchange seen from the hub. Give what comes to `read`; after `HelloArrived`, say who it is by `identify`."""

    environment: EnvironmentId
    _reader: FrameReader = field(default_factory=FrameReader)
    _hello: Hello | None = None
    _hello_payload: bytes = b""
    _sender: Verifier | None = None
    _waiting: list[Frame] = field(default_factory=list)

    @property
    def hash(self) -> bytes:
        return hello_hash(self._hello_payload)

    def read(self, arrived: bytes) -> list[HubEvent]:
        """Events. Raises NotOurAnswer, BadSignature, TooLarge or Malformed: then nothing more is read."""
        self._waiting += self._reader.feed(arrived)
        return self._drain()

    def identify(self, sender: Verifier) -> list[HubEvent]:
        """Verify HELLO with the key of the node that it names, then whatever came behind it. Raises BadSignature."""
        wire.verify_signed(self._hello_payload, Hello, sender, self.environment)
        self._sender = sender
        return self._drain()

    def finish(self) -> None:
        """Raise Truncated if the stream broke off inside a frame, or before HELLO."""
        self._reader.finish()
        if self._hello is None:
            raise Truncated("the request ended before its hello")

    def _drain(self) -> list[HubEvent]:
        events: list[HubEvent] = []
        while self._waiting and (self._hello is None or self._sender is not None):
            event = self._event(self._waiting.pop(0))
            if event is not None:
                events.append(event)
        return events

    def _event(self, frame: Frame) -> HubEvent | None:
        if self._hello is None:
            if frame.type != FrameType.HELLO:
                raise Malformed("a request does not start with a hello")
            hello = wire.read_signed(frame.payload, Hello)
            if not hmac.compare_digest(hello.environment, self.environment):
                raise UnknownSender("the node belongs to another environment", code="E_OTHER_ENVIRONMENT")
            self._hello, self._hello_payload = hello, frame.payload
            return HelloArrived(hello)
        if frame.type == FrameType.GRANT:
            return HubGrantArrived(frame.payload)
        if frame.type == FrameType.SEGMENT and self._sender is not None:
            return self._segment(frame.payload, self._sender, self._hello)
        return None

    def _segment(self, raw: bytes, sender: Verifier, hello: Hello) -> SegmentArrived | SegmentRefused:
        try:
            sealed = envelope.parse(raw)
            if sealed.header.sender != hello.node:
                raise UnknownSender("a segment is signed by another node than the one that brings it")
            envelope.verify(sealed, sender, self.environment)
        except HealthSyncError as error:
            return SegmentRefused(envelope.envelope_id(raw), error)
        return SegmentArrived(sealed)

    def answer(
        self,
        heads: Heads,
        signer: Identity,
        *,
        notices: Sequence[Notice] = (),
        grants: Sequence[bytes] = (),
        pages: Sequence[Envelope] = (),
        ahead: Sequence[Envelope] = (),
    ) -> bytes:
        """The answer's bytes, which more frames of pages may follow. ``heads.hello_hash`` and the notices' are set here."""
        parts = [wire.PREAMBLE]
        bound = Heads(**{name: getattr(heads, name) for name in heads.__struct_fields__} | {"hello_hash": self.hash})
        parts.append(wire.encode(wire.sign(bound, signer, self.environment)))
        for notice in notices:
            told = Notice(notice.kind, self.hash, notice.subject, notice.indexes, notice.reason, notice.position)
            parts.append(wire.encode(wire.sign(told, signer, self.environment)))
        parts += [wire.encode(Frame(FrameType.GRANT, payload)) for payload in grants]
        parts += map(feed_frame, pages)
        parts += map(ahead_frame, ahead)
        return b"".join(parts)


def feed_frame(page: Envelope) -> bytes:
    """A page of the feed, as it stands in an answer."""
    return wire.encode(Frame(FrameType.FEED, page.raw))


def ahead_frame(page: Envelope) -> bytes:
    """A page ahead of the feed, as it stands in an answer."""
    return wire.encode(Frame(FrameType.AHEAD, page.raw))
