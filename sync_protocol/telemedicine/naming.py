"""Recognising drugs in what a person typed: spellings, salts, forms, strengths, brands, combinations, one wrong letter.

A text is cut where drugs are joined (``+ / , and with``). In each piece the longest known names are found first; words
for forms, salts and strengths name nothing, nor do numbers and single letters. Any other word, however short, is a drug
that is *not known*: leaving it out would let a combination pass for its harmless half.

Names are compared *folded*: letters that spellings of one name differ in are one (sulpha and sulfa, amoxycillin and
amoxicillin, oestradiol and estradiol). A word of seven letters and more that is known but for one letter is taken for
that drug; a test holds that no two drugs of the table are one when folded.

It refuses to know lists and rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from sync_protocol.telemedicine import drugs

MAX_CHARS: Final = 1_000  # a drug's field has 200, an allergy's text as much: beyond is no name
MAX_PHRASE: Final = 4  # words of the longest name
SHORT_CHARS: Final = 3  # an abbreviation has one spelling: MMF is not MPH, nor TT a T
MISSPELT_CHARS: Final = 7  # a shorter word with a wrong letter may be anything
PROHIBITED_CHARS: Final = 6  # …but for a name that is prohibited, codiene among them
TABLES: Final = ("LIST_O", "LIST_A", "LIST_B", "SCHEDULE_X", "NARCOTIC", "PSYCHOTROPIC")

_JOINED: Final = re.compile(r"[+/,;&()\[\]|\n]|\b(?:and|with|plus)\b")
_ENTRY_END: Final = re.compile(r";|\n(?! )")  # a line that begins with a blank goes on with the one before
_NUMBERED: Final = re.compile(r"(?<=[0-9])(?=[a-zA-Z])|(?<=[a-zA-Z]{3})(?=[0-9])")
_WORD: Final = re.compile(r"[^\W_]+[\u0900-\u0dff]*(?:[^\W_]|[\u0900-\u0dff])*")
_FOLDED: Final = (("ph", "f"), ("ae", "e"), ("oe", "e"), ("th", "t"), ("y", "i"), ("ck", "k"), ("rh", "r"))
_REPEATED: Final = re.compile(r"(.)\1+")


@dataclass(frozen=True, slots=True)
class Recognised:
    """drugs: generic names of the table, each once. guessed: those of them that are one letter away from what was
    written. unknown: the words, as they were written, that are in no table."""

    drugs: tuple[str, ...]
    guessed: frozenset[str]
    unknown: tuple[str, ...]


def fold(word: str) -> str:
    """A word without what its spellings differ in. Other scripts than Latin are only normalised."""
    text = unicodedata.normalize("NFD", word.casefold())
    text = unicodedata.normalize("NFC", "".join(one for one in text if not "\u0300" <= one <= "\u036f"))
    if not text.isascii():
        return text.replace("\u093c", "")  # the dot below of Devanagari is often left out
    if len(text) <= SHORT_CHARS:
        return text
    for old, new in _FOLDED:
        text = text.replace(old, new)
    text = _REPEATED.sub(r"\1", text)
    return text[:-1] if len(text) > 4 and text.endswith("e") else text


def words_of(text: str) -> list[str]:
    """The words of a text, folded. Numbers stand apart from their units and from names; b12 stays one."""
    return [fold(one) for one in _WORD.findall(_NUMBERED.sub(" ", text[:MAX_CHARS]))]


def read(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """A table of `drugs` as (name, other names)."""
    found = []
    for entry in _ENTRY_END.split(text):
        name, _, others = " ".join(entry.split()).partition(":")
        if name:
            found.append((name, tuple(other.strip() for other in others.split(",") if other.strip())))
    return tuple(found)


@cache
def _index() -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """The folded words of each name → the generic names of what it is."""
    index: dict[tuple[str, ...], tuple[str, ...]] = {}
    for table in TABLES:
        for name, others in read(getattr(drugs, table)):
            for one in (name, *others):
                index[tuple(words_of(one))] = (name,)
    for brand, (made_of,) in (*read(drugs.BRANDS), *read(drugs.ABBREVIATIONS)):
        index[tuple(words_of(brand))] = tuple(part.strip() for part in made_of.split("+"))
    return index


@cache
def _nearly() -> Mapping[str, frozenset[str]]:
    """What is left of a long name when one letter goes, and the name itself → the names it is left of. Two words that are
    one letter apart have something of this in common, so a misspelt one is looked up and not compared with all."""
    least = {word: MISSPELT_CHARS for (word, *others) in _index() if not others and word.isascii()}
    for table in ("SCHEDULE_X", "NARCOTIC", "PSYCHOTROPIC"):
        for name, others in read(getattr(drugs, table)):
            least |= {fold(one): PROHIBITED_CHARS for one in (name, *others) if " " not in one}
    found: dict[str, set[str]] = {}
    for word, chars in least.items():
        for left in _without_one(word) if len(word) >= chars else ():
            found.setdefault(left, set()).add(word)
    return {left: frozenset(words) for left, words in found.items()}


def _without_one(word: str) -> set[str]:
    return {word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}


@cache
def _silent() -> frozenset[str]:
    return frozenset(fold(word) for word in drugs.SALTS | drugs.FORMS)


def recognise(text: str) -> Recognised:
    """The drugs that a text names."""
    found: dict[str, bool] = {}  # name → whether it was guessed
    unknown = []
    for piece in _JOINED.split(text[:MAX_CHARS]):
        named, strange = _piece(_WORD.findall(_NUMBERED.sub(" ", piece)))
        for name, guessed in named.items():
            found[name] = found.get(name, True) and guessed
        unknown += strange
    return Recognised(tuple(found), frozenset(one for one, guessed in found.items() if guessed), tuple(unknown))


def _piece(written: Sequence[str]) -> tuple[dict[str, bool], list[str]]:
    """(the drugs of a piece and whether each was guessed, the words that say nothing to us)."""
    words = [fold(one) for one in written]
    named: dict[str, bool] = {}
    strange: list[str] = []
    at = 0
    while at < len(words):
        length, names = _longest(words, at)
        for name in names:
            named[name] = False
        if not length and not _says_nothing(words[at]):
            meant = [name for near in _misspelt(words[at]) for name in _index()[near,]]
            for name in meant:
                named.setdefault(name, True)
            strange += [] if meant else [written[at]]
        at += length or 1
    return named, strange


def _says_nothing(word: str) -> bool:
    """A form, a salt, a number, the size of a pack (10x15), how often (q6h), or a letter that stands alone."""
    left = "".join(one for one in word if not unicodedata.category(one).startswith("N"))
    if left == word:
        return word in _silent() or word.removesuffix("x") in _silent() or (word.isascii() and len(word) == 1)
    unit = left.strip("x")
    return unit in ("", "q") or unit in _silent()


def _longest(words: Sequence[str], at: int) -> tuple[int, tuple[str, ...]]:
    for length in range(min(MAX_PHRASE, len(words) - at), 0, -1):
        names = _index().get(tuple(words[at : at + length]))
        if names is not None:
            return length, names
    return 0, ()


def _misspelt(word: str) -> Iterator[str]:
    """The names that are one letter away."""
    if word.isascii() and len(word) >= PROHIBITED_CHARS - 1:
        near = {name for left in _without_one(word) for name in _nearly().get(left, ())}
        yield from sorted(name for name in near if name[0] == word[0] and _one_away(word, name))


def alike(left: str, right: str) -> bool:
    """Whether two folded words are one, but for a wrong letter in a long one."""
    if min(len(left), len(right)) < MISSPELT_CHARS or left[0] != right[0] or abs(len(left) - len(right)) > 1:
        return left == right
    return _one_away(left, right)


def _one_away(left: str, right: str) -> bool:
    """Whether one letter was left out, added, taken for another, or changed places with its neighbour."""
    short, long = sorted((left, right), key=len)
    at = next((number for number, letter in enumerate(short) if letter != long[number]), len(short))
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    swapped = left[:at] + left[at : at + 2][::-1] + left[at + 2 :]
    return left[at + 1 :] == right[at + 1 :] or swapped == right
