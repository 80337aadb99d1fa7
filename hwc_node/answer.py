"""The hub's answer, applied event by event: the same for what a link brought and for what somebody carried in a file.

Each event is verified before it gets here (`session.NodeSession`) and durable when `apply` returns. A page that does
not check out stops the pages of its answer, never the sending. It refuses to know how the answer came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hwc_node import inbox
from hwc_node.inbox import HeadsApplied
from hwc_node.outbox import Outgoing
from hwc_node.store import Store
from sync_protocol.errors import HealthSyncError, MissingGrant, TheirBytes
from sync_protocol.segment import Link
from sync_protocol.session import AheadArrived, GrantArrived, HeadsArrived, NodeEvent, NoticeArrived, PageArrived
from sync_protocol.wire import Heads, Notice, NoticeKind

_MOVING: Final = frozenset({NoticeKind.CURSOR, NoticeKind.QUARANTINED, NoticeKind.REFUSED})


@dataclass(slots=True)
class ExchangeResult:
    """What one request and its answer did. advanced: something moved, so that another one is not the same again.

    begun: a byte of the request may have left. page_error: a page could not be taken in; the rest of the answer was.
    heads: None unless the answer came whole.
    """

    sent_segments: int = 0
    sent_changes: int = 0
    received_changes: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    notices: list[str] = field(default_factory=list)
    begun: bool = False
    advanced: bool = False
    revoked: bool = False
    page_error: HealthSyncError | None = None
    heads: Heads | None = None


class Answer:
    """One answer to one request. done: filled as it goes. heads: once they came."""

    def __init__(self, store: Store, outgoing: Outgoing, done: ExchangeResult) -> None:
        self.store = store
        self.outgoing = outgoing
        self.done = done
        self.heads: Heads | None = None
        self._skip_pages = False

    def apply(self, event: NodeEvent, now_ms: int) -> None:
        done = self.done
        if isinstance(event, HeadsArrived):
            self.heads = event.heads
            held = self.take_heads(event.heads, now_ms)
            done.sent_segments += held.held_segments
            done.sent_changes += held.held_changes
            done.advanced = done.advanced or held.held_segments > 0
        elif isinstance(event, NoticeArrived):
            if self.is_news(event.notice):
                done.notices.append(inbox.apply_notice(self.store, event.notice, now_ms))
                done.revoked = done.revoked or event.notice.kind == NoticeKind.REVOKED
                done.advanced = done.advanced or event.notice.kind in _MOVING
        elif not self._skip_pages:
            self._take_in(event, now_ms)

    def take_heads(self, heads: Heads, now_ms: int) -> HeadsApplied:
        return inbox.apply_heads(self.store, self.outgoing, heads, now_ms)

    def is_news(self, notice: Notice) -> bool:
        """Whether to act on it: always, where the answer came at once."""
        return True

    def close(self, heads: Heads, now_ms: int, link: Link | None) -> None:
        """The answer ended whole. link: what is believed of it now."""
        done = self.done
        inbox.close_answer(self.store, self.outgoing, heads, now_ms, link=link, revoked=done.revoked)
        done.heads = heads
        done.advanced = done.advanced or self.outgoing.alone

    def _take_in(self, event: GrantArrived | PageArrived | AheadArrived, now_ms: int) -> None:
        """A grant or a page. One that does not check out stops the pages of this answer, never the sending."""
        try:
            if isinstance(event, GrantArrived):
                inbox.apply_grant(self.store, event.payload, now_ms)
                return
            apply = inbox.apply_ahead if isinstance(event, AheadArrived) else inbox.apply_page
            page = apply(self.store, event.envelope, now_ms)
        except TheirBytes as error:
            if isinstance(error, MissingGrant):
                inbox.forget_hub_grant(self.store)
            self.done.page_error = error
            self._skip_pages = True
            return
        self.done.received_changes += page.fresh
        self.done.advanced = self.done.advanced or page.applied > 0
        self._skip_pages = not page.whole
