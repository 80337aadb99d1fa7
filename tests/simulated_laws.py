"""The laws that must hold in a simulated world: some at any moment, the rest once every link is up and all is at rest.

Seen from the machines' disks only, and against the naive merge. What is lost with a disk, and stood nowhere else, is
nobody's to bring back; everything else must come back by itself, with the receipt that it had (DESIGN §6).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from sync_protocol import feed_page, merge, segment
from sync_protocol.change import Change, ChangeId, FacilityCode, PatientId, RecordKey
from sync_protocol.errors import HealthSyncError
from sync_protocol.merge import Held
from tests import naive_merge
from tests.simulated_hub import Feed, Hub, State, tag_of
from tests.simulated_node import Node

Naive = dict[tuple[RecordKey, str], naive_merge.NaiveField]


class Broken(AssertionError):
    """A law does not hold in this world."""


def check_durable(nodes: Iterable[Node], hub: Hub) -> None:
    """Law 3, at any moment: what a person was told is saved is here; what a node was told is held is at the hub."""
    for node in nodes:
        for name in sorted(node.told - node.disk.held.keys()):
            raise Broken(f"law 3: node {node.number} lost {name.hex()}")
        for segment_id in sorted(node.acknowledged - hub.disk.segments.keys()):
            raise Broken(f"law 3: the hub lost segment {segment_id.hex()} that it had acknowledged")


def existing(nodes: Iterable[Node], hub: Hub) -> set[ChangeId]:
    """What some machine has that may give it back: a node that is not revoked, or the hub in what it can open."""
    there = {name for node in nodes if not _is_revoked(node, hub) for name in node.disk.held} | hub.disk.held.keys()
    for kept in hub.disk.segments.values():
        if kept.state is State.ADMITTED and not kept.bad:
            continue
        try:
            contents = segment.unpack(kept.sealed, hub.disk.grants.get(kept.sealed.header.grant))
        except HealthSyncError:
            continue
        there.update(one.id for one in contents.outcomes if isinstance(one, Change))
    return there


def known_receipts(nodes: Iterable[Node], hub: Hub) -> dict[ChangeId, int]:
    """The earliest receipt of each change that the hub has, or a node can show to it."""
    known: dict[ChangeId, int] = {name: held.receipt_ms or 0 for name, held in hub.disk.held.items()}
    for node in nodes:
        if not _is_revoked(node, hub):
            for name, voucher in node.disk.vouchers.items():
                known[name] = min(voucher.receipt_ms, known.get(name, voucher.receipt_ms))
    return known


def _is_revoked(node: Node, hub: Hub) -> bool:
    return hub.disk.nodes[node.id].revoked


def check_admitted(nodes: Iterable[Node], hub: Hub, lasting: Mapping[ChangeId, Change]) -> None:
    """Laws 3 and 6: everything that still exists anywhere is at the hub, but for what no hub may take."""
    heard = [node for node in nodes if not _is_revoked(node, hub)]
    hidden = {node.id for node in nodes if _is_revoked(node, hub)}
    here = {name: held.change for node in heard for name, held in node.disk.held.items()}
    for name, change in (here | {name: one for name, one in lasting.items() if one.node not in hidden}).items():
        forbidden = change.kind == "reply" and change.node in {node.id for node in nodes}
        if (name in hub.disk.held) == forbidden:
            raise Broken(f"law 3: {change.kind} {name.hex()} is not where it belongs")
        for node in heard:
            if forbidden and name in node.disk.held and name not in node.disk.aside:
                raise Broken(f"a forbidden {name.hex()} of node {node.number} is not shown as set aside")


def check_receipts(hub: Hub, before: Mapping[ChangeId, int]) -> None:
    """Law 13: whatever was put back, the earliest receipt that is known anywhere is the one that counts in the end."""
    for facility, feed in hub.disk.feeds.items():
        for name, receipt_ms in feed.known.items():
            change = hub.disk.held[name].change
            belongs = change.facility == facility or facility in hub.disk.subscribed[change.patient]
            if belongs and receipt_ms > before.get(name, receipt_ms):
                raise Broken(f"law 13: {change.kind} {name.hex()} has a later receipt than before")


def check_ledger(hub: Hub) -> None:
    """A hub that was put back knows what was decided since: who is enrolled, revoked, subscribed."""
    follows: dict[tuple[PatientId, FacilityCode], bool] = {}
    for line in hub.ledger:
        if line.word == "enrolled" and line.node not in hub.disk.nodes:
            raise Broken(f"the hub has forgotten node {line.number}")
        if line.word == "revoked" and not hub.disk.nodes[line.node].revoked:
            raise Broken(f"the hub has forgotten that node {line.node.hex()} is revoked")
        if line.word in ("subscribed", "unsubscribed"):
            follows[line.patient, line.facility] = line.word == "subscribed"
    for (patient, facility), subscribed in follows.items():
        if subscribed and facility not in hub.disk.subscribed.get(patient, ()):
            raise Broken(f"the hub has forgotten that {facility} follows a patient")


def check_feeds(nodes: Iterable[Node], hub: Hub) -> None:
    """Laws 1, 4 and 13, feed by feed, with the nodes that follow it."""
    for facility, feed in hub.disk.feeds.items():
        _check_feed(hub, facility, feed)
        held = [
            Held(hub.disk.held[name].change, receipt_ms, hub.disk.held[name].origin)
            for name, receipt_ms in feed.known.items()
        ]
        expected, digest = _naive(held)
        for node in nodes:
            if node.facility == facility and not _is_revoked(node, hub):
                _check_replica(node, feed, {one.change.id: one for one in held}, expected, digest)


def _check_feed(hub: Hub, facility: FacilityCode, feed: Feed) -> None:
    """Law 4: dense, hashed, and holding what belongs in it."""
    running = feed_page.FIRST_HASH
    for at, (name, receipt_ms) in enumerate(feed.items):
        running = feed_page.next_hash(running, tag_of(name, hub.disk.held[name].origin, receipt_ms))
        if running != feed.hashes[at + 1]:
            raise Broken(f"law 4: the feed of {facility} does not run through position {at + 1}")
    if len(feed.hashes) != len(feed.items) + 1:
        raise Broken(f"law 4: the feed of {facility} has other hashes than items")
    earliest: dict[ChangeId, int] = {}
    for name, receipt_ms in feed.items:
        if receipt_ms >= earliest.get(name, receipt_ms + 1):
            raise Broken(f"law 4: the feed of {facility} repeats a change")
        earliest[name] = receipt_ms
    if earliest != feed.known:
        raise Broken(f"law 4: the feed of {facility} does not know what it holds")
    for name, held in hub.disk.held.items():
        change = held.change
        mine = change.facility == facility or facility in hub.disk.subscribed.get(change.patient, ())
        once = mine or (change.patient, facility) in hub.ever
        if (mine and name not in feed.known) or (name in feed.known and not once):
            raise Broken(f"law 4: {change.kind} {name.hex()} is not in the feeds where it belongs")


def _check_replica(node: Node, feed: Feed, held: Mapping[ChangeId, Held], expected: Naive, digest: int) -> None:
    """Laws 1 and 13: a node at the head of its feed shows what the naive merge of that feed shows."""
    who = f"node {node.number}"
    disk = node.disk
    if node.at != len(feed.items) or disk.cursor.hash != feed.hashes[-1] or disk.unread:
        raise Broken(f"{who} stands at {node.at} of {len(feed.items)}, {disk.unread} unread")
    if disk.positions != {name: at + 1 for at, (name, _) in enumerate(feed.items)}:
        raise Broken(f"law 4: {who} has other positions than its feed")
    if set(disk.held) != feed.known.keys() | set(disk.aside):
        raise Broken(f"{who} holds other changes than its feed")
    for name, expected_held in held.items():
        if disk.held[name] != expected_held:
            raise Broken(f"{who} has another receipt or origin of {name.hex()} than the hub")
    shown = {
        (key, name): naive_merge.NaiveField(one.value, one.names, one.conflict)
        for key in disk.records
        if key.kind != "reply" or disk.records[key][0] not in disk.aside
        for record in [node.record(key)]
        for name in record.fields
        if (one := record.shown(name)) is not None
    }
    if shown != expected:
        raise Broken(f"law 1: {who} shows something else than the naive merge")
    if node.digest != digest:
        raise Broken(f"law 13: {who} has another digest than the naive merge")


def _naive(held: list[Held]) -> tuple[Naive, int]:
    """What the naive merge shows of these changes, record by record, and its digest."""
    by_record: dict[RecordKey, list[Held]] = {}
    for one in held:
        by_record.setdefault(one.change.key, []).append(one)
    shown: Naive = {}
    digest = 0
    for key, of_record in by_record.items():
        fields = naive_merge.state(of_record).get(key, {})
        shown |= {(key, name): one for name, one in fields.items()}
        digest += naive_merge.digest(of_record)
    return shown, merge.add_digests([digest])


def hash_of(held: dict[ChangeId, Held]) -> str:
    text = "".join(f"{name.hex()} {one.receipt_ms} {one.origin.value}\n" for name, one in held.items())
    return hashlib.sha256(text.encode()).hexdigest()
