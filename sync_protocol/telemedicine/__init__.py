"""What a doctor may prescribe at a distance, and what a patient's allergies say to it. Pure.

The rules are those of India's Telemedicine Practice Guidelines (Board of Governors in supersession of the Medical
Council of India, 25 March 2020; sections 3.7.4 and 4.3, table of lists in annexure 1; amended on 11 April 2020):

    list         first consultation    follow-up
    O            any mode              any mode
    A            video                 any mode (a re-fill)
    B            no                    any mode (an add-on for the same condition)
    prohibited   no                    no

The strictest part of a combination counts. A drug that is not in the table counts as list B: list A is "an inclusion
list", so what is not on it waits for a follow-up; and nothing is prohibited that neither Schedule X nor the NDPS Act
names. What is one letter away from a prohibited name is refused as that, and what is not in Latin letters cannot be
looked up, so it is refused too. A consultation through a centre's health worker has no other lists (section 4.3).

A drug to which the patient is said to be allergic needs the doctor's reason, which stays with the line
(``allergy_reason``), so that whoever hands the drug out reads it too.

    drugs       the table            naming      finding its drugs in what was typed
    allergies   classes of drugs, and the words of allergies
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Final

from sync_protocol.canonical import Value
from sync_protocol.telemedicine import allergies, drugs
from sync_protocol.telemedicine.naming import Recognised, read, recognise
from sync_protocol.words import N_

GUIDELINE: Final = "Telemedicine Practice Guidelines, 25 March 2020"
VERSION: Final = drugs.VERSION
VIDEO: Final = "video"
REASON: Final = "allergy_reason"


class DrugList(Enum):
    """From the least to the most strict."""

    ANY_MODE = "O"
    VIDEO_FIRST = "A"
    FOLLOW_UP = "B"
    UNKNOWN = "not in the table"
    SCHEDULE_X = "Schedule X"
    NARCOTIC = "narcotic"
    PSYCHOTROPIC = "psychotropic"


_STRICTNESS: Final = {one: number for number, one in enumerate(DrugList)}
PROHIBITED: Final = frozenset({DrugList.SCHEDULE_X, DrugList.NARCOTIC, DrugList.PSYCHOTROPIC})
_TABLES: Final = {
    DrugList.ANY_MODE: drugs.LIST_O,
    DrugList.VIDEO_FIRST: drugs.LIST_A,
    DrugList.FOLLOW_UP: drugs.LIST_B,
    DrugList.SCHEDULE_X: drugs.SCHEDULE_X,
    DrugList.NARCOTIC: drugs.NARCOTIC,
    DrugList.PSYCHOTROPIC: drugs.PSYCHOTROPIC,
}

_PROHIBITED_SAID: Final = {
    DrugList.SCHEDULE_X: N_(
        "%(drug)s cannot be prescribed by telemedicine: it is on Schedule X (Drugs and Cosmetics Rules)."
    ),
    DrugList.NARCOTIC: N_("%(drug)s cannot be prescribed by telemedicine: it is a narcotic drug (NDPS Act)."),
    DrugList.PSYCHOTROPIC: N_(
        "%(drug)s cannot be prescribed by telemedicine: it is a psychotropic substance (NDPS Act)."
    ),
}
_READS_LIKE: Final = N_(
    "This reads like %(drug)s, which cannot be prescribed by telemedicine. If it is another drug, check its spelling."
)
_NOT_READABLE: Final = N_("Write the drug's generic name in Latin letters: in others it cannot be looked up.")
_NEEDS_VIDEO: Final = N_(
    "%(drug)s is on list A: at a first consultation it needs video (Telemedicine Practice Guidelines, 3.7.4)."
)
_FOLLOW_UP_ONLY: Final = N_(
    "%(drug)s is on list B: it is added at a follow-up, not prescribed at a first consultation"
    " (Telemedicine Practice Guidelines, 3.7.4)."
)
_UNKNOWN_FIRST: Final = N_(
    "“%(drug)s” is not in the table, so it counts as list B: it is added at a follow-up, not prescribed at a first"
    " consultation. Check the spelling, or write the generic name."
)
_UNKNOWN_UNSAID: Final = (
    "This drug is not in the table, so it counts as list B: it is added at a follow-up, not prescribed at a first"
    " consultation. Check the spelling, or write the generic name."
)
_ALLERGIC: Final = N_(
    "The patient is allergic to “%(allergy)s”, and %(drug)s is of that kind. Choose another drug, or give your reason."
)
_CROSSING: Final = N_(
    "The patient is allergic to “%(allergy)s”, and %(drug)s can do the same (cross-allergy). Choose another drug, or give"
    " your reason."
)
_ALLERGIC_UNSAID: Final = (
    "%(drug)s is of a kind that the patient is allergic to. Choose another drug, or give the reason with the line."
)
_TYPED_UNSAID: Final = (
    "This drug is of a kind that the patient is allergic to. Choose another drug, or give the reason with the line."
)


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a line cannot be signed as it is. line: from 1. said: a marked text with named places, values for them.

    unsaid: the same in English without what must not stand in an error or a log (an allergy as it was written).
    """

    line: int
    code: str
    said: str
    values: Mapping[str, str] = field(default_factory=dict)
    unsaid: str = ""

    @property
    def plain(self) -> str:
        """For errors."""
        return (self.unsaid or self.said) % self.values


@cache
def _lists() -> Mapping[str, DrugList]:
    return {name: which for which, table in _TABLES.items() for name, _ in read(table)}


def list_of(found: Recognised) -> DrugList:
    """The strictest list of what was recognised."""
    lists = [_lists()[one] for one in found.drugs]
    if found.unknown or not lists:
        lists.append(DrugList.UNKNOWN)
    return max(lists, key=_STRICTNESS.__getitem__)


def objections(
    lines: Sequence[object], mode: Value, *, first: bool, allergic_to: Mapping[str, str] | None = None
) -> list[Objection]:
    """What stands against the lines of a prescription, in their order.

    mode: text, audio or video. allergic_to: each allergy as it was written → all that is known of it (`allergies_of`).
    A line that is none is the schema's affair.
    """
    found = []
    meant = allergies.understood(allergic_to or {})
    for number, line in enumerate(lines, 1):
        text = line.get("drug") if isinstance(line, dict) else None
        if not isinstance(line, dict) or not isinstance(text, str) or not text.strip():
            continue
        recognised = recognise(text)
        refused = _refused(number, recognised, mode, first)
        if refused is not None:
            found.append(refused)
        if not _has_reason(line):
            found += _allergic(number, recognised, meant)
    return found


def _refused(number: int, recognised: Recognised, mode: Value, first: bool) -> Objection | None:
    strictest = list_of(recognised)
    names = [one for one in recognised.drugs if _lists()[one] is strictest]
    values = {"drug": _capital(names[0])} if names else {}
    if strictest in PROHIBITED:
        guessed = all(one in recognised.guessed for one in names)
        return Objection(number, "E_DRUG_PROHIBITED", _READS_LIKE if guessed else _PROHIBITED_SAID[strictest], values)
    if not all(one.isascii() for one in recognised.unknown):
        return Objection(number, "E_DRUG_NOT_READABLE", _NOT_READABLE)
    if not first or strictest is DrugList.ANY_MODE:
        return None
    if strictest is DrugList.VIDEO_FIRST:
        return Objection(number, "E_DRUG_NEEDS_VIDEO", _NEEDS_VIDEO, values) if mode != VIDEO else None
    if strictest is DrugList.FOLLOW_UP:
        return Objection(number, "E_DRUG_FOLLOW_UP_ONLY", _FOLLOW_UP_ONLY, values)
    written = {"drug": " ".join(recognised.unknown) or "–"}
    return Objection(number, "E_DRUG_FOLLOW_UP_ONLY", _UNKNOWN_FIRST, written, _UNKNOWN_UNSAID)


def _allergic(number: int, recognised: Recognised, meant: Sequence[allergies.Meant]) -> list[Objection]:
    return [
        Objection(
            number,
            "E_ALLERGY",
            _CROSSING if one.crossing else _ALLERGIC,
            {"drug": one.drug if one.typed else _capital(one.drug), "allergy": one.allergy},
            _TYPED_UNSAID if one.typed else _ALLERGIC_UNSAID,
        )
        for one in allergies.met(recognised, meant)
    ]


def _has_reason(line: Mapping[str, Value]) -> bool:
    reason = line.get(REASON)
    return isinstance(reason, str) and bool(reason.strip())


def _capital(name: str) -> str:
    """As it stands at the beginning of a sentence; an abbreviation in capitals."""
    return name.upper() if len(name) <= 3 else name[:1].upper() + name[1:]


def allergies_of(patient: Mapping[str, Value]) -> dict[str, str]:
    """A patient's allergies, as they were written → all that is known of each. patient: the record's view."""
    found: dict[str, str] = {}
    for name, value in sorted(patient.items()):
        family, _, key = name.partition("/")
        if family != "allergies" or not isinstance(value, dict) or value.get("present") is not True:
            continue
        details = value.get("details")
        texts = [one for one in details.values() if isinstance(one, str)] if isinstance(details, dict) else []
        written = details.get("text") if isinstance(details, dict) else None
        found[written if isinstance(written, str) and written.strip() else key] = " ; ".join((key, *texts))
    return found
