"""What a new or replaced device gets first: a feed's items up to a noted start, patient by patient (PROTOCOL.md §10.5).

Order: open referrals and the directory, then patients of whom something came in the last 90 days, then the rest. The
order is computed from the feed up to the start, which never changes, so it is the same with each request, and nothing
is remembered between them. Ranks come from what stands in the clear: a patient is open where there are more referrals
than replies, or than acknowledgements.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from hub_server import feed
from hub_server.database import Connection
from hub_server.feed import Stored
from hub_server.records import ORIGINS
from hub_server.store import Store
from hub_server.vault import PatientKey
from sync_protocol import ahead_page, feed_page
from sync_protocol import change as changes
from sync_protocol.ahead_page import BEGIN, AheadPage, Mark
from sync_protocol.change import ChangeId, PatientId
from sync_protocol.envelope import Envelope
from sync_protocol.errors import Malformed
from sync_protocol.feed_page import Cursor, Item
from sync_protocol.keys import Grant

LEAST_ITEMS: Final = 1_000  # a shorter feed is told in its order: it is there at once
RECENT_MS: Final = 90 * 86_400_000
ITEMS_A_READ: Final = 2_000
_BYTES_A_READ: Final = 2 * feed.READ_BYTES  # more than of a feed: each read ranks all of its patients
_BYTES_AN_ITEM: Final = 60  # sealed, about: how many items a limit in bytes is worth reading
_DIRECTORY: Final = ("person", "facility", "erasure")

_QUERY: Final = (
    "WITH ranked AS (SELECT patient, CASE WHEN bool_or(kind = ANY(%(directory)s))"
    " OR count(DISTINCT record) FILTER (WHERE kind = 'referral')"
    " > least(count(DISTINCT record) FILTER (WHERE kind = 'reply'),"
    " count(DISTINCT record) FILTER (WHERE kind = 'acknowledgement')) THEN 0"
    " WHEN max(receipt_ms) > %(recent)s THEN 1 ELSE 2 END AS rank"
    " FROM item WHERE facility = %(facility)s AND position <= %(start)s GROUP BY patient),"
    " next AS (SELECT r.rank, i.position, i.change, i.patient, i.receipt_ms, i.origin, i.tag, i.segment, i.segment_row,"
    " i.payload"
    " FROM ranked r JOIN item i ON i.facility = %(facility)s AND i.patient = r.patient"
    " WHERE i.position <= %(start)s AND (r.rank, i.patient, i.position) > (%(rank)s, %(patient)s, %(item)s)"
    " ORDER BY r.rank, i.patient, i.position LIMIT %(limit)s),"
    " measured AS (SELECT *, count(*) OVER () AS reached, sum(octet_length(payload))"
    " OVER (ORDER BY rank, patient, position) - octet_length(payload) AS before FROM next)"
    " SELECT reached, rank, position, change, patient, receipt_ms, origin, tag, segment, segment_row, payload"
    " FROM measured WHERE before < %(bytes)s ORDER BY rank, patient, position"
)


def wanted(connection: Connection, facility: str, raw: bytes, head: Cursor) -> Mark | None:
    """Where to go on for a node that shows this mark; None where it is to follow the feed itself."""
    if not raw or head.position < LEAST_ITEMS:
        return None
    try:
        mark = ahead_page.parse_mark(raw)
    except Malformed:
        return None
    if mark.start.position == 0 or not feed.holds(connection, facility, mark.start):
        return BEGIN
    return mark


def pages(store: Store, facility: str, mark: Mark, head: Cursor, grant: Grant, limit_bytes: int) -> Iterator[Envelope]:
    """The next pages behind the mark, as many as the limit allows; at least one. The last one says that it is."""
    start = mark.start if mark.start.position else head
    identity, sent = store.vault.identity, 0

    def sealed(page: AheadPage) -> Envelope:
        return ahead_page.seal(page, grant=grant, sender=identity.hub, signer=identity.signing, nonce=os.urandom(12))

    while True:
        count = max(1, min(ITEMS_A_READ, (limit_bytes - sent) // _BYTES_AN_ITEM))
        found, whole, opened = _read(store, facility, mark, start, count)
        for part in _sized(found):
            last = part[-1]
            after = Mark(start, last[0], last[1].patient, last[1].position)
            done = whole and last is found[-1]
            page = sealed(AheadPage(mark, after, done, tuple(_items(store, part, opened))))
            mark, sent = after, sent + len(page.raw)
            yield page
            if done or sent >= limit_bytes:
                return
        if not found:
            yield sealed(AheadPage(mark, Mark(start, mark.rank, mark.patient, mark.item), True, ()))
            return


def _read(
    store: Store, facility: str, mark: Mark, start: Cursor, count: int
) -> tuple[list[tuple[int, Stored]], bool, Mapping[PatientId, PatientKey]]:
    """The next items with their ranks, whether they are the last, and the keys of those that were not erased."""
    with store.database.transaction() as connection:
        rows = connection.execute(
            _QUERY,
            {
                "facility": facility,
                "start": start.position,
                "recent": _received_ms(connection, facility, start) - RECENT_MS,
                "directory": list(_DIRECTORY),
                "rank": mark.rank,
                "patient": mark.patient,
                "item": mark.item,
                "limit": count,
                "bytes": _BYTES_A_READ,
            },
            binary=True,
        ).fetchall()
        found = [(rank, Stored(*stored)) for _, rank, *stored in rows]
        reached = rows[0][0] if rows else 0
        kept = {PatientId(one.patient) for _, one in found if one.payload}
        whole = len(found) == reached < count
        return found, whole, store.keys_of(connection, list(kept)) if kept else {}


def _received_ms(connection: Connection, facility: str, start: Cursor) -> int:
    row = connection.execute(
        "SELECT receipt_ms FROM item WHERE facility = %s AND position = %s", (facility, start.position)
    ).fetchone()
    return int(row[0]) if row else 0


def _sized(found: Sequence[tuple[int, Stored]]) -> Iterator[Sequence[tuple[int, Stored]]]:
    """Parts of which each fits a page, even where nothing of it compresses."""
    begun = size_bytes = 0
    for at, (_, one) in enumerate(found):
        if at > begun and size_bytes + len(one.payload) > feed_page.PAGE_BYTES:
            yield found[begun:at]
            begun, size_bytes = at, 0
        size_bytes += len(one.payload)
    if found:
        yield found[begun:]


def _items(store: Store, part: Sequence[tuple[int, Stored]], opened: Mapping[PatientId, PatientKey]) -> Iterator[Item]:
    """Full copies of what was not erased, be it between the reading of the item and of its key."""
    for _, one in part:
        key = opened.get(PatientId(one.patient))
        if one.payload and key is not None:
            raw = store.vault.open_payload(key, one.payload, ChangeId(one.change))
            yield Item(one.position, changes.parse(raw), one.receipt_ms, ORIGINS[one.origin], one.tag)
