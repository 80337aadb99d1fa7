"""The hub's rows, no behaviour. The schema itself is made by the migrations; a test holds the two together.

Every table that grows has ``facility`` first in its key, so that where one machine is outgrown the same schema can be
distributed by facility without a change of code. In the clear stand only opaque ids, facility, kind, specialty,
urgency, sizes and times; a change's content is in ``item.payload``, encrypted under its patient's key.
Times are milliseconds since 1970 UTC; ids are 16 bytes unless said otherwise.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, SmallInteger, UniqueConstraint, text
from sqlmodel import Field, SQLModel


def _bytes(*, nullable: bool = False, primary: bool = False) -> Column[bytes]:
    return Column(LargeBinary, nullable=nullable, primary_key=primary)


def _big(*, nullable: bool = False) -> Column[int]:
    return Column(BigInteger, nullable=nullable)


class Setting(SQLModel, table=True):
    """Small facts of this database: its epoch (8 bytes, drawn when it was made or put back)."""

    __tablename__ = "setting"
    key: str = Field(primary_key=True)
    value: bytes = Field(sa_column=_bytes())


class Hospital(SQLModel, table=True):
    """A hub hospital: centres and doctors belong to one, or to none."""

    __tablename__ = "hospital"
    hub: str = Field(primary_key=True)
    name: str
    created_ms: int = Field(sa_column=_big())


class Facility(SQLModel, table=True):
    """hub: of the hospital, empty for none. wrapped_key: the facility's key under the key-encryption key."""

    __tablename__ = "facility"
    facility: str = Field(primary_key=True)
    name: str
    district: str = ""
    state: str = ""
    hub: str = ""
    created_ms: int = Field(sa_column=_big())
    wrapped_key: bytes = Field(sa_column=_bytes())


class Feed(SQLModel, table=True):
    """The head of a facility's feed. This row is locked, advanced last and held to commit."""

    __tablename__ = "feed"
    facility: str = Field(primary_key=True)
    position: int = Field(sa_column=_big())
    hash: bytes = Field(sa_column=_bytes())


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
    )
    facility: str = Field(primary_key=True)
    position: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    change: bytes = Field(sa_column=_bytes())
    patient: bytes = Field(sa_column=_bytes())
    record: bytes = Field(sa_column=_bytes())
    kind: str
    receipt_ms: int = Field(sa_column=_big())
    origin: int = Field(sa_column=Column(SmallInteger, nullable=False))
    tag: bytes = Field(sa_column=_bytes())
    hash: bytes = Field(sa_column=_bytes())
    segment: bytes = Field(sa_column=_bytes())
    segment_row: int = Field(sa_column=Column(SmallInteger, nullable=False))
    payload: bytes = Field(sa_column=_bytes())


class Patient(SQLModel, table=True):
    """A unit of scope: a patient, or a directory entry. wrapped_key: its key under its home facility's key; empty once
    the patient is erased."""

    __tablename__ = "patient"
    patient: bytes = Field(sa_column=_bytes(primary=True))
    facility: str
    wrapped_key: bytes = Field(sa_column=_bytes())
    created_ms: int = Field(sa_column=_big())


class Subscription(SQLModel, table=True):
    """In which feeds a patient stands, with its digest there (16 bytes, big-endian).

    subscribed: every change of the patient goes to this feed; otherwise it only holds what its own facility wrote.
    """

    __tablename__ = "subscription"
    __table_args__ = (Index("subscription_patient", "patient"),)
    facility: str = Field(primary_key=True)
    patient: bytes = Field(sa_column=_bytes(primary=True))
    digest: bytes = Field(sa_column=_bytes())
    subscribed: bool
    since_ms: int = Field(sa_column=_big())


class HeldErasure(SQLModel, table=True):
    """A patient who is to be erased once the law allows it."""

    __tablename__ = "held_erasure"
    patient: bytes = Field(sa_column=_bytes(primary=True))
    until_ms: int = Field(sa_column=_big())
    reason: str
    asked_ms: int = Field(sa_column=_big())


class SubscriptionRequest(SQLModel, table=True):
    """A centre's request for a patient: the record that asks, and what became of it. Derived from the records."""

    __tablename__ = "subscription_request"
    __table_args__ = (
        Index("subscription_request_patient", "patient"),
        Index("subscription_request_asked", "asked_ms", postgresql_where=text("state = 'asked'")),
    )
    facility: str = Field(primary_key=True)
    subscription: bytes = Field(sa_column=_bytes(primary=True))
    patient: bytes = Field(sa_column=_bytes())
    state: str
    asked_ms: int = Field(sa_column=_big())


class OwnSubscriber(SQLModel, table=True):
    """A facility that a patient's own records subscribe, beside its home and without its links."""

    __tablename__ = "own_subscriber"
    patient: bytes = Field(sa_column=_bytes(primary=True))
    facility: str = Field(primary_key=True)


class LinkedPatient(SQLModel, table=True):
    """The records of ``patient`` say that ``other`` is the same person."""

    __tablename__ = "linked_patient"
    __table_args__ = (Index("linked_patient_other", "other"),)
    patient: bytes = Field(sa_column=_bytes(primary=True))
    other: bytes = Field(sa_column=_bytes(primary=True))


class SubscriptionDue(SQLModel, table=True):
    """A patient whose subscriptions are to be derived (stage 0) or brought in line with its links (stage 1)."""

    __tablename__ = "subscription_due"
    __table_args__ = (Index("subscription_due_patient", "patient", "stage"),)
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True))
    patient: bytes = Field(sa_column=_bytes())
    stage: int = Field(sa_column=Column(SmallInteger, nullable=False))


class Referral(SQLModel, table=True):
    """A referral in the doctors' queue. urgency: 0 emergency, 1 urgent, 2 routine. centre: that referred; hub: of its
    hospital, empty for none. Derived from the records."""

    __tablename__ = "referral"
    __table_args__ = (
        Index("referral_queue", "status", "urgency", "received_ms"),
        Index("referral_name", "referral"),
        Index(
            "referral_hub",
            "hub",
            "urgency",
            "received_ms",
            postgresql_where=text("status IN ('received', 'claimed')"),
        ),
    )
    facility: str = Field(primary_key=True)
    referral: bytes = Field(sa_column=_bytes(primary=True))
    patient: bytes = Field(sa_column=_bytes())
    specialty: str
    urgency: int = Field(sa_column=Column(SmallInteger, nullable=False))
    status: str
    received_ms: int = Field(sa_column=_big())
    claimed_by: bytes | None = Field(default=None, sa_column=_bytes(nullable=True))
    claimed_ms: int | None = Field(default=None, sa_column=_big(nullable=True))
    answered_ms: int | None = Field(default=None, sa_column=_big(nullable=True))
    centre: str = ""
    hub: str = ""


class Conflicted(SQLModel, table=True):
    """A record with open conflicts. Which fields they are stands only in the encrypted changes."""

    __tablename__ = "conflicted"
    __table_args__ = (Index("conflicted_record", "record"),)
    facility: str = Field(primary_key=True)
    record: bytes = Field(sa_column=_bytes(primary=True))
    kind: str
    patient: bytes = Field(sa_column=_bytes())
    fields: int = Field(sa_column=Column(SmallInteger, nullable=False))
    since_ms: int = Field(sa_column=_big())


class Node(SQLModel, table=True):
    """An enrolled node. nonce: the last one handed out to it. cursor_position: as its last HELLO said.

    shown_nonce: the newest that it showed. left_nonce: the newest of the life that it showed before another one.
    twins_ms: when both lives were last seen to go on.
    """

    __tablename__ = "node"
    __table_args__ = (Index("node_facility", "facility"),)
    node: bytes = Field(sa_column=_bytes(primary=True))
    facility: str
    name: str
    certificate: bytes = Field(sa_column=_bytes())
    signing_key: bytes = Field(sa_column=_bytes())
    sealing_key: bytes = Field(sa_column=_bytes())
    enrolled_ms: int = Field(sa_column=_big())
    revoked_ms: int | None = Field(default=None, sa_column=_big(nullable=True))
    revoked_reason: str = ""
    last_seen_ms: int | None = Field(default=None, sa_column=_big(nullable=True))
    clock_error_ms: int | None = Field(default=None, sa_column=_big(nullable=True))
    cursor_position: int = Field(default=0, sa_column=_big())
    nonce: bytes = Field(default=b"", sa_column=_bytes())
    shown_nonce: bytes = Field(default=b"", sa_column=_bytes())
    left_nonce: bytes = Field(default=b"", sa_column=_bytes())
    twins_ms: int | None = Field(default=None, sa_column=_big(nullable=True))


class HandedNonce(SQLModel, table=True):
    """A nonce handed out to a node. answered: the one that its HELLO showed. shown: the node showed this one."""

    __tablename__ = "handed_nonce"
    node: bytes = Field(sa_column=_bytes(primary=True))
    nonce: bytes = Field(sa_column=_bytes(primary=True))
    answered: bytes = Field(sa_column=_bytes())
    shown: bool
    seq: int = Field(sa_column=_big())


class EnrolmentCode(SQLModel, table=True):
    """A one-time code: its hash (32 bytes), never the code."""

    __tablename__ = "enrolment_code"
    code_hash: bytes = Field(sa_column=_bytes(primary=True))
    facility: str
    created_ms: int = Field(sa_column=_big())
    expires_ms: int = Field(sa_column=_big())
    used_ms: int | None = Field(default=None, sa_column=_big(nullable=True))
    used_by: bytes | None = Field(default=None, sa_column=_bytes(nullable=True))


class GrantKey(SQLModel, table=True):
    """A grant of either direction. secret: wrapped under the key-encryption key. frame: the hub's own, as sent."""

    __tablename__ = "grant_key"
    __table_args__ = (Index("grant_node", "node"),)
    grant_id: bytes = Field(sa_column=_bytes(primary=True))
    node: bytes = Field(sa_column=_bytes())
    direction: str
    secret: bytes = Field(sa_column=_bytes())
    frame: bytes = Field(default=b"", sa_column=_bytes())
    created_ms: int = Field(sa_column=_big())


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
    node: bytes = Field(sa_column=_bytes(primary=True))
    segment: bytes = Field(sa_column=_bytes(primary=True))
    seq: int = Field(sa_column=_big())
    facility: str
    lane: int = Field(sa_column=Column(SmallInteger, nullable=False))
    grant_id: bytes = Field(sa_column=_bytes())
    received_ms: int = Field(sa_column=_big())
    state: str
    reason: str = ""
    size_bytes: int
    raw: bytes | None = Field(default=None, sa_column=_bytes(nullable=True))


class Quarantine(SQLModel, table=True):
    """What could not be admitted. row: of the segment, -1 for all of it. verdict: open, released, admitted."""

    __tablename__ = "quarantine"
    __table_args__ = (
        Index("quarantine_segment", "segment", "node"),
        Index("quarantine_open", "node", postgresql_where=text("verdict = 'open'")),
    )
    id: int = Field(sa_column=Column(BigInteger, primary_key=True))
    facility: str
    node: bytes = Field(sa_column=_bytes())
    segment: bytes = Field(sa_column=_bytes())
    row: int
    change: bytes | None = Field(default=None, sa_column=_bytes(nullable=True))
    kind: str = ""
    reason: str
    at_ms: int = Field(sa_column=_big())
    verdict: str = "open"


class Person(SQLModel, table=True):
    """A doctor, officer or operator. specialties: separated by commas, empty for all. hub: of the hospital, empty for
    all."""

    __tablename__ = "person"
    person: bytes = Field(sa_column=_bytes(primary=True))
    login: str = Field(unique=True)
    name: str
    role: str
    specialties: str = ""
    qualification: str = ""
    registration_number: str = ""
    created_ms: int = Field(sa_column=_big())
    disabled_ms: int | None = Field(default=None, sa_column=_big(nullable=True))
    hub: str = ""


class Credential(SQLModel, table=True):
    """With what a person signs in. password: the Argon2id hash (cost: memory_kib, iterations, lanes); totp: the secret of
    the second factor; totp_next: one that is not confirmed yet. All three are wrapped under the key-encryption key, empty
    where there is none. totp_step: the time step of the last code that was used.
    """

    __tablename__ = "credential"
    person: bytes = Field(sa_column=_bytes(primary=True))
    password: bytes = Field(default=b"", sa_column=_bytes())
    salt: bytes = Field(default=b"", sa_column=_bytes())
    memory_kib: int = 0
    iterations: int = 0
    lanes: int = 0
    password_ms: int = Field(default=0, sa_column=_big())
    must_change: bool = False
    totp: bytes = Field(default=b"", sa_column=_bytes())
    totp_ms: int = Field(default=0, sa_column=_big())
    totp_step: int = Field(default=0, sa_column=_big())
    totp_next: bytes = Field(default=b"", sa_column=_bytes())


class PendingSignIn(SQLModel, table=True):
    """Somebody gave the right password and owes the code. token_hash: SHA-256 of the token, which is stored nowhere.
    password_ms: of the password that was given. totp_next: the secret of the second factor that the first sign-in sets
    up, wrapped; empty for any other."""

    __tablename__ = "pending_sign_in"
    __table_args__ = (Index("pending_sign_in_person", "person"),)
    token_hash: bytes = Field(sa_column=_bytes(primary=True))
    person: bytes = Field(sa_column=_bytes())
    password_ms: int = Field(sa_column=_big())
    created_ms: int = Field(sa_column=_big())
    tries: int = Field(sa_column=Column(SmallInteger, nullable=False))
    totp_next: bytes = Field(default=b"", sa_column=_bytes())


class SignInSession(SQLModel, table=True):
    """Somebody who is signed in. token_hash: SHA-256 of the token, which is stored nowhere."""

    __tablename__ = "session"
    __table_args__ = (Index("session_person", "person"),)
    token_hash: bytes = Field(sa_column=_bytes(primary=True))
    person: bytes = Field(sa_column=_bytes())
    created_ms: int = Field(sa_column=_big())
    used_ms: int = Field(sa_column=_big())
    second_factor_ms: int = Field(sa_column=_big())


class SignInTry(SQLModel, table=True):
    """Who tried to sign in lately, as a keyed hash of a login, an address or a person. forgotten_ms: when the tries are
    forgotten; the more there were, the later. again_ms: when the next one is taken."""

    __tablename__ = "sign_in_try"
    __table_args__ = (Index("sign_in_try_forgotten", "forgotten_ms"),)
    subject: bytes = Field(sa_column=_bytes(primary=True))
    forgotten_ms: int = Field(sa_column=_big())
    again_ms: int = Field(sa_column=_big())


class ClaimLock(SQLModel, table=True):
    """What the hub knows of a referral beside its records. facility: the patient's home. touched_ms: when whoever claimed
    it last did something about it. handed_to, handed_by, handed_ms: an offer to another doctor that is not taken yet."""

    __tablename__ = "claim_lock"
    __table_args__ = (Index("claim_lock_patient", "patient"),)
    facility: str = Field(primary_key=True)
    referral: bytes = Field(sa_column=_bytes(primary=True))
    patient: bytes = Field(sa_column=_bytes())
    touched_ms: int = Field(default=0, sa_column=_big())
    handed_to: bytes | None = Field(default=None, sa_column=_bytes(nullable=True))
    handed_by: bytes | None = Field(default=None, sa_column=_bytes(nullable=True))
    handed_ms: int = Field(default=0, sa_column=_big())


class Draft(SQLModel, table=True):
    """A reply that a doctor has begun. facility: the patient's home. sealed: the form's fields under the patient's key."""

    __tablename__ = "draft"
    __table_args__ = (Index("draft_person", "person", "referral"), Index("draft_patient", "patient"))
    facility: str = Field(primary_key=True)
    person: bytes = Field(sa_column=_bytes(primary=True))
    referral: bytes = Field(sa_column=_bytes(primary=True))
    patient: bytes = Field(sa_column=_bytes())
    sealed: bytes = Field(sa_column=_bytes())
    at_ms: int = Field(sa_column=_big())


class Glass(SQLModel, table=True):
    """A doctor opened a patient who was not theirs to see. reason: sealed under the patient's key. reviewed_ms: None while
    it waits for a review."""

    __tablename__ = "glass"
    __table_args__ = (
        Index("glass_patient", "patient", "person"),
        Index("glass_person", "person", "opened_ms"),
        Index("glass_waiting", "opened_ms", postgresql_where=text("reviewed_ms IS NULL")),
    )
    facility: str = Field(primary_key=True)
    glass: bytes = Field(sa_column=_bytes(primary=True))
    person: bytes = Field(sa_column=_bytes())
    patient: bytes = Field(sa_column=_bytes())
    referral: bytes = Field(sa_column=_bytes())
    reason: bytes = Field(sa_column=_bytes())
    opened_ms: int = Field(sa_column=_big())
    until_ms: int = Field(sa_column=_big())
    reviewed_ms: int | None = Field(default=None, sa_column=_big(nullable=True))
    reviewed_by: bytes | None = Field(default=None, sa_column=_bytes(nullable=True))


class Duty(SQLModel, table=True):
    """A doctor who is on duty until a time. specialties: separated by commas, empty for all of the doctor's."""

    __tablename__ = "duty"
    person: bytes = Field(sa_column=_bytes(primary=True))
    specialties: str = ""
    since_ms: int = Field(sa_column=_big())
    until_ms: int = Field(sa_column=_big())


class DutyContact(SQLModel, table=True):
    """Who is told where nobody is on duty. hub: of the hospital, empty for all. specialty: empty for all that have none of
    their own."""

    __tablename__ = "duty_contact"
    hub: str = Field(primary_key=True)
    specialty: str = Field(primary_key=True)
    name: str
    phone: str
    set_ms: int = Field(sa_column=_big())


class Audit(SQLModel, table=True):
    """Who read or wrote a patient's data, chained: hash covers the row and the hash before it (32 bytes)."""

    __tablename__ = "audit"
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True))
    at_ms: int = Field(sa_column=_big())
    actor: str
    verb: str
    facility: str = ""
    subject: bytes = Field(default=b"", sa_column=_bytes())
    hash: bytes = Field(sa_column=_bytes())
