"""A referral slip's code: a minimal summary that a patient carries on paper, signed by the centre's node (PROTOCOL.md §7.7).

A summary is cut to fit before it is signed, in one stated order, and written in the letters that a QR code packs best.
Whoever reads one parses it before trusting it, and verifies it by the key of the node that it names; a program that does
not know that key can show what stands there, and must say that it could not check it. A slip opens nothing: it is no card.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from sync_protocol import canonical
from sync_protocol.change import FacilityCode, NodeId, PatientId, RecordId, is_facility_code
from sync_protocol.errors import Malformed, TooLarge, Unsupported
from sync_protocol.keys import SIGNATURE_BYTES, EnvironmentId, Identity, Verifier

VERSION: Final = 1
PREFIX: Final = "HSR1:"
PURPOSE: Final = "referral slip"
MAX_SLIP_BYTES: Final = 640  # 965 letters: a QR code of 97 modules at level M, which cheap phones read from A5 paper
MAX_TEXT_CHARS: Final = len(PREFIX) + MAX_SLIP_BYTES // 2 * 3
MAX_NAME_BYTES: Final = 96  # 32 letters of an Indian script
MAX_SPECIALTY_BYTES: Final = 48
MAX_ALLERGY_BYTES: Final = 32
MAX_ALLERGIES: Final = 6
CUT: Final = "…"
"""Stands at the end of what was cut, and in the place of allergies for which there was no room."""

MEASURED: Final = (
    "systolic_mmhg",
    "diastolic_mmhg",
    "pulse_bpm",
    "respiratory_rate",
    "temperature_c",
    "spo2_percent",
    "weight_kg",
    "height_cm",
    "glucose_mg_dl",
    "haemoglobin_g_dl",
)
"""What stands in `Summary.vitals`, in this order; one more may come at the end."""

_BEGINS: Final = re.compile(r"HSR([0-9]{1,3}):", re.IGNORECASE)
_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_NUMBER: Final = {letter: at for at, letter in enumerate(_LETTERS)}

_Id: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=16)]
_TimeMs: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 47)]


class Summary(msgspec.Struct, array_like=True, frozen=True):
    """What a slip says, elements in the order of the wire. made_ms: when it was printed, by the node's clock.

    age_months: at that time; certain where the birth date is known. allergies: None where nobody asked, empty where none
    is known. vitals: of each of `MEASURED` the last value, None where there is none; vitals_ms: of the latest of them.
    """

    version: int
    referral: _Id
    patient: _Id
    facility: Annotated[str, Meta(max_length=32)]
    node: _Id
    made_ms: _TimeMs
    name: str
    age_months: Annotated[int, Meta(ge=0, le=2400)] | None
    age_certain: bool
    sex: Annotated[str, Meta(max_length=1)] | None
    urgency: Annotated[str, Meta(max_length=16)]
    specialty: str
    reason: str
    allergies: Annotated[list[str], Meta(max_length=MAX_ALLERGIES)] | None
    vitals: Annotated[list[float | int | None], Meta(max_length=32)]
    vitals_ms: _TimeMs | None

    @property
    def measured(self) -> dict[str, float | int]:
        """Name → value of what was measured."""
        return {name: value for name, value in zip(MEASURED, self.vitals, strict=False) if value is not None}


@dataclass(frozen=True, slots=True)
class Signed:
    """A slip that was read. Nothing of it is known to be true before `verify`."""

    summary: Summary
    body: bytes
    signature: bytes

    @property
    def referral(self) -> RecordId:
        return RecordId(self.summary.referral)

    @property
    def patient(self) -> PatientId:
        return PatientId(self.summary.patient)

    @property
    def facility(self) -> FacilityCode:
        return FacilityCode(self.summary.facility)

    @property
    def node(self) -> NodeId:
        return NodeId(self.summary.node)

    def verify(self, key: Verifier, environment: EnvironmentId) -> Summary:
        """The summary, verified by the key of its node. Raises BadSignature."""
        key.verify(PURPOSE, environment, self.body, self.signature)
        return self.summary


# -- writing -----------------------------------------------------------------------------------------------------------


def fitted(summary: Summary) -> Summary:
    """The summary with what is too long cut: each text to its limit, then the reason to what room is left."""
    allergies = None if summary.allergies is None else [_cut(one, MAX_ALLERGY_BYTES) for one in summary.allergies]
    if allergies is not None and len(allergies) > MAX_ALLERGIES:
        allergies = [*allergies[: MAX_ALLERGIES - 1], CUT]
    bounded = msgspec.structs.replace(
        summary,
        name=_cut(summary.name, MAX_NAME_BYTES),
        specialty=_cut(summary.specialty, MAX_SPECIALTY_BYTES),
        allergies=allergies,
    )
    without = msgspec.structs.replace(bounded, reason="")
    room = MAX_SLIP_BYTES - SIGNATURE_BYTES - len(_body(without)) - _TEXT_HEAD_BYTES
    return msgspec.structs.replace(bounded, reason=_cut(summary.reason, room))


_TEXT_HEAD_BYTES: Final = 2  # what a text of more than 31 bytes takes beyond an empty one


def _cut(text: str, limit_bytes: int) -> str:
    """Between two characters as people read them: no mark is parted from its letter."""
    text = unicodedata.normalize("NFC", text)
    if len(text.encode()) <= limit_bytes:
        return text
    kept = text.encode()[: max(0, limit_bytes - len(CUT.encode()))].decode("utf-8", "ignore")
    while kept and _belongs_to_before(text[len(kept)]):
        kept = kept[:-1]
    return kept.rstrip() + CUT


def _belongs_to_before(letter: str) -> bool:
    return unicodedata.category(letter) in ("Mn", "Mc", "Me", "Cf")


def _body(summary: Summary) -> bytes:
    return canonical.encode(canonical.normalise(msgspec.to_builtins(summary, builtin_types=(bytes,))))


def sign(summary: Summary, signer: Identity, environment: EnvironmentId) -> str:
    """The slip's letters, of a summary that was made to fit. Raises TooLarge, or Malformed for what is no summary."""
    body = _body(summary)
    text = PREFIX + base45(signer.sign(PURPOSE, environment, body) + body)
    parse(text)
    return text


# -- reading -----------------------------------------------------------------------------------------------------------


def is_slip(text: str) -> bool:
    """Whether this is meant to be a slip, of whatever version, whole or not."""
    return _BEGINS.match(text.lstrip()) is not None


def parse(text: str) -> Signed:
    """The letters of a slip, as a scanner types them, in either case.

    Raises Malformed (``E_NO_SLIP`` for what does not begin as one), TooLarge, Unsupported or NotCanonical.
    """
    typed = text.strip()
    begun = _BEGINS.match(typed)
    if begun is None:
        raise Malformed("this is no code of a referral slip", code="E_NO_SLIP")
    if int(begun[1]) != VERSION:
        raise Unsupported("this slip is of a version that this program does not know")
    if len(typed) > MAX_TEXT_CHARS:
        raise TooLarge(f"a slip of more than {MAX_TEXT_CHARS} letters")
    raw = base45_bytes(typed[begun.end() :].upper())
    signature, body = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
    return Signed(_summary(body), body, signature)


def _summary(body: bytes) -> Summary:
    said = canonical.decode(body, MAX_SLIP_BYTES)
    if not isinstance(said, list) or not said or type(said[0]) is not int:
        raise Malformed("a slip's summary is no list that begins with its version")
    if said[0] != VERSION:
        raise Unsupported("this slip is of a version that this program does not know")
    try:
        summary = msgspec.convert(said, Summary, builtin_types=(bytes,))
    except (msgspec.MsgspecError, ValueError, TypeError):
        raise Malformed("a slip's summary has another shape than it must have") from None
    if not is_facility_code(summary.facility):
        raise Malformed("a slip's summary names no facility")
    return summary


# -- base45 (RFC 9285) -------------------------------------------------------------------------------------------------


def base45(raw: bytes) -> str:
    """Two bytes as three letters of a QR code's alphanumeric mode, the last one as two."""
    letters = []
    for at in range(0, len(raw), 2):
        number = int.from_bytes(raw[at : at + 2], "big")
        high, low = divmod(number, 45)
        letters += [low, high] if at + 1 == len(raw) else [low, high % 45, high // 45]
    return "".join(_LETTERS[one] for one in letters)


def base45_bytes(text: str) -> bytes:
    """What `base45` was given; no other text gives the same. Raises Malformed."""
    try:
        numbers = [_NUMBER[letter] for letter in text]
    except KeyError:
        raise Malformed("a slip has a letter that none has") from None
    raw = bytearray()
    for at in range(0, len(numbers), 3):
        part = numbers[at : at + 3]
        number = sum(digit * 45**place for place, digit in enumerate(part))
        size_bytes = len(part) - 1
        if not size_bytes or number >= 1 << 8 * size_bytes:
            raise Malformed("a slip has letters that stand for nothing, or is cut short")
        raw += number.to_bytes(size_bytes, "big")
    return bytes(raw)
