"""Keys of people's names as they are spelt in India: Lakshmi, Laxmi and लक्ष्मी have one key.

A name in any of the nine scripts that share ISCII's order (Devanagari to Malayalam) is first spelt in Latin letters; any
Latin spelling then loses what spellings differ in: case, marks, aspiration, doubled letters, the long and the short of
vowels. What is left is a *sound*, still readable (``laksmi``). Its *key* keeps the consonants and a vowel at the
beginning (``lksm``): what two clerks write of one spoken name mostly has one key. Titles and honorifics are no part of a
name. A word of any other script (Urdu's, Ol Chiki) stands for itself: it is found by its own letters.
Pure; it decides nothing about who is whom.
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
_TAMIL: Final = 0x0B80  # its ச is an s where it stands alone; that its க is also a g has to be borne

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
_NASALS: Final = {0x01: "n", 0x02: "n", 0x03: "h"}


def _respelt() -> Mapping[str, str]:
    """What stands elsewhere in its block than its sound does, or sounds otherwise together: spelt as it sounds."""
    alike = "ॐ=ओम् ॲ=अ ৰ=র ৱ=\u09b5 ৎ=ত্ ੰ=ਂ ੜ=ਰ ૐ=ઓમ્ ୱ=ଵ ୟ=ଯ ட்ச=க்ஷ ஞ்ச=ஞ்ஜ ச்ச=\u0b9b ஃப=\u0bab ൗ=ൌ ൺ=ണ് ൻ=ന് ർ=ര് ൽ=ല് ൾ=ള് ൿ=ക്"
    found = dict(one.split("=") for one in alike.split())
    for block in range(_FIRST, _LAST, _BLOCK):
        j, n, d, dh, nukta, virama = (chr(block + place) for place in (0x1C, 0x1E, 0x21, 0x22, 0x3C, _VIRAMA))
        found[j + virama + n] = "".join(chr(block + place) for place in (0x17, _VIRAMA, 0x28))  # ज्ञ, as in Gyan
        found[d + nukta] = found[dh + nukta] = chr(block + 0x30)  # as in Arora
    return found


_RESPELT: Final = _respelt()
_TO_RESPELL: Final = re.compile("|".join(map(re.escape, _RESPELT)))
_LAST_M: Final = re.compile("[\u0c02\u0c82\u0d02](?![\u0900-\u0d7f])")  # what ends Sundaram in the south's scripts

_SPELLINGS: Final = tuple(
    (re.compile(pattern), sound)
    for pattern, sound in (
        (r"ksh|kch|x|q[sh]", "ks"),
        (r"gny|dny|jny|^jn|gy", "gn"),  # ज्ञ, by where one is from
        (r"ck|q|c(?=[aoukrlt]|$)", "k"),
        (r"chh|tch|ch|c", "c"),
        (r"sch|sh", "s"),
        (r"ph", "f"),
        (r"zh", "l"),  # Tamil's ழ, as in Tamizh
        (r"z", "j"),
        (r"ow(?![aeiou])", "o"),
        (r"w", "v"),
        (r"([bdgjkptcrs])h", r"\1"),
        (r"ee|ii|ie|ey|ei|y(?![aeiou])", "i"),
        (r"oo|uu|ou", "u"),
        (r"a+h$|aa", "a"),
        (r"au", "o"),
        (r"ai|ay(?![aeiou])", "e"),
        (r"m(?=[bp])", "n"),  # Sambhu, Sanbhu: the mark above is either
        (r"(.)\1+", r"\1"),
    )
)
_WORD: Final = re.compile(r"[a-z]+|[^\W\d_a-z]+")
_VOWEL: Final = re.compile(r"[aeiou]")
_WITHIN_A_WORD: Final = {ord(one): None for one in "'’‘ʼ`\u200c\u200d"}  # apostrophes, and what joins letters or not


def sounds(name: str) -> tuple[str, ...]:
    """The sounds of a name's words, in their order; what cannot be spelt in Latin letters in its own, without marks."""
    plain = unicodedata.normalize("NFKD", latin(name[:MAX_NAME_CHARS])).casefold()
    letters = "".join(one for one in plain if not unicodedata.combining(one))
    spelt = _WORD.findall(letters.translate(_WITHIN_A_WORD))
    found = [sound for one in spelt if (sound := _sound(one) if one.isascii() else one)]
    named = [one for one in found if one not in _HONORIFIC_SOUNDS]
    return tuple((named or found)[:MAX_WORDS])  # who is called Kumari and nothing else has that name


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
    composed = _TO_RESPELL.sub(lambda found: _RESPELT[found[0]], unicodedata.normalize("NFC", text))
    composed = _LAST_M.sub(lambda found: chr(ord(found[0]) + 0x2C) + chr(ord(found[0]) + _VIRAMA - 0x02), composed)
    spelt: list[str] = []
    open_consonant = False  # its own vowel is still to be said
    for letter in composed:
        place = (ord(letter) - _FIRST) % _BLOCK if is_indic(letter) else -1
        if open_consonant and place not in _SIGNS and place != _VIRAMA and place != 0x3C:
            spelt.append(_INHERENT if place >= 0 else "")  # at a word's end it is not spoken
            open_consonant = False
        if place in _CONSONANTS:
            sound = _CONSONANTS[place]
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


_HONORIFIC_SOUNDS: Final = frozenset(map(_sound, HONORIFICS))
