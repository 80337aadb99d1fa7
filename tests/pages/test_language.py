"""Words, numbers and times by language: days are India's, plurals the language's own, and nothing fails on odd input."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol.pages import language
from sync_protocol.pages.language import ENGLISH, LANGUAGES, words_of

NOON_MS = 1_770_014_400_000  # 2026-02-02, 12:10 in India


@pytest.mark.parametrize(
    ("code", "day", "clock", "number"),
    [("en", "2 Feb 2026", "12:10 pm", "12,34,567.5"), ("hi", "2 फ़र॰ 2026", "12:10 pm", "12,34,567.5")],
)
def test_days_times_and_numbers_are_written_as_the_language_does(code: str, day: str, clock: str, number: str) -> None:
    words = words_of(code)
    assert words.day(NOON_MS) == day
    assert words.clock(NOON_MS) == clock
    assert words.time(NOON_MS).startswith(day)
    assert words.number(1_234_567.5) == number
    assert words.day(date(2026, 2, 2)) == day
    assert words.written_day("2026-02-02") == day


def test_a_day_is_of_india_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    just_before_ms = 1_769_970_600_000 - 1  # midnight in India
    assert language.india_day(just_before_ms) == date(2026, 2, 1)
    assert language.india_day(just_before_ms + 1) == date(2026, 2, 2)


@given(st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1), st.sampled_from(sorted(LANGUAGES)))
def test_any_time_can_be_shown(ms: int, code: str) -> None:
    words = words_of(code)
    assert words.day(ms)
    assert words.time(ms)
    assert words.ago(ms, NOON_MS)


@given(st.text(max_size=20))
def test_what_is_no_day_is_left_as_it_is(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        assert words_of(ENGLISH).written_day(text) == text


@pytest.mark.parametrize(
    ("length_ms", "said"),
    [
        (59_999, "less than a minute"),
        (60_000, "1 minute"),
        (119_999, "1 minute"),
        (7_200_000, "2 hours"),
        (172_800_000, "2 days"),
    ],
)
def test_a_duration_is_told_in_its_coarsest_unit(length_ms: int, said: str) -> None:
    assert words_of(ENGLISH).duration(length_ms) == said


def test_a_language_is_chosen_by_the_reader_then_by_the_browser() -> None:
    assert language.choose("hi", "en") == "hi"
    assert language.choose("xx", "fr-FR,hi-IN;q=0.8,en;q=0.5") == "hi"
    assert language.choose(None, None) == ENGLISH
    assert language.choose("../etc", "," * 5_000) == ENGLISH


def test_a_catalogue_counts_only_what_is_certain_and_takes_plurals() -> None:
    raw = """
msgid ""
msgstr ""
"Language: hi\\n"
"Plural-Forms: nplurals=2; plural=(n > 1);\\n"

msgid "Yes"
msgstr "हाँ"

#, fuzzy
msgid "No"
msgstr "शायद"

msgid "%(num)s visit"
msgid_plural "%(num)s visits"
msgstr[0] "%(num)s मुलाक़ात"
msgstr[1] "%(num)s मुलाक़ातें"
"""
    words = language.read_words("hi", raw.encode())
    assert words.gettext("Yes") == "हाँ"
    assert words.gettext("No") == "No"
    assert words.gettext("Never heard") == "Never heard"
    assert words.ngettext("%(num)s visit", "%(num)s visits", 1) == "%(num)s मुलाक़ात"
    assert words.ngettext("%(num)s visit", "%(num)s visits", 2) == "%(num)s मुलाक़ातें"
    assert words.ngettext("%(num)s case", "%(num)s cases", 2) == "%(num)s cases"


def test_direction_of_text_is_the_languages() -> None:
    assert {words_of(code).direction for code in LANGUAGES} == {"ltr"}
