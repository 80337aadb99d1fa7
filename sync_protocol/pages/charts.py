"""Small drawings as SVG: a trend of measurements, whose numbers stand as text beside; bars, each with its number.

Rules. Places are attributes and looks are classes, since the pages allow no styles inside of themselves. Each drawing
has a title and a description for who cannot see it. Values that are no finite numbers are left out; a drawing has a
bounded number of points, whatever it is given.

It refuses to know fields, units and records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from sync_protocol.pages.rendering import plain

MAX_POINTS: Final = 200
WIDTH: Final = 240
HEIGHT: Final = 64
MARGIN: Final = 6  # so that a point at the edge is whole
MAX_BARS: Final = 60
BAR_WIDTH: Final = 420  # of the whole drawing
BAR_ROW: Final = 20
BAR_LETTER: Final = 9  # of a label, at most
BAR_NUMBER: Final = 60
LABEL_CHARS: Final = 24  # what has room; the whole of it stands in the description

Drawing = Markup
"""SVG, ready to be put into a page."""
Line = Sequence[tuple[float, float]]
"""(when or where, value), in any order."""


@dataclass(frozen=True, slots=True)
class Bar:
    """value: none below 0. said: the number as people read it. look: a class's ending, such as emergency."""

    label: str
    value: float
    said: str
    look: str = ""


def drawing(name: str, title: str, description: str, width: int, height: int, inside: Markup, size: str = "") -> Markup:
    """The frame around a drawing. name: unique in the page, of a-z, 0-9 and -. size: a class's ending, such as small."""
    return Markup(
        '<svg class="app-chart{size}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-t {name}-d">'
        '<title id="{name}-t">{title}</title><desc id="{name}-d">{description}</desc>{inside}</svg>'
    ).format(
        size=f" app-chart--{size}" if size else "",
        width=width,
        height=height,
        name=name,
        title=escape(plain(title)),
        description=escape(plain(description)),
        inside=inside,
    )


def trend(name: str, title: str, description: str, lines: Sequence[Line]) -> Markup:
    """One line or two (a pressure's both values) over the same time. Empty where no line has two points.

    All lines have one scale, from the lowest to the highest value. A second one is dashed: told apart without colour.
    """
    drawn = [_sound(line) for line in lines[:2]]
    every = [point for line in drawn for point in line]
    if not any(len(line) > 1 for line in drawn):
        return Markup("")
    left, right = min(at for at, _ in every), max(at for at, _ in every)
    low, high = min(value for _, value in every), max(value for _, value in every)
    inside = Markup("")
    for number, line in enumerate(drawn):
        places = [(_place(at, left, right, WIDTH), HEIGHT - _place(value, low, high, HEIGHT)) for at, value in line]
        second = " app-chart__line--second" if number else ""
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        inside += Markup('<polyline class="app-chart__line{second}" points="{points}"/>').format(
            second=second, points=points
        )
        for x, y in places:
            inside += Markup('<circle class="app-chart__point" cx="{x}" cy="{y}" r="3"/>').format(
                x=f"{x:.1f}", y=f"{y:.1f}"
            )
    return drawing(name, title, description, WIDTH, HEIGHT, inside, "small")


def bars(name: str, title: str, rows: Sequence[Bar]) -> Markup:
    """A bar a row, from the top, each with its label before and its number behind. Empty where there is no row."""
    drawn = rows[:MAX_BARS]
    if not drawn:
        return Markup("")
    labels = [_short(plain(one.label)) for one in drawn]
    begin = MARGIN + BAR_LETTER * max(len(label) for label in labels)
    room, highest = BAR_WIDTH - begin - BAR_NUMBER, max(*(_length(one) for one in drawn), 0)
    inside = Markup('<line class="app-chart__axis" x1="{x}" x2="{x}" y1="0" y2="{y}"/>').format(
        x=begin, y=BAR_ROW * len(drawn)
    )
    for at, one in enumerate(drawn):
        width = room * _length(one) / highest if highest else 0
        inside += Markup(
            '<text x="{label_x}" y="{text_y}" text-anchor="end">{label}</text>'
            '<rect class="app-chart__bar{look}" x="{x}" y="{y}" width="{width}" height="{height}"/>'
            '<text x="{number_x}" y="{text_y}">{said}</text>'
        ).format(
            label_x=begin - MARGIN,
            text_y=BAR_ROW * at + BAR_ROW * 3 // 4,
            label=escape(labels[at]),
            look=f" app-chart__bar--{one.look}" if one.look else "",
            x=begin,
            y=BAR_ROW * at + 2,
            width=f"{width:.1f}",
            height=BAR_ROW - 4,
            number_x=f"{begin + width + MARGIN:.1f}",
            said=escape(plain(one.said)),
        )
    description = "; ".join(f"{one.label}: {one.said}" for one in drawn)
    return drawing(name, title, description, BAR_WIDTH, BAR_ROW * len(drawn), inside, "bars")


def _length(bar: Bar) -> float:
    return max(0.0, float(bar.value)) if _is_number(bar.value) else 0.0


def _short(label: str) -> str:
    return label if len(label) <= LABEL_CHARS else label[: LABEL_CHARS - 1] + "…"


def _sound(line: Line) -> list[tuple[float, float]]:
    """The last points of a line, by time."""
    numbers = [(float(at), float(value)) for at, value in line if _is_number(at) and _is_number(value)]
    return sorted(numbers)[-MAX_POINTS:]


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e15  # type: ignore[arg-type]


def _place(value: float, low: float, high: float, length: int) -> float:
    """Where it stands on a side of this length; in the middle where all are one."""
    room = length - 2 * MARGIN
    return MARGIN + (room / 2 if high <= low else room * (value - low) / (high - low))
