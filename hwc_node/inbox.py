"""What arrives: the hub's heads, notices, grants and pages of the feed, applied to the store one by one.

Rules. A page's changes, receipts, digests and the cursor move in one transaction, and the cursor never moves for what
was not applied: what this program cannot understand, or this origin may not write, is kept raw and counted, and what is
only not there (a reference to an envelope that is gone) stops the page. A page that comes again is skipped by its hash
chain. Nothing that the hub says deletes a change: at worst its changes are pending again, or set aside and shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection
from sqlmodel import Session, col, select

from hwc_node import erasing, ledger, membership, migrations, outbox, questioning
from hwc_node.engine import begin_read, begin_write
from hwc_node.ledger import Arrived
from hwc_node.outbox import Outgoing
from hwc_node.store import Store
from hwc_node.tables import CursorRow, GrantRow, NoticeRow
from sync_protocol import ahead_page, feed_page, keys, replica
from sync_protocol import change as changes
from sync_protocol.change import Change, ChangeId, RecordKey
from sync_protocol.envelope import Envelope, EnvelopeId
from sync_protocol.errors import HealthSyncError, NotAllowed, TheirBytes
from sync_protocol.feed_page import Cursor, Erased, Item, Page, Reference
from sync_protocol.keys import Grant, GrantId
from sync_protocol.merge import Held
from sync_protocol.segment import Link
from sync_protocol.wire import Heads, Notice, NoticeKind, split_ids
from sync_protocol.words import N_

CURSORS_A_DISTANCE: Final = 2  # past cursors kept for each doubling of the distance: some sixty for a million items
MAX_NOTICES: Final = 200  # a screen's worth of history; older ones are dropped

REVOKED: Final = "E_REVOKED"
NOT_RECEIPTED: Final = "E_NO_RECEIPT"


# -- heads and the end of an answer ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeadsApplied:
    """What the heads confirmed: segments that the hub holds now and was not known to hold before, and their changes."""

    held_segments: int
    held_changes: int


def apply_heads(store: Store, outgoing: Outgoing, heads: Heads, now_ms: int) -> HeadsApplied:
    """Take in what the hub holds and has admitted, its time, its nonce, and the grants that it lacks."""
    held, admitted = _named_of(outgoing, heads)
    missing = {GrantId(name) for name in heads.grants_missing}
    with begin_write(store.engine) as connection:
        outbox.count_sent(connection, [one.id for one in outgoing.segments])
        fresh = _mark_held(connection, held, admitted)
        _note_grants(connection, outgoing, missing)
        membership.put(
            connection,
            {
                membership.HUB_TIME_MS: heads.hub_time_ms,
                membership.CLOCK_ERROR_MS: now_ms - heads.hub_time_ms,
                membership.NONCE: heads.nonce,
                membership.EPOCH: heads.epoch,
                membership.FEED_POSITION: heads.feed_position,
            },
        )
    return fresh


def apply_carried_heads(store: Store, outgoing: Outgoing, heads: Heads) -> tuple[HeadsApplied, bool]:
    """The same from a courier's answer, which may be weeks old (PROTOCOL.md §9.6). Whether nothing newer was heard.

    What was heard since stays: the hub's time, its epoch and the feed's head never go back, and of an older answer of
    another epoch (the hub was put back since) nothing is believed. The nonce is taken only in the place of the one that
    the request showed, else this node would look like two. The clock's error is never taken: nobody knows how long the
    answer was on its way.
    """
    held, admitted = _named_of(outgoing, heads)
    with begin_write(store.engine) as connection:
        values = membership.get_all(connection)
        heard_ms = values.get(membership.HUB_TIME_MS, 0)
        if heads.hub_time_ms < heard_ms:
            same = heads.epoch == values.get(membership.EPOCH)
            return (_mark_held(connection, held, admitted) if same else HeadsApplied(0, 0)), False
        fresh = _mark_held(connection, held, admitted)
        if heads.hub_time_ms > heard_ms:  # else it is the same answer, read again
            outbox.count_sent(connection, [one.id for one in outgoing.segments])
        _note_grants(connection, outgoing, {GrantId(name) for name in heads.grants_missing})
        told: dict[str, Any] = {
            membership.HUB_TIME_MS: heads.hub_time_ms,
            membership.EPOCH: heads.epoch,
            membership.FEED_POSITION: heads.feed_position,
        }
        if values.get(membership.NONCE, b"") == outgoing.view.nonce:
            told[membership.NONCE] = heads.nonce
        membership.put(connection, told)
    return fresh, True


def epoch(store: Store) -> bytes:
    """Of the hub's database, as last told."""
    with begin_read(store.engine) as connection:
        return bytes(membership.get(connection, membership.EPOCH, b""))


def _named_of(outgoing: Outgoing, heads: Heads) -> tuple[frozenset[EnvelopeId], frozenset[EnvelopeId]]:
    """(held, admitted), of what the request named: nothing is believed of anything else."""
    admitted = outgoing.named & set(split_ids(heads.admitted))
    return outgoing.named & set(split_ids(heads.held)) | admitted, admitted


def _note_grants(connection: Connection, outgoing: Outgoing, missing: set[GrantId]) -> None:
    with Session(bind=connection) as rows:
        for row in rows.exec(select(GrantRow).where(GrantRow.direction == keys.TO_HUB)):
            if row.id in missing or row.id in outgoing.grants:
                row.acknowledged = row.id not in missing
        rows.flush()


def _mark_held(connection: Connection, held: frozenset[EnvelopeId], admitted: frozenset[EnvelopeId]) -> HeadsApplied:
    query = "SELECT id8, length(change_ids) FROM envelope WHERE held = 0 AND id8 IN ({})"
    fresh = [ids_bytes // changes.ID_BYTES for _, ids_bytes in ledger.select_in(connection, query, held)]
    for column, names in (("held", held), ("admitted", admitted)):
        if names:
            connection.exec_driver_sql(f"UPDATE envelope SET {column} = 1 WHERE id8 = ?", [(name,) for name in names])
    return HeadsApplied(len(fresh), sum(fresh))


def close_answer(
    store: Store, outgoing: Outgoing, heads: Heads, now_ms: int, *, link: Link | None = None, revoked: bool = False
) -> None:
    """The answer was read whole: what was asked about and is unknown to the hub is pending again.

    link: what is believed of it now, None where too little was carried to tell. A revoked node keeps everything as it
    is, for whatever a person decides.
    """
    with begin_write(store.engine) as connection:
        membership.put(connection, {membership.HELLO_ALONE: False, membership.LAST_SUCCESS_MS: now_ms})
        if link is not None:
            membership.put(connection, membership.link_values(link))
        if not revoked:
            _conclude(connection, outgoing, heads)


def close_carried(store: Store, outgoing: Outgoing, heads: Heads, now_ms: int) -> None:
    """A courier's answer was read, and nothing newer was heard before. Says nothing of the link; the last sync is as of
    when the hub answered, by its clock, but not in the future of this one."""
    with begin_write(store.engine) as connection:
        before_ms = membership.get(connection, membership.LAST_SUCCESS_MS, 0)
        heard_ms = max(before_ms, min(heads.hub_time_ms, now_ms))
        membership.put(connection, {membership.LAST_SUCCESS_MS: heard_ms})
        _conclude(connection, outgoing, heads)


def _conclude(connection: Connection, outgoing: Outgoing, heads: Heads) -> None:
    held, admitted = _named_of(outgoing, heads)
    outbox.drop(connection, [name for name in outgoing.view.awaiting if name not in held])
    if outbox.cursor(connection).position >= heads.feed_position:
        _give_up_waiting(connection, admitted)
    _drop_finished(connection)


def _give_up_waiting(connection: Connection, admitted: Iterable[EnvelopeId]) -> None:
    """Envelopes that are admitted, while the feed was read to its head and brought no position for some of theirs.

    Their changes go out again; after the third time they are set aside, so that nothing is sent for ever.
    """
    query = "SELECT DISTINCT segment FROM change WHERE position IS NULL AND state = 0 AND segment IN ({})"
    for (name,) in list(ledger.select_in(connection, query, admitted)):
        _refused(connection, EnvelopeId(name), NOT_RECEIPTED)


def _drop_finished(connection: Connection) -> None:
    """An envelope is done when each of its changes has a position, is set aside, or went into another one."""
    connection.exec_driver_sql(
        "DELETE FROM envelope WHERE NOT EXISTS (SELECT 1 FROM change WHERE segment = envelope.id8"
        " AND position IS NULL AND state = 0)"
    )


# -- notices -----------------------------------------------------------------------------------------------------------

_SENTENCES: Final[dict[int, str]] = {
    NoticeKind.CURSOR: N_(
        "The hub's feed does not hold the place where this node stood (it may have been restored from a backup)."
        " The node went back to an earlier place and sends again what the hub lacks."
    ),
    NoticeKind.QUARANTINED: N_(
        "The hub set aside what it could not take in; it stays here and is shown as quarantined."
    ),
    NoticeKind.SCOPE: N_("The hub changed which patients this centre holds."),
    NoticeKind.KEYS: N_("The hub has new keys."),
    NoticeKind.UPGRADE: N_("The hub asks for a newer version of this program."),
    NoticeKind.REVOKED: N_(
        "The hub has revoked this node: nothing that it sends is taken in. Everything is kept here."
    ),
    NoticeKind.TWINS: N_("The hub sees two copies of this node. One of them has to be enrolled anew."),
    NoticeKind.REFUSED: N_("The hub refused a segment, since its form or signature did not hold; it is packed again."),
}
_UNKNOWN: Final = N_("The hub told something that this version does not understand.")

_OF_A_SEGMENT: Final = frozenset({NoticeKind.REFUSED, NoticeKind.QUARANTINED})


def apply_notice(store: Store, notice: Notice, now_ms: int) -> str:
    """Do what the notice says and keep it for people. Returns its word, such as "quarantined: E_NOT_ALLOWED"."""
    kind, name = notice.kind, EnvelopeId(notice.subject)
    if kind in _OF_A_SEGMENT and notice.reason == REVOKED:
        kind = NoticeKind.REVOKED  # the segment waits at the hub for a person, like everything of this node
    with begin_write(store.engine) as connection:
        if kind == NoticeKind.CURSOR:
            _go_back(connection, notice.position)
        elif kind == NoticeKind.REFUSED or (kind == NoticeKind.QUARANTINED and not notice.indexes):
            _refused(connection, name, notice.reason)
        elif kind == NoticeKind.QUARANTINED:
            _set_rows_aside(connection, name, notice.indexes, notice.reason)
        known = kind in _SENTENCES
        word = NoticeKind(kind).name.lower() if known else f"notice {kind}"
        said = word + (f": {notice.reason[:80]}" if notice.reason.isascii() and notice.reason.isprintable() else "")
        said = said.removesuffix(": ")
        sentence = _SENTENCES.get(kind, _UNKNOWN)
        _keep_notice(connection, said, sentence, now_ms)
    return said


def _keep_notice(connection: Connection, word: str, sentence: str, now_ms: int) -> None:
    """One that stands unseen already is not repeated: a revoked node is told so with each sync."""
    with Session(bind=connection) as rows:
        same = select(NoticeRow).where(NoticeRow.kind == word, col(NoticeRow.seen).is_(False)).limit(1)
        row = rows.exec(same).first() or NoticeRow(at_ms=now_ms, kind=word, text=sentence, seen=False)
        row.at_ms = now_ms
        rows.add(row)
        rows.flush()
    connection.exec_driver_sql(
        "DELETE FROM notice WHERE id NOT IN (SELECT id FROM notice ORDER BY id DESC LIMIT ?)", (MAX_NOTICES,)
    )


def _ids_of(connection: Connection, name: EnvelopeId) -> list[ChangeId]:
    found = connection.exec_driver_sql("SELECT change_ids FROM envelope WHERE id8 = ?", (name,)).scalar()
    return outbox.ids_in(found) if found is not None else []


def _refused(connection: Connection, name: EnvelopeId, reason: str) -> None:
    """Pack its changes again, in smaller company; those that were refused three times are set aside."""
    ids = _ids_of(connection, name)
    outbox.drop(connection, [name], refused=True)
    if ids:
        connection.exec_driver_sql(
            "UPDATE change SET state = 1, reason = ? WHERE id = ? AND position IS NULL AND attempts >= ?",
            [(reason, one, outbox.MAX_TRIES) for one in ids],
        )


def _set_rows_aside(connection: Connection, name: EnvelopeId, rows: Sequence[int], reason: str) -> None:
    ids = _ids_of(connection, name)
    bad = [(reason, ids[row]) for row in rows if 0 <= row < len(ids)]
    if bad:
        connection.exec_driver_sql(
            "UPDATE change SET state = 1, reason = ?, segment = NULL WHERE id = ? AND position IS NULL", bad
        )


def _go_back(connection: Connection, head: int) -> None:
    """To the newest earlier cursor that can be on the hub's feed. What lies beyond it has lost its position."""
    now = outbox.cursor(connection).position
    if now == 0:
        return
    connection.exec_driver_sql("DELETE FROM cursor WHERE position >= ? OR position > ?", (now, head))
    common = outbox.cursor(connection).position
    connection.exec_driver_sql("UPDATE change SET position = NULL WHERE position > ?", (common,))
    connection.exec_driver_sql("UPDATE change SET state = 0, reason = NULL, attempts = 0 WHERE state <> 0")
    connection.exec_driver_sql("DELETE FROM unread_item WHERE position > ?", (common,))
    questioning.forget_beyond(connection, common)


# -- grants and pages --------------------------------------------------------------------------------------------------


def forget_hub_grant(store: Store) -> None:
    """Ask for a grant anew: a page came that no grant here opens."""
    with begin_write(store.engine) as connection:
        membership.put(connection, {membership.HUB_GRANT: b""})


def apply_grant(store: Store, payload: bytes, now_ms: int) -> None:
    """Keep a grant of the hub's making. Raises Malformed, BadSignature, WrongRecipient or NotAllowed."""
    member = store.membership
    grant = keys.open_grant(payload, member.hub_verifier, member.recipient, member.environment)
    if grant.direction != keys.TO_NODE:
        raise NotAllowed("the hub sent a grant of another direction")
    with begin_write(store.engine) as connection:
        connection.exec_driver_sql(
            "INSERT INTO grant_ (id, direction, secret, frames, created_ms, used, acknowledged)"
            " VALUES (?, ?, ?, x'', ?, 0, 1) ON CONFLICT (id) DO NOTHING",
            (grant.id, grant.direction, grant.secret, now_ms),
        )
        membership.put(connection, {membership.HUB_GRANT: grant.id})


@dataclass(frozen=True, slots=True)
class PageApplied:
    """What a page brought. applied: its items that the cursor moved over. fresh: changes that were not here before.

    whole: False when it stopped at a reference to what is not here.
    """

    cursor: Cursor
    applied: int
    fresh: int
    unread: int
    whole: bool


def apply_page(store: Store, sealed: Envelope, now_ms: int) -> PageApplied:
    """Open a verified page and apply it. Raises MissingGrant, BadSignature, TooLarge, Unsupported, Malformed, or
    TheirBytes ``E_FEED_GAP`` and ``E_FEED_FORK`` for a page that does not follow the cursor: nothing was changed then.
    """
    page = feed_page.open_(sealed, _grant(store, sealed.header.grant))
    with begin_write(store.engine) as connection:
        at = outbox.cursor(connection)
        items = _unapplied(page, at)
        bodies = _bodies(connection, items)
        keys_of = _records_of(connection, bodies)
        held = ledger.load(connection, keys_of.values())
        here = {one.change.id: one.change for each in held.values() for one in each}
        arrived: list[Arrived] = []
        unread: list[tuple[int, bytes, str]] = []
        unreadable, erased = False, 0
        for item, body in zip(items, bodies, strict=True):
            if isinstance(body, Erased):
                at, erased = at.after(item.tag), erased + 1
                continue
            change = here.get(body) if isinstance(body, bytes) else body
            if change is None:
                break
            at = at.after(item.tag)
            why = _problem(item, change)
            if isinstance(change, HealthSyncError):
                unread.append((item.position, sealed.raw if not unreadable else b"", why))
                unreadable = True
            elif why:
                unread.append((item.position, change.raw, why))
            else:
                arrived.append(Arrived(Held(change, item.receipt_ms, item.origin), item.position, item.tag))
        applied = len(arrived) + len(unread) + erased
        arrived, aside = questioning.sort_out(connection, arrived, here, now_ms)
        questioning.put_aside(connection, aside, now_ms)
        kept = ledger.keep(connection, held, arrived)
        ordered = erasing.orders(one.held for one in arrived)
        for patient in ordered:
            erasing.obey(connection, patient, now_ms)
        if ordered:  # before the commit: were it cut off here, the order would come again
            migrations.drop_copy(store.config.database_path)
        _keep_unread(connection, unread)
        if applied:
            _keep_cursor(connection, at, now_ms)
            membership.put(connection, {membership.AHEAD: b""})
            _drop_finished(connection)
        if applied < len(items):
            _drop_reference(connection, items[applied])
    return PageApplied(at, applied, kept.fresh, len(unread), applied == len(items))


def apply_ahead(store: Store, sealed: Envelope, now_ms: int) -> PageApplied:
    """Apply a page ahead of the feed (PROTOCOL.md §10.5): a new device's next patients. Raises as `apply_page` does.

    The cursor stays at 0 until the last of these pages, and then stands where the hub noted the start. A page that does
    not follow this node's mark is passed over: it comes twice, or late.
    """
    page = ahead_page.open_(sealed, _grant(store, sealed.header.grant))
    with begin_write(store.engine) as connection:
        at = outbox.cursor(connection)
        raw = membership.get(connection, membership.AHEAD, b"")
        if at.position or not raw or page.before not in (ahead_page.BEGIN, ahead_page.parse_mark(raw)):
            return PageApplied(at, 0, 0, 0, True)
        arrived: list[Arrived] = []
        unread: list[tuple[int, bytes, str]] = []
        for item in page.items:
            if isinstance(item.body, Change) and not _problem(item, item.body):
                held = Held(item.body, item.receipt_ms, item.origin)
                arrived.append(Arrived(held, item.position, item.tag))
            elif isinstance(item.body, Change):
                unread.append((item.position, item.body.raw, _problem(item, item.body)))
            elif isinstance(item.body, HealthSyncError):
                unread.append((item.position, b"" if unread else sealed.raw, item.body.code))
        kept = ledger.keep(connection, ledger.load(connection, {one.held.change.key for one in arrived}), arrived)
        for patient in erasing.orders(one.held for one in arrived):
            erasing.obey(connection, patient, now_ms)
        _keep_unread(connection, unread)
        membership.put(connection, {membership.AHEAD: b"" if page.done else page.after.encode()})
        if page.done:
            at = page.after.start
            _keep_cursor(connection, at, now_ms)
            _drop_finished(connection)
    return PageApplied(at, max(1, len(page.items)), kept.fresh, len(unread), True)


def _grant(store: Store, name: GrantId) -> Grant | None:
    with begin_read(store.engine) as connection:
        secret = connection.exec_driver_sql(
            "SELECT secret FROM grant_ WHERE id = ? AND direction = ?", (name, keys.TO_NODE)
        ).scalar()
    return None if secret is None else Grant(secret, keys.TO_NODE, store.membership.environment)


def _unapplied(page: Page, at: Cursor) -> Sequence[Item]:
    """The items behind the cursor. Raises TheirBytes unless the page's chain runs through it."""
    if page.before.position > at.position:
        raise TheirBytes("a page of the feed leaves a gap behind what this node has", code="E_FEED_GAP")
    chain = page.before
    skip = at.position - page.before.position
    for item in page.items[:skip]:
        chain = chain.after(item.tag)
    if chain.position == at.position and chain.hash != at.hash:
        raise TheirBytes("a page of the feed belongs to another history than this node's", code="E_FEED_FORK")
    return page.items[skip:]


def _problem(item: Item, change: Change | HealthSyncError) -> str:
    """Why the item cannot be taken, as a code; empty when it can."""
    if isinstance(change, HealthSyncError):
        return change.code
    return "" if replica.allowed(change, item.origin) else NotAllowed.default_code


def _bodies(connection: Connection, items: Sequence[Item]) -> list[Change | ChangeId | Erased | HealthSyncError | None]:
    """What each item is about: references as the ids they stand for, None for what cannot be resolved."""
    names = {item.body.segment for item in items if isinstance(item.body, Reference)}
    ids: dict[EnvelopeId, list[ChangeId]] = {}
    for table in ("courier_segment", "envelope"):  # what went into a courier file may be in smaller envelopes by now
        query = f"SELECT id8, change_ids FROM {table} WHERE id8 IN ({{}})"
        ids |= {EnvelopeId(name): outbox.ids_in(found) for name, found in ledger.select_in(connection, query, names)}
    bodies: list[Change | ChangeId | Erased | HealthSyncError | None] = []
    for item in items:
        if isinstance(item.body, Reference):
            of_segment = ids.get(item.body.segment, [])
            bodies.append(of_segment[item.body.index] if 0 <= item.body.index < len(of_segment) else None)
        else:
            bodies.append(item.body)
    return bodies


def _records_of(
    connection: Connection, bodies: Iterable[Change | ChangeId | Erased | HealthSyncError | None]
) -> dict[ChangeId, RecordKey]:
    """Change id → its record."""
    found: dict[ChangeId, RecordKey] = {}
    names: list[ChangeId] = []
    for body in bodies:
        if isinstance(body, Change):
            found[body.id] = body.key
        elif isinstance(body, bytes):
            names.append(body)
    query = "SELECT id, kind, record FROM change WHERE id IN ({})"
    for name, kind, record in ledger.select_in(connection, query, names):
        found[ChangeId(name)] = RecordKey(kind, record)
    return found


def _keep_unread(connection: Connection, unread: Sequence[tuple[int, bytes, str]]) -> None:
    if unread:
        connection.exec_driver_sql(
            "INSERT INTO unread_item (position, raw, error) VALUES (?, ?, ?) ON CONFLICT (position) DO NOTHING",
            list(unread),
        )


def _drop_reference(connection: Connection, item: Item) -> None:
    """An envelope that the hub refers to and that does not say what it should: without it, full copies come."""
    if isinstance(item.body, Reference):
        outbox.drop(connection, [item.body.segment])


def _keep_cursor(connection: Connection, at: Cursor, now_ms: int) -> None:
    with Session(bind=connection) as rows:
        rows.merge(CursorRow(position=at.position, hash=at.hash, at_ms=now_ms))
        rows.flush()
    positions = [int(one) for (one,) in connection.exec_driver_sql("SELECT position FROM cursor")]
    gone = [(one,) for one in thinned(positions)]
    if gone:
        connection.exec_driver_sql("DELETE FROM cursor WHERE position = ?", gone)


def thinned(positions: Iterable[int]) -> list[int]:
    """Of past cursors, those to forget: what is left gets ever sparser with the distance to the newest.

    Of each doubling of the distance the nearest and the farthest stay, so that one is left when both move on.
    """
    ordered = sorted(positions, reverse=True)
    by_distance: dict[int, list[int]] = {}
    for one in ordered[1:]:
        by_distance.setdefault((ordered[0] - one).bit_length(), []).append(one)
    kept = CURSORS_A_DISTANCE // 2
    return [one for group in by_distance.values() for one in group[kept:-kept]]
