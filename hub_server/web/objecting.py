"""What the drugs' rules object to, put before the doctor: beside each line, whenever the form is looked at.

The rules are the verbs' (`consults`); here is where their sentences stand. A reply that is signed has them among its other
errors. A form that is only kept, or shown again, has them in a place beside the line that is read out when it changes; the
page says in a mark what stands there, so that the same is not read out at each pause in typing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hub_server.web.answering import written_lines
from sync_protocol.canonical import Value
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said
from sync_protocol.schema import MAX_LINES
from sync_protocol.telemedicine import REASON, Objection

MARK: Final = "told"
DIGEST_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class Told:
    """lines: number of a line in the form → sentences of its place. reasons: lines that ask for a reason. mark: what
    the page says of itself. changed: places that say something else than the page of the form."""

    lines: dict[int, tuple[str, ...]]
    reasons: frozenset[int]
    mark: str
    changed: tuple[int, ...]


def standing(form: Form) -> dict[str, Value]:
    """What of an answer the rules look at, as it stands: what is not chosen yet counts as the stricter."""
    lines: list[Value] = [dict(line) for _, line in written_lines(form)]
    return {"prescription": lines, "mode": form.value("mode"), "first": form.value("first") != "no"}


def is_told(form: Form) -> bool:
    """Whether the page of this form says what stands against just this prescription."""
    return form.value(MARK).partition(" ")[0] == _asked(form)


def put_beside(form: Form, objections: Sequence[Objection]) -> None:
    """As errors of the form: at the lines, and where a reason would do, at the field for it."""
    for number, one in _numbered(form, objections):
        form.wrong(_field(number, one), _sentence(number, one))


def told(form: Form, objections: Sequence[Objection]) -> Told:
    """For the places beside the lines, without what stands among the form's errors. In the spoken language."""
    every: dict[int, list[str]] = {}
    shown: dict[int, list[str]] = {}
    for number, one in _numbered(form, objections):
        every.setdefault(number, []).append(_sentence(number, one))
        if _field(number, one) not in form.errors:
            shown.setdefault(number, []).append(_sentence(number, one))
    before = dict(one.partition(":")[::2] for one in form.value(MARK).split(" ")[1:])
    marks = {str(number): _digest(sentences) for number, sentences in every.items()}
    mark = " ".join((_asked(form), *(f"{number}:{digest}" for number, digest in marks.items())))
    lines = {number: tuple(sentences) for number, sentences in shown.items()}
    changed = [number for number in range(1, MAX_LINES + 1) if before.get(str(number)) != marks.get(str(number))]
    reasons = frozenset(number for number, one in _numbered(form, objections) if one.code == "E_ALLERGY")
    return Told(lines, reasons, mark, tuple(changed))


def _numbered(form: Form, objections: Sequence[Objection]) -> list[tuple[int, Objection]]:
    numbers = [number for number, _ in written_lines(form)]
    return [(numbers[one.line - 1], one) for one in objections]


def _field(number: int, one: Objection) -> str:
    return f"{REASON if one.code == 'E_ALLERGY' else 'drug'}_{number}"


def _sentence(number: int, one: Objection) -> str:
    return f"{said('Line %(num)s: %(what)s', num=number, what=said(one.said, **one.values))} [{one.code}]"


def _asked(form: Form) -> str:
    lines = [[number, line.get("drug", ""), line.get(REASON, "")] for number, line in written_lines(form)]
    return _digest([form.value("mode"), form.value("first"), *map(json.dumps, lines)])


def _digest(texts: Sequence[str]) -> str:
    """To tell one text from another, no more."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()[:DIGEST_CHARS]
