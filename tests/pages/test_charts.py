"""Drawings: readable by who cannot see them, without styles inside, bounded, and inert whatever stands in them."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol.pages import charts

HOSTILE = "<script>alert(1)</script>\u202eab\"'&"
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers()


def drawn(lines: list[list[tuple[Any, Any]]], title: str = "Pulse", description: str = "80, 90 /min") -> str:
    return str(charts.trend("pulse", title, description, lines))


def test_a_trend_has_its_points_in_order_within_its_frame_with_a_title_and_a_description() -> None:
    root = ElementTree.fromstring(drawn([[(3, 90), (1, 80), (2, 100)]]))
    assert root.get("viewBox") == f"0 0 {charts.WIDTH} {charts.HEIGHT}"
    assert root.get("aria-labelledby") == "pulse-t pulse-d"
    assert [root.findtext("title"), root.findtext("desc")] == ["Pulse", "80, 90 /min"]
    line = root.find("polyline")
    assert line is not None
    places = [tuple(float(part) for part in one.split(",")) for one in str(line.get("points")).split()]
    assert places == [
        (charts.MARGIN, charts.HEIGHT - charts.MARGIN),
        (charts.WIDTH / 2, charts.MARGIN),
        (charts.WIDTH - charts.MARGIN, charts.HEIGHT / 2),
    ]


def test_two_lines_have_one_scale_and_are_told_apart_without_colour() -> None:
    root = ElementTree.fromstring(drawn([[(1, 120), (2, 140)], [(1, 80), (2, 80)]]))
    assert [one.get("class") for one in root.findall("polyline")] == [
        "app-chart__line",
        "app-chart__line app-chart__line--second",
    ]
    assert len(root.findall("circle")) == 4


@pytest.mark.parametrize("lines", [[], [[]], [[(1, 80)]], [[(1, 80)], [(1, 60)]], [[(1, float("nan")), (2, 80)]]])
def test_what_has_no_course_is_not_drawn(lines: list[list[tuple[Any, Any]]]) -> None:
    assert drawn(lines) == ""


def test_what_stands_in_it_is_text_and_no_place_is_a_style() -> None:
    page = drawn([[(1, 1), (2, 2)]], HOSTILE, HOSTILE)
    assert "<script" not in page
    assert "\u202e" not in page
    assert "style=" not in page
    assert ElementTree.fromstring(page).findtext("title", "").startswith("<script>")


@given(st.lists(st.lists(st.tuples(NUMBERS, NUMBERS | st.none() | st.booleans()), max_size=300), max_size=3))
def test_whatever_the_numbers_are_the_drawing_is_sound_and_bounded(lines: list[list[tuple[Any, Any]]]) -> None:
    page = drawn(lines)
    if page:
        root = ElementTree.fromstring(page)
        assert len(root.findall("circle")) <= 2 * charts.MAX_POINTS
        for place in re.findall(r'points="([^"]*)"', page):
            for point in place.split():
                x, y = (float(part) for part in point.split(","))
                assert 0 <= x <= charts.WIDTH
                assert 0 <= y <= charts.HEIGHT


# -- bars --------------------------------------------------------------------------------------------------------------


def barred(*rows: tuple[str, float, str]) -> str:
    return str(charts.bars("days", "Consultations", [charts.Bar(*row) for row in rows]))


def test_each_bar_has_its_label_and_its_number_and_the_longest_fills_the_room() -> None:
    root = ElementTree.fromstring(barred(("1 Mar", 4, "4"), ("2 Mar", 2, "2"), ("3 Mar", 0, "0")))
    room = charts.BAR_WIDTH - charts.BAR_NUMBER - charts.MARGIN - charts.BAR_LETTER * len("1 Mar")
    assert [float(str(one.get("width"))) for one in root.findall("rect")] == [room, room / 2, 0]
    assert [one.text for one in root.findall("text")] == ["1 Mar", "4", "2 Mar", "2", "3 Mar", "0"]
    assert root.findtext("desc") == "1 Mar: 4; 2 Mar: 2; 3 Mar: 0"
    assert root.get("viewBox") == f"0 0 {charts.BAR_WIDTH} {3 * charts.BAR_ROW}"


def test_what_has_no_rows_is_not_drawn_and_noughts_are() -> None:
    assert barred() == ""
    assert barred(("a", 0, "0")).count("<rect") == 1


def test_a_long_label_is_cut_and_stands_whole_in_the_description() -> None:
    root = ElementTree.fromstring(barred(("x" * 50, 1, "1")))
    assert len(root.findall("text")[0].text or "") == charts.LABEL_CHARS
    assert "x" * 50 in root.findtext("desc", "")


@given(st.lists(st.tuples(st.text(max_size=40), NUMBERS, st.text(max_size=9)), max_size=80))
def test_bars_are_bounded_and_inert_whatever_they_are_given(rows: list[tuple[str, float, str]]) -> None:
    page = barred(*rows, (HOSTILE, 1, HOSTILE))
    assert "<script" not in page
    assert "style=" not in page
    assert page.count("<rect") == min(len(rows) + 1, charts.MAX_BARS)
    for width in re.findall(r'width="([0-9.]+)"', page):
        assert 0 <= float(width) <= charts.BAR_WIDTH
