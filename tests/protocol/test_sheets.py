"""A sheet: read back it is what was written, and no cell of it is carried out."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import sheets

texts = st.text(max_size=30) | st.text(st.sampled_from("=+-@|% \t\n\r\"',;\u202e\ufeffaक\u200d"), max_size=12)


def read(raw: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))


@given(st.lists(st.lists(texts | st.integers() | st.none(), min_size=1, max_size=4), max_size=5))
def test_every_cell_stands_in_its_place_and_none_begins_a_formula(rows: list[list[str | int | None]]) -> None:
    found = read(sheets.sheet(rows))
    assert [len(row) for row in found if row] == [len(row) for row in rows if len(row) > 1 or row != [None]]
    for row in found:
        for cell in row:
            assert not cell.lstrip().startswith(("=", "+", "@", "|", "%"))
            assert not cell.lstrip().startswith("-") or cell.lstrip("-").isdecimal()


@pytest.mark.parametrize(
    "text", ["=1+1", " =1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\uff1d1", "|cmd", "%0A", "\u200b=1"]
)
def test_what_a_spreadsheet_would_carry_out_is_text(text: str) -> None:
    (row,) = read(sheets.sheet([[text]]))
    assert row[0].startswith("'")


def test_plain_text_and_numbers_stay_as_they_are() -> None:
    raw = sheets.sheet([['क्\u200dष, "x"', 12, -3, "-3", 1.5, None, ""]])
    assert read(raw) == [['क्\u200dष, "x"', "12", "-3", "-3", "1.5", "", ""]]
    assert raw.startswith(b"\xef\xbb\xbf")
    assert raw.endswith(b"\r\n")


def test_controls_and_what_turns_a_line_are_shown_as_marks() -> None:
    assert read(sheets.sheet([["a\x07\u202eb\nc"]])) == [["a\ufffd\ufffdb c"]]
