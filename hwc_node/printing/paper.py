"""A paper, before it is a page or a PDF: its title, its parts from top to bottom, what stands at the foot of each page.

Plain values with their texts in the reader's language already; content is as it was written. They go to the program that
draws PDFs as JSON. A text may have several lines. It refuses to know records and how a paper looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

Size: TypeAlias = Literal["A4", "A5"]
SIZES: Final[tuple[Size, ...]] = ("A5", "A4")


class Heading(msgspec.Struct, frozen=True, tag="heading"):
    """Above what belongs together."""

    text: str


class Facts(msgspec.Struct, frozen=True, tag="facts"):
    """Label and text, a row each. strong: set in bold, as an urgency or an allergy."""

    rows: Sequence[tuple[str, str]]
    strong: bool = False


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A paragraph."""

    text: str
    quiet: bool = False


class Mark(msgspec.Struct, frozen=True, tag="mark"):
    """What nobody may overlook, in a frame: an answer that was withdrawn."""

    text: str


class Drug(msgspec.Struct, frozen=True):
    """A line of a prescription. name: as the guideline asks for it, in capitals. in_spite: why it is given to whom it may
    harm, for whoever hands it out."""

    name: str
    details: str
    advice: str
    in_spite: str = ""


class Drugs(msgspec.Struct, frozen=True, tag="drugs"):
    """A prescription's lines, numbered."""

    lines: Sequence[Drug]


class Code(msgspec.Struct, frozen=True, tag="code"):
    """A QR code, and what is said of it beside it."""

    letters: str
    text: str


class Signature(msgspec.Struct, frozen=True, tag="signature"):
    """Below a line, at the end."""

    lines: Sequence[str]


Part: TypeAlias = Heading | Facts | Text | Mark | Drugs | Code | Signature


class Paper(msgspec.Struct, frozen=True):
    """language: code of its labels' language. place: the centre, at the top. foot: of each page, beside its number.

    page_words: "Page %(number)s of %(pages)s", in that language. too_long: what stands where a paper was cut.
    file_name: without its ending, and without anything of a patient. made_ms: when it was made.
    """

    language: str
    file_name: str
    place: str
    title: str
    parts: Sequence[Part]
    foot: str
    page_words: str
    too_long: str
    made_ms: int


class Order(msgspec.Struct, frozen=True):
    """What the program that draws is given."""

    paper: Paper
    size: Size
