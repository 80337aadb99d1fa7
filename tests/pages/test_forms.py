"""What somebody typed: bounded, composed, without controls, the same however often it is sent; numbers in nine scripts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol.pages.forms import MAX_CHARS, MAX_FIELDS, Form, Typed, as_typed


@given(st.text(max_size=200))
def test_text_sent_again_is_the_same(text: str) -> None:
    once = as_typed(text)
    assert as_typed(once) == once
    assert as_typed(once.replace("\n", "\r\n")) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not any(unicodedata.category(letter) == "Cc" and letter not in "\n\t" for letter in once)


def test_a_form_is_bounded_before_it_is_read() -> None:
    form = Form.of([(f"f{number}", "x" * (MAX_CHARS + 9)) for number in range(MAX_FIELDS + 9)])
    assert len(form.given) == MAX_FIELDS
    assert all(len(values[0]) == MAX_CHARS for values in form.given.values())


def test_what_is_typed_twice_under_one_name_is_all_there() -> None:
    form = Form.of([("sign", " a "), ("sign", ""), ("sign", "b"), ("other", "c")])
    assert form.all("sign") == ["a", "b"]
    assert form.value("sign") == "a"
    assert form.value("none") == ""
    assert type(form.value("sign")) is str, "values of records are plain text"
    assert type(form.again("sign")) is Typed


@pytest.mark.parametrize(
    ("typed", "whole", "value"),
    [
        ("12", True, 12),
        (" 12.0 ", False, 12),
        ("12,5", False, 12.5),
        ("१२.५", False, 12.5),
        ("১২", True, 12),
        ("௧௨", True, 12),
        ("", False, None),
        ("-3", True, -3),
    ],
)
def test_a_number_may_be_typed_in_any_of_nine_scripts(typed: str, whole: bool, value: float | None) -> None:
    form = Form.of([("n", typed)])
    assert form.number("n", "N", whole=whole) == value
    assert not form.errors


@pytest.mark.parametrize("typed", ["x", "1.5", "nan", "inf", "-inf", "1e10", "1 2", "0x10", "1_000", "٣x", "½"])
def test_what_is_no_whole_number_is_told(typed: str) -> None:
    form = Form.of([("n", typed)])
    value = form.number("n", "N", whole=True)
    assert value is None
    assert list(form.errors) == ["n"]


def test_the_first_that_is_wrong_with_a_field_stands_and_the_summary_links_to_it() -> None:
    form = Form.of([("age", "")])
    form.required("age", "Enter an age")
    form.wrong("age", "Another thing")
    form.wrong("sex", "Choose")
    assert form.error_list() == [{"text": "Enter an age", "href": "#age"}, {"text": "Choose", "href": "#sex"}]


def test_the_records_table_decides_what_a_field_takes() -> None:
    form = Form()
    assert form.checked("vitals", "pulse_bpm", "Pulse", 80) == 80
    assert form.checked("vitals", "pulse_bpm", "Pulse", 800) is None
    assert form.errors == {"pulse_bpm": "Pulse must be from 10 to 350 /min"}
    assert form.checked("patient", "sex", "Sex", "Q", at="s") is None
    assert "list" in form.errors["s"]
    assert form.checked("patient", "none", "None", "x") == "x"
