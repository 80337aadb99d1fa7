"""The clinical words of the pages: fields, choices, specialties, statuses; and values as people read them.

Texts are English here and translated where they are shown. What this program does not know is shown as it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from sync_protocol.canonical import Value
from sync_protocol.documents import id_text
from sync_protocol.pages.language import said, spoken
from sync_protocol.words import N_

FIELDS: Final = {
    "name": N_("Name"),
    "sex": N_("Sex"),
    "birth": N_("Age"),
    "phone": N_("Phone"),
    "guardian": N_("Parent or guardian"),
    "village": N_("Village"),
    "address": N_("Address"),
    "abha": N_("ABHA number"),
    "language": N_("Language"),
    "allergies_status": N_("Allergies asked"),
    "allergies": N_("Allergy"),
    "chronic_conditions": N_("Long-term condition"),
    "complaints": N_("Complaint"),
    "danger_signs": N_("Danger sign"),
    "duration_days": N_("Days of illness"),
    "history": N_("History"),
    "examination": N_("Examination"),
    "provisional_diagnosis": N_("Provisional diagnosis"),
    "plan": N_("Plan"),
    "outcome": N_("Outcome"),
    "mode": N_("Mode"),
    "first": N_("First consultation"),
    "blood_pressure": N_("Blood pressure"),
    "pulse_bpm": N_("Pulse"),
    "respiratory_rate": N_("Breaths a minute"),
    "temperature_c": N_("Temperature"),
    "spo2_percent": N_("Oxygen saturation"),
    "weight_kg": N_("Weight"),
    "height_cm": N_("Height"),
    "glucose_mg_dl": N_("Blood glucose"),
    "haemoglobin_g_dl": N_("Haemoglobin"),
    "not_measured": N_("Could not be measured"),
    "specialty": N_("Specialty"),
    "urgency": N_("Urgency"),
    "reason": N_("Reason"),
    "question": N_("Question to the doctor"),
    "withdrawn": N_("Withdrawn"),
    "diagnosis": N_("Diagnosis"),
    "advice": N_("Advice"),
    "prescription": N_("Prescription"),
    "follow_up_days": N_("Come again in days"),
    "refer_onward": N_("Refer onward"),
    "due": N_("Due"),
    "done": N_("Done"),
    "note": N_("Note"),
    "text": N_("Message"),
    "given": N_("Consent"),
    "entered_in_error": N_("Entered in error"),
}

KINDS: Final = {
    "patient": N_("Patient"),
    "case": N_("Visit"),
    "vitals": N_("Measurements"),
    "referral": N_("Referral"),
    "claim": N_("Claim"),
    "reply": N_("Reply"),
    "message": N_("Message"),
    "acknowledgement": N_("Acknowledgement"),
    "follow_up": N_("Follow-up"),
    "consent": N_("Consent"),
    "attachment": N_("Attachment"),
    "patient_link": N_("Link to another registration"),
}

CHOICES: Final = {
    "F": N_("Female"),
    "M": N_("Male"),
    "O": N_("Other"),
    "U": N_("Not known"),
    "none_known": N_("None known"),
    "not_asked": N_("Not asked"),
    "listed": N_("Listed"),
    "routine": N_("Routine"),
    "urgent": N_("Urgent"),
    "emergency": N_("Emergency"),
    "text": N_("Text"),
    "audio": N_("Audio"),
    "video": N_("Video"),
    "in_person": N_("In person"),
    "under_care": N_("Under care"),
    "recovered": N_("Recovered"),
    "referred": N_("Referred"),
    "lost_to_follow_up": N_("Lost to follow-up"),
    "died": N_("Died"),
}

STATUSES: Final = {
    "saved": N_("Saved on this computer"),
    "sent": N_("Sent"),
    "received": N_("Received by the hub"),
    "claimed": N_("A doctor has it"),
    "answered": N_("Answered"),
    "seen": N_("Answer read"),
    "closed": N_("Closed"),
    "withdrawn": N_("Withdrawn"),
}

SPECIALTIES: Final = {
    "general-medicine": N_("General medicine"),
    "obstetrics": N_("Obstetrics and gynaecology"),
    "paediatrics": N_("Paediatrics"),
    "surgery": N_("Surgery"),
    "orthopaedics": N_("Orthopaedics"),
    "dermatology": N_("Skin"),
    "ophthalmology": N_("Eye"),
    "ent": N_("Ear, nose and throat"),
    "psychiatry": N_("Mental health"),
    "cardiology": N_("Heart"),
    "tuberculosis": N_("Tuberculosis and chest"),
    "dentistry": N_("Dental"),
}

DANGER_SIGNS: Final = {
    "convulsions": N_("Convulsions"),
    "unconscious": N_("Unconscious or very drowsy"),
    "severe breathlessness": N_("Severe breathlessness"),
    "chest pain": N_("Chest pain"),
    "heavy bleeding": N_("Heavy bleeding"),
    "unable to drink": N_("Unable to drink or feed"),
    "severe dehydration": N_("Severe dehydration"),
    "high fever with stiff neck": N_("High fever with stiff neck"),
}

UNITS: Final = {
    "blood_pressure": "mmHg",
    "pulse_bpm": N_("/min"),
    "respiratory_rate": N_("/min"),
    "temperature_c": "°C",
    "spo2_percent": "%",
    "weight_kg": "kg",
    "height_cm": "cm",
    "glucose_mg_dl": "mg/dL",
    "haemoglobin_g_dl": "g/dL",
}

PARTS: Final = {"systolic_mmhg": N_("Systolic pressure"), "diastolic_mmhg": N_("Diastolic pressure")}
VITALS: Final = tuple(UNITS)
"""In the order in which they are measured and shown."""
REGISTERS: Final = {"day": N_("exact"), "about": N_("about")}
SET_SEPARATOR: Final = "/"
_INFANT_MONTHS: Final = 24  # below it an age is said in months


def label(field: str) -> str:
    """The name of a field or of an element of a set, in the spoken language."""
    family, separator, key = field.partition(SET_SEPARATOR)
    named = said(FIELDS.get(family, family))
    if not separator:
        return named
    return f"{named}: {element(family, key)}"


def element(family: str, key: str) -> str:
    """An element of a set: a danger sign of the list by its name, anything else as it was written."""
    if family == "danger_signs" and key in DANGER_SIGNS:
        return said(DANGER_SIGNS[key])
    if family == "not_measured":
        return said(FIELDS.get(key, key))
    return key


def word(value: object) -> str:
    """A choice, in the spoken language; what is none is shown as it is."""
    return said(CHOICES[value]) if isinstance(value, str) and value in CHOICES else str(value)


def status(value: str) -> str:
    return said(STATUSES.get(value, value))


def specialty(value: object) -> str:
    return said(SPECIALTIES[value]) if isinstance(value, str) and value in SPECIALTIES else str(value or "")


def kind(name: str) -> str:
    return said(KINDS.get(name, name))


def unit(field: str) -> str:
    return said(UNITS[field]) if field in UNITS else ""


def element_names(view: Mapping[str, Value], family: str) -> list[str]:
    """The names of a set's elements that are there."""
    found = []
    for name in sorted(view):
        begun, _, key = name.partition(SET_SEPARATOR)
        value = view[name]
        if begun == family and isinstance(value, dict) and value.get("present") is True:
            found.append(key)
    return found


def details_text(given: Value) -> str | None:
    """What was written of an element of a set; None where nothing was."""
    details = given.get("details") if isinstance(given, dict) else None
    text = details.get("text") if isinstance(details, dict) else None
    return text if isinstance(text, str) else None


def elements(view: Mapping[str, Value], family: str) -> list[str]:
    """The elements of a set that are there, as they were written."""
    found = []
    for key in element_names(view, family):
        text = details_text(view[f"{family}{SET_SEPARATOR}{key}"])
        found.append(text if text is not None and family != "danger_signs" else element(family, key))
    return found


def value(field: str, given: Value) -> str:
    """A field's value as people read it, with its unit."""
    shown = _SHOWN.get(field.partition(SET_SEPARATOR)[0], _plain)(given)
    named = unit(field)
    return f"{shown} {named}".strip() if shown else ""


def _plain(given: Value) -> str:
    if given is None:
        return said(N_("not known"))
    if isinstance(given, bool):
        return said(N_("Yes")) if given else said(N_("No"))
    if isinstance(given, int | float):
        return spoken().number(given)
    if isinstance(given, bytes):
        return id_text(given) if len(given) == 16 else given.hex()
    if isinstance(given, dict):
        return coded(given) or ", ".join(f"{key}: {_plain(part)}" for key, part in given.items())
    if isinstance(given, list):
        return "; ".join(_plain(part) for part in given)
    return word(given)


def measured(field: str, given: float) -> str:
    """One number that was measured, with its name and unit: also one of the two of a pressure, as forms have them."""
    if field in PARTS:
        return f"{said(PARTS[field])} {spoken().number(given)} {UNITS['blood_pressure']}"
    return f"{label(field)} {value(field, given)}"


def coded(given: Value) -> str:
    """A diagnosis: its text, else its code."""
    if not isinstance(given, dict):
        return ""
    text, code = given.get("text"), given.get("code")
    return str(text or code or "")


def _pressure(given: Value) -> str:
    if not isinstance(given, dict):
        return _plain(given)
    return f"{given.get('systolic_mmhg', '–')}/{given.get('diastolic_mmhg', '–')}"


def _present(given: Value) -> str:
    if not isinstance(given, dict):
        return _plain(given)
    there = said(N_("yes")) if given.get("present") is True else said(N_("removed"))
    text = details_text(given)
    return f"{there} ({text})" if text is not None else there


def _withdrawn(given: Value) -> str:
    if not isinstance(given, dict):
        return _plain(given)
    return str(given.get("reason") or "") if given.get("withdrawn") is True else said(N_("No"))


def _specialty(given: Value) -> str:
    return specialty(given)


def _born(given: Value) -> str:
    """What was said of an age, as it was said."""
    if not isinstance(given, dict):
        return _plain(given)
    if isinstance(given.get("date"), str):
        return spoken().written_day(given["date"])
    if isinstance(given.get("age_years"), int):
        day = _day(given["said_on"]) if given.get("said_on") else "–"
        return said(N_("about %(num)s years, said on %(day)s"), num=spoken().number(given["age_years"]), day=day)
    return str(given.get("year") or "")


def _day(given: Value) -> str:
    """A day, or as much of one as was written."""
    return spoken().written_day(given) if isinstance(given, str) else _plain(given)


_SHOWN: Final[Mapping[str, Any]] = {
    "blood_pressure": _pressure,
    "allergies": _present,
    "chronic_conditions": _present,
    "complaints": _present,
    "danger_signs": _present,
    "not_measured": _present,
    "withdrawn": _withdrawn,
    "specialty": _specialty,
    "birth": _born,
    "due": _day,
}


def age_years(birth: Value, today: date) -> tuple[int, bool] | None:
    """Years on a day, and whether that is certain; None where nothing is known."""
    if not isinstance(birth, dict):
        return None
    born = _date(birth.get("date"))
    if born is not None and birth.get("precision") in (None, "day"):
        return today.year - born.year - ((today.month, today.day) < (born.month, born.day)), True
    year = born.year if born is not None else birth.get("year")
    if isinstance(year, int):
        return max(0, today.year - year), False
    age, said_on = birth.get("age_years"), _date(birth.get("said_on"))
    if isinstance(age, int):
        passed = (
            0
            if said_on is None
            else today.year - said_on.year - ((today.month, today.day) < (said_on.month, said_on.day))
        )
        return age + max(0, passed), False
    return None


def age_months(birth: Value, today: date) -> tuple[int, bool] | None:
    """Months on a day, and whether that is certain; None where nothing is known."""
    found = age_years(birth, today)
    if found is None:
        return None
    years, certain = found
    born = _date(birth.get("date")) if isinstance(birth, dict) else None
    if certain and born is not None:
        return max(0, (today.year - born.year) * 12 + today.month - born.month - (today.day < born.day)), True
    return max(0, years) * 12, False


def _date(text: object) -> date | None:
    if not isinstance(text, str):
        return None
    parts = text.split("-")
    try:
        return date(int(parts[0]), int(parts[1]) if len(parts) > 1 else 1, int(parts[2]) if len(parts) > 2 else 1)
    except ValueError:
        return None


def age(birth: Value, today: date) -> str:
    """An age as people say it: 34 years, about 40 years, 7 months."""
    found = age_months(birth, today)
    return "" if found is None else months(*found)


def months(count: int, certain: bool) -> str:
    """So many months of age, as people say it."""
    if certain and count < _INFANT_MONTHS:
        return spoken().ngettext("%(num)s month", "%(num)s months", count) % {"num": spoken().number(count)}
    years = count // 12
    text = spoken().ngettext("%(num)s year", "%(num)s years", years) % {"num": spoken().number(years)}
    return text if certain else said(N_("about %(age)s"), age=text)


def who(view: Mapping[str, Value], today: date) -> str:
    """Age, sex and village in one line: what tells two people of one name apart."""
    parts = [
        age(view.get("birth"), today),
        word(view["sex"]) if view.get("sex") else "",
        str(view.get("village") or ""),
    ]
    return " · ".join(part for part in parts if part)


def prescription_line(line: Mapping[str, Value]) -> str:
    """One drug of a prescription, on one line."""
    parts: Sequence[Value] = [line.get(name) for name in ("drug", "form", "strength", "dose", "route", "frequency")]
    text = ", ".join(str(part) for part in parts if part)
    days = line.get("days")
    if isinstance(days, int):
        text += ", " + spoken().ngettext("%(num)s day", "%(num)s days", days) % {"num": spoken().number(days)}
    advice = line.get("advice")
    return ". ".join(str(part) for part in (text, advice, in_spite(line)) if part)


def in_spite(line: Mapping[str, Value]) -> str:
    """Why a drug of a prescription is given to whom it may harm; empty where the doctor was not asked."""
    reason = line.get("allergy_reason")
    return said(N_("In spite of the allergy: %(reason)s"), reason=reason) if reason else ""
