"""A simulated hub: keeps, admits, numbers and answers, with the real protocol code over a disk of dictionaries.

The rules are those of DESIGN §5. Each segment is committed as it arrives and never refused for its content. Admission
opens it, checks each row, and gives positions in dense feeds; what cannot be read or may not be written waits in
quarantine and blocks nothing. A receipt is given once. A change stands in the feed of the facility that sent it and in
those that are subscribed to its patient.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from sync_protocol import envelope, feed_page, hlc, keys, merge, replica, segment, subscription, wire
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, FacilityCode, NodeId, PatientId, PersonId, RecordKey
from sync_protocol.envelope import Envelope, EnvelopeId
from sync_protocol.errors import HealthSyncError, Malformed, MissingGrant, UnknownSender
from sync_protocol.feed_page import FIRST_HASH, TAG_BYTES, Cursor, Item, Position, Reference
from sync_protocol.hlc import Hlc
from sync_protocol.keys import Grant, GrantId
from sync_protocol.merge import Held, Record
from sync_protocol.schema import Writer
from sync_protocol.segment import Voucher
from sync_protocol.session import HelloArrived, HubEvent, HubGrantArrived, HubSession, SegmentArrived, SegmentRefused
from sync_protocol.wire import Heads, Hello, Notice, NoticeKind
from tests.simulated_disk import ENVIRONMENT, HUB, Fault, Power, identity, recipient, simulated_seal

HUB_KEY: Final = 0
TAG_KEY: Final = b"outside of the database"
_ORIGINS: Final = list(Writer)
DOCTOR: Final = PersonId(b"a hub doctor....")


class State(Enum):
    KEPT = "kept"
    ADMITTED = "admitted"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Kept:
    """A segment on the hub's disk. changes: by row, None for a bad one; bad: row → reason."""

    sealed: Envelope
    node: NodeId
    receipt_ms: int
    state: State = State.KEPT
    reason: str = ""
    changes: tuple[ChangeId | None, ...] = ()
    bad: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Feed:
    """Dense: item n, a change and its receipt, stands at position n + 1. hashes[n] is the running hash at position n.

    known: change → its earliest receipt here. A change stands here again only with an earlier one (PROTOCOL.md §10.2).
    """

    items: list[tuple[ChangeId, int]] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=lambda: [FIRST_HASH])
    known: dict[ChangeId, int] = field(default_factory=dict)

    def copied(self) -> Feed:
        return Feed([*self.items], [*self.hashes], {**self.known})


@dataclass(frozen=True, slots=True)
class Enrolled:
    number: int
    facility: FacilityCode
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """What the ledger, outside of the database, says: a node is enrolled, or revoked; a facility is subscribed or not."""

    word: str
    node: NodeId = NodeId(b"")  # noqa: RUF009  # bytes
    number: int = 0
    facility: FacilityCode = FacilityCode("")  # noqa: RUF009  # text
    patient: PatientId = PatientId(b"")  # noqa: RUF009  # bytes
    home: FacilityCode = FacilityCode("")  # noqa: RUF009  # text


@dataclass(slots=True)
class HubDisk:
    segments: dict[EnvelopeId, Kept] = field(default_factory=dict)
    grants: dict[GrantId, Grant] = field(default_factory=dict)
    made: dict[NodeId, tuple[Grant, bytes]] = field(default_factory=dict)
    held: dict[ChangeId, Held] = field(default_factory=dict)
    records: dict[RecordKey, list[ChangeId]] = field(default_factory=dict)
    feeds: dict[FacilityCode, Feed] = field(default_factory=dict)
    subscribed: dict[PatientId, list[FacilityCode]] = field(default_factory=dict)
    nodes: dict[NodeId, Enrolled] = field(default_factory=dict)
    hlc: Hlc = Hlc(0)  # noqa: RUF009  # an integer
    ledger: int = 0  # how many of the ledger's lines this database knows

    def copied(self) -> HubDisk:
        """A backup of it. Its values are never altered, so only the containers are copied."""
        return HubDisk(
            {**self.segments},
            {**self.grants},
            {**self.made},
            {**self.held},
            {key: [*names] for key, names in self.records.items()},
            {code: feed.copied() for code, feed in self.feeds.items()},
            {patient: [*codes] for patient, codes in self.subscribed.items()},
            {**self.nodes},
            self.hlc,
            self.ledger,
        )


def tag_of(name: ChangeId, origin: Writer, receipt_ms: int) -> bytes:
    """What only the hub can say of a change, its origin and its receipt."""
    text = name + origin.value.encode() + receipt_ms.to_bytes(8, "big")
    return hmac.digest(TAG_KEY, text, hashlib.sha256)[:TAG_BYTES]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A change on its way into the feeds. sender: the facility whose node brought it. vouched: by the hub's own tag."""

    held: Held
    sender: FacilityCode
    vouched: bool

    @property
    def receipt_ms(self) -> int:
        assert self.held.receipt_ms is not None
        return self.held.receipt_ms


@dataclass(slots=True)
class Hub:
    """mistaken: fields that a faulty check of this hub refuses. unreadable: changes that a faulty codec cannot read.

    ledger: what is not in the database's backups. ever: who was ever subscribed, for the world's checks.
    """

    chance: random.Random
    power: Power
    fault: Fault | None = None
    disk: HubDisk = field(default_factory=HubDisk)
    now_ms: int = 0
    mistaken: bool = False
    unreadable: set[ChangeId] = field(default_factory=set)
    unsaved: list[Envelope] = field(default_factory=list)
    ledger: list[Line] = field(default_factory=list)
    ever: set[tuple[PatientId, FacilityCode]] = field(default_factory=set)

    def enrol(self, number: int, node: NodeId, facility: FacilityCode) -> None:
        self._note(Line("enrolled", node, number, facility))

    def revoke(self, node: NodeId) -> None:
        self._note(Line("revoked", node))

    def subscribe(self, patient: PatientId, facility: FacilityCode) -> None:
        """The facility asks for a patient: the whole history joins its feed."""
        subscribed = self.disk.subscribed.get(patient, [])
        if subscribed and facility not in subscribed:
            self._note(Line("subscribed", facility=facility, patient=patient, home=subscribed[0]))

    def unsubscribe(self, patient: PatientId, facility: FacilityCode) -> None:
        """What stands in its feed stays; nothing new joins it. The first that was subscribed is its home."""
        if facility in self.disk.subscribed.get(patient, ())[1:]:
            self._note(Line("unsubscribed", facility=facility, patient=patient))

    # -- the ledger ----------------------------------------------------------------------------------------------------

    def _note(self, line: Line) -> None:
        """A line is durable before the database commits what it says."""
        self.ledger.append(line)
        self.power.commit(self.replay)

    def replay(self) -> None:
        """Learn what the ledger says and this database does not know. Repeating a line changes nothing."""
        for line in self.ledger[self.disk.ledger :]:
            if line.word == "enrolled":
                self.disk.nodes.setdefault(line.node, Enrolled(line.number, line.facility))
                self.disk.feeds.setdefault(line.facility, Feed())
            elif line.word == "revoked":
                self.disk.nodes[line.node] = replace(self.disk.nodes[line.node], revoked=True)
            elif line.word == "subscribed":
                self._subscribe(line.patient, line.home)  # the patient itself may be lost, until a node brings it
                self._subscribe(line.patient, line.facility)
            elif line.facility in self.disk.subscribed.get(line.patient, ())[1:]:
                self.disk.subscribed[line.patient].remove(line.facility)
        self.disk.ledger = len(self.ledger)

    def put_back(self, backup: HubDisk) -> None:
        """The database is what it was; keys and ledger are not part of it."""
        self.disk = backup.copied()
        if self.fault is Fault.NO_LEDGER:
            self.disk.ledger = len(self.ledger)
        self.restart()

    # -- keeping -------------------------------------------------------------------------------------------------------

    def exchange(self, pieces: Iterable[bytes]) -> bytes:
        """Keep what comes, and answer. Raises HealthSyncError where nothing, or no more, of the request is taken."""
        session = HubSession(ENVIRONMENT)
        hello: Hello | None = None
        seen: list[EnvelopeId] = []
        notices: list[Notice] = []
        for piece in pieces:
            events = session.read(piece)
            for event in events:
                if isinstance(event, HelloArrived):
                    hello = event.hello
                    enrolled = self._enrolled(hello)
                    events = session.identify(identity(enrolled.number).verifier)
            for event in events:
                if hello is not None:
                    self._take(hello, event, seen, notices)
        session.finish()
        assert hello is not None
        return self._answer(session, hello, seen, notices)

    def restart(self) -> None:
        """What a power cut leaves of memory: nothing. Before anything is served the ledger is read."""
        self.unsaved.clear()
        self.replay()

    def _enrolled(self, hello: Hello) -> Enrolled:
        enrolled = self.disk.nodes.get(wire.node_of(hello))
        if enrolled is None:
            raise UnknownSender("no such node")
        return enrolled

    def _take(self, hello: Hello, event: HubEvent, seen: list[EnvelopeId], notices: list[Notice]) -> None:
        if isinstance(event, SegmentArrived):
            seen.append(event.envelope.id)
            if self.fault is Fault.ACKNOWLEDGES_FIRST:
                self.unsaved.append(event.envelope)
            else:
                self._keep(wire.node_of(hello), event.envelope)
        elif isinstance(event, SegmentRefused):
            notices.append(Notice(NoticeKind.REFUSED, b"", event.id, [], event.error.code))
        elif isinstance(event, HubGrantArrived):
            self._grant(hello, event.payload)

    def _keep(self, node: NodeId, sealed: Envelope) -> None:
        if sealed.id in self.disk.segments:
            return  # already held
        kept = Kept(sealed, node, self.now_ms)
        if self.disk.nodes[node].revoked:
            kept = replace(kept, state=State.QUARANTINED, reason="E_REVOKED")
        self.power.commit(lambda: self.disk.segments.update({sealed.id: kept}))

    def _grant(self, hello: Hello, payload: bytes) -> None:
        maker = identity(self._enrolled(hello).number).verifier
        grant = keys.open_grant(payload, maker, recipient(HUB_KEY), ENVIRONMENT)
        if grant.id not in self.disk.grants:
            self.power.commit(lambda: self.disk.grants.update({grant.id: grant}))

    # -- admitting -----------------------------------------------------------------------------------------------------

    def admit(self, most: int | None = None) -> None:
        """Admit what is kept, in order of arrival; what waits for its grant goes on waiting."""
        while self.unsaved:
            late = self.unsaved.pop(0)
            self._keep(late.header.sender, late)
        waiting = [name for name, kept in self.disk.segments.items() if kept.state is State.KEPT]
        for name in waiting[:most]:
            self._admit_one(name)

    def release(self) -> None:
        """A person, or a mended program, has the quarantine looked at again."""
        for name, kept in list(self.disk.segments.items()):
            if (kept.state is State.QUARANTINED or kept.bad) and kept.reason != "E_REVOKED":
                self._admit_one(name)

    def _admit_one(self, name: EnvelopeId) -> None:
        kept = self.disk.segments[name]
        try:
            contents = segment.unpack(kept.sealed, self.disk.grants.get(kept.sealed.header.grant))
            if any(isinstance(one, Change) and one.id in self.unreadable for one in contents.outcomes):
                raise Malformed("this hub's program cannot read it yet")
        except MissingGrant:
            return
        except HealthSyncError as error:
            code = error.code
            verdict = Kept(kept.sealed, kept.node, kept.receipt_ms, State.QUARANTINED, code)
            self.power.commit(lambda: self.disk.segments.update({name: verdict}))
            return
        facility = self.disk.nodes[kept.node].facility
        good: list[Arrival] = []
        bad: dict[int, str] = {}
        rows: list[ChangeId | None] = []
        for row, outcome in enumerate(contents.outcomes):
            held = self._vouched(outcome, contents.vouchers.get(row))
            reason = outcome.code if isinstance(outcome, HealthSyncError) else ""
            if isinstance(outcome, Change) and held is None:
                reason = self._problem(outcome, kept.node)
            if isinstance(outcome, Change) and not reason:
                good.append(Arrival(held or Held(outcome, kept.receipt_ms, Writer.CENTRE), facility, held is not None))
                rows.append(outcome.id)
            else:
                bad[row] = reason
                rows.append(None)
        admitted = Kept(kept.sealed, kept.node, kept.receipt_ms, State.ADMITTED, "", tuple(rows), bad)

        def apply() -> None:
            self.disk.segments[name] = admitted
            self._store(good)

        self.power.commit(apply)

    def _problem(self, change: Change, node: NodeId) -> str:
        if change.node != node:
            return "E_NOT_ITS_OWN"
        if not replica.allowed(change, Writer.CENTRE):
            return "E_NOT_ALLOWED"
        if self.mistaken and "later_field" in change.writes:
            return "E_INVALID_VALUE"
        return ""

    @staticmethod
    def _vouched(outcome: Change | HealthSyncError, voucher: Voucher | None) -> Held | None:
        """The change with the origin and the receipt that this hub once gave it, if the tag is its own."""
        if not isinstance(outcome, Change) or voucher is None:
            return None
        origin = _ORIGINS[voucher.origin]
        holds = hmac.compare_digest(tag_of(outcome.id, origin, voucher.receipt_ms), voucher.tag)
        return Held(outcome, voucher.receipt_ms, origin) if holds else None

    def _store(self, arrived: Sequence[Arrival]) -> None:
        """Within a commit: keep what is new, and number it in every feed that it belongs to."""
        disk = self.disk
        for one in arrived:
            change = one.held.change
            if subscription.registers(change) or not disk.subscribed.get(change.patient):
                self._subscribe(change.patient, change.facility)
            disk.records.setdefault(change.key, [])
            if change.id not in disk.held:
                disk.records[change.key].append(change.id)
            feeds = dict.fromkeys((one.sender, change.facility, *disk.subscribed[change.patient]))
            told = [receipt for code in feeds if (receipt := disk.feeds[code].known.get(change.id)) is not None]
            counts = one.vouched and self.fault is not Fault.FIRST_RECEIPT_STAYS
            receipt = min((*told, one.receipt_ms) if counts or not told else told)
            before = disk.held.get(change.id)
            if before is None or receipt < (before.receipt_ms or 0) or self.fault is Fault.LATEST_RECEIPT:
                disk.held[change.id] = Held(change, receipt, one.held.origin)
            if self.fault is Fault.LATEST_RECEIPT and told:
                for code in feeds:
                    disk.feeds[code].known[change.id] = one.receipt_ms
            for code in feeds:
                self._append(code, change.id, receipt)

    def _append(self, facility: FacilityCode, name: ChangeId, receipt_ms: int) -> None:
        """What the feed lacks, or has with a later receipt."""
        feed = self.disk.feeds[facility]
        if receipt_ms < feed.known.get(name, receipt_ms + 1):
            feed.known[name] = receipt_ms
            feed.items.append((name, receipt_ms))
            tag = tag_of(name, self.disk.held[name].origin, receipt_ms)
            feed.hashes.append(feed_page.next_hash(feed.hashes[-1], tag))

    def _subscribe(self, patient: PatientId, facility: FacilityCode) -> None:
        subscribed = self.disk.subscribed.setdefault(patient, [])
        if facility in subscribed:
            return
        subscribed.append(facility)
        self.ever.add((patient, facility))
        for name, held in self.disk.held.items():
            if held.change.patient == patient and held.receipt_ms is not None:
                self._append(facility, name, held.receipt_ms)

    # -- the doctor ----------------------------------------------------------------------------------------------------

    def record(self, key: RecordKey) -> Record:
        return merge.fold(key, (self.disk.held[name] for name in self.disk.records.get(key, ())))

    def doctor_writes(
        self, key: RecordKey, referral: Change, writes: dict[str, Value], shown: dict[str, tuple[ChangeId, ...]]
    ) -> Change:
        """A doctor's claim, reply or message: it goes to the referral's facility."""
        stamp = hlc.tick(self.disk.hlc, self.now_ms, self.now_ms)
        salt = hashlib.sha256(referral.patient).digest()[:16]
        by = replica.Author(Writer.DOCTOR, referral.facility, HUB, DOCTOR, stamp, self.now_ms, salt)
        change = replica.author(by, key, referral.patient, writes, shown, existing=self.record(key))

        def apply() -> None:
            self.disk.hlc = stamp
            self._store([Arrival(Held(change, self.now_ms, Writer.DOCTOR), referral.facility, False)])

        self.power.commit(apply)
        return change

    # -- answering -----------------------------------------------------------------------------------------------------

    def _answer(self, session: HubSession, hello: Hello, seen: list[EnvelopeId], notices: list[Notice]) -> bytes:
        node = wire.node_of(hello)
        enrolled, disk = self._enrolled(hello), self.disk
        feed = disk.feeds[enrolled.facility]
        asked = list(dict.fromkeys([*seen, *hello.awaited]))
        known = {name: disk.segments[name] for name in asked if name in disk.segments}
        held = [*known]
        if self.fault is Fault.ACKNOWLEDGES_FIRST:
            held = [name for name in asked if name in known or name in seen]
        heads = Heads(
            wire.PROTOCOL_VERSION,
            b"",
            b"".join(held),
            b"".join(name for name, kept in known.items() if kept.state is State.ADMITTED),
            wire.feed_place(len(feed.items), feed.hashes[-1]),
            self.now_ms,
            self.chance.randbytes(8),
            b"epoch...",
            self._grants_missing(node),
        )
        notices = [*notices, *self._quarantine_notices(known)]
        if enrolled.revoked:
            notices.append(Notice(NoticeKind.REVOKED, b""))
            return session.answer(heads, identity(HUB_KEY), notices=notices)
        on_feed = hello.cursor_position < len(feed.hashes) and feed.hashes[hello.cursor_position] == hello.cursor_hash
        if not on_feed:
            notices.append(Notice(NoticeKind.CURSOR, b"", position=len(feed.items)))
            return session.answer(heads, identity(HUB_KEY), notices=notices)
        grant, frame = self._grant_for(node, enrolled)
        grants = [] if hello.hub_grant == grant.id else [frame]
        rows = {name: (at, row) for at, kept in known.items() for row, name in enumerate(kept.changes) if name}
        pages = self._pages(feed, Cursor(Position(hello.cursor_position), hello.cursor_hash), rows, grant, hello)
        return session.answer(heads, identity(HUB_KEY), notices=notices, grants=grants, pages=pages)

    def _grants_missing(self, node: NodeId) -> list[bytes]:
        wanted = {
            kept.sealed.header.grant: None
            for kept in self.disk.segments.values()
            if kept.node == node and kept.state is State.KEPT and kept.sealed.header.grant not in self.disk.grants
        }
        return list(wanted)

    def _quarantine_notices(self, known: dict[EnvelopeId, Kept]) -> list[Notice]:
        notices = []
        for name, kept in known.items():
            if kept.state is State.QUARANTINED:
                notices.append(Notice(NoticeKind.QUARANTINED, b"", name, [], kept.reason))
            for reason in sorted(set(kept.bad.values())):
                rows = [row for row, why in kept.bad.items() if why == reason]
                notices.append(Notice(NoticeKind.QUARANTINED, b"", name, rows, reason))
        return notices

    def _grant_for(self, node: NodeId, enrolled: Enrolled) -> tuple[Grant, bytes]:
        made = self.disk.made.get(node)
        if made is None:
            grant = Grant(self.chance.randbytes(keys.SECRET_BYTES), keys.TO_NODE, ENVIRONMENT)
            to, own = recipient(enrolled.number).public, identity(HUB_KEY)
            frame = keys.seal_grant(grant, HUB, own, to, keys.ROLE_NODE, self.now_ms, simulated_seal)
            made = (grant, frame)
            self.power.commit(lambda: self.disk.made.update({node: (grant, frame)}))
        return made

    def _pages(
        self,
        feed: Feed,
        cursor: Cursor,
        rows: dict[ChangeId, tuple[EnvelopeId, int]],
        grant: Grant,
        hello: Hello,
    ) -> list[Envelope]:
        pages: list[Envelope] = []
        left = hello.max_answer_bytes
        while cursor.position < len(feed.items) and (left > 0 or not pages):
            names = feed.items[cursor.position : cursor.position + self.chance.randint(1, 40)]
            if self.fault is Fault.SKIPS_A_POSITION and len(names) > 2:
                del names[-2]
            items, after = [], cursor
            for name, receipt_ms in names:
                held = self.disk.held[name]
                tag = tag_of(name, held.origin, receipt_ms)
                after = after.after(tag)
                body = Reference(*rows[name]) if name in rows else held.change
                items.append(Item(after.position, body, receipt_ms, held.origin, tag))
            nonce = self.chance.randbytes(envelope.NONCE_BYTES)
            page = feed_page.seal(cursor, items, grant=grant, sender=HUB, signer=identity(HUB_KEY), nonce=nonce)
            pages.append(page)
            left -= len(page.raw)
            cursor = after
        return pages
