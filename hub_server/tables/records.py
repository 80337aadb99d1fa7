"""Facilities, feeds and patients; who is subscribed; referrals and conflicts; nodes and what they bring."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, SmallInteger, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from hub_server.tables.columns import big, binary


class Setting(SQLModel, table=True):
    """Small facts of this database: its epoch (8 bytes, drawn when it was made or put back)."""

    __tablename__ = "setting"
    key: str = Field(primary_key=True)
    value: bytes = Field(sa_column=binary())


class Hospital(SQLModel, table=True):
    """A hub hospital: centres and doctors belong to one, or to none."""

    __tablename__ = "hospital"
    hub: str = Field(primary_key=True)
    name: str
    created_ms: int = Field(sa_column=big())


class Facility(SQLModel, table=True):
    """hub: of the hospital, empty for none. wrapped_key: the facility's key under the key-encryption key. entry_due:
    something of it has changed that its nodes are to be told."""

    __tablename__ = "facility"
    __table_args__ = (
        Index("facility_entry_due", "facility", postgresql_where=text("entry_due")),
        Index("facility_place", "state", "district"),
    )
    facility: str = Field(primary_key=True)
    name: str
    district: str = ""
    state: str = ""
    hub: str = ""
    created_ms: int = Field(sa_column=big())
    wrapped_key: bytes = Field(sa_column=binary())
    entry_due: bool = False


class Feed(SQLModel, table=True):
    """The head of a facility's feed. This row is locked, advanced last and held to commit."""

    __tablename__ = "feed"
    facility: str = Field(primary_key=True)
    position: int = Field(sa_column=big())
    hash: bytes = Field(sa_column=binary())


class Item(SQLModel, table=True):
    """One item of a facility's feed: a change as this feed holds it. A change stands here again only with an earlier
    receipt, which this hub gave before it was put back and a node has shown it.

    origin: number of the side that wrote it. tag: 8 bytes. hash: the running hash behind this item.
    segment, segment_row: where its author's node sent it (8 bytes and a row), empty for the hub's own.
    payload: nonce and ciphertext of the change's bytes under its patient's key.
    """

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("facility", "change", "receipt_ms", name="item_change_receipt"),
        Index("item_patient", "facility", "patient"),
        Index("item_case", "facility", "receipt_ms", postgresql_where=text("kind = 'case'")),
    )
    facility: str = Field(primary_key=True)
    position: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    change: bytes = Field(sa_column=binary())
    patient: bytes = Field(sa_column=binary())
    record: bytes = Field(sa_column=binary())
    kind: str
    receipt_ms: int = Field(sa_column=big())
    origin: int = Field(sa_column=Column(SmallInteger, nullable=False))
    tag: bytes = Field(sa_column=binary())
    hash: bytes = Field(sa_column=binary())
    segment: bytes = Field(sa_column=binary())
    segment_row: int = Field(sa_column=Column(SmallInteger, nullable=False))
    payload: bytes = Field(sa_column=binary())


class Patient(SQLModel, table=True):
    """A unit of scope: a patient, or a directory entry. wrapped_key: its key under its home facility's key; empty once
    the patient is erased."""

    __tablename__ = "patient"
    patient: bytes = Field(sa_column=binary(primary=True))
    facility: str
    wrapped_key: bytes = Field(sa_column=binary())
    created_ms: int = Field(sa_column=big())


class Subscription(SQLModel, table=True):
    """In which feeds a patient stands, with its digest there (16 bytes, big-endian).

    subscribed: every change of the patient goes to this feed; otherwise it only holds what its own facility wrote.
    """

    __tablename__ = "subscription"
    __table_args__ = (Index("subscription_patient", "patient"),)
    facility: str = Field(primary_key=True)
    patient: bytes = Field(sa_column=binary(primary=True))
    digest: bytes = Field(sa_column=binary())
    subscribed: bool
    since_ms: int = Field(sa_column=big())


class HeldErasure(SQLModel, table=True):
    """A patient who is to be erased once the law allows it."""

    __tablename__ = "held_erasure"
    patient: bytes = Field(sa_column=binary(primary=True))
    until_ms: int = Field(sa_column=big())
    reason: str
    asked_ms: int = Field(sa_column=big())


class SubscriptionRequest(SQLModel, table=True):
    """A centre's request for a patient: the record that asks, and what became of it. Derived from the records."""

    __tablename__ = "subscription_request"
    __table_args__ = (
        Index("subscription_request_patient", "patient"),
        Index("subscription_request_asked", "asked_ms", postgresql_where=text("state = 'asked'")),
    )
    facility: str = Field(primary_key=True)
    subscription: bytes = Field(sa_column=binary(primary=True))
    patient: bytes = Field(sa_column=binary())
    state: str
    asked_ms: int = Field(sa_column=big())


class OwnSubscriber(SQLModel, table=True):
    """A facility that a patient's own records subscribe, beside its home and without its links."""

    __tablename__ = "own_subscriber"
    patient: bytes = Field(sa_column=binary(primary=True))
    facility: str = Field(primary_key=True)


class LinkedPatient(SQLModel, table=True):
    """The records of ``patient`` say that ``other`` is the same person."""

    __tablename__ = "linked_patient"
    __table_args__ = (Index("linked_patient_other", "other"),)
    patient: bytes = Field(sa_column=binary(primary=True))
    other: bytes = Field(sa_column=binary(primary=True))


class SubscriptionDue(SQLModel, table=True):
    """A patient whose subscriptions are to be derived (stage 0) or brought in line with its links (stage 1)."""

    __tablename__ = "subscription_due"
    __table_args__ = (Index("subscription_due_patient", "patient", "stage"),)
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True))
    patient: bytes = Field(sa_column=binary())
    stage: int = Field(sa_column=Column(SmallInteger, nullable=False))


class Referral(SQLModel, table=True):
    """A referral in the doctors' queue. urgency: 0 emergency, 1 urgent, 2 routine. centre: that referred; hub: of its
    hospital, empty for none. Derived from the records."""

    __tablename__ = "referral"
    __table_args__ = (
        Index("referral_queue", "status", "urgency", "received_ms"),
        Index("referral_name", "referral"),
        Index(
            "referral_waiting",
            "urgency",
            "received_ms",
            "referral",
            postgresql_where=text("status IN ('received', 'claimed')"),
        ),
        Index("referral_received", "facility", "received_ms"),
        Index(
            "referral_hub",
            "hub",
            "urgency",
            "received_ms",
            postgresql_where=text("status IN ('received', 'claimed')"),
        ),
    )
    facility: str = Field(primary_key=True)
    referral: bytes = Field(sa_column=binary(primary=True))
    patient: bytes = Field(sa_column=binary())
    specialty: str
    urgency: int = Field(sa_column=Column(SmallInteger, nullable=False))
    status: str
    received_ms: int = Field(sa_column=big())
    claimed_by: bytes | None = Field(default=None, sa_column=binary(nullable=True))
    claimed_ms: int | None = Field(default=None, sa_column=big(nullable=True))
    answered_ms: int | None = Field(default=None, sa_column=big(nullable=True))
    centre: str = ""
    hub: str = ""


class Conflicted(SQLModel, table=True):
    """A record with open conflicts. Which fields they are stands only in the encrypted changes."""

    __tablename__ = "conflicted"
    __table_args__ = (Index("conflicted_record", "record"),)
    facility: str = Field(primary_key=True)
    record: bytes = Field(sa_column=binary(primary=True))
    kind: str
    patient: bytes = Field(sa_column=binary())
    fields: int = Field(sa_column=Column(SmallInteger, nullable=False))
    since_ms: int = Field(sa_column=big())


class Node(SQLModel, table=True):
    """An enrolled node. nonce: the last one handed out to it. cursor_position: as its last HELLO said.

    shown_nonce: the newest that it showed. left_nonce: the newest of the life that it showed before another one.
    twins_ms: when both lives were last seen to go on.
    """

    __tablename__ = "node"
    __table_args__ = (Index("node_facility", "facility"),)
    node: bytes = Field(sa_column=binary(primary=True))
    facility: str
    name: str
    certificate: bytes = Field(sa_column=binary())
    signing_key: bytes = Field(sa_column=binary())
    sealing_key: bytes = Field(sa_column=binary())
    enrolled_ms: int = Field(sa_column=big())
    revoked_ms: int | None = Field(default=None, sa_column=big(nullable=True))
    revoked_reason: str = ""
    last_seen_ms: int | None = Field(default=None, sa_column=big(nullable=True))
    clock_error_ms: int | None = Field(default=None, sa_column=big(nullable=True))
    cursor_position: int = Field(default=0, sa_column=big())
    nonce: bytes = Field(default=b"", sa_column=binary())
    shown_nonce: bytes = Field(default=b"", sa_column=binary())
    left_nonce: bytes = Field(default=b"", sa_column=binary())
    twins_ms: int | None = Field(default=None, sa_column=big(nullable=True))


class HandedNonce(SQLModel, table=True):
    """A nonce handed out to a node. answered: the one that its HELLO showed. shown: the node showed this one."""

    __tablename__ = "handed_nonce"
    node: bytes = Field(sa_column=binary(primary=True))
    nonce: bytes = Field(sa_column=binary(primary=True))
    answered: bytes = Field(sa_column=binary())
    shown: bool
    seq: int = Field(sa_column=big())


class EnrolmentCode(SQLModel, table=True):
    """A one-time code: its hash (32 bytes), never the code."""

    __tablename__ = "enrolment_code"
    code_hash: bytes = Field(sa_column=binary(primary=True))
    facility: str
    created_ms: int = Field(sa_column=big())
    expires_ms: int = Field(sa_column=big())
    used_ms: int | None = Field(default=None, sa_column=big(nullable=True))
    used_by: bytes | None = Field(default=None, sa_column=binary(nullable=True))


class GrantKey(SQLModel, table=True):
    """A grant of either direction. secret: wrapped under the key-encryption key. frame: the hub's own, as sent."""

    __tablename__ = "grant_key"
    __table_args__ = (Index("grant_node", "node"),)
    grant_id: bytes = Field(sa_column=binary(primary=True))
    node: bytes = Field(sa_column=binary())
    direction: str
    secret: bytes = Field(sa_column=binary())
    frame: bytes = Field(default=b"", sa_column=binary())
    created_ms: int = Field(sa_column=big())


class Arrival(SQLModel, table=True):
    """A sealed segment as it was kept. state: kept, waiting (for its grant), admitted, quarantined.

    seq: order of keeping. received_ms: the receipt of every change that it brings first. raw: dropped once admitted
    and backed up, at the latest after 35 days.
    """

    __tablename__ = "arrival"
    __table_args__ = (
        Index("arrival_kept", "lane", "seq", postgresql_where=text("state = 'kept'")),
        Index("arrival_waiting", "grant_id", postgresql_where=text("state = 'waiting'")),
    )
    node: bytes = Field(sa_column=binary(primary=True))
    segment: bytes = Field(sa_column=binary(primary=True))
    seq: int = Field(sa_column=big())
    facility: str
    lane: int = Field(sa_column=Column(SmallInteger, nullable=False))
    grant_id: bytes = Field(sa_column=binary())
    received_ms: int = Field(sa_column=big())
    state: str
    reason: str = ""
    size_bytes: int
    raw: bytes | None = Field(default=None, sa_column=binary(nullable=True))


class Quarantine(SQLModel, table=True):
    """What could not be admitted. row: of the segment, -1 for all of it. verdict: open, released, admitted."""

    __tablename__ = "quarantine"
    __table_args__ = (
        Index("quarantine_segment", "segment", "node"),
        Index("quarantine_open", "node", postgresql_where=text("verdict = 'open'")),
    )
    id: int = Field(sa_column=Column(BigInteger, primary_key=True))
    facility: str
    node: bytes = Field(sa_column=binary())
    segment: bytes = Field(sa_column=binary())
    row: int
    change: bytes | None = Field(default=None, sa_column=binary(nullable=True))
    kind: str = ""
    reason: str
    at_ms: int = Field(sa_column=big())
    verdict: str = "open"
