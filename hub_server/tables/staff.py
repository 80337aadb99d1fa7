"""People and how they sign in; what doctors have begun or said they do; the audit."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, SmallInteger, text
from sqlmodel import Field, SQLModel

from hub_server.tables.columns import big, binary


class Person(SQLModel, table=True):
    """A doctor, officer or operator. specialties: separated by commas, empty for all. hub: of the hospital, empty for
    all. number: the database's own, by which counts tell doctors apart."""

    __tablename__ = "person"
    person: bytes = Field(sa_column=binary(primary=True))
    login: str = Field(unique=True)
    name: str
    role: str
    specialties: str = ""
    qualification: str = ""
    registration_number: str = ""
    created_ms: int = Field(sa_column=big())
    disabled_ms: int | None = Field(default=None, sa_column=big(nullable=True))
    hub: str = ""
    number: int


class Credential(SQLModel, table=True):
    """With what a person signs in. password: the Argon2id hash (cost: memory_kib, iterations, lanes); totp: the secret of
    the second factor; totp_next: one that is not confirmed yet. All three are wrapped under the key-encryption key, empty
    where there is none. totp_step: the time step of the last code that was used.
    """

    __tablename__ = "credential"
    person: bytes = Field(sa_column=binary(primary=True))
    password: bytes = Field(default=b"", sa_column=binary())
    salt: bytes = Field(default=b"", sa_column=binary())
    memory_kib: int = 0
    iterations: int = 0
    lanes: int = 0
    password_ms: int = Field(default=0, sa_column=big())
    must_change: bool = False
    totp: bytes = Field(default=b"", sa_column=binary())
    totp_ms: int = Field(default=0, sa_column=big())
    totp_step: int = Field(default=0, sa_column=big())
    totp_next: bytes = Field(default=b"", sa_column=binary())


class PendingSignIn(SQLModel, table=True):
    """Somebody gave the right password and owes the code. token_hash: SHA-256 of the token, which is stored nowhere.
    password_ms: of the password that was given. totp_next: the secret of the second factor that the first sign-in sets
    up, wrapped; empty for any other."""

    __tablename__ = "pending_sign_in"
    __table_args__ = (Index("pending_sign_in_person", "person"),)
    token_hash: bytes = Field(sa_column=binary(primary=True))
    person: bytes = Field(sa_column=binary())
    password_ms: int = Field(sa_column=big())
    created_ms: int = Field(sa_column=big())
    tries: int = Field(sa_column=Column(SmallInteger, nullable=False))
    totp_next: bytes = Field(default=b"", sa_column=binary())


class SignInSession(SQLModel, table=True):
    """Somebody who is signed in. token_hash: SHA-256 of the token, which is stored nowhere."""

    __tablename__ = "session"
    __table_args__ = (Index("session_person", "person"),)
    token_hash: bytes = Field(sa_column=binary(primary=True))
    person: bytes = Field(sa_column=binary())
    created_ms: int = Field(sa_column=big())
    used_ms: int = Field(sa_column=big())
    second_factor_ms: int = Field(sa_column=big())


class SignInTry(SQLModel, table=True):
    """Who tried to sign in lately, as a keyed hash of a login, an address or a person. forgotten_ms: when the tries are
    forgotten; the more there were, the later. again_ms: when the next one is taken."""

    __tablename__ = "sign_in_try"
    __table_args__ = (Index("sign_in_try_forgotten", "forgotten_ms"),)
    subject: bytes = Field(sa_column=binary(primary=True))
    forgotten_ms: int = Field(sa_column=big())
    again_ms: int = Field(sa_column=big())


class ClaimLock(SQLModel, table=True):
    """What the hub knows of a referral beside its records. facility: the patient's home. touched_ms: when whoever claimed
    it last did something about it. handed_to, handed_by, handed_ms: an offer to another doctor that is not taken yet."""

    __tablename__ = "claim_lock"
    __table_args__ = (Index("claim_lock_patient", "patient"),)
    facility: str = Field(primary_key=True)
    referral: bytes = Field(sa_column=binary(primary=True))
    patient: bytes = Field(sa_column=binary())
    touched_ms: int = Field(default=0, sa_column=big())
    handed_to: bytes | None = Field(default=None, sa_column=binary(nullable=True))
    handed_by: bytes | None = Field(default=None, sa_column=binary(nullable=True))
    handed_ms: int = Field(default=0, sa_column=big())


class Draft(SQLModel, table=True):
    """A reply that a doctor has begun. facility: the patient's home. sealed: the form's fields under the patient's key."""

    __tablename__ = "draft"
    __table_args__ = (Index("draft_person", "person", "referral"), Index("draft_patient", "patient"))
    facility: str = Field(primary_key=True)
    person: bytes = Field(sa_column=binary(primary=True))
    referral: bytes = Field(sa_column=binary(primary=True))
    patient: bytes = Field(sa_column=binary())
    sealed: bytes = Field(sa_column=binary())
    at_ms: int = Field(sa_column=big())


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
    glass: bytes = Field(sa_column=binary(primary=True))
    person: bytes = Field(sa_column=binary())
    patient: bytes = Field(sa_column=binary())
    referral: bytes = Field(sa_column=binary())
    reason: bytes = Field(sa_column=binary())
    opened_ms: int = Field(sa_column=big())
    until_ms: int = Field(sa_column=big())
    reviewed_ms: int | None = Field(default=None, sa_column=big(nullable=True))
    reviewed_by: bytes | None = Field(default=None, sa_column=binary(nullable=True))


class Duty(SQLModel, table=True):
    """A doctor who is on duty until a time. specialties: separated by commas, empty for all of the doctor's."""

    __tablename__ = "duty"
    person: bytes = Field(sa_column=binary(primary=True))
    specialties: str = ""
    since_ms: int = Field(sa_column=big())
    until_ms: int = Field(sa_column=big())


class DutyContact(SQLModel, table=True):
    """Who is told where nobody is on duty. hub: of the hospital, empty for all. specialty: empty for all that have none of
    their own."""

    __tablename__ = "duty_contact"
    hub: str = Field(primary_key=True)
    specialty: str = Field(primary_key=True)
    name: str
    phone: str
    set_ms: int = Field(sa_column=big())


class Audit(SQLModel, table=True):
    """Who read or wrote a patient's data, chained: hash covers the row and the hash before it (32 bytes)."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("audit_at_work", "facility", "at_ms", postgresql_where=text("verb IN ('claim', 'message', 'reply')")),
        Index("audit_of_doctor", "actor", "at_ms", postgresql_where=text("verb IN ('claim', 'message', 'reply')")),
    )
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True))
    at_ms: int = Field(sa_column=big())
    actor: str
    verb: str
    facility: str = ""
    subject: bytes = Field(default=b"", sa_column=binary())
    hash: bytes = Field(sa_column=binary())
