"""Text into what can be drawn: clusters that belong together, each in a font that has its letters, and lines that fit.

Letters of one script stay in one run, so that they are shaped together (reph, split matras, conjuncts); a space, a digit or
a sign stays with its neighbours where their font has it. What no font has, and what would turn or hide its neighbours
(bidi marks, controls), becomes a visible box: nothing is left out in silence. It refuses to know PDFs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

VIRAMA_CLASS: Final = 9  # Unicode's combining class of all signs that join two consonants
JOINERS: Final = "\u200c\u200d"
TAB_BLANKS: Final = " " * 2
MAX_CLUSTER_CHARS: Final = 16  # a conjunct has some eight; what is longer is somebody's play, and is drawn apart
MAX_PIECE_CLUSTERS: Final = 400  # of a word in one line: more than there is room for, unless they have no width

Coverage = Mapping[str, frozenset[int]]
"""Font → the code points that it has, the font for everyday letters first."""


@dataclass(frozen=True, slots=True)
class Run:
    """Letters of one font, shaped together. font: empty for boxes, of which `text` has one a character."""

    font: str
    text: str


Word: TypeAlias = tuple[Run, ...]
Lines: TypeAlias = Iterator[Word]


def clusters(text: str) -> Iterator[str]:
    """Letters with their marks; consonants that a virama joins."""
    begun = ""
    for letter in text:
        if 0 < len(begun) < MAX_CLUSTER_CHARS and (_is_mark(letter) or letter in JOINERS or _joins(begun, letter)):
            begun += letter
            continue
        if begun:
            yield begun
        begun = letter
    if begun:
        yield begun


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter) in ("Mn", "Mc", "Me")


def _joins(begun: str, letter: str) -> bool:
    last = begun.rstrip(JOINERS)[-1:]
    return bool(last) and unicodedata.combining(last) == VIRAMA_CLASS and unicodedata.category(letter) == "Lo"


def runs(text: str, coverage: Coverage) -> Word:
    """The text in runs, each in a font that has all of it."""
    found: list[Run] = []
    for cluster in clusters(text):
        font = _font_of(cluster, coverage, found[-1].font if found else "")
        drawn = cluster if font else "".join(letter for letter in cluster if letter not in JOINERS)
        if found and found[-1].font == font:
            found[-1] = Run(font, found[-1].text + drawn)
        elif drawn:
            found.append(Run(font, drawn))
    return tuple(found)


def _font_of(cluster: str, coverage: Coverage, before: str) -> str:
    needed = [letter for letter in cluster if letter not in JOINERS]
    if not needed or any(unicodedata.category(letter)[0] == "C" for letter in needed):
        return ""
    tried = [before] if before and not _has_script(cluster) else []
    return next((font for font in (*tried, *coverage) if all(ord(letter) in coverage[font] for letter in needed)), "")


def _has_script(cluster: str) -> bool:
    """Whether it is a letter, which belongs to a script; a digit or a sign stands in any."""
    return unicodedata.category(cluster[0])[0] == "L"


# -- lines -------------------------------------------------------------------------------------------------------------


def lines(text: str, width: float, coverage: Coverage, width_of: Callable[[str], float]) -> Lines:
    """Lines no wider than ``width``, broken at blanks, and inside of a word only where it is wider than a whole line.

    width_of: of a cluster, in the same unit; clusters hardly touch each other's width. An empty line is no runs.
    """
    for paragraph in text.replace("\t", TAB_BLANKS).splitlines() or [""]:
        for line in _wrapped(paragraph, width, width_of):
            yield runs(line, coverage)


def _wrapped(paragraph: str, width: float, width_of: Callable[[str], float]) -> Iterator[str]:
    begun, begun_width = "", 0.0
    blank = width_of(" ")
    for word in paragraph.split(" "):
        for at, (piece, piece_width) in enumerate(_pieces(word, width, width_of)):
            if at == 0 and begun and begun_width + blank + piece_width <= width:
                begun, begun_width = f"{begun} {piece}", begun_width + blank + piece_width
                continue
            if begun or at:
                yield begun
            begun, begun_width = piece, piece_width
    yield begun


def _pieces(word: str, width: float, width_of: Callable[[str], float]) -> Iterator[tuple[str, float]]:
    """The word with its width, in pieces that fit a line each."""
    begun: list[str] = []
    begun_width = 0.0
    for cluster in clusters(word):
        added = width_of(cluster)
        if begun and (begun_width + added > width or len(begun) >= MAX_PIECE_CLUSTERS):
            yield "".join(begun), begun_width
            begun, begun_width = [], 0.0
        begun.append(cluster)
        begun_width += added
    yield "".join(begun), begun_width
