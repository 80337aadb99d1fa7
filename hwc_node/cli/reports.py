"""`hwc report`: a month of this centre in numbers, without any patient's data."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hwc_node import reporting
from hwc_node.cli import console, opening
from hwc_node.cli.opening import AsJson
from hwc_node.reporting import Month, Report, Waits
from sync_protocol import sheets


def report(
    month: Annotated[
        str | None, typer.Option("--month", metavar="YYYY-MM", help="Which; the last whole one without it.")
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Answer as a sheet.")] = False,
) -> None:
    """\b
    Examples:
      hwc report
      hwc report --month 2026-03 --csv > march.csv
      hwc report --json | jq .referrals.by_specialty

    Count a month: consultations by day, age and sex, referrals by specialty, urgency, how far they are and what became of
    the patients, how long they waited, follow-ups. From what is on this computer, by India Standard Time.

    What was entered in error does not count; referrals that were withdrawn are told apart.
    """
    if as_json and as_csv:
        raise typer.BadParameter("one answer: JSON or a sheet", param_hint="--csv")
    wanted = reporting.parse_month(month) if month is not None else None
    with opening.desk() as at:
        today = reporting.india_day(opening.now_ms())
        found = reporting.report(at.store, wanted or Month.of(today).before, today)
        name, facility = at.store.membership.facility_name, at.store.membership.facility
    lines = reporting.lines(found, str, lambda one: str(one or ""), str)
    if as_json:
        console.document("hwc.report/1", {"facility": facility, **_shape(found)})
    elif as_csv:
        head = [("Centre", f"{name} ({facility})"), ("Month", found.month.text), ("What", "Of which", "Number")]
        console.octets(sheets.sheet([*head, *lines]))
    else:
        console.text(f"{name} ({facility}), {found.month.text}{', so far' if found.so_far else ''}")
        rows = [(what, of_which, "–" if number is None else str(number)) for what, of_which, number in lines]
        console.table(("what", "of which", "number"), [row for row in rows if row[2] != "0"])


def _shape(found: Report) -> dict[str, Any]:
    return {
        "month": found.month.text,
        "so_far": found.so_far,
        "consultations": {
            "total": found.consultations,
            "patients": found.patients,
            "by_day": {found.month.day(at).isoformat(): count for at, count in enumerate(found.by_day, 1)},
            "by_sex_and_age": {
                sex or "unknown": dict(zip(_bands(), counts, strict=True)) for sex, counts in found.by_age.items()
            },
        },
        "referrals": {
            "total": found.referrals,
            "withdrawn": found.withdrawn,
            "by_specialty": {name or "other": count for name, count in found.specialties},
            "by_urgency": found.urgencies,
            "by_stage": found.stages,
            "by_outcome": {word or "not_noted": count for word, count in found.outcomes.items()},
        },
        "waits": {"to_received": _waits(found.to_received), "to_answered": _waits(found.to_answered)},
        "follow_ups": {
            "due": found.due,
            "done": found.done,
            "overdue": found.overdue,
            "to_come": found.to_come,
        },
        "undated": found.undated,
    }


def _bands() -> list[str]:
    return [*(f"{low}-{high}" for low, high in reporting.AGES), "unknown"]


def _waits(waits: Waits) -> dict[str, int | None]:
    return {
        "count": waits.count,
        "median_ms": waits.median_ms,
        "ninetieth_ms": waits.ninetieth_ms,
        "left_out": waits.odd,
    }
