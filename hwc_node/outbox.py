"""What leaves: the pending changes that are due, sealed into envelopes and stored before a byte of them is sent.

Pending is every change without a position that is neither set aside nor in a live envelope; there is no other list.
An envelope is disposable: whenever anything is odd (sent three times for nothing, bit-rotted, too big for this link,
unknown to a hub that should have it) it is dropped and its changes are packed again. Each segment is packed in a
transaction of its own, so that a person who saves never waits for a long backlog, and no more than about eight seconds
of airtime is packed ahead, so that an emergency does not wait either. Memory is bounded by one request.

A change that was in a refused segment comes after those that were not, in ever smaller company: what is bad ends up
alone, and holds up nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import msgspec
from sqlalchemy import Connection
from sqlmodel import Session, col, select

from hwc_node import membership
from hwc_node.engine import begin_read, begin_write
from hwc_node.membership import Membership
from hwc_node.store import Store
from hwc_node.tables import WAITING, CursorRow, GrantRow
from sync_protocol import change as changes
from sync_protocol import envelope, keys, segment, wire
from sync_protocol.change import ID_BYTES, Change, ChangeId
from sync_protocol.envelope import EnvelopeId
from sync_protocol.feed_page import FIRST_HASH, Cursor, Position
from sync_protocol.keys import Grant, GrantId
from sync_protocol.segment import Link, Voucher
from sync_protocol.session import NodeView

MAX_TRIES: Final = 3  # no bytes are sent, and no change is refused, more often than this
MAX_LIVE: Final = wire.MAX_AWAITING  # every live envelope can be asked about in one HELLO
GRANT_AGE_MS: Final = 30 * 86_400_000  # a month: what one stolen secret opens
GRANT_SEGMENTS: Final = 10_000
COMPANY: Final = (None, 32, 1)
"""How many changes share a segment, by how often they were refused: of a thousand, one bad one is found in 3 steps."""

WIRE_BYTES_A_CHANGE: Final = 40  # a little below what a change takes in a large segment: so many are read at most
COMPANIONS_READ: Final = 64  # pending changes of one patient that are looked at for what a referral takes along
LANES: Final = (segment.LANE_EMERGENCY, segment.LANE_REFERRAL, segment.LANE_REST, segment.LANE_ATTACHMENT)


@dataclass(frozen=True, slots=True)
class Sealed:
    """One segment to send. changes: how many are in it."""

    id: EnvelopeId
    raw: bytes
    changes: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request. alone: HELLO only, since the last answer was not read whole. grants: those whose frames go along."""

    view: NodeView
    frames: tuple[bytes, ...]
    grants: frozenset[GrantId]
    segments: tuple[Sealed, ...]
    alone: bool
    link: Link

    @property
    def named(self) -> frozenset[EnvelopeId]:
        """What the hub's HEADS speaks of: the segments in the request and those awaited."""
        return frozenset(self.view.awaiting) | {one.id for one in self.segments}


@dataclass(slots=True)
class _Live:
    """A live envelope's row, without its bytes."""

    id: EnvelopeId
    lane: int
    size_bytes: int
    sent_count: int
    held: bool
    count: int


@dataclass(slots=True)
class _Room:
    """Bytes that may still be packed. hard: a budget that even the first segment has to respect."""

    left_bytes: int
    hard_bytes: int
    segments: list[Sealed]
    carried: bool = False  # into a file: nothing is on its way, so no answer is awaited either

    def takes(self, size_bytes: int) -> bool:
        return size_bytes <= self.hard_bytes and (not self.segments or size_bytes <= self.left_bytes)

    def take(self, one: Sealed) -> None:
        self.segments.append(one)
        self.left_bytes -= len(one.raw)
        self.hard_bytes -= len(one.raw)

    def limit(self, link: Link) -> int:
        """The size of the next segment, 0 when there is no room for one."""
        room = min(self.hard_bytes, self.left_bytes if self.segments else link.segment_bytes)
        return min(link.segment_bytes, room) if room >= segment.MIN_SEGMENT_BYTES else 0


def pack(store: Store, now_ms: int, budget_bytes: int | None = None) -> Outgoing:
    """Decide and seal what the next request carries. Stored and durable when this returns.

    budget_bytes: what may leave in segments, and come in pages, None for what the link carries.
    """
    with begin_write(store.engine) as connection:
        values = membership.get_all(connection)
        link = membership.link_of(values)
        live = _live(connection)
        alone = bool(values.get(membership.HELLO_ALONE))
        if not alone:
            live = _without_worn(connection, live, link)
    room = _Room(link.ahead_bytes, segment.MAX_REQUEST_BYTES if budget_bytes is None else budget_bytes, [])
    answer_bytes = link.ahead_bytes if budget_bytes is None else min(link.ahead_bytes, budget_bytes)
    return _pack(store, now_ms, live, room, link, max(answer_bytes, segment.MIN_SEGMENT_BYTES), alone=alone)


def pack_file(store: Store, now_ms: int, budget_bytes: int, answer_bytes: int) -> Outgoing:
    """The same for a courier file, which no link limits (PROTOCOL.md §9.6): all that is pending, up to the budget.

    Writing sends nothing: no envelope counts as sent, none is too big, and the next sync is not HELLO alone for it.
    """
    with begin_read(store.engine) as connection:
        live = _live(connection)
    room = _Room(budget_bytes, budget_bytes, [], carried=True)
    return _pack(store, now_ms, live, room, Link(segment.MAX_SEGMENT_BYTES), answer_bytes, alone=False)


def _pack(
    store: Store, now_ms: int, live: list[_Live], room: _Room, link: Link, answer_bytes: int, *, alone: bool
) -> Outgoing:
    if not alone:
        fresh = MAX_LIVE - len(live)
        for lane in LANES:
            _resend(store, [one for one in live if one.lane == lane and not one.held], room)
            while fresh > 0 and (one := _pack_one(store, lane, link, room, now_ms)) is not None:
                room.take(one)
                fresh -= 1
    awaiting = [one.id for one in live if alone or one.held]
    with begin_read(store.engine) as connection:
        frames = _frames(connection) if not alone and (room.segments or awaiting) else []
        wall_ms = 0 if room.carried else now_ms  # nobody knows when a file will be read
        view = _view(store.membership, connection, awaiting, answer_bytes, wall_ms)
    return Outgoing(
        view,
        tuple(frame for _, parts in frames for frame in parts),
        frozenset(name for name, _ in frames),
        tuple(room.segments),
        alone,
        link,
    )


def _view(
    member: Membership, connection: Connection, awaiting: Sequence[EnvelopeId], answer_bytes: int, wall_ms: int
) -> NodeView:
    values = membership.get_all(connection)
    at = cursor(connection)
    return NodeView(
        member.environment,
        member.node,
        member.identity,
        member.hub,
        member.hub_verifier,
        at,
        nonce=values.get(membership.NONCE, b""),
        awaiting=tuple(awaiting[: wire.MAX_AWAITING]),
        hub_grant=values.get(membership.HUB_GRANT, b""),
        max_answer_bytes=answer_bytes,
        wall_ms=wall_ms,
        hlc=values.get(membership.LAST_HLC, 0),
        ahead=values.get(membership.AHEAD, b"") if at.position == 0 else b"",
    )


def cursor(connection: Connection) -> Cursor:
    """Where this node stands on its facility's feed."""
    with Session(bind=connection) as rows:
        row = rows.exec(select(CursorRow).order_by(col(CursorRow.position).desc()).limit(1)).first()
    return Cursor(Position(row.position), row.hash) if row is not None else Cursor(Position(0), FIRST_HASH)


# -- live envelopes ----------------------------------------------------------------------------------------------------


def _live(connection: Connection) -> list[_Live]:
    rows = connection.exec_driver_sql(
        "SELECT id8, lane, length(raw), sent_count, held, length(change_ids) FROM envelope"
        " ORDER BY lane, created_ms, id8"
    )
    return [
        _Live(EnvelopeId(name), lane, size_bytes, sent_count, bool(held), ids_bytes // ID_BYTES)
        for name, lane, size_bytes, sent_count, held, ids_bytes in rows
    ]


def _without_worn(connection: Connection, live: list[_Live], link: Link) -> list[_Live]:
    """Drop what was sent three times for nothing, and what has become too big for the link."""
    worn = [
        one.id
        for one in live
        if not one.held and (one.sent_count >= MAX_TRIES or (one.count > 1 and one.size_bytes > 2 * link.segment_bytes))
    ]
    drop(connection, worn)
    return [one for one in live if one.id not in worn]


def drop(connection: Connection, names: Iterable[EnvelopeId], *, refused: bool = False) -> None:
    """Throw envelopes away: their changes are pending again. refused: it counts as an attempt for each of them."""
    for name in names:
        connection.exec_driver_sql(
            "UPDATE change SET segment = NULL, attempts = attempts + ?"
            " WHERE segment = ? AND position IS NULL AND state = 0",
            (1 if refused else 0, name),
        )
        connection.exec_driver_sql("DELETE FROM envelope WHERE id8 = ?", (name,))


def _resend(store: Store, waiting: Sequence[_Live], room: _Room) -> None:
    for one in waiting:
        if not room.takes(one.size_bytes):
            return
        with begin_write(store.engine) as connection:
            raw = connection.exec_driver_sql("SELECT raw FROM envelope WHERE id8 = ?", (one.id,)).scalar()
            if raw is None or envelope.envelope_id(raw) != one.id:
                drop(connection, [one.id])  # its bytes have rotted: they are nobody's segment any more
                continue
            _await_answer(connection, room)
        room.take(Sealed(one.id, raw, one.count))


def _await_answer(connection: Connection, room: _Room) -> None:
    """Until the answer was read whole, the next request is HELLO alone."""
    if not room.carried:
        membership.put(connection, {membership.HELLO_ALONE: True})


def left(store: Store, outgoing: Outgoing, sent: Sequence[EnvelopeId], *, nothing: bool, smaller: bool) -> None:
    """Note what went out of a request that got no whole answer. smaller: the link broke, so the next try is smaller.

    nothing: not a byte went out, so the next request need not be HELLO alone.
    """
    with begin_write(store.engine) as connection:
        count_sent(connection, sent)
        if smaller:
            link = membership.link_of(membership.get_all(connection)).after_break()
            membership.put(connection, membership.link_values(link))
        if nothing and not outgoing.alone:
            membership.put(connection, {membership.HELLO_ALONE: False})


def count_sent(connection: Connection, sent: Sequence[EnvelopeId]) -> None:
    """These have left; of the referrals in them it is noted when, which is when they were packed, just before."""
    if sent:
        names = [(name,) for name in sent]
        connection.exec_driver_sql("UPDATE envelope SET sent_count = sent_count + 1 WHERE id8 = ?", names)
        connection.exec_driver_sql(
            "UPDATE change SET sent_ms = e.created_ms FROM envelope e WHERE e.id8 = ? AND change.segment = e.id8"
            f" AND change.kind = 'referral' AND change.sent_ms IS NULL AND {WAITING}",
            names,
        )


# -- packing -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pending:
    change: Change
    attempts: int
    voucher: Voucher | None


_PENDING_QUERY: Final = (
    "SELECT raw, attempts, receipt_ms, origin, tag FROM change {} WHERE segment IS NULL AND position IS NULL"
    " AND state = 0 AND "
)


def _pack_one(store: Store, lane: int, link: Link, room: _Room, now_ms: int) -> Sealed | None:
    """Pack, seal and store one segment of a lane; None when there is nothing, or no room."""
    limit_bytes = room.limit(link)
    if not limit_bytes:
        return None
    member = store.membership
    with begin_write(store.engine) as connection:
        chosen = _choose(connection, lane, limit_bytes // WIRE_BYTES_A_CHANGE + 1)
        if not chosen:
            return None
        grant = _current_grant(connection, member, now_ms)
        packed = segment.pack(
            [one.change for one in chosen],
            limit_bytes,
            lane=lane,
            grant=grant,
            sender=member.node,
            signer=member.identity,
            nonce=os.urandom(envelope.NONCE_BYTES),
            vouchers=MappingProxyType({one.change.id: one.voucher for one in chosen if one.voucher is not None}),
        )
        if not room.takes(len(packed.envelope.raw)):
            return None
        _keep(connection, packed, now_ms)
        connection.exec_driver_sql("UPDATE grant_ SET used = used + 1 WHERE id = ?", (grant.id,))
        _await_answer(connection, room)
    return Sealed(packed.envelope.id, packed.envelope.raw, len(packed.changes))


def _keep(connection: Connection, packed: segment.Packed, now_ms: int) -> None:
    name, ids = packed.envelope.id, [change.id for change in packed.changes]
    connection.exec_driver_sql(
        "INSERT INTO envelope (id8, raw, lane, created_ms, sent_count, held, admitted, change_ids)"
        " VALUES (?, ?, ?, ?, 0, 0, 0, ?)",
        (name, packed.envelope.raw, packed.envelope.header.lane, now_ms, b"".join(ids)),
    )
    connection.exec_driver_sql("UPDATE change SET segment = ? WHERE id = ?", [(name, one) for one in ids])


def _choose(connection: Connection, lane: int, limit: int) -> list[_Pending]:
    """The changes to pack next, in order; a referral's companions stand before it."""
    query = _PENDING_QUERY.format("INDEXED BY change_waiting") + "lane = ? ORDER BY attempts, hlc LIMIT ?"
    found = [_pending(row) for row in connection.exec_driver_sql(query, (lane, limit))]
    if not found:
        return []
    attempts = found[0].attempts
    company = COMPANY[min(attempts, len(COMPANY) - 1)]
    found = [one for one in found if one.attempts == attempts][:company]
    if lane not in (segment.LANE_EMERGENCY, segment.LANE_REFERRAL) or attempts:
        return found
    chosen: dict[ChangeId, _Pending] = {}
    for one in found:
        for along in _companions(connection, one.change):
            chosen.setdefault(along.change.id, along)
        chosen.setdefault(one.change.id, one)
    return list(chosen.values())


def _companions(connection: Connection, urgent: Change) -> list[_Pending]:
    if urgent.kind != "referral":
        return []
    query = _PENDING_QUERY.format("INDEXED BY change_patient")
    rows = connection.exec_driver_sql(
        query + "patient = ? AND attempts = 0 ORDER BY hlc DESC LIMIT ?", (urgent.patient, COMPANIONS_READ)
    )
    of_patient = {one.change.id: one for one in map(_pending, rows)}
    along = segment.companions(urgent, (one.change for one in of_patient.values()))
    return [of_patient[change.id] for change in sorted(along, key=lambda change: change.hlc)]


def _pending(row: Any) -> _Pending:
    raw, attempts, receipt_ms, origin, tag = row
    voucher = Voucher(receipt_ms, origin, tag) if tag is not None and receipt_ms is not None else None
    return _Pending(changes.parse(raw), attempts, voucher)


# -- grants ------------------------------------------------------------------------------------------------------------


def _current_grant(connection: Connection, member: Membership, now_ms: int) -> Grant:
    """The grant that new segments are sealed with; made anew monthly, or after ten thousand segments."""
    with Session(bind=connection) as rows:
        newest = select(GrantRow).where(GrantRow.direction == keys.TO_HUB).order_by(col(GrantRow.created_ms).desc())
        row = rows.exec(newest.limit(1)).first()
        if row is not None and abs(now_ms - row.created_ms) < GRANT_AGE_MS and row.used < GRANT_SEGMENTS:
            return Grant(row.secret, keys.TO_HUB, member.environment)
        grant = Grant(os.urandom(keys.SECRET_BYTES), keys.TO_HUB, member.environment)
        frames = [
            keys.seal_grant(
                grant, member.node, member.identity, member.hub_keys.recipient(role), role, now_ms, keys.hpke_seal
            )
            for role in (keys.ROLE_INGEST, keys.ROLE_RECOVERY)
        ]
        rows.add(
            GrantRow(
                id=grant.id,
                direction=keys.TO_HUB,
                secret=grant.secret,
                frames=msgspec.msgpack.encode(frames),
                created_ms=now_ms,
                used=0,
                acknowledged=False,
            )
        )
        rows.flush()
    return grant


def _frames(connection: Connection) -> list[tuple[GrantId, list[bytes]]]:
    """The GRANT payloads that the hub may lack."""
    with Session(bind=connection) as rows:
        wanted = select(GrantRow).where(GrantRow.direction == keys.TO_HUB, col(GrantRow.acknowledged).is_(False))
        return [
            (GrantId(row.id), msgspec.msgpack.decode(row.frames, type=list[bytes]))
            for row in rows.exec(wanted.order_by(col(GrantRow.created_ms)))
        ]


def ids_in(change_ids: bytes) -> list[ChangeId]:
    """The ids of an envelope's changes, in its order."""
    return [ChangeId(change_ids[at : at + ID_BYTES]) for at in range(0, len(change_ids), ID_BYTES)]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is left to do after an answer. unsent: not held by the hub. awaiting: held, without positions. behind: the
    hub's feed goes on."""

    unsent: bool
    awaiting: bool
    behind: bool

    @property
    def nothing(self) -> bool:
        return not (self.unsent or self.awaiting or self.behind)


def is_urgent(store: Store) -> bool:
    """Whether a referral or an acknowledgement waits that was never packed: a doctor or a patient waits for it."""
    query = (
        "SELECT EXISTS (SELECT 1 FROM change INDEXED BY change_waiting WHERE segment IS NULL AND position IS NULL"
        " AND state = 0 AND attempts = 0 AND lane <= ?)"
    )
    with begin_read(store.engine) as connection:
        return bool(connection.exec_driver_sql(query, (segment.LANE_REFERRAL,)).scalar())


def outlook(store: Store) -> Outlook:
    with begin_read(store.engine) as connection:
        pending = "SELECT EXISTS (SELECT 1 FROM change WHERE segment IS NULL AND position IS NULL AND state = 0)"
        waiting = connection.exec_driver_sql(pending).scalar()
        held = {bool(one) for (one,) in connection.exec_driver_sql("SELECT DISTINCT held FROM envelope")}
        head = membership.get(connection, membership.FEED_POSITION, 0)
        return Outlook(bool(waiting) or False in held, True in held, cursor(connection).position < head)


@dataclass(frozen=True, slots=True)
class WayLeft:
    """What a sync still has to do, counted. unsent: changes that the hub does not hold. pending: those without a
    position on the feed, the unsent among them. behind: items of the feed, as far as it is known, that are not here.
    position: the cursor's."""

    unsent: int
    pending: int
    behind: int
    position: int


def way_left(store: Store) -> WayLeft:
    query = (
        "SELECT count(*), count(*) FILTER (WHERE segment IS NULL OR segment IN (SELECT id8 FROM envelope WHERE NOT held))"
        " FROM change WHERE position IS NULL AND state = 0"
    )
    with begin_read(store.engine) as connection:
        pending, unsent = connection.exec_driver_sql(query).one()
        at = cursor(connection).position
        behind = max(0, membership.get(connection, membership.FEED_POSITION, 0) - at)
        return WayLeft(unsent, pending, behind, at)
