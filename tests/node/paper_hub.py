"""A hub of plain lists, made of the protocol's real hub half: what a node's store and sync are tested against.

It keeps, admits and answers as the specification says, in memory and in one thread, and can be told to misbehave: to
admit later, to set changes aside, to forget everything since a moment, to break its answers off. Knows no SQL.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import msgspec

from hwc_node.sync import Body, HubOutOfReach
from sync_protocol import envelope, feed_page, keys, replica, segment, session, wire
from sync_protocol.change import Change, ChangeId, FacilityCode, NodeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.envelope import Envelope, EnvelopeId
from sync_protocol.errors import HealthSyncError
from sync_protocol.feed_page import Cursor, Erased, Item, Position, Reference
from sync_protocol.hlc import Hlc
from sync_protocol.keys import EnvironmentId, Grant, HubKeys, Identity, Recipient, Verifier
from sync_protocol.merge import Held
from sync_protocol.schema import Writer
from sync_protocol.session import HubSession
from sync_protocol.wire import Heads, Notice, NoticeKind

NOW_MS = 1_700_000_000_000
_ORIGINS = (Writer.CENTRE, Writer.DOCTOR, Writer.HUB)


@dataclass(frozen=True)
class Entry:
    """One item of the feed, and where it came from. segment and row: as the first sender packed it."""

    held: Held
    tag: bytes
    hash: bytes
    sender: bytes
    segment: bytes
    row: int


@dataclass
class Arrival:
    sender: NodeId
    envelope: Envelope
    admitted: bool = False
    quarantined: str = ""
    bad_rows: dict[int, str] = field(default_factory=dict)


@dataclass
class Member:
    """An enrolled node, as the hub knows it."""

    node: NodeId
    verifier: Verifier
    sealing: keys.RecipientPublic
    grant: Grant
    revoked: bool = False


@dataclass
class PaperHub:
    """admits: at once, or when `admit` is called. judge: the reason to set a change aside, empty for none."""

    environment: EnvironmentId = field(default_factory=lambda: EnvironmentId(os.urandom(16)))
    now_ms: int = NOW_MS
    admits: bool = True
    items_a_page: int = 100
    judge: Callable[[Change], str] = lambda change: ""
    refuses: Callable[[Envelope], str] = lambda sealed: ""
    sends_items: bool = True
    interval_s: int = 0
    keys_serial: int = 0

    def __post_init__(self) -> None:
        self.hub = NodeId(os.urandom(16))
        self.root, self.signing = Identity(os.urandom(32)), Identity(os.urandom(32))
        self.ingest = Recipient(os.urandom(64), os.urandom(32))
        self.recovery = Recipient(os.urandom(64), os.urandom(32))
        self.tag_key, self.epoch = os.urandom(32), os.urandom(8)
        self.members: dict[bytes, Member] = {}
        self.grants: dict[bytes, Grant] = {}
        self.arrivals: dict[bytes, Arrival] = {}
        self.feed: list[Entry] = []
        self.by_change: dict[ChangeId, int] = {}  # its earliest receipt
        self.codes: dict[bytes, tuple[str, bytes | None, bytes]] = {}
        self.erased: set[bytes] = set()
        self.requests = 0
        self.segments_seen: list[EnvelopeId] = []

    # -- enrolment

    def keys_document(self) -> bytes:
        recipients = [
            (keys.ROLE_INGEST, self.ingest.public.public),
            (keys.ROLE_RECOVERY, self.recovery.public.public),
        ]
        document = HubKeys(
            1, self.environment, self.hub, self.root.public, self.signing.public, recipients, 1, self.now_ms
        )
        return keys.sign_document(document, self.root, self.environment)

    def new_code(self, facility: str, url: str) -> str:
        secret = os.urandom(keys.CODE_SECRET_BYTES)
        self.codes[secret] = (facility, None, b"")
        return keys.EnrolmentCode(secret, keys.fingerprint(self.root.public), url).text()

    def enrol(self, sealed: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to an enrolment."""
        raw = self.ingest.open(sealed, b"health-sync/1 enrolment\x00" + self.environment)
        asked, body, signature = keys.read_document(raw, keys.EnrolmentRequest)
        Verifier(asked.signing_key).verify("enrolment", self.environment, body, signature)
        if asked.code_secret not in self.codes:
            return 403, b'{"code": "E_CODE_UNKNOWN", "message": "the hub does not know this code", "next": ""}'
        facility, used_by, certificate = self.codes[asked.code_secret]
        if used_by not in (None, asked.node):
            return 403, b'{"code": "E_CODE_USED", "message": "the code was used already", "next": ""}'
        if used_by is None:
            document = keys.Certificate(
                1,
                self.environment,
                asked.node,
                facility,
                asked.name,
                asked.signing_key,
                asked.sealing_key,
                self.now_ms,
            )
            certificate = keys.sign_document(document, self.root, self.environment)
            self.codes[asked.code_secret] = (facility, asked.node, certificate)
            self.members[asked.node] = Member(
                NodeId(asked.node),
                Verifier(asked.signing_key),
                keys.RecipientPublic(asked.sealing_key),
                Grant(os.urandom(32), keys.TO_NODE, self.environment),
            )
        return 200, msgspec.msgpack.encode([certificate, self.keys_document(), [], f"Centre {facility}"])

    # -- the feed

    def publish(self, change: Change, origin: Writer, *, receipt_ms: int | None = None) -> None:
        """Put a change of the hub's side, or of another node, on the feed."""
        self._append(Held(change, self.now_ms if receipt_ms is None else receipt_ms, origin), b"", b"", 0)

    def _append(self, held: Held, sender: bytes, name: bytes, row: int) -> None:
        if held.receipt_ms is None or held.receipt_ms >= self.by_change.get(held.change.id, held.receipt_ms + 1):
            return
        tag = self.tag(held.change.id, held.origin, held.receipt_ms)
        before = self.feed[-1].hash if self.feed else feed_page.FIRST_HASH
        self.by_change[held.change.id] = held.receipt_ms
        self.feed.append(Entry(held, tag, feed_page.next_hash(before, tag), sender, name, row))

    def tag(self, change: ChangeId, origin: Writer, receipt_ms: int) -> bytes:
        message = change + bytes([_ORIGINS.index(origin)]) + receipt_ms.to_bytes(8, "big")
        return hmac.digest(self.tag_key, message, hashlib.sha256)[: feed_page.TAG_BYTES]

    def admit(self) -> None:
        for name, arrival in self.arrivals.items():
            if arrival.admitted or arrival.quarantined or arrival.envelope.header.grant not in self.grants:
                continue
            self._admit(name, arrival)

    def _admit(self, name: bytes, arrival: Arrival) -> None:
        try:
            contents = segment.unpack(arrival.envelope, self.grants[arrival.envelope.header.grant])
        except HealthSyncError as error:
            arrival.quarantined = error.code
            return
        for row, change in enumerate(contents.outcomes):
            if not isinstance(change, Change):
                arrival.bad_rows[row] = change.code
                continue
            origin, receipt_ms = Writer.CENTRE, self.now_ms
            voucher = contents.vouchers.get(row)
            if voucher and voucher.tag == self.tag(change.id, _ORIGINS[voucher.origin], voucher.receipt_ms):
                origin, receipt_ms = _ORIGINS[voucher.origin], voucher.receipt_ms
            why = self.judge(change) or ("" if replica.allowed(change, origin) else "E_NOT_ALLOWED")
            if why:
                arrival.bad_rows[row] = why
            else:
                self._append(Held(change, receipt_ms, origin), arrival.sender, name, row)
        arrival.admitted = True

    def release(self) -> None:
        """A person admits what was set aside."""
        self.judge = lambda change: ""
        for name, arrival in self.arrivals.items():
            if arrival.bad_rows:
                arrival.bad_rows.clear()
                self._admit(name, arrival)

    def restore(self, length: int) -> None:
        """Be a hub put back from a backup: the feed ends at that position, and nothing that came later is known."""
        self.feed = self.feed[:length]
        self.by_change = {entry.held.change.id: entry.held.receipt_ms or 0 for entry in self.feed}
        self.arrivals.clear()
        self.epoch = os.urandom(8)

    def erase(self, patient: bytes) -> None:
        """Forget what a patient's changes say, and order the nodes to."""
        self.erased.add(patient)
        name = os.urandom(16)
        by = replica.Author(Writer.HUB, FacilityCode("HWC000001"), self.hub, PersonId(self.hub), Hlc(1), 0, b"s" * 16)
        key = RecordKey("erasure", RecordId(name))
        self.publish(replica.author(by, key, PatientId(name), {"erased": patient}), Writer.HUB)

    @property
    def digest(self) -> int:
        """Of all records on the feed, by joining them one after the other."""
        from_feed: dict[object, list[Held]] = {}
        for entry in self.feed:
            if entry.held.change.patient in self.erased:
                continue
            from_feed.setdefault(entry.held.change.key, []).append(entry.held)
        joined = [one for items in from_feed.values() for one in replica.receive({}, items)]
        return sum(one.digest_delta for one in joined) % (1 << 128)

    # -- the exchange

    def answer(self, request: bytes) -> bytes:
        """The answer to a whole request, or to one that broke off: what came whole was kept before this raises."""
        self.requests += 1
        hub = HubSession(self.environment)
        hello: wire.Hello | None = None
        member: Member | None = None
        received: list[EnvelopeId] = []
        refused: list[tuple[EnvelopeId, str]] = []
        events = hub.read(request)
        while events:
            event = events.pop(0)
            if isinstance(event, session.HelloArrived):
                hello, member = event.hello, self.members[event.hello.node]
                events = hub.identify(member.verifier) + events
            elif isinstance(event, session.SegmentArrived) and member is not None:
                self.segments_seen.append(event.envelope.id)
                why = self.refuses(event.envelope)
                if why:
                    refused.append((event.envelope.id, why))
                    continue
                received.append(event.envelope.id)
                self.arrivals.setdefault(event.envelope.id, Arrival(member.node, event.envelope))
            elif isinstance(event, session.SegmentRefused):
                refused.append((event.id, event.error.code))
            elif isinstance(event, session.HubGrantArrived) and member is not None:
                self._keep_grant(event.payload, member)
        if self.admits:
            self.admit()
        hub.finish()
        assert hello is not None and member is not None
        return self._answer(hub, hello, member, received, refused)

    def _keep_grant(self, payload: bytes, member: Member) -> None:
        frame = keys.verify_document(payload, keys.GrantFrame, member.verifier, self.environment)
        recipient = self.ingest if frame.role == keys.ROLE_INGEST else self.recovery
        grant = keys.open_grant(payload, member.verifier, recipient, self.environment)
        self.grants[grant.id] = grant

    def _answer(
        self,
        hub: HubSession,
        hello: wire.Hello,
        member: Member,
        received: list[EnvelopeId],
        refused: list[tuple[EnvelopeId, str]],
    ) -> bytes:
        named = [*received, *hello.awaited]
        known = {name: self.arrivals[name] for name in named if name in self.arrivals}
        notices = [Notice(NoticeKind.REFUSED, b"", name, reason=why) for name, why in refused]
        for name, one in known.items():
            if one.quarantined:
                notices.append(Notice(NoticeKind.QUARANTINED, b"", name, reason=one.quarantined))
            for why in sorted(set(one.bad_rows.values())):
                rows = [row for row, reason in one.bad_rows.items() if reason == why]
                notices.append(Notice(NoticeKind.QUARANTINED, b"", name, rows, why))
        if member.revoked:
            notices.append(Notice(NoticeKind.REVOKED, b"", reason="E_REVOKED"))
        at = hello.cursor_position
        here = feed_page.FIRST_HASH if at == 0 else self.feed[at - 1].hash if at <= len(self.feed) else b""
        pages: list[Envelope] = []
        if here != hello.cursor_hash:
            notices.append(Notice(NoticeKind.CURSOR, b"", reason="E_CURSOR", position=len(self.feed)))
        elif self.sends_items and not member.revoked:
            pages = self._pages(Cursor(Position(at), here), member, set(named), hello.max_answer_bytes)
        missing = {one.envelope.header.grant for one in known.values()} - set(self.grants)
        heads = Heads(
            wire.PROTOCOL_VERSION,
            b"",
            b"".join(name for name, one in known.items() if not one.quarantined),
            b"".join(name for name, one in known.items() if one.admitted),
            wire.feed_place(len(self.feed), self.feed[-1].hash if self.feed else feed_page.FIRST_HASH),
            self.now_ms,
            os.urandom(8),
            self.epoch,
            grants_missing=sorted(missing),
            interval_s=self.interval_s,
            keys_serial=self.keys_serial,
        )
        grants = [] if not pages or hello.hub_grant == member.grant.id else [self._grant_frame(member)]
        return hub.answer(heads, self.signing, notices=notices, grants=grants, pages=pages)

    def _grant_frame(self, member: Member) -> bytes:
        return keys.seal_grant(
            member.grant, self.hub, self.signing, member.sealing, keys.ROLE_NODE, self.now_ms, keys.hpke_seal
        )

    def _pages(self, cursor: Cursor, member: Member, named: set[EnvelopeId], limit_bytes: int) -> list[Envelope]:
        pages: list[Envelope] = []
        while cursor.position < len(self.feed) and sum(len(page.raw) for page in pages) < limit_bytes:
            entries = self.feed[cursor.position : cursor.position + self.items_a_page]
            items = []
            for at, entry in enumerate(entries, cursor.position + 1):
                ours = entry.sender == member.node and entry.segment in named
                body: Change | Reference | Erased = entry.held.change
                if entry.held.change.patient in self.erased:
                    items.append(Item(Position(at), Erased(), 0, Writer.CENTRE, entry.tag))
                    continue
                if ours:
                    body = Reference(EnvelopeId(entry.segment), entry.row)
                receipt_ms = entry.held.receipt_ms or 0
                items.append(Item(Position(at), body, receipt_ms, entry.held.origin, entry.tag))
            pages.append(self.page(cursor, items, member))
            for entry in entries:
                cursor = cursor.after(entry.tag)
        return pages

    def page(self, cursor: Cursor, items: list[Item], member: Member) -> Envelope:
        return feed_page.seal(
            cursor,
            items,
            grant=member.grant,
            sender=self.hub,
            signer=self.signing,
            nonce=os.urandom(envelope.NONCE_BYTES),
        )


@dataclass
class PaperLink:
    """A link to a paper hub in the same program. It breaks where it is told to, once.

    cut_request, cut_answer: after so many bytes. refuses: no connection at all.
    """

    hub: PaperHub
    cut_request: int | None = None
    cut_answer: int | None = None
    refuses: bool = False
    piece_bytes: int = 700
    last_answer: bytes = b""

    @contextmanager
    def post(self, path: str, body: Body) -> Iterator[Iterator[bytes]]:
        assert path == "/v1/sync"
        if self.refuses:
            raise HubOutOfReach("the hub cannot be reached")
        sent = bytearray()
        for piece in body:
            sent += piece
            if self.cut_request is not None and len(sent) > self.cut_request:
                self._answer_to(bytes(sent[: self.cut_request]))
                self.cut_request = None
                raise HubOutOfReach("the link broke", code="E_LINK_BROKE")
        self.last_answer = answer = self.hub.answer(bytes(sent))
        cut, self.cut_answer = self.cut_answer, None
        yield self._pieces(answer if cut is None else answer[:cut])
        if cut is not None and cut < len(answer):
            raise HubOutOfReach("the link broke", code="E_LINK_BROKE")

    def get_document(self, path: str, limit_bytes: int) -> bytes:
        assert path == "/v1/keys"
        return self.hub.keys_document()

    def _answer_to(self, broken: bytes) -> None:
        """The hub keeps what came whole of a request that broke off; nobody hears its answer."""
        with suppress(HealthSyncError, AssertionError):
            self.hub.answer(broken)

    def _pieces(self, answer: bytes) -> Iterator[bytes]:
        for at in range(0, len(answer), self.piece_bytes):
            yield answer[at : at + self.piece_bytes]
