"""What a node lacks, page by page, made while the link takes it (PROTOCOL.md §9.4, §10).

A generator reads some items in a transaction of its own, ends that, and then seals page after page: nothing of the
database is held while a slow link takes one. A page is made when the one before it is gone, so that the hub reads on
while the node applies. It refuses to know how frames travel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hub_server import ahead, feed
from hub_server.answers import Asking
from hub_server.feed import Stored
from hub_server.records import ORIGINS
from hub_server.store import Store
from hub_server.vault import PatientKey
from sync_protocol import change as changes
from sync_protocol import feed_page, session
from sync_protocol.ahead_page import Mark
from sync_protocol.change import ChangeId, PatientId
from sync_protocol.envelope import Envelope, EnvelopeId
from sync_protocol.feed_page import Cursor, Erased, Item, Reference
from sync_protocol.keys import Grant

ITEMS_A_PAGE: Final = 400  # one page is one transaction at the node: about 16 KiB on the wire
_BYTES_AN_ITEM: Final = 40  # on the wire, as measured; turns the node's limit into a number of items


def frames(
    store: Store, asking: Asking, head: Cursor, grant: Grant, mark: Mark | None, limit_bytes: int
) -> Iterator[bytes]:
    """FEED frames behind the node's cursor, or AHEAD frames behind the mark; as many as the limit allows, at least one.

    head: as HEADS told it. Raises DatabaseAway; what came before stands.
    """
    if mark is not None:
        for page in ahead.pages(store, asking.node.facility, mark, head, grant, limit_bytes):
            yield session.ahead_frame(page)
    else:
        for page in _pages(store, asking, head, grant, limit_bytes):
            yield session.feed_frame(page)


def _pages(store: Store, asking: Asking, head: Cursor, grant: Grant, limit_bytes: int) -> Iterator[Envelope]:
    """Pages after the cursor up to the head."""
    identity, cursor, named = store.vault.identity, asking.cursor, set(asking.named)
    wanted = min(max(1, limit_bytes // _BYTES_AN_ITEM), head.position - cursor.position)
    sent = 0
    while wanted > 0:
        stored, opened = _read(store, asking, cursor, min(wanted, ITEMS_A_PAGE), named)
        if not stored:
            return
        for part in _sized(stored, named):
            page = feed_page.seal(
                cursor,
                _items(store, part, named, opened),
                grant=grant,
                sender=identity.hub,
                signer=identity.signing,
                nonce=os.urandom(12),
            )
            for one in part:
                cursor = cursor.after(one.tag)
            yield page
            sent += len(page.raw)
            wanted -= len(part)
            if sent >= limit_bytes:
                return


def _read(
    store: Store, asking: Asking, cursor: Cursor, count: int, named: set[EnvelopeId]
) -> tuple[Sequence[Stored], Mapping[PatientId, PatientKey]]:
    """The next items, and the keys of those that are sent in full."""
    with store.database.transaction() as connection:
        stored = feed.after(connection, asking.node.facility, cursor.position, count)
        full = {PatientId(one.patient) for one in stored if one.segment not in named and one.payload}
        return stored, store.keys_of(connection, list(full)) if full else {}


def _items(
    store: Store, stored: Sequence[Stored], named: set[EnvelopeId], opened: Mapping[PatientId, PatientKey]
) -> list[Item]:
    items = []
    for one in stored:
        body: Any
        key = opened.get(PatientId(one.patient))
        if one.payload and one.segment in named:
            body = Reference(EnvelopeId(one.segment), one.segment_row)
        elif one.payload and key is not None:
            body = changes.parse(store.vault.open_payload(key, one.payload, ChangeId(one.change)))
        else:  # erased, be it between the reading of the item and of its key
            items.append(Item(one.position, Erased(), 0, ORIGINS[0], one.tag))
            continue
        items.append(Item(one.position, body, one.receipt_ms, ORIGINS[one.origin], one.tag))
    return items


def _sized(stored: Sequence[Stored], named: set[EnvelopeId]) -> Iterator[Sequence[Stored]]:
    """The items in parts of which each fits a page, even where nothing of it compresses."""
    begun = size_bytes = 0
    for at, one in enumerate(stored):
        one_bytes = 0 if one.segment in named else len(one.payload)
        if at > begun and size_bytes + one_bytes > feed_page.PAGE_BYTES:
            yield stored[begun:at]
            begun, size_bytes = at, 0
        size_bytes += one_bytes
    yield stored[begun:]
