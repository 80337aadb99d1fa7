"""The certificate of the centre's own pages: when it is made anew, and where its parts lie (PROTOCOL.md §12).

    the encrypted database      the authority of this centre (`local_ca`), its key included
    ``https.pem`` in the home   the server's key and certificate, and the authority's certificate; mode 0600

Rules. The authority never leaves the database but for its certificate. What the server needs lies outside, since the lock
screen is served before anybody has unlocked; it is replaced as a whole, and made anew whenever the database is open and
the machine is called something else, or a third of its time is left. The time is not the machine's clock alone: the hub
has said what it was (§2). One home has one authority, however many programs ask for it at once.

It refuses to know how pages are served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hwc_node import files, lan, local_ca, membership
from hwc_node.config import NodeConfig
from hwc_node.engine import begin_read, begin_write
from hwc_node.local_ca import Authority, Issued, Name
from hwc_node.store import Store
from sync_protocol import keys
from sync_protocol.errors import HealthSyncError, Malformed
from sync_protocol.keys import Certificate

LONGEST_AWAY_MS: Final = 2 * 365 * local_ca.DAY_MS
"""Since the hub last told the time: a clock that is further on is a wrong clock, and not a centre that was away."""


def names_of(host: str) -> list[Name]:
    """What a server that listens at ``host`` is called: by this machine itself, and by the phones on its network."""
    local = lan.local_name()
    return [*lan.addresses(host), *lan.LOOPBACK, lan.LOCALHOST, *([local] if local else [])]


def authority(store: Store) -> Authority:
    """This centre's authority; made where there is none yet. Raises NeedsPerson (``E_NOT_ENROLLED``) or the disk's."""
    member = store.membership
    with begin_read(store.engine) as connection:
        kept = membership.get(connection, membership.LOCAL_CA)
    if kept is not None:
        return Authority(*kept)
    with begin_write(store.engine) as connection:
        kept = membership.get(connection, membership.LOCAL_CA)  # nobody makes another from here on
        if kept is None:
            made = local_ca.make(f"{member.facility} {member.facility_name}")
            kept = [made.certificate, made.key]
            membership.put(connection, {membership.LOCAL_CA: kept})
    return Authority(*kept)


def fingerprint(store: Store) -> str | None:
    """Of the authority, as `local_ca.fingerprint`; None where there is none yet. Makes nothing."""
    with begin_read(store.engine) as connection:
        kept = membership.get(connection, membership.LOCAL_CA)
    return None if kept is None else local_ca.fingerprint(kept[0])


def on_disk(config: NodeConfig) -> Issued | None:
    """What the server's file says; None where there is none, or it cannot be used. Opens no database."""
    try:
        return local_ca.read(files.read(config.https_path, local_ca.MAX_FILE_BYTES))
    except HealthSyncError:
        return None


def current(store: Store, names: Sequence[Name], now_ms: int) -> Issued:
    """The server's certificate for these names, made anew where that is due.

    Raises OurFault (the disk's): what was there before still is. now_ms: this machine's clock.
    """
    issuer = authority(store)
    with begin_read(store.engine) as connection:
        believed_ms = believed(membership.get_all(connection), now_ms)
    found = on_disk(store.config)
    if found is not None and not local_ca.is_due(found, issuer, names, believed_ms):
        return found
    pem = local_ca.issue(issuer, names, believed_ms)
    files.replace(store.config.https_path, pem)
    return local_ca.read(pem)


def believed(values: Mapping[str, Any], now_ms: int) -> int:
    """The time as far as it can be known: the clock, unless the hub has told that it is wrong.

    values: of the node's membership. A clock that stood ahead when the hub last told its time is put back by as much;
    one that stands before what the hub told, or beyond any time that a centre is away, counts for nothing.
    """
    told_ms = max(values.get(membership.HUB_TIME_MS) or 0, _certified_ms(values))
    clock_ms = now_ms - max(values.get(membership.CLOCK_ERROR_MS) or 0, 0)
    return clock_ms if told_ms <= clock_ms <= told_ms + LONGEST_AWAY_MS else told_ms


def _certified_ms(values: Mapping[str, Any]) -> int:
    """When the hub certified this node: by the hub's clock, and the first time that it told."""
    try:
        return keys.read_document(values.get(membership.CERTIFICATE) or b"", Certificate)[0].issued_ms
    except Malformed:
        return 0
