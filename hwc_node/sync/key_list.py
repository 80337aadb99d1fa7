"""The hub's key list, fetched anew: the hub has another signing or ingest key (PROTOCOL.md §7.4).

It is believed for the root key's signature alone, whose fingerprint this node has kept since its enrolment; an older
list than the one that is here is not. Then what did not verify is asked for again, without a person.
"""

from __future__ import annotations

import hmac
from typing import Final, Protocol

from hwc_node import membership
from hwc_node.engine import begin_write
from hwc_node.store import Store
from sync_protocol import keys
from sync_protocol.errors import BadSignature

KEYS_PATH: Final = "/v1/keys"


class Library(Protocol):
    """What fetches a small document from the hub."""

    def get_document(self, path: str, limit_bytes: int) -> bytes: ...


def refresh(store: Store, library: Library) -> bool:
    """Whether there was a newer list, which is kept now. Raises HubOutOfReach, Malformed, or BadSignature
    (``E_WRONG_HUB``; ``E_KEYS_OLDER`` for a list that is older than the one here)."""
    raw = library.get_document(KEYS_PATH, keys.MAX_DOCUMENT_BYTES)
    member = store.membership
    listed = keys.verify_hub_keys(raw, member.root_fingerprint)
    if not (
        hmac.compare_digest(listed.environment, member.environment) and hmac.compare_digest(listed.hub, member.hub)
    ):
        raise BadSignature("the key list is another hub's", code="E_WRONG_HUB")
    if listed.serial < member.hub_keys.serial:
        raise BadSignature("the hub's key list is older than the one that is here", code="E_KEYS_OLDER")
    if listed.serial == member.hub_keys.serial:
        return False
    with begin_write(store.engine) as connection:
        membership.put(connection, {membership.HUB_KEYS: raw})
    store.forget_membership()
    return True
