"""The month's report: from local data, three clicks from anywhere; printable, and as a sheet. The last whole month first."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from hwc_node import reporting
from hwc_node.reporting import Month, Report, Waits
from hwc_node.web.desk import AtWork, Desk
from sync_protocol import sheets
from sync_protocol.pages import charts, clinical, language
from sync_protocol.pages.charts import Bar
from sync_protocol.pages.language import said, spoken
from sync_protocol.schema import URGENCIES

CHOICE_MONTHS: Final = 24  # back from now; an older one is reached by going on from there

router = APIRouter()


@router.get("/report")
def report_page(desk: AtWork) -> Response:
    month = _month(desk)
    found = reporting.report(desk.store, month, desk.today)
    with language.speaking(desk.words):
        drawn = _drawn(found)
    now = Month.of(desk.today)
    return desk.page(
        "report",
        found=found,
        charts=drawn,
        months=_choices(now, month),
        is_last=month >= now,
        ages=reporting.AGE_WORDS,
        sexes=reporting.SEX_WORDS,
        waits=_waits(desk, found),
    )


@router.get("/report/sheet")
def report_sheet(desk: AtWork) -> Response:
    month = _month(desk)
    found = reporting.report(desk.store, month, desk.today)
    with language.speaking(desk.words):
        raw = sheets.sheet([*_head(desk, found), *reporting.lines(found, said, clinical.specialty, clinical.word)])
    name = f"report-{desk.store.membership.facility}-{month.text}.csv"
    return Response(
        raw, media_type=sheets.MEDIA_TYPE, headers={"content-disposition": f'attachment; filename="{name}"'}
    )


def _month(desk: Desk) -> Month:
    """That which the address asks for, else the last whole one. Raises InvalidValue (``E_BAD_MONTH``)."""
    asked = desk.request.query_params.get("month", "")
    return reporting.parse_month(asked) if asked else Month.of(desk.today).before


def _choices(now: Month, shown: Month) -> list[Month]:
    """The latest first."""
    found = [now]
    while len(found) < CHOICE_MONTHS and found[-1].before.is_counted:
        found.append(found[-1].before)
    return found if shown in found else sorted([*found, shown], reverse=True)


def _head(desk: Desk, found: Report) -> list[tuple[str, ...]]:
    member = desk.store.membership
    month = spoken().month(found.month.year, found.month.month)
    return [
        (said("Centre"), f"{member.facility_name} ({member.facility})"),
        (said("Month"), said("%(month)s, so far", month=month) if found.so_far else month),
        (),
        (said("What"), said("Of which"), said("Number")),
    ]


def _drawn(found: Report) -> dict[str, str]:
    days = [
        Bar(spoken().short_day(found.month.day(at)), count, _number(count)) for at, count in enumerate(found.by_day, 1)
    ]
    of_age = [sum(found.by_age[sex][at] for sex in reporting.SEXES) for at in range(len(reporting.AGE_WORDS))]
    ages = [Bar(said(word), count, _number(count)) for word, count in zip(reporting.AGE_WORDS, of_age, strict=True)]
    specialties = [
        Bar(clinical.specialty(name) if name else said("All others"), count, _number(count))
        for name, count in found.specialties
    ]
    urgencies = [
        Bar(
            clinical.word(word),
            found.urgencies[word],
            _number(found.urgencies[word]),
            "" if word == URGENCIES[0] else word,
        )
        for word in reversed(URGENCIES)
    ]
    stages = [
        Bar(said(word), found.stages[name], _number(found.stages[name])) for name, word in reporting.STAGES.items()
    ]
    outcomes = [
        Bar(reporting.outcome_said(one, clinical.word, said), found.outcomes[one], _number(found.outcomes[one]))
        for one in reporting.OUTCOMES
    ]
    return {
        "days": charts.bars("days", said("Consultations by day"), days),
        "ages": charts.bars("ages", said("Consultations by age"), ages),
        "specialties": charts.bars("specialties", said("Referrals by specialty"), specialties),
        "urgencies": charts.bars("urgencies", said("Referrals by urgency"), urgencies),
        "stages": charts.bars("stages", said("How far the referrals are"), stages),
        "outcomes": charts.bars("outcomes", said("What became of the patients referred"), outcomes),
    }


def _number(count: int) -> str:
    return spoken().number(count)


def _waits(desk: Desk, found: Report) -> list[tuple[str, Waits, str, str]]:
    """What was waited for, how long: the median and what nine of ten did not exceed."""
    with language.speaking(desk.words):
        return [
            (label, waits, _duration(waits.median_ms), _duration(waits.ninetieth_ms))
            for label, waits in (
                (said("Until the hub received it"), found.to_received),
                (said("Until a doctor answered"), found.to_answered),
            )
        ]


def _duration(length_ms: int | None) -> str:
    """In the unit of which there are two at least: "1 hour" would be said of all up to two."""
    if length_ms is None:
        return "–"
    minutes = length_ms // 60_000
    if minutes < 120:
        return spoken().ngettext("%(num)s minute", "%(num)s minutes", minutes) % {"num": spoken().number(minutes)}
    if minutes < 48 * 60:
        hours = minutes // 60
        return spoken().ngettext("%(num)s hour", "%(num)s hours", hours) % {"num": spoken().number(hours)}
    days = minutes // (24 * 60)
    return spoken().ngettext("%(num)s day", "%(num)s days", days) % {"num": spoken().number(days)}
