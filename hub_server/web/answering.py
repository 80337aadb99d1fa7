"""The reply's form: what was typed becomes the fields of a reply, each with what is wrong beside it.

Which drugs may be prescribed is `consults.reply`'s to say; what it objects to is put beside the lines by `objecting`.
Signing asks for the second factor again where it was given more than five minutes ago; the code is never kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from hub_server.web import faults
from hub_server.web.desk import CSRF, Desk
from sync_protocol.canonical import Value
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import clinical
from sync_protocol.pages.forms import Form
from sync_protocol.pages.language import said
from sync_protocol.schema import MAX_LINES
from sync_protocol.telemedicine import REASON

LINES_SHOWN: Final = 3
MAX_POSITIONS_CHARS: Final = 20_000
LINE_PARTS: Final = ("drug", "form", "strength", "dose", "route", "frequency", "days", "advice", REASON)
MAX_DAYS_DIGITS: Final = 5  # what is longer is no number of days, and is shown as it was typed
NEEDED_PARTS: Final = ("drug", "dose", "days")
NOT_KEPT: Final = frozenset({CSRF, "code", "more", "draft", "corrects", "told"})
"""Fields that are no part of a draft: secrets, buttons, and what the page says itself."""


def answer_of(form: Form) -> dict[str, Value]:
    """The reply that the form gives; what is wrong stands in its errors."""
    answer: dict[str, Value] = {}
    mode = form.required("mode", said("Choose how you consulted"))
    if mode:
        answer["mode"] = form.checked("reply", "mode", clinical.label("mode"), mode)
    first = form.required("first", said("Say whether this is a first consultation"))
    answer["first"] = first != "no"
    if text := form.value("diagnosis"):
        answer["diagnosis"] = form.checked("reply", "diagnosis", clinical.label("diagnosis"), {"text": text})
    for field in ("advice", "refer_onward"):
        if text := form.value(field):
            answer[field] = form.checked("reply", field, clinical.label(field), text)
    if lines := [line for _, line in prescription_of(form)]:
        answer["prescription"] = lines
    days = form.number("follow_up_days", clinical.label("follow_up_days"), whole=True)
    if days is not None:
        answer["follow_up_days"] = form.checked("reply", "follow_up_days", clinical.label("follow_up_days"), days)
    if not any(answer.get(name) for name in ("diagnosis", "advice", "prescription", "refer_onward")):
        form.wrong("advice", said("Write a diagnosis, advice, a prescription or where to refer"))
    return {name: value for name, value in answer.items() if value is not None}


def prescription_of(form: Form) -> list[tuple[int, dict[str, Value]]]:
    """The lines in which something stands, each with its number in the form."""
    found: list[tuple[int, dict[str, Value]]] = []
    for number, line in written_lines(form):
        days = form.number(f"days_{number}", said("Days"), whole=True)
        whole: dict[str, Value] = {part: text for part, text in line.items() if part != "days"}
        if days is not None:
            whole["days"] = days
        for part in NEEDED_PARTS:
            if part not in whole and f"{part}_{number}" not in form.errors:
                form.wrong(f"{part}_{number}", said("Line %(num)s needs a drug, a dose and days", num=number))
        if not form.errors:
            form.checked("reply", "prescription", said("Line %(num)s", num=number), [whole], at=f"drug_{number}")
        found.append((number, whole))
    return found


def written_lines(form: Form) -> list[tuple[int, dict[str, str]]]:
    """The same as text, whether or not it can be signed."""
    every = (
        (number, {part: text for part in LINE_PARTS if (text := form.value(f"{part}_{number}"))})
        for number in range(1, MAX_LINES + 1)
    )
    return [(number, line) for number, line in every if line]


def filled_from(reply: Mapping[str, Value]) -> Form:
    """A form with what a signed reply says, to be corrected."""
    values: dict[str, object] = {name: reply.get(name) for name in ("mode", "advice", "refer_onward", "follow_up_days")}
    values["first"] = "yes" if reply.get("first") is True else "no"
    values["diagnosis"] = clinical.coded(reply.get("diagnosis"))
    lines = reply.get("prescription")
    for number, line in enumerate(lines if isinstance(lines, list) else [], 1):
        if isinstance(line, dict):
            values |= {f"{part}_{number}": line.get(part) for part in LINE_PARTS}
            values["lines"] = number + 1
    return Form.filled(values)


def kept_of(form: Form) -> dict[str, list[str]]:
    """What of the form a draft keeps."""
    return {name: values for name, values in form.given.items() if name not in NOT_KEPT and any(values)}


def unsent_of(form: Form, signed: Mapping[str, Value]) -> list[tuple[str, str]]:
    """(label, text) of each thing that was written, to be read and copied; nothing where it is just what was signed."""
    written = _written_of(form)
    return written if written != _written_of(filled_from(signed)) else []


def _written_of(form: Form) -> list[tuple[str, str]]:
    found = [(clinical.label(name), form.value(name)) for name in ("diagnosis", "advice")]
    for number in range(1, MAX_LINES + 1):
        line: dict[str, Value] = {part: text for part in LINE_PARTS if (text := form.value(f"{part}_{number}"))}
        days = str(line.get("days", ""))
        if days.isascii() and days.isdecimal() and len(days) <= MAX_DAYS_DIGITS:
            line["days"] = int(days)
        elif days:  # what was meant by it, a person sees
            line["advice"] = " ".join(filter(None, (days, form.value(f"advice_{number}"))))
        found.append((said("Line %(num)s", num=number), clinical.prescription_line(line)))
    found += [(clinical.label(name), form.value(name)) for name in ("follow_up_days", "refer_onward")]
    found.append((said("Why the answer is corrected"), form.value("correction_reason")))
    return [(label, text) for label, text in found if text]


def lines_of(form: Form) -> int:
    """How many lines the page shows: those that are filled, and those that were asked for."""
    text = form.value("lines")
    asked = int(text) if text.isascii() and text.isdecimal() and len(text) < 3 else LINES_SHOWN
    filled = [
        number for number in range(1, MAX_LINES + 1) if any(form.value(f"{part}_{number}") for part in LINE_PARTS)
    ]
    return min(max(LINES_SHOWN, asked, *filled), MAX_LINES)


# -- what the doctor saw -----------------------------------------------------------------------------------------------


def positions_text(heads: Mapping[str, int]) -> str:
    """For a hidden field of the page."""
    return json.dumps(dict(heads), separators=(",", ":"), sort_keys=True)


def positions_of(form: Form) -> dict[str, int] | None:
    """Feed → position, as the page was made; None where the form does not say, which is then what is there now."""
    text = form.value("positions")
    if not text or len(text) > MAX_POSITIONS_CHARS:
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict) or not all(type(at) is int and at >= 0 for at in given.values()):
        return None
    return {str(feed): at for feed, at in given.items()}


# -- the second factor -------------------------------------------------------------------------------------------------


def needs_code(desk: Desk) -> bool:
    """Whether signing asks for a code now."""
    return not desk.signed.is_fresh(desk.now_ms)


def require_code(desk: Desk, form: Form) -> None:
    """Take the code that came with the form, where one is needed. It can be used once: not while something is wrong."""
    if not needs_code(desk):
        return
    code = form.value("code")
    form.given.pop("code", None)
    if not code:
        form.wrong("code", said("Enter the code of your authenticator to sign"))
    if form.errors:
        return
    try:
        desk.place.sign_in.again(desk.token, code, desk.now_ms)
    except HealthSyncError as error:
        form.wrong("code", faults.said_of(error))
