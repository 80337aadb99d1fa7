"""What somebody typed into a form, what is wrong with it, and what is shown again: nothing typed is lost.

A form is bounded before it is read: so many fields, so many characters. Browsers send line ends as CR LF: a record has
LF alone, so that a text is the same however often it is sent. Letters that no keyboard has (controls) are taken out.
Values come out as text; which of them a record takes, its table decides (`sync_protocol.schema`), and what it refuses
stands beside its field in the reader's language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sync_protocol import limits, schema
from sync_protocol.canonical import Value
from sync_protocol.pages import clinical
from sync_protocol.pages.language import said, spoken
from sync_protocol.schema import FieldType
from sync_protocol.words import N_

MAX_FIELDS: Final = 400
MAX_CHARS: Final = 10_000  # above the longest text of a record, so that what is too long is told and not cut
MAX_NUMBER: Final = 1e9  # above every limit of a field, which then tells what is too large
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,30}(?:[.,][0-9]{0,30})?")
_LINE_END: Final = re.compile("\r\n?|\u2028|\u2029")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufff9-\ufffb\ufeff]")


class Typed(str):
    """Text that somebody typed, shown again in its field: there it is left as it is, since it will be sent again."""

    __slots__ = ()


def as_typed(text: str) -> str:
    """Text from a browser as a record has it: composed (NFC), lines ended by LF, without controls."""
    return _CONTROL.sub("", _LINE_END.sub("\n", unicodedata.normalize("NFC", text[:MAX_CHARS])))


def plain_digits(text: str) -> str:
    """The text with the digits of every script as 0 to 9: a number may be typed in any of them."""
    return "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in text)


@dataclass(slots=True)
class Form:
    """given: field → what was typed. errors: field → what is wrong, as it is shown; in the order of the page."""

    given: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]]) -> Form:
        """Of the pairs of a request, as far as they are bounded."""
        form = cls()
        for name, value in pairs[:MAX_FIELDS]:
            form.given.setdefault(name[:100], []).append(as_typed(value))
        return form

    @classmethod
    def filled(cls, values: Mapping[str, object]) -> Form:
        """With these values in its fields."""
        return cls({name: [_shown(value)] for name, value in values.items() if value is not None})

    def value(self, name: str) -> str:
        """What was typed, blanks around it taken off; empty where nothing was."""
        return self.given.get(name, [""])[0].strip()

    def again(self, name: str) -> Typed:
        """The same for the field itself, where it is shown again."""
        return Typed(self.value(name))

    def all(self, name: str) -> list[str]:
        """Every value of a field that may be given more than once."""
        return [one.strip() for one in self.given.get(name, ()) if one.strip()]

    def wrong(self, name: str, text: str) -> None:
        """Something is wrong with this field; the first that was found stands."""
        self.errors.setdefault(name, text)

    def error_list(self) -> list[dict[str, str]]:
        """For the summary: each with a link to its field; what is wrong with none of them (``form``) has no link."""
        return [{"text": text} | ({"href": f"#{name}"} if name != "form" else {}) for name, text in self.errors.items()]

    # -- values --------------------------------------------------------------------------------------------------------

    def number(self, name: str, label: str, *, whole: bool = False) -> float | int | None:
        """The number that was typed; None where nothing was, or what was is none (which is then told)."""
        text = plain_digits(self.value(name))
        if not text:
            return None
        written = _NUMBER.fullmatch(text)
        parsed = float(text.replace(",", ".")) if written is not None else float("inf")
        if abs(parsed) > MAX_NUMBER:
            self.wrong(name, said("%(label)s must be a number", label=label))
            return None
        if parsed == int(parsed):
            return int(parsed)
        if whole:
            self.wrong(name, said("%(label)s must be a whole number", label=label))
            return None
        return parsed

    def checked(self, kind: str, name: str, label: str, value: Value, at: str = "", part: str = "") -> Value:
        """The value, if the record's table takes it; else None, and why stands beside the field. at: the form's name
        of the field, where it is another than the record's. part: of a field with several, the one that is given."""
        row = schema.field_of(kind, name)
        if row is not None and part:
            row = next((one for one in row.parts if one.name == part), None)
        if row is None or value is None:
            return value
        if limits.problem(row, value) is None:
            return value
        self.wrong(at or name, problem_said(row, label))
        return None

    def required(self, name: str, text: str) -> str:
        """What was typed; where nothing was, ``text`` stands beside the field."""
        value = self.value(name)
        if not value:
            self.wrong(name, text)
        return value


def problem_said(row: schema.Field, label: str) -> str:
    """Why a table does not take a value of this field, in the spoken language."""
    if row.low is not None and row.high is not None:
        return said(
            "%(label)s must be from %(low)s to %(high)s %(unit)s",
            label=label,
            low=spoken().number(row.low),
            high=spoken().number(row.high),
            unit=clinical.unit(row.name),  # as people write it; the table has it as machines do
        ).rstrip()
    if row.type is FieldType.TEXT:
        return said("%(label)s must be at most %(num)s characters", label=label, num=spoken().number(row.max_chars))
    return said(_OTHER_PROBLEMS.get(row.type, N_("%(label)s cannot be saved like this")), label=label)


_OTHER_PROBLEMS: Final = {
    FieldType.DATE: N_("%(label)s must be a date"),
    FieldType.CHOICE: N_("%(label)s must be one of those in the list"),
    FieldType.ELEMENT: N_("%(label)s is too long"),
}


def _shown(value: object) -> str:
    return str(value)  # a number with all its digits: rounded, it would be another
