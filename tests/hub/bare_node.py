"""A node without a store: keys, a few changes in a list, and the real protocol code. For tests of the hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from hub_server import nodes
from hub_server.database import Database
from hub_server.vault import Vault
from sync_protocol import ahead_page, envelope, feed_page, keys, replica, segment
from sync_protocol.canonical import Value
from sync_protocol.change import Change, FacilityCode, NodeId, PatientId, PersonId, RecordId, RecordKey
from sync_protocol.feed_page import Cursor, Item
from sync_protocol.hlc import Hlc
from sync_protocol.keys import Grant, Identity, Recipient
from sync_protocol.replica import Author
from sync_protocol.schema import Writer
from sync_protocol.segment import Packed
from sync_protocol.session import AheadArrived, GrantArrived, NodeSession, NodeView, NoticeArrived, PageArrived
from sync_protocol.wire import Heads, Notice

NOW_MS = 1_700_000_000_000


@dataclass
class BareNode:
    vault: Vault
    facility: FacilityCode
    node: NodeId = field(default_factory=lambda: NodeId(os.urandom(16)))
    person: PersonId = field(default_factory=lambda: PersonId(os.urandom(16)))
    identity: Identity = field(default_factory=lambda: Identity(os.urandom(32)))
    recipient: Recipient = field(default_factory=lambda: Recipient(os.urandom(64), os.urandom(32)))
    cursor: Cursor = field(default_factory=Cursor)
    nonce: bytes = b""
    stamp: int = NOW_MS << 16
    hub_grant: Grant | None = None
    items: list[Item] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    grant: Grant = field(init=False)

    def __post_init__(self) -> None:
        self.grant = Grant(os.urandom(32), keys.TO_HUB, self.vault.identity.environment)

    def enrolment(self, secret: bytes) -> bytes:
        """A sealed enrolment request."""
        asked = keys.EnrolmentRequest(
            1, secret, self.node, "laptop", self.identity.public, self.recipient.public.public
        )
        environment = self.vault.identity.environment
        signed = keys.sign_document(asked, self.identity, environment)
        return keys.hpke_seal(self.vault.identity.ingest.public, signed, nodes.ENROL_INFO + environment)

    def enrol(self, database: Database) -> None:
        with database.transaction() as connection:
            code = nodes.new_code(
                connection, self.vault, self.facility, "http://127.0.0.1:1", valid_ms=1000, now_ms=NOW_MS
            )
            answer = nodes.enrol(connection, self.vault, self.enrolment(code.secret), NOW_MS)
        certificate, hub_keys, _, _ = msgspec.msgpack.decode(answer)
        listed = keys.verify_hub_keys(hub_keys, code.root_fingerprint)
        keys.verify_document(
            certificate, keys.Certificate, keys.Verifier(listed.root_key), keys.EnvironmentId(listed.environment)
        )

    def write(
        self,
        kind: str,
        writes: dict[str, Value],
        *,
        record: bytes | None = None,
        patient: bytes | None = None,
        shown: dict[str, list[bytes]] | None = None,
        writer: Writer = Writer.CENTRE,
    ) -> Change:
        self.stamp += 1 << 16
        name = record or os.urandom(16)
        by = Author(writer, self.facility, self.node, self.person, Hlc(self.stamp), 0, b"s" * 16)
        key = RecordKey(kind, RecordId(name))
        return replica.author(by, key, PatientId(patient or name), writes, shown)  # type: ignore[arg-type]

    def pack(self, batch: Sequence[Change]) -> Packed:
        return segment.pack(
            batch,
            segment.MAX_SEGMENT_BYTES,
            lane=min(segment.lane_of(change) for change in batch),
            grant=self.grant,
            sender=self.node,
            signer=self.identity,
            nonce=os.urandom(12),
        )

    def grant_frame(self) -> bytes:
        identity = self.vault.identity
        return keys.seal_grant(
            self.grant, self.node, self.identity, identity.ingest.public, keys.ROLE_INGEST, NOW_MS, keys.hpke_seal
        )

    def session(self, awaiting: Sequence[envelope.EnvelopeId] = (), ahead: bytes = b"") -> NodeSession:
        identity = self.vault.identity
        return NodeSession(
            NodeView(
                identity.environment,
                self.node,
                self.identity,
                identity.hub,
                identity.signing.verifier,
                self.cursor,
                nonce=self.nonce,
                awaiting=tuple(awaiting),
                hub_grant=self.hub_grant.id if self.hub_grant else b"",
                wall_ms=NOW_MS,
                ahead=ahead,
            )
        )

    def read(self, asked: NodeSession, answer: bytes) -> Heads:
        """Take an answer in: cursor, items and notices."""
        for event in asked.read(answer):
            if isinstance(event, GrantArrived):
                identity = self.vault.identity
                self.hub_grant = keys.open_grant(
                    event.payload, identity.signing.verifier, self.recipient, identity.environment
                )
            elif isinstance(event, PageArrived):
                page = feed_page.open_(event.envelope, self.hub_grant)
                assert page.before == self.cursor
                self.cursor = page.after
                self.items += page.items
            elif isinstance(event, AheadArrived):
                self.items += ahead_page.open_(event.envelope, self.hub_grant).items
            elif isinstance(event, NoticeArrived):
                self.notices.append(event.notice)
        heads = asked.finish()
        self.nonce = heads.nonce
        return heads
