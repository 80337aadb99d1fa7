"""The schema: which kinds of record exist, which fields they have, who writes them, and how siblings are shown.

One table, `KINDS`, read by everything that needs to know (PROTOCOL.md §5). What is not in it is kept, relayed, shown
as unknown and re-read after an upgrade; only an import by hand refuses it. A *family* is a set whose elements are one
field each: the field ``allergies/penicillin`` belongs to the family ``allergies``.

Every limit here is the hard one, for what cannot be: a systolic pressure of 900. The unusual is not refused. A value
outside of its limits that arrives by sync is kept and flagged (`limits.problem`), never dropped.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import Enum
from typing import Final

SCHEMA_VERSION: Final = 1


class Policy(str, Enum):
    """What to show when a field has several live writes. Applied to live writes only, so a later write can correct."""

    LATEST = "latest"
    PRESENT = "present"
    HIGHEST = "highest"
    REVIEW = "review"


class Writer(str, Enum):
    """Which side authors a kind. Held by the hub at admission and by the node at receipt."""

    CENTRE = "centre"
    DOCTOR = "doctor"
    HUB = "hub"


class FieldType(str, Enum):
    TEXT = "text"
    CHOICE = "choice"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"  # ISO 8601, YYYY-MM-DD or YYYY-MM or YYYY
    TIME = "time"  # milliseconds since 1970 UTC; any value is accepted and flagged if it is implausible
    REFERENCE = "reference"  # 16 bytes here, a UUID string in JSON
    CODED = "coded"  # {system?, code?, text}
    OBJECT = "object"  # named parts, all of them one field
    LINES = "lines"  # a list of objects
    ELEMENT = "element"  # {present, details?}: one element of a family
    CHANGES = "changes"  # a list of change ids: what a person was shown


@dataclass(frozen=True, slots=True)
class Field:
    """One row of the table. low/high: hard limits, in ``unit``. order: from the least to the most cautious value."""

    name: str
    type: FieldType
    policy: Policy = Policy.LATEST
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    parts: tuple[Field, ...] = ()
    required: bool = False
    max_chars: int = 200


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    writers: frozenset[Writer]
    fields: dict[str, Field]
    immutable: bool = False
    opens_scope: bool = False  # its record is its own patient: a patient, or a directory entry


SHORT_CHARS = 200  # a name, a village: longer is a mistake of a form
MAX_LINES = 40  # of a list: a prescription longer than a page is a mistake
LONG_CHARS = 8_000  # a history or an advice: four screens
URGENCIES: Final = ("routine", "urgent", "emergency")
MODES: Final = ("text", "audio", "video")

_CENTRE = frozenset({Writer.CENTRE})
_DOCTOR = frozenset({Writer.DOCTOR})
_HUB = frozenset({Writer.HUB})
_DIRECTORY = frozenset({Writer.HUB, Writer.CENTRE})


def _text(name: str, policy: Policy = Policy.LATEST, *, chars: int = SHORT_CHARS, required: bool = False) -> Field:
    return Field(name, FieldType.TEXT, policy, max_chars=chars, required=required)


def _number(name: str, unit: str, low: float, high: float, policy: Policy = Policy.REVIEW) -> Field:
    return Field(name, FieldType.NUMBER, policy, unit=unit, low=low, high=high)


def _integer(name: str, unit: str, low: int, high: int, policy: Policy = Policy.REVIEW) -> Field:
    return Field(name, FieldType.INTEGER, policy, unit=unit, low=low, high=high)


def _choice(
    name: str, *values: str, policy: Policy = Policy.LATEST, cautious: bool = False, required: bool = False
) -> Field:
    order = values if cautious else ()
    return Field(name, FieldType.CHOICE, policy, choices=values, order=order, required=required)


def _reference(name: str, *, required: bool = False) -> Field:
    return Field(name, FieldType.REFERENCE, Policy.REVIEW, required=required)


def _family(name: str) -> Field:
    return Field(name, FieldType.ELEMENT, Policy.PRESENT, max_chars=1_000)


def _coded(name: str, policy: Policy = Policy.REVIEW) -> Field:
    return Field(name, FieldType.CODED, policy)


AT: Final = Field("at", FieldType.TIME, Policy.LATEST, unit="ms")
ENTERED_IN_ERROR: Final = Field(
    "entered_in_error",
    FieldType.OBJECT,
    Policy.LATEST,
    parts=(
        Field("hidden", FieldType.BOOLEAN, required=True),
        _text("reason", chars=1_000),
        Field("shown", FieldType.CHANGES),
    ),
)
RESOLUTION_NOTE: Final = _text("resolution_note", chars=1_000)
SUPERSEDES_RECORD: Final = _reference("corrects")
REASON: Final = _text("correction_reason", Policy.REVIEW, chars=1_000)
BLOOD_PRESSURE: Final = Field(
    "blood_pressure",
    FieldType.OBJECT,
    Policy.REVIEW,
    unit="mmHg",
    parts=(
        Field("systolic_mmhg", FieldType.INTEGER, unit="mmHg", low=20, high=350, required=True),
        Field("diastolic_mmhg", FieldType.INTEGER, unit="mmHg", low=5, high=250, required=True),
    ),
)
BIRTH: Final = Field(
    "birth",
    FieldType.OBJECT,
    Policy.REVIEW,
    parts=(
        Field("date", FieldType.DATE),
        Field("year", FieldType.INTEGER, low=1890, high=2200),
        Field("precision", FieldType.CHOICE, choices=("day", "month", "year", "about")),
        Field("age_years", FieldType.INTEGER, unit="a", low=0, high=130),
        Field("said_on", FieldType.DATE),
    ),
)
PRESCRIPTION: Final = Field(
    "prescription",
    FieldType.LINES,
    Policy.REVIEW,
    parts=(
        _text("drug", required=True),
        _text("dose", required=True),
        _text("route"),
        _text("frequency"),
        Field("days", FieldType.INTEGER, unit="d", low=1, high=3_650, required=True),
        _text("form"),
        _text("strength"),
        _text("advice", chars=1_000),
        _text("allergy_reason", chars=1_000),
    ),
)


def _kind(
    name: str,
    writers: frozenset[Writer],
    *fields: Field,
    immutable: bool = False,
    opens_scope: bool = False,
) -> tuple[str, Kind]:
    always = (AT, ENTERED_IN_ERROR, RESOLUTION_NOTE)
    every = (*fields, *always) if not immutable else (*fields, *always, SUPERSEDES_RECORD, REASON)
    return name, Kind(name, writers, {field.name: field for field in every}, immutable, opens_scope)


KINDS: Final[dict[str, Kind]] = dict(
    (
        _kind(
            "patient",
            _CENTRE,
            _text("name", Policy.REVIEW, required=True),
            _choice("sex", "F", "M", "O", "U", policy=Policy.REVIEW),
            BIRTH,
            _text("phone"),
            _text("guardian"),
            _text("village"),
            _text("address", chars=1_000),
            _text("state_lgd"),
            _text("district_lgd"),
            _text("subdistrict_lgd"),
            _text("village_lgd"),
            _text("abha", Policy.REVIEW),
            _text("language"),
            _choice("allergies_status", "none_known", "not_asked", "listed", policy=Policy.REVIEW, cautious=True),
            _family("allergies"),
            _family("chronic_conditions"),
            opens_scope=True,
        ),
        _kind(
            "case",
            _CENTRE,
            _family("complaints"),
            _family("danger_signs"),
            _integer("duration_days", "d", 0, 36_500),
            _text("history", Policy.REVIEW, chars=LONG_CHARS),
            _text("examination", Policy.REVIEW, chars=LONG_CHARS),
            _coded("provisional_diagnosis"),
            _text("plan", Policy.REVIEW, chars=LONG_CHARS),
            _choice("outcome", "under_care", "recovered", "referred", "lost_to_follow_up", "died"),
            _choice("mode", *MODES, "in_person"),
            Field("first", FieldType.BOOLEAN),
        ),
        _kind(
            "vitals",
            _CENTRE,
            _reference("case"),
            BLOOD_PRESSURE,
            _integer("pulse_bpm", "/min", 10, 350),
            _integer("respiratory_rate", "/min", 2, 150),
            _number("temperature_c", "Cel", 25, 46),
            _integer("spo2_percent", "%", 20, 100),
            _number("weight_kg", "kg", 0.3, 400),
            _number("height_cm", "cm", 20, 260),
            _number("glucose_mg_dl", "mg/dL", 5, 2_000),
            _number("haemoglobin_g_dl", "g/dL", 1, 30),
            Field("not_measured", FieldType.ELEMENT, Policy.PRESENT, max_chars=1_000),
            immutable=True,
        ),
        _kind(
            "referral",
            _CENTRE,
            _reference("case"),
            _text("specialty", Policy.REVIEW, required=True),
            _choice("urgency", *URGENCIES, policy=Policy.HIGHEST, cautious=True, required=True),
            _text("reason", Policy.REVIEW, chars=LONG_CHARS),
            _text("question", Policy.REVIEW, chars=LONG_CHARS),
            _text("to_hub"),
            Field(
                "withdrawn",
                FieldType.OBJECT,
                Policy.LATEST,
                parts=(Field("withdrawn", FieldType.BOOLEAN, required=True), _text("reason", chars=1_000)),
            ),
        ),
        _kind(
            "claim",
            _DOCTOR,
            _reference("referral", required=True),
            Field("released", FieldType.BOOLEAN),
            _text("note", chars=1_000),
        ),
        _kind(
            "reply",
            _DOCTOR,
            _reference("referral", required=True),
            _coded("diagnosis"),
            _text("advice", Policy.REVIEW, chars=LONG_CHARS),
            PRESCRIPTION,
            _integer("follow_up_days", "d", 0, 3_650),
            _choice("mode", *MODES, policy=Policy.REVIEW),
            Field("first", FieldType.BOOLEAN, Policy.REVIEW),
            _text("refer_onward", Policy.REVIEW, chars=1_000),
            _text("doctor", Policy.REVIEW),
            _text("qualification", Policy.REVIEW),
            _text("registration_number", Policy.REVIEW),
            Field("seen_positions", FieldType.OBJECT, Policy.REVIEW),
            immutable=True,
        ),
        _kind(
            "message",
            frozenset({Writer.CENTRE, Writer.DOCTOR}),
            _reference("referral", required=True),
            _text("text", Policy.REVIEW, chars=LONG_CHARS, required=True),
            immutable=True,
        ),
        _kind(
            "acknowledgement",
            _CENTRE,
            _reference("referral", required=True),
            _reference("reply"),
            Field("seen", FieldType.BOOLEAN),
            _text("outcome", chars=LONG_CHARS),
        ),
        _kind(
            "follow_up",
            _CENTRE,
            _reference("case"),
            Field("due", FieldType.DATE, Policy.REVIEW),
            Field("done", FieldType.BOOLEAN),
            _text("note", chars=LONG_CHARS),
        ),
        _kind(
            "attachment",
            frozenset({Writer.CENTRE, Writer.DOCTOR}),
            _reference("case"),
            _text("media_type", Policy.REVIEW),
            Field("size_bytes", FieldType.INTEGER, Policy.REVIEW, unit="By", low=0, high=1 << 30),
            _text("hash", Policy.REVIEW),
            _text("title"),
            immutable=True,
        ),
        _kind(
            "patient_link",
            _CENTRE,
            _reference("other", required=True),
            _choice("relation", "same_person", "not_the_same", policy=Policy.REVIEW),
        ),
        _kind(
            "consent",
            _CENTRE,
            Field("given", FieldType.BOOLEAN, Policy.REVIEW, required=True),
            _text("wording", Policy.REVIEW, chars=LONG_CHARS),
            _text("language"),
            _choice("mode", *MODES, "in_person"),
            _text("by"),
            immutable=True,
        ),
        _kind("patient_card", _CENTRE, _text("secret", Policy.REVIEW, required=True), immutable=True),
        _kind(
            "subscription",
            _CENTRE,
            _text("card"),
            _text("reason", Policy.REVIEW, chars=1_000),
            Field("ended", FieldType.BOOLEAN),
        ),
        _kind(
            "subscription_decision",
            _HUB,
            _reference("subscription", required=True),
            Field("granted", FieldType.BOOLEAN, required=True),
            _text("reason", chars=1_000),
        ),
        _kind(
            "person",
            _DIRECTORY,
            _text("name", required=True),
            _choice("role", "cho", "doctor", "district_officer", "operator", "source"),
            _text("qualification"),
            _text("registration_number"),
            _text("phone"),
            opens_scope=True,
        ),
        _kind("erasure", _HUB, _reference("erased", required=True), opens_scope=True),
        _kind(
            "facility",
            _HUB,
            _text("name", required=True),
            _text("district"),
            _text("state"),
            _text("hub_name"),
            _family("duty_contacts"),
            opens_scope=True,
        ),
    )
)

SET_SEPARATOR: Final = "/"


def field_of(kind: str, name: str) -> Field | None:
    """The row of a field, or of the family that an element belongs to; None for what this program does not know."""
    table = KINDS.get(kind)
    if table is None:
        return None
    exact = table.fields.get(name)
    if exact is not None:
        return None if exact.type is FieldType.ELEMENT else exact
    family, separator, key = name.partition(SET_SEPARATOR)
    row = table.fields.get(family)
    if separator and key and row is not None and row.type is FieldType.ELEMENT:
        return row
    return None


def policy_of(kind: str, name: str) -> Policy:
    """The policy of a field. A field or kind this program does not know is reviewed by a person."""
    row = field_of(kind, name)
    return row.policy if row is not None else Policy.REVIEW


def may_write(kind: str, writer: Writer) -> bool:
    """Whether this side may author the kind. A kind that this program does not know: only the hub can judge, so yes
    for the hub's own sides and for a centre, since an older hub must not lose a newer centre's records."""
    table = KINDS.get(kind)
    return table is None or writer in table.writers


def nearest(name: str, known: list[str]) -> str | None:
    """The known name that was probably meant."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None
