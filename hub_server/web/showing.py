"""What the case page shows of a chart, as plain values for its template: nothing is decided here, and nothing written.

What was entered in error, and a measurement that was corrected, is left out. Where a field has several live values, all
of them are shown, with who wrote each and when. A long history is cut, which the page says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from hub_server import charts
from hub_server.charts import Chart
from sync_protocol import exports, merge, referral, unusual
from sync_protocol.canonical import Value
from sync_protocol.change import PersonId, RecordId
from sync_protocol.merge import Record
from sync_protocol.pages import charts as drawings
from sync_protocol.pages import clinical, language
from sync_protocol.pages.language import said
from sync_protocol.referral import Status

MOST_VITALS: Final = 12  # rows of the table and points of a trend
MOST_VISITS: Final = 20
MOST_WHOLE: Final = 500  # of either, where the doctor asks for all: years of weekly visits
NOT_MEASURED: Final = "not_measured"
STALE_MS: Final = 12 * 3_600_000  # as the centre's own line counts it
VERY_STALE_MS: Final = 5 * 86_400_000
DIFFERING_KINDS: Final = ("patient", "case", "vitals", "referral", "follow_up")
_PARTS: Final = {"systolic_mmhg": "blood_pressure", "diastolic_mmhg": "blood_pressure"}

NameOf = Callable[[PersonId], str]


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of measurements. at_ms: None where nobody said. cells: field → (as people read it, whether unusual)."""

    at_ms: int
    cells: dict[str, tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class Trend:
    """latest: as people read it."""

    label: str
    latest: str
    drawing: drawings.Drawing


@dataclass(frozen=True, slots=True)
class Differing:
    """A field with several live values: (value, who, when) each, the shown one first."""

    kind: str
    label: str
    values: list[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class Other:
    """Another referral of the patient, with its answers. name: as a path has it."""

    name: RecordId
    at_ms: int
    specialty: str
    status: Status
    reason: str
    replies: list[Record]


def first_ms(one: Record) -> int:
    """When it happened, else when it was begun."""
    at = one.view().get("at")
    return at if isinstance(at, int) else merge.first_change(one).change.hlc >> 16


def is_doctors(one: Record) -> bool:
    """Whether a hub doctor wrote it."""
    return merge.first_change(one).origin.value == "doctor"


def of_kind(records: Sequence[Record], kind: str) -> list[Record]:
    """Latest first."""
    found = [one for one in records if one.key.kind == kind and merge.is_visible(one)]
    return sorted(found, key=lambda one: merge.first_change(one).order, reverse=True)


def staleness(seen_ms: int | None, now_ms: int) -> str:
    """fresh, old or very_old: how long ago the centre was last in touch."""
    if seen_ms is None or now_ms - seen_ms >= VERY_STALE_MS:
        return "very_old"
    return "old" if now_ms - seen_ms >= STALE_MS else "fresh"


# -- measurements ------------------------------------------------------------------------------------------------------


def vitals_of(records: Sequence[Record]) -> list[Record]:
    """The measurements that stand, the latest first: not those that a later one corrects."""
    found = of_kind(records, "vitals")
    corrected = {one.view().get("corrects") for one in found}
    return [one for one in found if one.key.record not in corrected]


def measured(vitals: Sequence[Record], birth: Value, today: date) -> tuple[list[str], list[Measured]]:
    """(the fields that any of these has, in the order in which they are measured; a row for each record)."""
    age = clinical.age_years(birth, today)
    rows = []
    for one in vitals:
        view = one.view()
        odd = {_PARTS.get(found.field, found.field) for found in unusual.unusual(view, age[0] if age else None)}
        cells = {name: (clinical.value(name, view[name]), name in odd) for name in clinical.VITALS if name in view}
        rows.append(Measured(first_ms(one), cells | _not_measured(view)))
    return [name for name in (*clinical.VITALS, NOT_MEASURED) if any(name in row.cells for row in rows)], rows


def _not_measured(view: Mapping[str, Value]) -> dict[str, tuple[str, bool]]:
    """What could not be measured, in the place of the value; what has one, or is no measurement here, by itself."""
    cells, rest = {}, []
    for name in clinical.element_names(view, NOT_MEASURED):
        text = clinical.details_text(view[f"{NOT_MEASURED}{clinical.SET_SEPARATOR}{name}"])
        column = _PARTS.get(name, name)
        if column in clinical.VITALS and view.get(column) is None:
            told = clinical.label(NOT_MEASURED)
            cells[column] = (f"{told}: {text}" if text else told, False)
        else:
            named = clinical.element(NOT_MEASURED, name)
            rest.append(f"{named} ({text})" if text else named)
    return cells | ({NOT_MEASURED: (", ".join(rest), False)} if rest else {})


def trends(vitals: Sequence[Record]) -> list[Trend]:
    """A drawing for each measurement that was taken twice and more, in the spoken language."""
    found = []
    ordered = [(first_ms(one), one.view()) for one in reversed(vitals)]
    for name in clinical.VITALS:
        points = [(at_ms, view[name]) for at_ms, view in ordered if name in view]
        lines = [[(float(at_ms), _number(value)) for at_ms, value in points]]
        if name == "blood_pressure":
            lines = [
                [(float(at_ms), _number(value.get(part))) for at_ms, value in points if isinstance(value, dict)]
                for part in ("systolic_mmhg", "diastolic_mmhg")
            ]
        words = language.spoken()
        told = "; ".join(f"{words.short_day(at_ms)}: {clinical.value(name, value)}" for at_ms, value in points)
        title = said("Course of: %(what)s", what=clinical.label(name))
        drawing = drawings.trend(f"trend-{name.replace('_', '-')}", title, told, lines)
        if drawing:
            found.append(Trend(clinical.label(name), clinical.value(name, points[-1][1]), drawing))
    return found


def _number(value: Value) -> float:
    return float(value) if type(value) in (int, float) else float("nan")


# -- what differs, and what else there is ------------------------------------------------------------------------------


def differing(records: Sequence[Record], name_of: NameOf) -> list[Differing]:
    """The fields that wait for a person's decision, of what the page shows."""
    found = []
    for one in records:
        if one.key.kind not in DIFFERING_KINDS or not merge.is_visible(one):
            continue
        for field, shown in one.conflicts().items():
            values = [
                (clinical.value(field, held.change.writes[field]), name_of(held.change.person), exports.at_ms(held))
                for held in shown.live
            ]
            found.append(Differing(one.key.kind, clinical.label(field), values))
    return found


def others(chart: Chart) -> list[Other]:
    """The patient's other referrals, the latest first."""
    found = []
    for one in of_kind(chart.records, "referral"):
        if one.key == chart.referral.key:
            continue
        view, rest = one.view(), [record for record in chart.records if record.key != one.key]
        reason = str(view.get("question") or view.get("reason") or "")
        replies = [record for record in of_kind(rest, "reply") if record.view().get("referral") == one.key.record]
        status = referral.progress(one, rest, sent=True).status
        found.append(Other(one.key.record, first_ms(one), str(view.get("specialty") or ""), status, reason, replies))
    return found


def shown(chart: Chart, name_of: NameOf, today: date, *, whole: bool = False) -> dict[str, Any]:
    """All that the template needs of the chart itself, in the spoken language. whole: with the older part of a long
    history, as far as MOST_WHOLE."""
    own = chart.own
    visits, vitals = of_kind(chart.records, "case"), vitals_of(chart.records)
    most_visits, most_vitals = (MOST_WHOLE, MOST_WHOLE) if whole else (MOST_VISITS, MOST_VITALS)
    columns, rows = measured(vitals[:most_vitals], own.get("birth"), today)
    return {
        "chart": chart,
        "own": own,
        "asked": chart.referral.view(),
        "allergies": clinical.elements(own, "allergies"),
        "chronic": clinical.elements(own, "chronic_conditions"),
        "whole": whole,
        "cases": visits[:most_visits],
        "more_visits": max(0, len(visits) - most_visits),
        "more_measured": max(0, len(vitals) - most_vitals),
        "columns": columns,
        "rows_measured": rows,
        "trends": trends(vitals[:MOST_VITALS]),
        "replies": [one for one in chart.about("reply") if merge.is_visible(one)],
        "messages": [one for one in chart.about("message") if merge.is_visible(one)],
        "others": others(chart),
        "follow_ups": of_kind(chart.records, "follow_up"),
        "attachments": of_kind(chart.records, "attachment"),
        "consents": of_kind(chart.records, "consent")[:1],
        "differing": differing(chart.records, name_of),
        "author_of": lambda one: name_of(charts.author(one)),
        "is_doctor": is_doctors,
        "first_ms": first_ms,
    }
