"""What a benchmark found: one figure a line, beside what was measured in the same run to compare it with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. baseline: the same of another program or way, in the same unit; against: which one that is.

    low, high: the range of the rounds; value is their median.
    """

    bench: str
    figure: str
    value: float
    unit: str
    baseline: float | None = None
    against: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.baseline if self.baseline else None

    def as_json(self) -> str:
        shown: dict[str, object] = {
            "bench": self.bench,
            "figure": self.figure,
            "value": _rounded(self.value),
            "unit": self.unit,
        }
        if self.baseline is not None and self.ratio is not None:
            shown |= {"baseline": _rounded(self.baseline), "against": self.against, "ratio": round(self.ratio, 3)}
        if self.low is not None and self.high is not None:
            shown |= {"low": _rounded(self.low), "high": _rounded(self.high)}
        return json.dumps(shown)


def of_rounds(
    bench: str, figure: str, unit: str, values: Sequence[float], baselines: Sequence[float] = (), against: str = ""
) -> Figure:
    """The median of several rounds, with their range."""
    middle = median(baselines) if baselines else None
    return Figure(bench, figure, median(values), unit, middle, against, min(values), max(values))


def _rounded(value: float) -> float:
    return round(value) if abs(value) >= 100 or value == int(value) else round(value, 3)


def print_table(figures: Sequence[Figure]) -> None:
    table = Table(title="Benchmarks on this machine: medians")
    for column in ("benchmark", "figure", "value", "unit", "rounds", "compared with", "that", "ratio"):
        table.add_column(
            column, justify="left" if column in ("benchmark", "figure", "unit", "compared with") else "right"
        )
    for one in figures:
        spread = (
            f"{_rounded(one.low):,} to {_rounded(one.high):,}" if one.low is not None and one.high is not None else ""
        )
        baseline = f"{_rounded(one.baseline):,}" if one.baseline is not None else ""
        ratio = f"{one.ratio:.2f}" if one.ratio is not None else ""
        table.add_row(one.bench, one.figure, f"{_rounded(one.value):,}", one.unit, spread, one.against, baseline, ratio)
    Console(width=132).print(table)
