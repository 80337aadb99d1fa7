"""The exchange with the hub where there is no link: the same frames in a file, carried by whoever goes there.

Who carries what (PROTOCOL.md §9.6):

    centre  hwc courier write out.courier       the request: HELLO, GRANTs, SEGMENTs, as POST /v1/sync takes it
    carrier takes out.courier to any place with internet and hands it in, with nothing of ours installed:
                curl --data-binary @out.courier -H 'Content-Type: application/octet-stream' \\
                    https://hub.example.org/v1/sync > answer.courier
            or takes it to the hub itself, where: hub courier out.courier answer.courier
    centre  hwc courier read answer.courier     the answer: HEADS, NOTICEs, GRANTs, FEED

The file is sealed and signed as on a link: the carrier can read nothing, and change nothing unseen. Writing is no
acknowledgement: everything in the file stays pending until an answer, or an ordinary sync, says otherwise.

Rules. What asked is durable before the file has its name, and stays so for the last eight files, with what was in
their segments: an answer may come weeks later, with syncs in between. All of an answer is checked before anything of it
is applied. What is older than what was heard since changes nothing that is newer, and reading twice does no more.
The caller holds the home's sync lock. It knows no network.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection
from sqlmodel import Session, col, select

from hwc_node import files, inbox, ledger, outbox
from hwc_node.answer import Answer, ExchangeResult
from hwc_node.engine import begin_read, begin_write
from hwc_node.inbox import HeadsApplied
from hwc_node.outbox import Outgoing, Sealed
from hwc_node.store import Store
from hwc_node.tables import CourierRow
from sync_protocol import session, wire
from sync_protocol.envelope import MAX_ENVELOPE_BYTES, EnvelopeId
from sync_protocol.errors import BadSignature, HealthSyncError, NeedsPerson, NotOurAnswer, TheirBytes, Truncated
from sync_protocol.feed_page import Cursor, Position
from sync_protocol.keys import GRANT_ID_BYTES, GrantId
from sync_protocol.segment import Link
from sync_protocol.session import NodeEvent, NodeSession, NodeView
from sync_protocol.wire import FrameReader, FrameType, Heads, Hello, Notice, NoticeKind

KEPT_FILES: Final = 8  # whose answers can still be read: two a week for a month
MAX_BYTES: Final = 7 * 1024 * 1024  # of segments: with HELLO and grants within the 8 MiB that a hub takes at once
MIN_BYTES: Final = MAX_ENVELOPE_BYTES  # so that any one segment fits
ANSWER_BYTES: Final = 4 * 1024 * 1024  # of pages asked for: what a hub gives at most
MAX_ANSWER_BYTES: Final = ANSWER_BYTES + 2 * MAX_ENVELOPE_BYTES  # and heads, notices, grants, the page that runs over
_ANSWER_HASH_BYTES: Final = 16
_OF_A_SEGMENT: Final = frozenset({NoticeKind.REFUSED, NoticeKind.QUARANTINED})
_NOT_IN_STEP: Final = frozenset({"E_FEED_GAP", "E_FEED_FORK"})  # what an old answer's pages are, where syncs came since
_CODE: Final = re.compile(r"E_[A-Z0-9_]{1,40}")
_MAX_REFUSAL_BYTES: Final = 4 * 1024


@dataclass(frozen=True, slots=True)
class Made:
    """A courier file that is about to be written. left: pending changes that did not fit; the next file takes them."""

    raw: bytes
    hello: bytes
    outgoing: Outgoing
    changes: int
    left: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What an answer brought. again: this very answer was read before. older: something newer was heard before it."""

    done: ExchangeResult
    hub_time_ms: int
    again: bool
    older: bool

    @property
    def nothing_new(self) -> bool:
        done = self.done
        return not (done.advanced or done.sent_changes or done.received_changes or done.notices)


# -- writing -----------------------------------------------------------------------------------------------------------


def make(store: Store, now_ms: int, max_bytes: int = MAX_BYTES) -> Made:
    """Pack what is pending. The envelopes are durable when this returns; nothing counts as sent."""
    outgoing = outbox.pack_file(store, now_ms, max_bytes, ANSWER_BYTES)
    asking = NodeSession(outgoing.view)
    raw = b"".join(asking.request(outgoing.frames, [one.raw for one in outgoing.segments]))
    with begin_read(store.engine) as connection:
        packed = {one.id for one in outgoing.segments}
        rows = connection.exec_driver_sql(
            "SELECT segment, count(*) FROM change WHERE position IS NULL AND state = 0 GROUP BY segment"
        )
        left = sum(int(count) for name, count in rows if name not in packed and name not in outgoing.view.awaiting)
    return Made(raw, asking.hello, outgoing, sum(one.changes for one in outgoing.segments), left)


def remember(store: Store, made: Made, now_ms: int) -> None:
    """Keep what asks, until its answer comes: durable when this returns. The oldest beyond eight is forgotten."""
    outgoing, hashed = made.outgoing, session.hello_hash(made.hello)
    segments = [one.id for one in outgoing.segments]
    with begin_write(store.engine) as connection, Session(bind=connection) as rows:
        before = rows.exec(select(CourierRow).where(CourierRow.hello_hash == hashed)).first()
        if before is not None:  # nothing was heard or saved since: the same question, perhaps with other segments
            segments = list(dict.fromkeys([*wire.split_ids(before.segments), *segments]))
            rows.delete(before)
            rows.flush()
        rows.add(
            CourierRow(
                hello_hash=hashed,
                hello=made.hello,
                segments=b"".join(segments),
                grants=b"".join(outgoing.grants),
                written_ms=now_ms,
                answer=b"",
            )
        )
        rows.flush()
        kept = rows.exec(select(CourierRow).order_by(col(CourierRow.seq).desc())).all()
        for old in kept[KEPT_FILES:]:
            rows.delete(old)
        rows.flush()
        _keep_contents(connection, {name for one in kept[:KEPT_FILES] for name in wire.split_ids(one.segments)})


def _keep_contents(connection: Connection, wanted: set[EnvelopeId]) -> None:
    """What is in those segments, and in no others."""
    kept = {EnvelopeId(name) for (name,) in connection.exec_driver_sql("SELECT id8 FROM courier_segment")}
    gone = [(name,) for name in kept - wanted]
    if gone:
        connection.exec_driver_sql("DELETE FROM courier_segment WHERE id8 = ?", gone)
    query = "SELECT id8, change_ids FROM envelope WHERE id8 IN ({})"
    fresh = [(bytes(name), bytes(ids)) for name, ids in ledger.select_in(connection, query, wanted - kept)]
    if fresh:
        connection.exec_driver_sql("INSERT INTO courier_segment (id8, change_ids) VALUES (?, ?)", fresh)


def write(store: Store, target: Path, now_ms: int, max_bytes: int = MAX_BYTES) -> Made:
    """A courier file of that name, durable on return. An older courier file there is replaced.

    Raises OurFault (``E_FILE_EXISTS`` for a file of another kind, ``E_DISK_FULL``, ``E_READ_ONLY``, ``E_STORAGE``).
    """
    files.refuse_other(target, wire.PREAMBLE.startswith, len(wire.PREAMBLE))
    made = make(store, now_ms, max_bytes)
    files.replace(target, made.raw, lambda: remember(store, made, now_ms))
    return made


# -- reading -----------------------------------------------------------------------------------------------------------


def read(store: Store, raw: bytes, now_ms: int) -> Taken:
    """Apply an answer that somebody brought, all of it checked first.

    Raises NotOurAnswer, BadSignature, Truncated, TooLarge or Malformed, and nothing was changed then; NeedsPerson
    (``E_REVOKED``); or what was wrong with a page, after everything else of the answer was taken in.
    """
    asked = _asked(store, raw)
    outgoing = _outgoing(store, asked)
    events, heads = _checked(outgoing.view, asked.hello, raw)
    mark = hashlib.sha256(raw).digest()[:_ANSWER_HASH_BYTES]
    answer = _CarriedAnswer(store, outgoing, ExchangeResult(bytes_down=len(raw)))
    if asked.answer == mark:
        return Taken(answer.done, heads.hub_time_ms, again=True, older=False)
    for event in events:
        answer.apply(event, now_ms)
    answer.close(heads, now_ms, None)
    with begin_write(store.engine) as connection:
        connection.exec_driver_sql("UPDATE courier SET answer = ? WHERE hello_hash = ?", (mark, asked.hello_hash))
    done = answer.done
    if done.revoked:
        raise NeedsPerson(
            "The hub has revoked this node.",
            code="E_REVOKED",
            next_step="Everything is kept here. Ask the hub's operator for a new code.",
        )
    if done.page_error is not None and not (answer.is_older and done.page_error.code in _NOT_IN_STEP):
        raise done.page_error
    return Taken(done, heads.hub_time_ms, again=False, older=answer.is_older)


def _asked(store: Store, raw: bytes) -> CourierRow:
    """The file that this is the answer to: by its heads, whose signature is verified. Raises TheirBytes."""
    heads = _first_heads(store, raw)
    with begin_read(store.engine) as connection, Session(bind=connection, expire_on_commit=False) as rows:
        found = rows.exec(select(CourierRow).where(CourierRow.hello_hash == heads.hello_hash)).first()
        if found is None:
            raise NotOurAnswer(
                f"This answers none of the last {KEPT_FILES} courier files that were written here",
                next_step="It may be another node's. Write a new file with: hwc courier write FILE",
            )
        rows.expunge(found)
    return found


def _first_heads(store: Store, raw: bytes) -> Heads:
    reader, member = FrameReader(), store.membership
    try:
        frames = reader.feed(raw[: len(wire.PREAMBLE) + 2 * wire.MAX_SIGNED_BYTES])
    except NotOurAnswer:
        raise _no_answer(raw) from None
    if not frames:
        raise Truncated("The file is cut short: it ends before the hub's heads.", next_step=_CARRY_AGAIN)
    if frames[0].type == FrameType.HELLO:
        raise NotOurAnswer(
            "This is a request, not an answer to one",
            next_step="Hand it in at the hub, which gives the answer: 'hwc courier --help' says how",
        )
    if frames[0].type != FrameType.HEADS:
        raise NotOurAnswer("The file does not start with the hub's heads")
    try:
        return wire.verify_signed(frames[0].payload, Heads, member.hub_verifier, member.environment)
    except BadSignature:
        raise BadSignature("This answer is not signed by this node's hub.") from None


_CARRY_AGAIN: Final = "Nothing was changed. Copy it again, or hand the courier file in again."


def _no_answer(raw: bytes) -> HealthSyncError:
    """What else a carrier may have brought: the hub's refusal, a network's login page."""
    code = ""
    if raw.startswith(b"{") and len(raw) <= _MAX_REFUSAL_BYTES:
        try:
            told = msgspec.json.decode(raw)
            code = str(told.get("code", "")) if isinstance(told, dict) else ""
        except msgspec.MsgspecError:
            pass
    if _CODE.fullmatch(code):
        return TheirBytes(f"This is no answer: the hub refused the courier file ({code}).", code=code)
    return NotOurAnswer("This is no answer of a hub: a network's login page may have come in its place")


def _checked(view: NodeView, hello: bytes, raw: bytes) -> tuple[Sequence[NodeEvent], Heads]:
    """All events of the answer, each verified, and that it is whole. Nothing is applied before that."""
    reading = NodeSession(view, hello)
    events = reading.read(raw)
    try:
        return events, reading.finish()
    except Truncated:
        raise Truncated("The file is cut short.", next_step=_CARRY_AGAIN) from None


def _outgoing(store: Store, asked: CourierRow) -> Outgoing:
    """The request as it was written."""
    member, hello = store.membership, wire.read_signed(asked.hello, Hello)
    view = NodeView(
        member.environment,
        member.node,
        member.identity,
        member.hub,
        member.hub_verifier,
        Cursor(Position(hello.cursor_position), hello.cursor_hash),
        nonce=hello.nonce,
        awaiting=tuple(hello.awaited),
    )
    segments = tuple(Sealed(name, b"", 0) for name in wire.split_ids(asked.segments))
    joined = asked.grants
    grants = frozenset(GrantId(joined[at : at + GRANT_ID_BYTES]) for at in range(0, len(joined), GRANT_ID_BYTES))
    return Outgoing(view, (), grants, segments, alone=False, link=Link())


class _CarriedAnswer(Answer):
    """An answer that may be weeks old. is_older: something newer was heard before it. is_believed: of the same epoch."""

    is_older = False
    is_believed = True

    def take_heads(self, heads: Heads, now_ms: int) -> HeadsApplied:
        applied, newest = inbox.apply_carried_heads(self.store, self.outgoing, heads)
        self.is_older = not newest
        self.is_believed = newest or heads.epoch == inbox.epoch(self.store)
        return applied

    def is_news(self, notice: Notice) -> bool:
        """CURSOR is obeyed only where the cursor is still the one that it is about, a verdict on a segment only where
        the request named it; anything else of an older answer is old news."""
        if notice.kind == NoticeKind.CURSOR:
            with begin_read(self.store.engine) as connection:
                return self.is_believed and outbox.cursor(connection) == self.outgoing.view.cursor
        if notice.kind in _OF_A_SEGMENT:
            return self.is_believed and EnvelopeId(notice.subject) in self.outgoing.named
        return not self.is_older

    def close(self, heads: Heads, now_ms: int, link: Link | None) -> None:
        self.done.heads = heads
        if not self.is_older and not self.done.revoked:
            inbox.close_carried(self.store, self.outgoing, heads, now_ms)
