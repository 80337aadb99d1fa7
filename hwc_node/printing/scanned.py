"""A slip that somebody scans at a centre: one's own leads to the referral, another's is shown for what it is worth.

A node knows its own key and the hub's, not other computers': what another signed is shown with the words that it was not
checked here. Reading a slip changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwc_node.store import Store
from sync_protocol import slip
from sync_protocol.change import RecordKey
from sync_protocol.slip import Summary


@dataclass(frozen=True, slots=True)
class Scanned:
    """checked: this computer signed it, and it is whole. own_centre: a computer of this centre says that it signed it.

    is_here: the referral itself is on this computer.
    """

    summary: Summary
    checked: bool
    own_centre: bool
    is_here: bool


def read(store: Store, text: str) -> Scanned:
    """Raises what `slip.parse` does, and BadSignature for what claims to be of this computer and is not."""
    member, found = store.membership, slip.parse(text)
    checked = found.node == member.node
    if checked:
        found.verify(member.identity.verifier, member.environment)
    is_here = store.record(RecordKey("referral", found.referral)) is not None
    return Scanned(found.summary, checked, found.facility == member.facility, is_here)
