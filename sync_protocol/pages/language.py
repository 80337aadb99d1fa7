"""The words of a page in the reader's language, and numbers, dates and times as that language writes them.

Texts are written in English where they are used (gettext) and stand in ``locale/CODE.po`` in the other languages; what
a catalogue lacks is shown in English. Days and times are those of India Standard Time, whatever the machine's own.
Which language a page is in is known while it is rendered (`speaking`), so that macros need not be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final

from babel import Locale
from babel.dates import format_date, format_datetime, format_time, get_month_names
from babel.messages.pofile import read_po
from babel.numbers import format_compact_decimal, format_decimal

INDIA: Final = timezone(timedelta(hours=5, minutes=30), "IST")
ENGLISH: Final = "en"
LANGUAGES: Final = {ENGLISH: "English", "hi": "हिन्दी"}
"""Code → its own name. One more is a catalogue in ``locale/`` and a line here."""
_TERRITORY: Final = "IN"
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS

Plural = tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """One language. catalogue: English text → text, or its plural forms. plural: which form a number takes."""

    code: str
    locale: Locale
    catalogue: Mapping[str, str | Plural]
    plural: Callable[[int], int] = field(default=lambda number: int(number != 1))

    @property
    def direction(self) -> str:
        """ltr or rtl."""
        return str(self.locale.text_direction)

    def gettext(self, text: str) -> str:
        found = self.catalogue.get(text)
        if isinstance(found, tuple):
            found = found[0]
        return found or text

    def ngettext(self, one: str, many: str, number: int) -> str:
        found = self.catalogue.get(one)
        if isinstance(found, tuple) and (chosen := found[min(self.plural(number), len(found) - 1)]):
            return chosen
        return one if number == 1 else many

    # -- numbers and times ---------------------------------------------------------------------------------------------

    def number(self, value: float, places: int | None = None) -> str:
        """1,23,456 as India groups digits. places: decimals that are always shown."""
        return _number(self.locale, value, places)

    def short_number(self, value: float) -> str:
        """950, 1.2K, 12K, 1.2L: where there is no room for all digits."""
        whole = str(format_compact_decimal(value, locale=self.locale))
        finer = str(format_compact_decimal(value, locale=self.locale, fraction_digits=1))
        return (finer if whole[1:2].isalpha() or whole[1:2].isspace() else whole).replace("\xa0", " ")

    def day(self, when: int | date | None) -> str:
        """12 Mar 2026, of milliseconds or a day; empty for None."""
        return "" if when is None else str(format_date(_day(when), "d MMM y", locale=self.locale))

    def short_day(self, when: int | date | None) -> str:
        """12 Mar."""
        return "" if when is None else str(format_date(_day(when), "d MMM", locale=self.locale))

    def written_day(self, text: str | None) -> str:
        """A day that a record has as text (``2026-03-12``), as `day`; what is no day is left as it is."""
        try:
            return self.day(date.fromisoformat(text)) if text else ""
        except ValueError:
            return str(text)

    def weekday(self, when: int | date) -> str:
        """Tuesday."""
        return str(format_date(_day(when), "EEEE", locale=self.locale))

    def month(self, year: int, month: int) -> str:
        """March 2026."""
        return str(format_date(date(year, month, 1), "LLLL y", locale=self.locale))

    def month_names(self) -> list[str]:
        names = get_month_names("wide", context="stand-alone", locale=self.locale)
        return [str(names[number]) for number in range(1, 13)]

    def clock(self, ms: int | None) -> str:
        """2:05 pm."""
        return "" if ms is None else str(format_time(india(ms), "h:mm a", tzinfo=INDIA, locale=self.locale))

    def time(self, ms: int | None) -> str:
        """12 Mar 2026, 2:05 pm."""
        if ms is None:
            return ""
        return str(format_datetime(india(ms), "d MMM y, h:mm a", tzinfo=INDIA, locale=self.locale))

    def ago(self, ms: int | None, now_ms: int) -> str:
        """How long ago, in the coarsest unit that says enough: just now, 5 minutes, 3 hours, 2 days."""
        if ms is None:
            return self.gettext("never")
        return self.duration(max(0, now_ms - ms))

    def duration(self, length_ms: int) -> str:
        """5 minutes, 3 hours, 2 days."""
        for size, one, many in _UNITS:
            if length_ms >= size:
                count = length_ms // size
                return self.ngettext(one, many, count) % {"num": self.number(count)}
        return self.gettext("less than a minute")


@lru_cache(4_096)
def _number(locale: Locale, value: float, places: int | None) -> str:
    """Remembered: a table writes the same small numbers again and again."""
    pattern = None if places is None else "#,##,##0" + ("." + "0" * places if places else "")
    return str(format_decimal(value, format=pattern, locale=locale, decimal_quantization=places is not None))


_UNITS: Final = (
    (_DAY_MS, "%(num)s day", "%(num)s days"),
    (_HOUR_MS, "%(num)s hour", "%(num)s hours"),
    (_MINUTE_MS, "%(num)s minute", "%(num)s minutes"),
)


def _day(when: int | date) -> date:
    return when if isinstance(when, date) else india(when).date()


def india(ms: int) -> datetime:
    """The time in India. What no calendar can hold is shown as its nearest end."""
    bounded = min(max(ms, -62_135_596_800_000 + _DAY_MS), 253_402_300_799_000 - _DAY_MS)
    return datetime.fromtimestamp(bounded / 1000, UTC).astimezone(INDIA)


def india_day(ms: int) -> date:
    """The day in India at this moment."""
    return india(ms).date()


@cache
def words_of(code: str) -> Words:
    """The words of a language; English for what is no language here."""
    if code not in LANGUAGES:
        code = ENGLISH
    locale = Locale(code, _TERRITORY)
    if code == ENGLISH:
        return Words(code, locale, {})
    raw = resources.files("sync_protocol.pages").joinpath("locale", f"{code}.po").read_bytes()
    return read_words(code, raw)


def read_words(code: str, raw: bytes) -> Words:
    """A catalogue's bytes as words. What is marked as doubtful (fuzzy) does not count."""
    catalogue = read_po(raw.decode("utf-8").splitlines(keepends=True), locale=code)
    texts: dict[str, str | Plural] = {}
    for message in catalogue:
        if not message.id or message.fuzzy:
            continue
        if isinstance(message.id, tuple | list):
            texts[message.id[0]] = tuple(str(form) for form in message.string or ())
        elif message.string:
            texts[message.id] = str(message.string)
    return Words(code, Locale(code, _TERRITORY), texts, catalogue_plural(catalogue.plural_expr))


def catalogue_plural(expression: str) -> Callable[[int], int]:
    """Which form a number takes, by the expression of a catalogue of ours: one of those that our languages have."""
    return _PLURALS[expression]


_PLURALS: Final[dict[str, Callable[[int], int]]] = {
    "(n > 1)": lambda number: int(number > 1),
    "n > 1": lambda number: int(number > 1),
    "(n != 1)": lambda number: int(number != 1),
    "n != 1": lambda number: int(number != 1),
}

_SPOKEN: ContextVar[Words] = ContextVar("words")


@contextmanager
def speaking(words: Words) -> Iterator[Words]:
    """Everything rendered inside is in this language."""
    token = _SPOKEN.set(words)
    try:
        yield words
    finally:
        _SPOKEN.reset(token)


def spoken() -> Words:
    """The language that is spoken here and now."""
    return _SPOKEN.get(words_of(ENGLISH))


def choose(asked: str | None, accepted: str | None) -> str:
    """The language of a reader. asked: what they chose before. accepted: their browser's Accept-Language."""
    if asked in LANGUAGES:
        return str(asked)
    for part in (accepted or "")[:200].split(","):
        code = part.partition(";")[0].strip().partition("-")[0].lower()
        if code in LANGUAGES:
            return code
    return ENGLISH


def said(text: str, **values: Any) -> str:
    """A text in the spoken language, its named places filled."""
    return spoken().gettext(text) % values if values else spoken().gettext(text)
