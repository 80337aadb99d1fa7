"""What a slip says, as people read it, and why one cannot be trusted: the same on the centre's and the hub's pages."""

from __future__ import annotations

from typing import Final

from sync_protocol import slip
from sync_protocol.canonical import Value
from sync_protocol.errors import HealthSyncError
from sync_protocol.pages import clinical
from sync_protocol.pages.language import said, spoken
from sync_protocol.slip import Summary
from sync_protocol.words import N_

NOT_WHOLE: Final = N_("The code is not whole. Scan it again, the paper flat and in good light.")
PROBLEMS: Final = {
    "E_NO_SLIP": N_("This is no code of a referral slip."),
    "E_BAD_SIGNATURE": N_(
        "The signature does not hold: this slip was altered, or is of another system. Do not trust it."
    ),
    "E_OTHER_FACILITY": N_("The computer that signed this slip is of another centre than it says. Do not trust it."),
    "E_UNKNOWN_NODE": N_("The hub does not know the computer that signed this slip. Do not trust it."),
    "E_UNSUPPORTED": N_("This slip is of a newer program than this one."),
}
NONE_KNOWN: Final = N_("None known")
NOT_ASKED: Final = N_("Not asked")


def rows(summary: Summary) -> list[tuple[str, str]]:
    """Label and text, without what the slip does not say; the patient's name first."""
    age = clinical.months(summary.age_months, summary.age_certain) if summary.age_months is not None else ""
    sex = clinical.word(summary.sex) if summary.sex else ""
    every = [
        (clinical.label("name"), summary.name),
        (said("Age and sex"), " · ".join(part for part in (age, sex) if part)),
        (clinical.label("urgency"), clinical.word(summary.urgency)),
        (clinical.label("specialty"), clinical.specialty(summary.specialty)),
        (clinical.label("reason"), summary.reason),
        (said("Allergies"), _allergies(summary.allergies)),
        (said("Measurements"), _measured(summary)),
        (said("Measured"), spoken().time(summary.vitals_ms)),
        (said("Printed"), spoken().time(summary.made_ms)),
    ]
    return [(label, text) for label, text in every if text]


def problem(error: HealthSyncError) -> str:
    """Why a slip cannot be read or trusted, with the code."""
    return f"{said(PROBLEMS.get(error.code, NOT_WHOLE))} [{error.code}]"


def _allergies(allergies: list[str] | None) -> str:
    if allergies is None:
        return said(NOT_ASKED)
    return ", ".join(allergies) or said(NONE_KNOWN)


def _measured(summary: Summary) -> str:
    found: dict[str, Value] = dict(summary.measured)
    pressure = {name: found.pop(name) for name in slip.MEASURED[:2] if name in found}
    values = ({"blood_pressure": pressure} if pressure else {}) | found
    return " · ".join(f"{clinical.label(name)} {clinical.value(name, value)}" for name, value in values.items())
