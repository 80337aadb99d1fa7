"""A crowd of nodes at one hub: thousands, each with a facility, keys, a cursor and the real protocol code.

A node of `hwc_node` has an encrypted database; three thousand of those take long to make and tell nothing of the hub.
These keep in memory what they need, and say to the hub byte for byte what a node says: an enrolment, a grant, hellos,
segments of made-up visits. They read every answer with the node's half of the exchange, and hold it to be right.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from bench.places import HubPlace, database_url, hold
from bench.visits import Visits
from hub_server import config as hub_settings
from hub_server import facilities, nodes
from hub_server.database import Database
from hub_server.facilities import Facility
from hub_server.ledger import Ledger
from hub_server.vault import Vault, load_or_make
from sync_protocol import documents, envelope, feed_page, hlc, keys, replica, segment, wire
from sync_protocol.change import Change, FacilityCode, NodeId, PatientId, PersonId, RecordKey
from sync_protocol.envelope import EnvelopeId
from sync_protocol.feed_page import Cursor
from sync_protocol.hlc import Hlc
from sync_protocol.keys import Grant, Identity, Recipient
from sync_protocol.replica import Author
from sync_protocol.schema import Writer
from sync_protocol.session import GrantArrived, NodeSession, NodeView, NoticeArrived, PageArrived
from sync_protocol.wire import Heads

SEED: Final = 9
NODES_A_COMMIT: Final = 100
CODE_VALID_MS: Final = 3_600_000
CONSULTATIONS: Final = 10_000  # far more than any node here ever needs; they are drawn one by one
ANSWER_BYTES: Final = 64 * 1024


@dataclass
class CrowdNode:
    """One node. `request` makes its next request, `read` takes the answer to that one in."""

    vault: Vault
    number: int
    node: NodeId = field(default_factory=lambda: NodeId(os.urandom(16)))
    person: PersonId = field(default_factory=lambda: PersonId(os.urandom(16)))
    identity: Identity = field(default_factory=lambda: Identity(os.urandom(32)))
    recipient: Recipient = field(default_factory=lambda: Recipient(os.urandom(64), os.urandom(32)))
    cursor: Cursor = field(default_factory=Cursor)
    nonce: bytes = b""
    hub_grant: Grant | None = None
    awaiting: list[EnvelopeId] = field(default_factory=list)
    grant: Grant = field(init=False)
    _changes: Iterator[Change] = field(init=False, repr=False)
    _asked: NodeSession | None = field(default=None, repr=False)
    _sent: list[EnvelopeId] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.grant = Grant(os.urandom(32), keys.TO_HUB, self.vault.identity.environment)
        self._changes = self._author()

    @property
    def facility(self) -> FacilityCode:
        return FacilityCode(f"HWC{self.number:06d}")

    def _author(self) -> Iterator[Change]:
        salts: dict[PatientId, bytes] = {}
        stamp = Hlc(0)
        for line in Visits(self.number, SEED).documents(CONSULTATIONS):
            parsed = documents.parse(line, facility=self.facility)
            for document in (parsed, *parsed.extra):
                patient = document.patient or PatientId(document.record)
                stamp = hlc.tick(stamp, line["at"])
                salt = salts.setdefault(patient, os.urandom(16))
                by = Author(Writer.CENTRE, self.facility, self.node, self.person, stamp, 0, salt)
                yield replica.author(by, RecordKey(document.kind, document.record), patient, document.writes)

    # -- a request and its answer

    def request(self, changes: int, *, with_grant: bool = False) -> bytes:
        """The body of the next request, with so many new changes in one segment."""
        self._asked = NodeSession(self._view())
        sealed = [self._seal(list(islice(self._changes, changes)))] if changes else []
        self._sent = [one.id for one in sealed]
        return b"".join(self._asked.request(self._grants() if with_grant else (), [one.raw for one in sealed]))

    def long_request(self, changes: int) -> bytes:
        """The body of a request with a long backlog: its grant, and so many new changes in large segments."""
        self._asked = NodeSession(self._view())
        pending = list(islice(self._changes, changes))
        sealed = []
        while pending:
            packed = self._pack(pending)
            sealed.append(packed.envelope)
            pending = pending[len(packed.changes) :]
        hold(len(sealed) <= wire.MAX_AWAITING, "a backlog is too long for one request")
        self._sent = [one.id for one in sealed]
        return b"".join(self._asked.request(self._grants(), [one.raw for one in sealed]))

    def _view(self) -> NodeView:
        hub = self.vault.identity
        return NodeView(
            hub.environment,
            self.node,
            self.identity,
            hub.hub,
            hub.signing.verifier,
            self.cursor,
            nonce=self.nonce,
            awaiting=tuple(self.awaiting),
            hub_grant=self.hub_grant.id if self.hub_grant else b"",
            max_answer_bytes=ANSWER_BYTES,
            wall_ms=now_ms(),
        )

    def _pack(self, batch: Sequence[Change]) -> segment.Packed:
        return segment.pack(
            batch,
            segment.MAX_SEGMENT_BYTES,
            lane=min(segment.lane_of(change) for change in batch),
            grant=self.grant,
            sender=self.node,
            signer=self.identity,
            nonce=os.urandom(envelope.NONCE_BYTES),
        )

    def _seal(self, batch: Sequence[Change]) -> envelope.Envelope:
        packed = self._pack(batch)
        hold(len(packed.changes) == len(batch), "the changes do not fit one segment")
        return packed.envelope

    def _grants(self) -> list[bytes]:
        to, role = self.vault.identity.ingest.public, keys.ROLE_INGEST
        return [keys.seal_grant(self.grant, self.node, self.identity, to, role, now_ms(), keys.hpke_seal)]

    def read(self, answer: bytes) -> Heads:
        """Take the answer in, verified: nonce, cursor, what is held. Raises StepFailed or the protocol's errors."""
        asked = self._asked
        if asked is None:
            raise AssertionError("nothing was asked")
        for event in asked.read(answer):
            if isinstance(event, GrantArrived):
                hub = self.vault.identity
                self.hub_grant = keys.open_grant(event.payload, hub.signing.verifier, self.recipient, hub.environment)
            elif isinstance(event, PageArrived):
                page = feed_page.open_(event.envelope, self.hub_grant)
                hold(page.before == self.cursor, "a page does not follow the cursor")
                self.cursor = page.after
            hold(not isinstance(event, NoticeArrived), "the hub sent a notice")
        heads = asked.finish()
        hold(set(self._sent) <= set(wire.split_ids(heads.held)), "a segment is not held")
        self.nonce = heads.nonce
        behind = heads.feed_position > self.cursor.position or set(self._sent) - set(wire.split_ids(heads.admitted))
        self.awaiting = [*self.awaiting, *self._sent] if behind else []
        return heads

    # -- enrolment

    def enrolment(self, secret: bytes) -> bytes:
        """The sealed request that carries a one-time code."""
        hub, sealing = self.vault.identity, self.recipient.public.public
        asked = keys.EnrolmentRequest(1, secret, self.node, "laptop", self.identity.public, sealing)
        signed = keys.sign_document(asked, self.identity, hub.environment)
        return keys.hpke_seal(hub.ingest.public, signed, nodes.ENROL_INFO + hub.environment)


@contextmanager
def opened_hub(hub: HubPlace) -> Iterator[tuple[Database, Vault]]:
    """The database and the keys of a hub that serves, as its own commands open them."""
    config = hub_settings.load(None, hub.environment)
    with database_url(hub) as url:
        identity = load_or_make(config.keys_folder, now_ms())
        database = Database(url)
        try:
            yield database, Vault(identity, ledger=Ledger(config.ledger_file, identity.signing, identity.environment))
        finally:
            database.close()


def enrol(database: Database, vault: Vault, numbers: Iterable[int]) -> list[CrowdNode]:
    """New facilities with a node each, enrolled with a one-time code."""
    crowd = [CrowdNode(vault, number) for number in numbers]
    for at in range(0, len(crowd), NODES_A_COMMIT):
        with database.transaction() as connection:
            for one in crowd[at : at + NODES_A_COMMIT]:
                name, now = f"Centre {one.number}", now_ms()
                facilities.add(connection, vault, Facility(one.facility, name), now)
                code = nodes.new_code(
                    connection, vault, one.facility, "http://127.0.0.1:1", valid_ms=CODE_VALID_MS, now_ms=now
                )
                nodes.enrol(connection, vault, one.enrolment(code.secret), now)
            # What a hub tells new centres of themselves would else be written while others are measured.
            connection.execute("UPDATE facility SET entry_due = false WHERE entry_due")
    return crowd


def now_ms() -> int:
    return time.time_ns() // 1_000_000
