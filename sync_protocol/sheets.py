"""Tables as CSV, for whichever spreadsheet opens them: every script is read, and no cell is a formula.

RFC 4180 with a byte order mark, by which spreadsheets know UTF-8. What somebody typed may begin like a formula, which a
spreadsheet would carry out: such a cell begins with an apostrophe, which spreadsheets do not show.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

MEDIA_TYPE: Final = "text/csv; charset=utf-8"
MARK: Final = "\ufeff"
_FORMULA: Final = re.compile(r"[\s\u200b-\u200f\ufeff]*[=+\-@|%\uff1d\uff0b\uff0d\uff20]")
_JOINERS: Final = "\u200c\u200d"  # a part of how Indian scripts are written
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")

Cell = str | int | float | None


def sheet(rows: Iterable[Sequence[Cell]]) -> bytes:
    """The rows as a file. None is an empty cell."""
    lines = (",".join(_cell(cell) for cell in row) + "\r\n" for row in rows)
    return (MARK + "".join(lines)).encode("utf-8", "replace")


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, int | float):
        return f"{cell:g}" if isinstance(cell, float) else str(cell)
    text = "".join(letter if _is_harmless(letter) else "\ufffd" for letter in " ".join(cell.splitlines()))
    inert = text if _NUMBER.fullmatch(text) or not _FORMULA.match(cell) else f"'{text}"
    return '"' + inert.replace('"', '""') + '"'


def _is_harmless(letter: str) -> bool:
    """Neither a control nor what turns or hides its neighbours."""
    return letter in _JOINERS or unicodedata.category(letter) not in ("Cc", "Cf", "Cs")
