"""A simulated node: the real protocol code over a disk of dictionaries.

The rules are those of DESIGN §5. Pending is every change without a position that is neither set aside nor in a live
envelope. An envelope is packed just before it is sent, and dropped whenever anything is odd. After an answer that was
not read whole the next request is HELLO alone. Data, cursor and acknowledgements move in one commit.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from hwc_node.inbox import thinned
from sync_protocol import envelope, feed_page, hlc, keys, merge, replica, segment
from sync_protocol.canonical import Value
from sync_protocol.change import Change, ChangeId, FacilityCode, NodeId, PatientId, PersonId, RecordKey
from sync_protocol.envelope import Envelope, EnvelopeId
from sync_protocol.errors import HealthSyncError
from sync_protocol.feed_page import Cursor, Erased, Item, Page, Position, Reference
from sync_protocol.hlc import Hlc
from sync_protocol.keys import Grant, GrantId
from sync_protocol.merge import Held, Record
from sync_protocol.schema import Writer
from sync_protocol.segment import Link, Voucher
from sync_protocol.session import (
    GrantArrived,
    HeadsArrived,
    NodeEvent,
    NodeSession,
    NodeView,
    NoticeArrived,
    PageArrived,
)
from sync_protocol.wire import Heads, Notice, NoticeKind, split_ids
from tests.simulated_disk import ENVIRONMENT, HUB, NO_DICTIONARY, Fault, Power, identity, recipient, simulated_seal

MAX_TRIES: Final = 3
COMPANY: Final = (None, 8, 1)  # how many changes share a segment, by how often they were refused
HUB_KEY: Final = 0
RECOVERY_KEY: Final = 1_000
LANES: Final = (segment.LANE_EMERGENCY, segment.LANE_REFERRAL, segment.LANE_REST, segment.LANE_ATTACHMENT)
FIRST_STAMP: Final = Hlc(0)
_ORIGINS: Final = list(Writer)

Shown = Mapping[str, tuple[ChangeId, ...]]


@dataclass(slots=True)
class Stored:
    """An envelope and the changes in it, by row."""

    sealed: Envelope
    changes: tuple[ChangeId, ...]
    held: bool = False


@dataclass(slots=True)
class NodeDisk:
    """What survives a power cut. unplaced: changes without a position, in order of arrival."""

    held: dict[ChangeId, Held] = field(default_factory=dict)
    records: dict[RecordKey, list[ChangeId]] = field(default_factory=dict)
    positions: dict[ChangeId, int] = field(default_factory=dict)
    vouchers: dict[ChangeId, Voucher] = field(default_factory=dict)
    unplaced: dict[ChangeId, None] = field(default_factory=dict)
    aside: dict[ChangeId, str] = field(default_factory=dict)
    attempts: Counter[ChangeId] = field(default_factory=Counter)
    envelopes: dict[EnvelopeId, Stored] = field(default_factory=dict)
    cursor: Cursor = field(default_factory=Cursor)
    nonce: bytes = b""
    hlc: Hlc = FIRST_STAMP
    hub_ms: int = 0
    digests: dict[PatientId, int] = field(default_factory=dict)
    grants: dict[GrantId, bytes] = field(default_factory=dict)  # its own, as sealed frames
    confirmed: set[GrantId] = field(default_factory=set)  # those of them that the hub does not lack
    cursors: list[Cursor] = field(default_factory=list)  # past ones, ever sparser, the newest last
    grant: Grant | None = None
    hub_grants: dict[GrantId, Grant] = field(default_factory=dict)
    hub_grant: bytes = b""
    unread: int = 0

    def copied(self) -> NodeDisk:
        """An image of it. Only containers and envelopes are ever altered."""
        return NodeDisk(
            {**self.held},
            {key: [*names] for key, names in self.records.items()},
            {**self.positions},
            {**self.vouchers},
            {**self.unplaced},
            {**self.aside},
            Counter(self.attempts),
            {name: Stored(one.sealed, one.changes, one.held) for name, one in self.envelopes.items()},
            self.cursor,
            self.nonce,
            self.hlc,
            self.hub_ms,
            {**self.digests},
            {**self.grants},
            {*self.confirmed},
            [*self.cursors],
            self.grant,
            {**self.hub_grants},
            self.hub_grant,
            self.unread,
        )


@dataclass(slots=True)
class Outgoing:
    """A request under way. sent: what its segments are, by id."""

    session: NodeSession
    pieces: list[bytes]
    sent: dict[EnvelopeId, tuple[ChangeId, ...]]
    awaiting: tuple[EnvelopeId, ...]
    grants: tuple[GrantId, ...]
    heads: Heads | None = None


@dataclass(slots=True)
class Node:
    """number: names its keys. flaw: what is wrong with its memory, so that it seals wrongly: "", "seal" or "signature"."""

    number: int
    facility: FacilityCode
    chance: random.Random
    power: Power
    fault: Fault | None = None
    disk: NodeDisk = field(default_factory=NodeDisk)
    alone: bool = True
    link: Link = field(default_factory=Link)
    salts: dict[PatientId, bytes] = field(default_factory=dict)
    flaw: str = ""
    clock_error_ms: int = 0
    revoked: bool = False
    acknowledged: set[EnvelopeId] = field(default_factory=set)  # what this program was told: for the world's checks
    sent_times: Counter[EnvelopeId] = field(default_factory=Counter)
    told: set[ChangeId] = field(default_factory=set)  # what this life told people is saved: for the world's checks

    @property
    def id(self) -> NodeId:
        return NodeId(self.number.to_bytes(16, "big"))

    def restart(self) -> None:
        """What a power cut leaves of memory: nothing."""
        self.alone, self.link, self.salts = True, Link(), {}

    def put_back(self, image: NodeDisk) -> None:
        """The disk is what it was at some time."""
        self.disk = image.copied()
        self.told &= self.disk.held.keys()
        self.acknowledged.clear()
        self.sent_times.clear()
        self.restart()

    def clone(self) -> Node:
        """The same disk in another machine."""
        image = self.disk.copied()
        other = Node(self.number, self.facility, self.chance, Power(self.chance, self.power.cut_chance), self.fault)
        other.disk, other.clock_error_ms, other.revoked = image, self.clock_error_ms, self.revoked
        return other

    # -- people --------------------------------------------------------------------------------------------------------

    def record(self, key: RecordKey) -> Record:
        return merge.fold(key, self._held_of(key))

    def _held_of(self, key: RecordKey) -> list[Held]:
        return [self.disk.held[name] for name in self.disk.records.get(key, ())]

    def form(self, key: RecordKey) -> dict[str, tuple[ChangeId, ...]]:
        """What a person who opens the record is shown: field → names of its live writes."""
        record = self.record(key)
        return {name: shown.names for name in record.fields if (shown := record.shown(name)) is not None}

    def save(
        self, key: RecordKey, patient: PatientId, writes: dict[str, Value], shown: Shown, person: PersonId, now_ms: int
    ) -> Change:
        """Author a change and keep it. Returns when it is durable: only then is the person told."""
        if self.fault is Fault.SUPERSEDES_UNSEEN:
            shown = self.form(key)
        change = replica.author(self.author(patient, person, now_ms), key, patient, writes, shown)
        self.keep_own(change)
        return change

    def author(self, patient: PatientId, person: PersonId, now_ms: int) -> replica.Author:
        stamp = hlc.tick(self.disk.hlc, now_ms + self.clock_error_ms, self.disk.hub_ms)
        if patient not in self.salts:
            self.salts[patient] = self.chance.randbytes(16)
        salt = self.salts[patient]
        return replica.Author(Writer.CENTRE, self.facility, self.id, person, stamp, self.disk.hub_ms, salt)

    def keep_own(self, change: Change) -> None:
        held = Held(change)
        joined = replica.receive({change.key: self._held_of(change.key)}, [held])

        def apply() -> None:
            self.disk.hlc = Hlc(max(self.disk.hlc, change.hlc))
            self._keep([held], joined)
            self.disk.unplaced[change.id] = None

        self.power.commit(apply)

    def _keep(self, arrived: list[Held], joined: list[replica.Joined]) -> None:
        disk = self.disk
        for held in arrived:
            before = disk.held.get(held.change.id)
            if before is None:
                disk.records.setdefault(held.change.key, []).append(held.change.id)
            if before is None or _told(held) < _told(before):
                disk.held[held.change.id] = held
        for one in joined:
            disk.digests[one.patient] = merge.add_digests((disk.digests.get(one.patient, 0), one.digest_delta))

    @property
    def digest(self) -> int:
        return merge.add_digests(self.disk.digests.values())

    @property
    def pending(self) -> list[ChangeId]:
        """Without a position, not set aside, not in a live envelope."""
        packed = {name for stored in self.disk.envelopes.values() for name in stored.changes}
        return [name for name in self.disk.unplaced if name not in self.disk.aside and name not in packed]

    def try_again(self) -> None:
        """A person asks for what was set aside to be sent again."""
        again = list(self.disk.aside)

        def apply() -> None:
            for name in again:
                del self.disk.aside[name]
                del self.disk.attempts[name]

        self.power.commit(apply)

    # -- out -----------------------------------------------------------------------------------------------------------

    def begin(self, now_ms: int) -> Outgoing:
        """Pack what is due and make the request. Everything in it is durable when this returns."""
        alone, disk = self.alone, self.disk
        if not alone:
            self._pack_all(now_ms)
        rotten = [name for name, one in disk.envelopes.items() if envelope.envelope_id(one.sealed.raw) != name]
        if rotten:
            self.power.commit(lambda: self._drop(rotten))
        sent: dict[EnvelopeId, tuple[ChangeId, ...]] = {}
        raws = []
        for name, stored in disk.envelopes.items():
            if not alone and not stored.held:
                sent[name] = stored.changes
                raws.append(stored.sealed.raw)
                self.sent_times[name] += 1
        awaiting = tuple(name for name in disk.envelopes if name not in sent)
        grants = {name: raw for name, raw in disk.grants.items() if not alone and name not in disk.confirmed}
        view = NodeView(
            ENVIRONMENT,
            self.id,
            identity(self.number),
            HUB,
            identity(HUB_KEY).verifier,
            disk.cursor,
            disk.nonce,
            awaiting,
            disk.hub_grant,
            self.link.ahead_bytes,
            now_ms + self.clock_error_ms,
            disk.hlc,
        )
        session = NodeSession(view)
        self.alone = True  # until the answer to this was read whole
        return Outgoing(session, session.request(grants.values(), raws), sent, awaiting, tuple(grants))

    def _pack_all(self, now_ms: int) -> None:
        room = self.link.ahead_bytes
        grant = self.disk.grant or self.renew_grant(now_ms)
        while room > 0 and (chosen := self._choose()):
            lane, pending = chosen
            limit = min(self.link.segment_bytes, max(room, segment.MIN_SEGMENT_BYTES))
            packed = segment.pack(
                pending,
                limit,
                lane=lane,
                grant=self._flawed(grant),
                sender=self.id,
                signer=identity(self.number),
                nonce=self.chance.randbytes(envelope.NONCE_BYTES),
                dictionary=NO_DICTIONARY,
                vouchers={} if self.fault is Fault.GIVES_BACK_UNVOUCHED else self.disk.vouchers,
            )
            stored = Stored(packed.envelope, tuple(change.id for change in packed.changes))

            def apply(stored: Stored = stored) -> None:
                self.disk.envelopes[stored.sealed.id] = stored

            self.power.commit(apply)
            room -= len(packed.envelope.raw)

    def _choose(self) -> tuple[int, list[Change]] | None:
        """The lane and the changes to pack next, in order; the refused ones last, in ever smaller company."""
        disk = self.disk
        pending = [disk.held[name].change for name in self.pending]
        if not pending:
            return None

        def rank(change: Change) -> tuple[int, int, int, bytes]:
            return disk.attempts[change.id], segment.lane_of(change), change.hlc, change.id

        pending.sort(key=rank)
        attempts, lane = rank(pending[0])[:2]
        chosen = [one for one in pending if rank(one)[:2] == (attempts, lane)]
        chosen = chosen[: COMPANY[min(attempts, len(COMPANY) - 1)]]
        if lane == segment.LANE_EMERGENCY and not attempts:
            others = [one for one in pending if one.patient == chosen[0].patient and not disk.attempts[one.id]]
            along = {one.id: one for one in segment.companions(chosen[0], others)}
            chosen = [*along.values(), *(one for one in chosen if one.id not in along)]
        return lane, chosen

    def renew_grant(self, now_ms: int) -> Grant:
        grant = Grant(self.chance.randbytes(keys.SECRET_BYTES), keys.TO_HUB, ENVIRONMENT)
        own, to = identity(self.number), recipient(HUB_KEY).public
        frame = keys.seal_grant(grant, self.id, own, to, keys.ROLE_INGEST, now_ms, simulated_seal)

        def apply() -> None:
            self.disk.grant = grant
            self.disk.grants[grant.id] = frame

        self.power.commit(apply)
        return grant

    def _flawed(self, grant: Grant) -> Grant:
        if self.flaw == "seal":
            return Grant(grant.secret, keys.TO_NODE, ENVIRONMENT)
        if self.flaw == "signature":
            return Grant(grant.secret, keys.TO_HUB, keys.EnvironmentId(b"a flipped bit...."[:16]))
        return grant

    # -- in ------------------------------------------------------------------------------------------------------------

    def read(self, outgoing: Outgoing, arrived: bytes) -> None:
        """Apply what has arrived of an answer. Raises HealthSyncError for bytes that are not the hub's answer."""
        for event in outgoing.session.read(arrived):
            self._apply(outgoing, event)

    def finish(self, outgoing: Outgoing, seconds: float) -> None:
        """The answer was read to its end. Raises Truncated unless it came whole."""
        outgoing.session.finish()
        heads = outgoing.heads
        assert heads is not None
        here = set(split_ids(heads.held)) | set(split_ids(heads.admitted))
        gone = [name for name in (*outgoing.awaiting, *outgoing.sent) if name not in here]
        gone += [name for name, one in self.disk.envelopes.items() if self._is_done(one)]
        self.power.commit(lambda: self._drop(gone))
        self.alone = False
        if outgoing.sent:
            self.link = self.link.after_success(sum(len(piece) for piece in outgoing.pieces), seconds)

    def _drop(self, names: Iterable[EnvelopeId]) -> None:
        for name in names:
            self.disk.envelopes.pop(name, None)

    def broke(self) -> None:
        self.link = self.link.after_break()

    def _apply(self, outgoing: Outgoing, event: NodeEvent) -> None:
        if isinstance(event, HeadsArrived):
            outgoing.heads = event.heads
            self._heads(outgoing, event.heads)
        elif isinstance(event, NoticeArrived):
            self._notice(outgoing, event.notice)
        elif isinstance(event, GrantArrived):
            own = recipient(self.number)
            grant = keys.open_grant(event.payload, identity(HUB_KEY).verifier, own, ENVIRONMENT)

            def apply() -> None:
                self.disk.hub_grants[grant.id] = grant
                self.disk.hub_grant = grant.id

            self.power.commit(apply)
        elif isinstance(event, PageArrived):
            page = feed_page.open_(event.envelope, self.disk.hub_grants.get(event.envelope.header.grant))
            if page.before == self.disk.cursor:
                self._page(page)

    def _heads(self, outgoing: Outgoing, heads: Heads) -> None:
        here = [*split_ids(heads.held), *split_ids(heads.admitted)]
        missing = [GrantId(name) for name in heads.grants_missing]
        confirmed = [name for name in outgoing.grants if name not in missing]

        def apply() -> None:
            disk = self.disk
            disk.hub_ms, disk.nonce = max(disk.hub_ms, heads.hub_time_ms), heads.nonce
            for name in here:
                if name in disk.envelopes:
                    disk.envelopes[name].held = True
                    if self.fault is Fault.FORGETS_WHAT_IS_HELD:
                        for change in disk.envelopes.pop(name).changes:
                            disk.unplaced.pop(change, None)
            disk.confirmed.update(confirmed)
            disk.confirmed.difference_update(missing)

        self.power.commit(apply)
        self.acknowledged.update(here)

    def _notice(self, outgoing: Outgoing, notice: Notice) -> None:
        name = EnvelopeId(notice.subject)
        if notice.kind == NoticeKind.REVOKED:
            self.revoked = True
        elif notice.kind == NoticeKind.CURSOR:
            self.power.commit(lambda: self._go_back(notice.position))
        stored = self.disk.envelopes.get(name)
        if stored is None or notice.kind not in (NoticeKind.QUARANTINED, NoticeKind.REFUSED):
            return
        whole = notice.kind == NoticeKind.REFUSED or not notice.indexes
        rows = range(len(stored.changes)) if whole else notice.indexes

        def apply() -> None:
            for row in rows:
                change = stored.changes[row]
                if change not in self.disk.unplaced or change in self.disk.aside:
                    continue  # told again while others of the envelope wait: that is no further attempt
                self.disk.attempts[change] += 1
                if not whole or (self.disk.attempts[change] >= MAX_TRIES and self.fault is not Fault.RETRIES_FOREVER):
                    self.disk.aside[change] = notice.reason
            if whole:
                del self.disk.envelopes[name]

        self.power.commit(apply)

    def _page(self, page: Page) -> None:
        """Apply a page in one commit, as far as it can be understood: a reference to what is gone ends it."""
        items: list[tuple[Item, Change]] = []
        cursor, unread = self.disk.cursor, 0
        for item in page.items:
            body = self._resolve(item.body)
            if body is None:
                break
            cursor = cursor.after(item.tag)
            if isinstance(body, Change) and replica.allowed(body, item.origin):
                items.append((item, body))
            else:
                unread += 1
        arrived = [Held(change, item.receipt_ms, item.origin) for item, change in items]
        joined = replica.receive({held.change.key: self._held_of(held.change.key) for held in arrived}, arrived)

        def apply() -> None:
            disk = self.disk
            self._keep(arrived, joined)
            for item, change in items:
                self._place(change, item)
            self._remember_cursor()
            disk.cursor, disk.unread = cursor, disk.unread + unread
            self._drop([name for name, one in disk.envelopes.items() if self._is_done(one)])

        if self.fault is Fault.CURSOR_FIRST:
            self.power.commit(lambda: setattr(self.disk, "cursor", cursor))
        self.power.commit(apply)

    def _place(self, change: Change, item: Item) -> None:
        """The item's position and receipt, unless an earlier receipt is known: then the hub is still to be shown it."""
        disk = self.disk
        known = disk.vouchers.get(change.id)
        if known is not None and known.receipt_ms < item.receipt_ms and self.fault is not Fault.TAKES_THE_LATER_RECEIPT:
            return
        disk.positions[change.id] = item.position
        disk.vouchers[change.id] = Voucher(item.receipt_ms, _ORIGINS.index(item.origin), item.tag)
        disk.unplaced.pop(change.id, None)
        disk.aside.pop(change.id, None)

    def _remember_cursor(self) -> None:
        disk = self.disk
        if disk.cursor.position:
            disk.cursors.append(disk.cursor)
            gone = set(thinned(one.position for one in disk.cursors))
            disk.cursors = [one for one in disk.cursors if one.position not in gone]

    def _go_back(self, head: int) -> None:
        """The hub was put back: to the newest earlier cursor that may be on its feed. What lies beyond is pending."""
        disk = self.disk
        disk.cursors = [one for one in disk.cursors if one.position < disk.cursor.position and one.position <= head]
        disk.cursor = disk.cursors.pop() if disk.cursors else Cursor()
        for name in [name for name, at in disk.positions.items() if at > disk.cursor.position]:
            del disk.positions[name]
            disk.unplaced[name] = None
        disk.aside.clear()
        disk.attempts.clear()

    def _resolve(self, body: Change | Reference | Erased | HealthSyncError) -> Change | Erased | HealthSyncError | None:
        if not isinstance(body, Reference):
            return body
        stored = self.disk.envelopes.get(body.segment)
        if stored is None or not body.index < len(stored.changes):
            return None
        return self.disk.held[stored.changes[body.index]].change

    def _is_done(self, stored: Stored) -> bool:
        return all(name in self.disk.positions or name in self.disk.aside for name in stored.changes)

    @property
    def at(self) -> Position:
        return self.disk.cursor.position


def _told(held: Held) -> tuple[bool, int]:
    """Orders receipts: the earliest first, none at all last."""
    return held.receipt_ms is None, held.receipt_ms or 0
