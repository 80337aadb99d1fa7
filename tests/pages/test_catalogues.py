"""Every language says all that pages may say, with its own plurals, numbers and days; the texts are found where code and
templates have them."""

from __future__ import annotations

import ast
import re
import unicodedata
from typing import Any, Final

import pytest
from jinja2 import DictLoader

from sync_protocol.pages.language import ENGLISH, LANGUAGES, words_of
from sync_protocol.pages.rendering import Renderer
from tests import words

OTHERS: Final = sorted(set(LANGUAGES) - {ENGLISH})
PLACE: Final = re.compile(r"%(?:\(\w+\)s|%)")
NOON_MS: Final = 1_772_777_400_000  # 2026-03-06, 11:40 in India
HOUR_MS: Final = 3_600_000
COUNTED: Final = """{{ number | number }} · {{ when | day }} · {{ when | short_day }} · {{ when | time }} · \
{{ _("%(time)s ago", time=when | ago(later)) }} · \
{% trans num=number %}{{ num }} visit{% pluralize %}{{ num }} visits{% endtrans %}"""


def forms_of(message: Any) -> list[tuple[tuple[str, ...], str]]:
    """Each form of a translation, with the texts of which it may be."""
    ids = message.id if isinstance(message.id, tuple | list) else (message.id,)
    forms = message.string if isinstance(message.string, tuple | list) else (message.string,)
    return [(tuple(ids), form) for form in forms]


@pytest.mark.parametrize("code", OTHERS)
def test_the_catalogue_has_just_the_texts_that_pages_have(code: str) -> None:
    before = (words.LOCALES / f"{code}.po").read_bytes()
    assert before == words.updated(code, words.collected()), "python -m tests.words brings it up to date"


@pytest.mark.parametrize("code", OTHERS)
def test_every_text_is_translated(code: str) -> None:
    assert words.untranslated(code) == []


@pytest.mark.parametrize("code", OTHERS)
def test_a_translation_has_the_places_of_its_text_and_no_markup(code: str) -> None:
    wrong = []
    for message in words.catalogue(code):
        for ids, form in forms_of(message) if message.id else []:
            same = any(sorted(PLACE.findall(form)) == sorted(PLACE.findall(one)) for one in ids)
            if not same or "<" in form or re.search(r"%(?![(%])", PLACE.sub("", form)):
                wrong.append(f"{ids[0]!r}: {form!r}")
    assert wrong == []


@pytest.mark.parametrize("code", OTHERS)
def test_a_translation_is_composed_text_with_the_blanks_of_its_text(code: str) -> None:
    wrong = []
    for message in words.catalogue(code):
        for ids, form in forms_of(message) if message.id else []:
            ends = (form[:1].isspace(), form[-1:].isspace()) == (ids[0][:1].isspace(), ids[0][-1:].isspace())
            if not ends or "  " in form or form != unicodedata.normalize("NFC", form):
                wrong.append(f"{ids[0]!r}: {form!r}")
    assert wrong == []


@pytest.mark.parametrize("code", OTHERS)
def test_a_catalogue_keeps_its_glossary_and_its_rule_for_plurals(code: str) -> None:
    now = words.catalogue(code)
    again = words.updated(code, words.collected()).decode()
    assert len(now.header_comment.splitlines()) > 10
    assert again.startswith(now.header_comment.splitlines()[0])
    assert f"plural={now.plural_expr};" in again


@pytest.mark.parametrize(
    ("number", "visits", "hours", "months", "days"),
    [
        (0, "0 मुलाक़ात", "0 घंटा", "0 महीना", "0 दिन"),
        (1, "1 मुलाक़ात", "1 घंटा", "1 महीना", "1 दिन"),
        (2, "2 मुलाक़ातें", "2 घंटे", "2 महीने", "2 दिन"),
    ],
)
def test_hindi_counts_none_and_one_alike(number: int, visits: str, hours: str, months: str, days: str) -> None:
    hindi = words_of("hi")
    said = [hindi.ngettext(f"%(num)s {one}", f"%(num)s {one}s", number) for one in ("visit", "hour", "month", "day")]
    expected = [unicodedata.normalize("NFC", text) for text in (visits, hours, months, days)]
    assert [text % {"num": hindi.number(number)} for text in said] == expected


def test_a_page_in_hindi_has_its_numbers_days_and_durations() -> None:
    pages = Renderer("sync_protocol.pages", {})
    loader = pages._environment.loader
    assert loader is not None
    loader.loaders.insert(0, DictLoader({"counted.jinja": COUNTED}))  # type: ignore[attr-defined]
    shown = pages.page("counted", words_of("hi"), number=1_234_567, when=NOON_MS, later=NOON_MS + HOUR_MS)
    expected = "12,34,567 · 6 मार्च 2026 · 6 मार्च · 6 मार्च 2026, 11:40 am · 1 घंटा पहले · 12,34,567 मुलाक़ातें"
    assert shown == unicodedata.normalize("NFC", expected)


def test_a_mark_is_found_wherever_it_stands_in_code() -> None:
    code = """
one = f"{said(N_('a'))} [{code}]"
two = words.gettext(TEXTS.get(key, N_("b" "c")))
three = words.ngettext("day", "days", number) + said(text) + marked("d")
"""
    assert set(words.marked(ast.parse(code))) == {"a", "bc", ("day", "days")}
