"""Keys of people's names as they are spelt in India: Lakshmi, Laxmi and लक्ष्मी have one key.

A name in any of the nine scripts that share ISCII's order (Devanagari to Malayalam) is first spelt in Latin letters; any
Latin spelling then loses what spellings differ in: case, marks, aspiration, doubled letters, the long and the short of
vowels. What is left is a *sound*, still readable (``laksmi``). Its *key* keeps the consonants and a vowel at the
beginning (``lksm``): what two clerks write of one spoken name mostly has one key. Titles and honorifics are no part of a
name. Pure; it decides nothing about who is whom.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

MAX_NAME_CHARS: Final = 200  # of a name that is looked at: what is longer is not one
MAX_WORDS: Final = 8
PHONE_DIGITS: Final = 10
LEAST_DIGITS: Final = 4  # the end of a phone number, as people say it
NUMBERS: Final = ("phone", "abha")
HONORIFICS: Final = frozenset("shri sri shree smt shrimati srimati kumari km dr mr mrs ms miss late ji".split())

_BLOCK: Final = 0x80
_FIRST: Final = 0x0900  # Devanagari; Bengali, Gurmukhi, Gujarati, Oriya, Tamil, Telugu, Kannada, Malayalam follow
_LAST: Final = 0x0D7F
_VIRAMA: Final = 0x4D
_INHERENT: Final = "a"
_TAMIL: Final = 0x0B80  # its ச is an s at a word's beginning; that its க is also a g has to be borne

# By the place in the block, which is the same sound in each of the scripts.
_CONSONANTS: Final = dict(
    zip(
        range(0x15, 0x3A),
        "k kh g gh n ch chh j jh n t th d dh n t th d dh n n p ph b bh m y r r l l l v sh sh s h".split(),
        strict=True,
    )
)
_VOWELS: Final = dict(
    zip(range(0x05, 0x15), "a aa i ii u uu ri l e e e ai o o o au".split(), strict=True)
)  # as letters
_SIGNS: Final = dict(
    zip(range(0x3E, 0x4D), "aa i ii u uu ri ri e e e ai o o o au".split(), strict=True)
)  # behind a consonant, in the place of its own a
_NUKTA: Final = dict(zip(range(0x58, 0x60), "k kh g z r rh f y".split(), strict=True))
_NASALS: Final = {0x01: "n", 0x02: "n", 0x03: "h"}

_SPELLINGS: Final = tuple(
    (re.compile(pattern), sound)
    for pattern, sound in (
        (r"ksh|kch|x|q[sh]", "ks"),
        (r"gny|dny|jny|gy", "gn"),  # ज्ञ, by where one is from
        (r"ck|q|c(?=[aoukrlt]|$)", "k"),
        (r"chh|tch|ch|c", "c"),
        (r"sch|sh|z(?=h)", "s"),
        (r"ph", "f"),
        (r"zh", "l"),  # Tamil's ழ, as in Tamizh
        (r"z", "j"),
        (r"w", "v"),
        (r"([bdgjkptcrs])h", r"\1"),
        (r"ee|ii|ie|ey|ei|y(?![aeiou])", "i"),
        (r"oo|uu|ou", "u"),
        (r"aa|ah(?=[^aeiou]|$)", "a"),
        (r"au|ow", "o"),
        (r"ai|ay(?![aeiou])", "e"),
        (r"m(?=[bp])", "n"),  # Sambhu, Sanbhu: the mark above is either
        (r"(.)\1+", r"\1"),
    )
)
_WORD: Final = re.compile(r"[a-z]+")
_VOWEL: Final = re.compile(r"[aeiou]")


def sounds(name: str) -> tuple[str, ...]:
    """The sounds of a name's words, in their order; none where nothing of it can be spelt."""
    plain = unicodedata.normalize("NFKD", latin(name[:MAX_NAME_CHARS])).casefold()
    letters = "".join(one for one in plain if not unicodedata.combining(one))
    words = (one for one in _WORD.findall(letters.replace("'", "")) if one not in HONORIFICS)
    found = [sound for one in words if (sound := _sound(one))]
    return tuple(found[:MAX_WORDS])


def words(writes: Mapping[str, object]) -> tuple[str, ...]:
    """What a change of a patient's record is found by: the sounds of its name, the digits of its phone and ABHA number."""
    found: list[str] = []
    name = writes.get("name")
    if isinstance(name, str):
        found += sounds(name)
    for field in ("name", *NUMBERS):
        value = writes.get(field)
        if isinstance(value, str) and (said := digits(value)):
            found.append(said)
    return tuple(dict.fromkeys(found))


def digits(text: str) -> str:
    """The text's digits, of whatever script, where it has as many as a number that identifies; else nothing."""
    said = "".join(str(unicodedata.decimal(one)) for one in text[:MAX_NAME_CHARS] if one.isdecimal())
    return said if len(said) >= LEAST_DIGITS else ""


def keys(name: str) -> tuple[str, ...]:
    """The keys of a name's words, in their order."""
    return tuple(key_of(sound) for sound in sounds(name))


def key_of(sound: str) -> str:
    """The consonants of a sound, and its first letter whatever it is."""
    return sound[:1] + _VOWEL.sub("", sound[1:])


def latin(text: str) -> str:
    """The text with what stands in an Indian script spelt in Latin letters; anything else as it is."""
    composed = unicodedata.normalize("NFC", text)
    spelt: list[str] = []
    open_consonant = False  # its own vowel is still to be said
    for letter in composed:
        place = (ord(letter) - _FIRST) % _BLOCK if is_indic(letter) else -1
        if open_consonant and place not in _SIGNS and place != _VIRAMA and place != 0x3C:
            spelt.append(_INHERENT if place >= 0 else "")  # at a word's end it is not spoken
            open_consonant = False
        if place in _CONSONANTS or place in _NUKTA:
            sound = _CONSONANTS.get(place) or _NUKTA[place]
            spelt.append("s" if sound == "ch" and _TAMIL <= ord(letter) < _TAMIL + _BLOCK else sound)
            open_consonant = True
        elif place in _SIGNS:
            spelt.append(_SIGNS[place])
            open_consonant = False
        elif place == _VIRAMA:
            open_consonant = False
        elif place in _VOWELS:
            spelt.append(_VOWELS[place])
        elif place in _NASALS:
            spelt.append(_NASALS[place])
        elif place < 0:
            spelt.append(letter)
    return "".join(spelt)


def is_indic(letter: str) -> bool:
    """Whether it belongs to one of the nine scripts."""
    return _FIRST <= ord(letter) <= _LAST


def _sound(word: str) -> str:
    for pattern, sound in _SPELLINGS:
        word = pattern.sub(sound, word)
    return word
