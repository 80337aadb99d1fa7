"""A paper drawn as a PDF: the work of a short-lived program of its own (`making`), the only one that shapes letters.

First everything is placed, page by page, then drawn, so that each page says how many there are. The same paper gives the
same bytes. Pages are bounded; where a paper was cut, its last page says so. Text goes to the library a run at a time, as it
is: nothing in it is a command, a page number or a link.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from itertools import islice, zip_longest
from typing import Any, Final, Literal, TypeAlias

import msgspec
from fpdf import FPDF

from hwc_node.printing import codes, letters
from hwc_node.printing.letters import Run, Word
from hwc_node.printing.paper import Code, Drugs, Facts, Heading, Mark, Paper, Part, Signature, Size, Text
from sync_protocol.errors import OurFault

FONTS: Final[dict[str, str]] = {
    "NotoSans": "",
    "NotoSansDevanagari": "\u0900-\u097f\u1cd0-\u1cff\ua8e0-\ua8ff",
    "NotoSansTamil": "\u0b80-\u0bff",
    "NotoSansTelugu": "\u0c00-\u0c7f",
    "NotoSansKannada": "\u0c80-\u0cff",
}
"""Font → the letters for which alone it is loaded: a paper in one script is made in half the time."""
WEIGHTS: Final[dict[Style, str]] = {"": "Regular", "B": "Bold"}
PAGE_MM: Final[dict[Size, tuple[float, float]]] = {"A5": (148.0, 210.0), "A4": (210.0, 297.0)}
MAX_PAGES: Final = 60  # what a change of 64 KiB holds, in an Indian script on A5
MAX_LINES_A_TEXT: Final = 4_000  # more than these pages have
MARGIN_MM: Final = 12.0
FOOT_MM: Final = 9.0
FOOT_LINES: Final = 2
SIZE_PT: Final[dict[Size, float]] = {"A5": 9.5, "A4": 11.0}
TITLE_PT: Final = 5.0  # more than the text
FOOT_PT: Final = 7.0
LINE: Final = 1.45  # of the letters' size: signs stand above and below Indian letters
WIDER: Final = 1.01  # what letters may be wider together than each alone
GAP: Final = 0.4  # between parts, in lines
LABEL_SHARE: Final = 0.27  # of the width, for labels
NUMBER_MM: Final = 6.0
CODE_MM: Final = 60.0  # 105 modules with their margin: 0.57 mm each, which a cheap phone reads
SIGNATURE_MM: Final = 60.0
MARK_MM: Final = 1.2
BOX_WIDTH, BOX_HEIGHT, BOX_GAP = 0.5, 0.7, 0.1  # a letter that no font has, of the letters' size
MM_A_POINT: Final = 25.4 / 72
LATEST_MS: Final = 253_402_300_799_000
PRODUCER: Final = "health-sync"

Style: TypeAlias = Literal["", "B"]


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of text; x, y in mm, from the page's upper left to the line's."""

    x: float
    y: float
    word: Word
    size_pt: float
    style: Style


@dataclass(frozen=True, slots=True)
class _Bar:
    """A black rectangle, in mm."""

    x: float
    y: float
    width: float
    height: float


@dataclass(slots=True)
class _Page:
    lines: list[_Line] = field(default_factory=list)
    bars: list[_Bar] = field(default_factory=list)


class _Full(Exception):
    """There is no further page."""


def draw(paper: Paper, size: Size) -> bytes:
    """The PDF. Raises OurFault (``E_NO_FONTS``)."""
    warnings.simplefilter("ignore")
    pdf = FPDF(format=PAGE_MM[size])
    pdf.set_text_shaping(True)
    pdf.set_auto_page_break(False)
    pdf.set_margin(0)
    pdf.c_margin = 0
    pdf.alias_nb_pages("")  # else braces that somebody wrote would become a number
    pdf.set_creation_date(datetime.fromtimestamp(min(max(paper.made_ms, 0), LATEST_MS) / 1000, UTC))
    pdf.set_title(paper.file_name)
    pdf.set_producer(PRODUCER)
    pdf.set_lang(paper.language)
    _add_fonts(pdf, msgspec.json.encode(paper).decode())
    placed = _Placing(pdf, paper, size).placed()
    for page in placed:
        pdf.add_page()
        _draw_page(pdf, page)
    return bytes(pdf.output())


def _add_fonts(pdf: FPDF, text: str) -> None:
    """Those that have letters of the text."""
    folder = resources.files("hwc_node").joinpath("fonts")
    try:
        for name in (name for name, block in FONTS.items() if not block or re.search(f"[{block}]", text)):
            for style, weight in WEIGHTS.items():
                pdf.add_font(name, style, str(folder.joinpath(f"{name}-{weight}.ttf")))
    except OSError:
        raise OurFault(
            "The fonts that papers are printed with are not there.",
            code="E_NO_FONTS",
            next_step="Build them where this program was installed from: make assets; then install again",
        ) from None


# -- placing -----------------------------------------------------------------------------------------------------------


class _Placing:
    """Places a paper's parts from top to bottom, and turns the page where something does not fit."""

    def __init__(self, pdf: FPDF, paper: Paper, size: Size) -> None:
        self._pdf = pdf
        self._paper = paper
        self._size_pt = SIZE_PT[size]
        self._width, height = PAGE_MM[size][0] - 2 * MARGIN_MM, PAGE_MM[size][1]
        self._bottom = height - MARGIN_MM - FOOT_MM
        self._pages = [_Page()]
        self._y = MARGIN_MM
        self._known: dict[tuple[float, Style], dict[str, float]] = {}
        fonts: Any = pdf.fonts
        self._coverage = {name: frozenset(fonts[name.lower()].cmap) for name in FONTS if name.lower() in fonts}

    def placed(self) -> list[_Page]:
        try:
            self._everything()
        except _Full:
            self._pages[-1].lines[-2:] = []
            self._y = self._bottom - self._height(self._size_pt)
            self._text(self._paper.too_long, style="B", most=1)
        for number, page in enumerate(self._pages, 1):
            self._foot(page, number)
        return self._pages

    def _everything(self) -> None:
        self._text(self._paper.place)
        self._text(self._paper.title, self._size_pt + TITLE_PT, "B")
        for part in self._paper.parts:
            self._y += GAP * self._height(self._size_pt)
            self._part(part)

    def _part(self, part: Part) -> None:
        match part:
            case Heading():
                self._keep_together(3)
                self._text(part.text, self._size_pt + 1, "B")
            case Facts():
                for label, text in part.rows:
                    self._beside(label, text, LABEL_SHARE * self._width, "B" if part.strong else "")
            case Text():
                self._text(part.text, self._size_pt - 1.5 if part.quiet else None)
            case Mark():
                self._text(part.text, style="B", left=3 * MARK_MM, bar=True)
            case Drugs():
                for number, drug in enumerate(part.lines, 1):
                    self._keep_together(2)
                    self._beside(f"{number}.", drug.name, NUMBER_MM, "B")
                    for text in filter(None, (drug.details, drug.advice)):
                        self._text(text, left=NUMBER_MM)
                    if drug.in_spite:
                        self._text(drug.in_spite, style="B", left=NUMBER_MM)
            case Code():
                self._code(part)
            case Signature():
                self._keep_together(4 + len(part.lines))
                self._y += 3 * self._height(self._size_pt)
                self._pages[-1].bars.append(_Bar(MARGIN_MM, self._y, SIGNATURE_MM, 0.2))
                for line in part.lines:
                    self._text(line)

    def _text(
        self,
        text: str,
        size_pt: float | None = None,
        style: Style = "",
        *,
        left: float = 0.0,
        bar: bool = False,
        most: int = MAX_LINES_A_TEXT,
    ) -> None:
        size = size_pt or self._size_pt
        height = self._height(size)
        for word in islice(self._lines(text, self._width - left, size, style), most):
            self._room(height)
            if bar:
                self._pages[-1].bars.append(_Bar(MARGIN_MM, self._y, MARK_MM, height))
            self._put(left, word, size, style)
            self._y += height

    def _beside(self, label: str, text: str, label_width: float, style: Style) -> None:
        """A label and its text, side by side, line by line."""
        size, height = self._size_pt, self._height(self._size_pt)
        label_style: Style = "B" if label_width == NUMBER_MM else ""
        left = self._lines(label, label_width - 1, size, label_style)
        right = self._lines(text, self._width - label_width, size, style)
        for one, other in islice(zip_longest(left, right, fillvalue=()), MAX_LINES_A_TEXT):
            self._room(height)
            self._put(0, one, size, label_style)
            self._put(label_width, other, size, style)
            self._y += height

    def _code(self, part: Code) -> None:
        self._room(CODE_MM)
        top, page = self._y, self._pages[-1]
        modules = codes.modules(part.letters)
        size = CODE_MM / (len(modules) + 2 * codes.MARGIN_MODULES)
        for row, line in enumerate(modules):
            for begin, end in _dark(line):
                x, y = MARGIN_MM + (begin + codes.MARGIN_MODULES) * size, top + (row + codes.MARGIN_MODULES) * size
                page.bars.append(_Bar(x, y, (end - begin) * size, size + 0.01))
        self._y += codes.MARGIN_MODULES * size
        self._text(part.text, left=CODE_MM, most=8)
        self._y = max(self._y, top + CODE_MM)

    def _foot(self, page: _Page, number: int) -> None:
        said = self._paper.page_words % {"number": number, "pages": len(self._pages)}
        foot = list(islice(self._lines(self._paper.foot, self._width, FOOT_PT, ""), FOOT_LINES - 1))
        for at, word in enumerate([*foot, letters.runs(said, self._coverage)]):
            y = self._bottom + FOOT_MM - (FOOT_LINES - at) * self._height(FOOT_PT)
            page.lines.append(_Line(MARGIN_MM, y, word, FOOT_PT, ""))

    # -- measures ------------------------------------------------------------------------------------------------------

    def _height(self, size_pt: float) -> float:
        return size_pt * MM_A_POINT * LINE

    def _room(self, height: float) -> None:
        """Turn the page where this does not fit."""
        if self._y + height <= self._bottom:
            return
        if len(self._pages) == MAX_PAGES:
            raise _Full
        self._pages.append(_Page())
        self._y = MARGIN_MM

    def _keep_together(self, count: int) -> None:
        """So many lines are not parted by the end of a page."""
        if self._y + count * self._height(self._size_pt) > self._bottom:
            self._room(self._bottom)

    def _put(self, left: float, word: Word, size_pt: float, style: Style) -> None:
        if word:
            self._pages[-1].lines.append(_Line(MARGIN_MM + left, self._y, word, size_pt, style))

    def _lines(self, text: str, width: float, size_pt: float, style: Style) -> letters.Lines:
        return letters.lines(text, width / WIDER, self._coverage, self._measure_of(size_pt, style))

    def _measure_of(self, size_pt: float, style: Style) -> Callable[[str], float]:
        """The width of a cluster, measured once."""
        known = self._known.setdefault((size_pt, style), {})
        measure = _measure(self._pdf, size_pt, style)

        def width_of(cluster: str) -> float:
            if cluster not in known:
                known[cluster] = sum(measure(run) for run in letters.runs(cluster, self._coverage))
            return known[cluster]

        return width_of


def _measure(pdf: FPDF, size_pt: float, style: Style) -> Callable[[Run], float]:
    def width_of(run: Run) -> float:
        if not run.font:
            return len(run.text) * (BOX_WIDTH + BOX_GAP) * size_pt * MM_A_POINT
        pdf.set_font(run.font, style, size_pt)
        return float(pdf.get_string_width(run.text))

    return width_of


def _dark(line: Sequence[int]) -> list[tuple[int, int]]:
    """Where dark modules begin and end."""
    found: list[tuple[int, int]] = []
    for at, module in enumerate(line):
        if module:
            if found and found[-1][1] == at:
                found[-1] = (found[-1][0], at + 1)
            else:
                found.append((at, at + 1))
    return found


# -- drawing -----------------------------------------------------------------------------------------------------------


def _draw_page(pdf: FPDF, page: _Page) -> None:
    for bar in page.bars:
        pdf.rect(bar.x, bar.y, bar.width, bar.height, style="F")
    for line in page.lines:
        x, width_of = line.x, _measure(pdf, line.size_pt, line.style)
        for run in line.word:
            width = width_of(run)
            if run.font:
                pdf.set_xy(x, line.y)
                pdf.cell(width, line.size_pt * MM_A_POINT * LINE, run.text)
            else:
                _draw_boxes(pdf, x, line, len(run.text))
            x += width


def _draw_boxes(pdf: FPDF, x: float, line: _Line, count: int) -> None:
    size = line.size_pt * MM_A_POINT
    pdf.set_line_width(0.15)
    for at in range(count):
        left = x + at * (BOX_WIDTH + BOX_GAP) * size
        pdf.rect(left, line.y + (LINE - BOX_HEIGHT) / 2 * size, BOX_WIDTH * size, BOX_HEIGHT * size)
