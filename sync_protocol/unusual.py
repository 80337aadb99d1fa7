"""What is unusual, beside what cannot be: values that are saved as they are, once the person has been told.

The schema's limits refuse the impossible. Here stand the ranges outside of which a person looks again, by age where it
matters: a patient in shock at 60 mmHg is the very one to refer, so nothing here refuses. Ranges: WHO, Pocket book of
hospital care for children (2013), table of normal values by age; Advanced Paediatric Life Support; for adults, the
National Early Warning Score's outermost bands, widened so that a warning stays rare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sync_protocol.canonical import Value

ADULT: Final = 12  # years, from which on the adults' ranges count


@dataclass(frozen=True, slots=True)
class Usual:
    """low, high: inclusive; a value outside is unusual. until_years: the ages below this one."""

    low: float
    high: float
    until_years: int = 200


USUAL: Final[Mapping[str, tuple[Usual, ...]]] = {
    "systolic_mmhg": (Usual(50, 130, 5), Usual(65, 150, ADULT), Usual(70, 300)),
    "diastolic_mmhg": (Usual(25, 90, ADULT), Usual(40, 130)),
    "pulse_bpm": (Usual(80, 190, 1), Usual(70, 170, 5), Usual(55, 150, ADULT), Usual(40, 140)),
    "respiratory_rate": (Usual(25, 60, 1), Usual(18, 45, 5), Usual(14, 35, ADULT), Usual(8, 30)),
    "temperature_c": (Usual(35, 40.5),),
    "spo2_percent": (Usual(88, 100),),
    "weight_kg": (Usual(1.5, 14, 1), Usual(5, 35, 5), Usual(10, 90, ADULT), Usual(25, 160)),
    "height_cm": (Usual(40, 90, 1), Usual(60, 130, 5), Usual(85, 185, ADULT), Usual(110, 210)),
    "glucose_mg_dl": (Usual(50, 350),),
    "haemoglobin_g_dl": (Usual(6, 19),),
}


@dataclass(frozen=True, slots=True)
class Unusual:
    """field: as the form names it. low, high: the range that was expected."""

    field: str
    low: float
    high: float
    value: float

    @property
    def token(self) -> str:
        """Names this value of this field: who was asked about 60 was not asked about 6."""
        return f"{self.field}:{self.value:g}"


def unusual(measured: Mapping[str, Value], age_years: int | None) -> list[Unusual]:
    """Which of these values a person should look at again. A pressure is one field of two."""
    flat: dict[str, Value] = dict(measured)
    pressure = flat.pop("blood_pressure", None)
    if isinstance(pressure, dict):
        flat |= pressure
    found = []
    for name, value in flat.items():
        usual = _usual(name, age_years)
        if usual is not None and type(value) in (int, float) and not usual.low <= value <= usual.high:
            found.append(Unusual(name, usual.low, usual.high, value))
    systolic, diastolic = flat.get("systolic_mmhg"), flat.get("diastolic_mmhg")
    if type(systolic) is int and type(diastolic) is int and diastolic >= systolic:
        found.append(Unusual("diastolic_mmhg", 0, systolic - 1, diastolic))
    return found


def _usual(name: str, age_years: int | None) -> Usual | None:
    rows = USUAL.get(name)
    if rows is None:
        return None
    if age_years is None:
        return rows[-1]
    return next((row for row in rows if age_years < row.until_years), rows[-1])
