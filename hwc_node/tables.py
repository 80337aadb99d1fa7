"""The node's rows, no behaviour. The schema itself is made by the migrations; a test holds the two together.

Everything a row says beside a change's bytes (`change.raw`) can be computed from them and from what the hub told; it
stands in columns only so that SQL can find it. Times are milliseconds since 1970 UTC; ids are 16 bytes unless said
otherwise. The rows have a metadata of their own, so that a program may load the hub's tables beside them.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from sync_protocol.schema import Writer

WAITING = "position IS NULL AND state = 0"
"""What has no position on the feed and is not set aside: pending, be it in a live envelope or not."""
ORIGINS = (Writer.CENTRE, Writer.DOCTOR, Writer.HUB)
"""A column holds the number of its writer, the same that a voucher carries."""


def _bytes(*, nullable: bool = False, primary: bool = False) -> Column[bytes]:
    return Column(LargeBinary, nullable=nullable, primary_key=primary)


class NodeRow(SQLModel, registry=registry()):
    """What the tables of this file have in common: their metadata."""


class ChangeRow(NodeRow, table=True):
    """One change, its own bytes in ``raw``. hlc: clipped to 63 bits, for order only.

    origin: number of the side that wrote it (0 centre, 1 doctor, 2 hub). receipt_ms, position and tag: what the hub
    said of it, None until it did; tag stays when a feed goes back, for it vouches. lane: its priority. state: 0 normal,
    1 set aside (then with a ``reason``). attempts: how often the hub refused a segment it was in. segment: the live
    envelope it is in. sent_ms: of a referral, when it first left this computer; people are told it, nothing else asks.
    """

    __tablename__ = "change"
    __table_args__ = (
        Index("change_record", "record"),
        Index("change_patient", "patient"),
        Index("change_position", "position", sqlite_where=text("position IS NOT NULL")),
        Index("change_waiting", "segment", "lane", "attempts", "hlc", sqlite_where=text(WAITING)),
        Index("change_oldest", "hlc", sqlite_where=text(WAITING)),
        Index("change_set_aside", "hlc", sqlite_where=text("state <> 0")),
    )
    id: bytes = Field(sa_column=_bytes(primary=True))
    kind: str
    record: bytes = Field(sa_column=_bytes())
    patient: bytes = Field(sa_column=_bytes())
    facility: str
    node: bytes = Field(sa_column=_bytes())
    person: bytes = Field(sa_column=_bytes())
    hlc: int
    raw: bytes = Field(sa_column=_bytes())
    origin: int
    receipt_ms: int | None
    position: int | None
    tag: bytes | None = Field(sa_column=_bytes(nullable=True))
    lane: int
    state: int
    reason: str | None
    attempts: int
    segment: bytes | None = Field(sa_column=_bytes(nullable=True))
    sent_ms: int | None = None


class EnvelopeRow(NodeRow, table=True):
    """A live envelope: packed, and kept until all its changes have positions. id8: 8 bytes.

    held: the hub has it. admitted: the hub has taken its changes in. change_ids: 16 bytes each, in the segment's order.
    """

    __tablename__ = "envelope"
    id8: bytes = Field(sa_column=_bytes(primary=True))
    raw: bytes = Field(sa_column=_bytes())
    lane: int
    created_ms: int
    sent_count: int
    held: bool
    admitted: bool
    change_ids: bytes = Field(sa_column=_bytes())


class RecordRow(NodeRow, table=True):
    """A record that is here. conflicts: how many fields a person must decide. hidden: entered in error.

    at_ms: when it happened, as its shown field ``at`` says, clipped to 63 bits.
    """

    __tablename__ = "record"
    __table_args__ = (
        Index("record_patient", "patient"),
        Index("record_id", "record"),
        Index("record_at", "kind", "at_ms", "hidden", "facility", "patient", "record"),
        Index("record_conflicts", "kind", "record", sqlite_where=text("conflicts > 0")),
    )
    kind: str = Field(primary_key=True)
    record: bytes = Field(sa_column=_bytes(primary=True))
    patient: bytes = Field(sa_column=_bytes())
    facility: str
    at_ms: int | None
    conflicts: int
    hidden: bool


class PatientDigestRow(NodeRow, table=True):
    """The patient's part of the facility's digest: 16 bytes, big-endian."""

    __tablename__ = "patient_digest"
    patient: bytes = Field(sa_column=_bytes(primary=True))
    digest: bytes = Field(sa_column=_bytes())


class PatientWordRow(NodeRow, table=True):
    """A word by which a patient is found: a sound of a name that was ever written, or a number's digits (`names.words`)."""

    __tablename__ = "patient_word"
    __table_args__ = {"sqlite_with_rowid": False}  # as SQLAlchemy reads it
    word: str = Field(primary_key=True)
    patient: bytes = Field(sa_column=_bytes(primary=True))


class WordRow(NodeRow, table=True):
    """A word of any patient. id: a later word has a higher one, never one that was another's. key: what it is looked up
    by beside its beginning (`lexicon.key_of`)."""

    __tablename__ = "word"
    __table_args__ = (Index("word_key", "key"), {"sqlite_autoincrement": True})
    id: int = Field(primary_key=True)
    word: str = Field(unique=True)
    key: str


class DraftRow(NodeRow, table=True):
    """What a person has typed into a form and not saved. place: the form's path. fields: msgpack of name → values."""

    __tablename__ = "draft"
    __table_args__ = {"sqlite_with_rowid": False}  # as SQLAlchemy reads it
    person: bytes = Field(sa_column=_bytes(primary=True))
    place: str = Field(primary_key=True)
    patient: bytes | None = Field(sa_column=_bytes(nullable=True))
    fields: bytes = Field(sa_column=_bytes())
    at_ms: int


class ReferralWorkRow(NodeRow, table=True):
    """Where a referral stands (`worklist`). section: 0 answered and unread, 1 waiting, 2 read, 3 finished.

    urgency: 0 emergency, 1 urgent, 2 routine. status: `referral.Status`, but for whether it was sent. facility: that
    referred. answered_ms: of the answer that counts; first_answered_ms: of the first. outcome: what became of the patient,
    one of the choices of a case, `worklist.IN_WORDS`, or empty. asked: the doctor's message that nobody has answered.
    """

    __tablename__ = "referral_work"
    __table_args__ = (
        Index("referral_work_order", "facility", "section", "urgency", "saved_ms", "referral"),
        Index("referral_work_patient", "patient"),
        Index(
            "referral_work_asked", "facility", "urgency", "saved_ms", "referral", sqlite_where=text("asked IS NOT NULL")
        ),
        {"sqlite_with_rowid": False},
    )
    referral: bytes = Field(sa_column=_bytes(primary=True))
    patient: bytes = Field(sa_column=_bytes())
    section: int
    urgency: int
    status: str
    saved_ms: int
    received_ms: int | None
    answered_ms: int | None
    specialty: str
    facility: str
    first_answered_ms: int | None
    outcome: str
    asked: bytes | None = Field(sa_column=_bytes(nullable=True))


class PatientWorkRow(NodeRow, table=True):
    """A patient as a month's report counts them. sex: empty where it is not known. born: as `worklist.born` says.

    hidden: registered in error.
    """

    __tablename__ = "patient_work"
    __table_args__ = {"sqlite_with_rowid": False}  # as SQLAlchemy reads it
    patient: bytes = Field(sa_column=_bytes(primary=True))
    sex: str
    born: int | None
    hidden: bool


class FollowUpWorkRow(NodeRow, table=True):
    """When a follow-up is due: a day as it was written, empty for none. facility: whose it is."""

    __tablename__ = "follow_up_work"
    __table_args__ = (
        Index("follow_up_work_due", "facility", "done", "due", "follow_up"),
        Index("follow_up_work_patient", "patient"),
        {"sqlite_with_rowid": False},
    )
    follow_up: bytes = Field(sa_column=_bytes(primary=True))
    patient: bytes = Field(sa_column=_bytes())
    due: str
    done: bool
    facility: str


class ErasedPatientRow(NodeRow, table=True):
    """A patient whose erasure the hub ordered."""

    __tablename__ = "erased_patient"
    __table_args__ = {"sqlite_with_rowid": False}  # as SQLAlchemy reads it
    patient: bytes = Field(sa_column=_bytes(primary=True))
    at_ms: int


class QuestionedRow(NodeRow, table=True):
    """News that would hide or erase a record here, put aside since too much of it came. verdict: open or refused."""

    __tablename__ = "questioned"
    position: int = Field(primary_key=True)
    raw: bytes = Field(sa_column=_bytes())
    receipt_ms: int
    origin: int
    tag: bytes = Field(sa_column=_bytes())
    at_ms: int
    verdict: str


class CursorRow(NodeRow, table=True):
    """Places of the feed that this node stood at; the highest is where it stands. hash: the feed's running hash."""

    __tablename__ = "cursor"
    position: int = Field(primary_key=True)
    hash: bytes = Field(sa_column=_bytes())
    at_ms: int


class GrantRow(NodeRow, table=True):
    """A grant of either direction. frames: its GRANT payloads, msgpack, empty for the hub's. used: segments sealed.

    acknowledged: a HEADS came that does not miss it.
    """

    __tablename__ = "grant_"
    id: bytes = Field(sa_column=_bytes(primary=True))
    direction: str
    secret: bytes = Field(sa_column=_bytes())
    frames: bytes = Field(sa_column=_bytes())
    created_ms: int
    used: int
    acknowledged: bool


class SettingRow(NodeRow, table=True):
    """What the node knows of itself and its link, each value as msgpack (`membership`)."""

    __tablename__ = "setting"
    key: str = Field(primary_key=True)
    value: bytes = Field(sa_column=_bytes())


class NoticeRow(NodeRow, table=True):
    """What the hub had to tell, for people. kind: a word."""

    __tablename__ = "notice"
    id: int | None = Field(default=None, primary_key=True)
    at_ms: int
    kind: str
    text: str
    seen: bool


class CourierRow(NodeRow, table=True):
    """A courier file that was written, so that its answer can be read weeks later. hello: the payload that asked.

    segments, grants: ids of what was in the file, joined. answer: 16 bytes of the hash of the answer that was read last.
    """

    __tablename__ = "courier"
    __table_args__ = (Index("courier_hello", "hello_hash", unique=True),)
    seq: int | None = Field(default=None, primary_key=True)
    hello_hash: bytes = Field(sa_column=_bytes())
    hello: bytes = Field(sa_column=_bytes())
    segments: bytes = Field(sa_column=_bytes())
    grants: bytes = Field(sa_column=_bytes())
    written_ms: int
    answer: bytes = Field(sa_column=_bytes())


class CourierSegmentRow(NodeRow, table=True):
    """What was in a segment of a courier file, for references to it: its envelope may have been dropped meanwhile."""

    __tablename__ = "courier_segment"
    id8: bytes = Field(sa_column=_bytes(primary=True))
    change_ids: bytes = Field(sa_column=_bytes())


class UnreadItemRow(NodeRow, table=True):
    """An item of the feed that this program does not understand or may not take, kept for a later one.

    raw: the change's bytes, or for what is no change the sealed page it came in (once for each page).
    """

    __tablename__ = "unread_item"
    position: int = Field(primary_key=True)
    raw: bytes = Field(sa_column=_bytes())
    error: str
