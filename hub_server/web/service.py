"""The service in numbers, for those who look after it; a doctor sees their own. Nothing of a single patient.

What is asked for stands in the address: period, place, what the rows are, page. What is no such choice counts as none.
Every table is to be had as a sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from statistics import quantiles
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Response

from hub_server import dashboards, duty, stats
from hub_server.database import Connection
from hub_server.people import Role
from hub_server.stats import By, Row, Sums, Wanted
from hub_server.web.desk import Anyone, Desk, Reviewer
from sync_protocol import schema, states
from sync_protocol.pages import language
from sync_protocol.pages.language import Words, said
from sync_protocol.schema import Writer
from sync_protocol.sheets import MEDIA_TYPE, Cell, sheet
from sync_protocol.states import STATES, State
from sync_protocol.words import N_

PERIODS: Final = {1: N_("Today"), 7: N_("7 days"), 30: N_("30 days")}
SINCE_EVER: Final = 0
LEVELS: Final = {
    By.STATE: N_("States"),
    By.DISTRICT: N_("Districts"),
    By.FACILITY: N_("Centres"),
    By.DAY: N_("Days"),
}
ROWS_A_PAGE: Final = 50
MOST_CENTRES: Final = 400  # of a list over several districts: where there are more, one looks into a district first
MOST_SHEET_ROWS: Final = 20_000  # of a sheet: what is larger is asked for by state
MEASURES: Final = {
    "consultations": N_("Consultations"),
    "referrals": N_("Referrals"),
    "open": N_("Waiting now"),
    "within_day": N_("Answered within the day, of 100 referrals"),
}
QUARTERS: Final = 4
DOCTORS_KINDS: Final = tuple(kind for kind in schema.KINDS if schema.may_write(kind, Writer.DOCTOR))
_MINUTE_MS: Final = 60_000

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody asked to see. days: of the period, SINCE_EVER for all. page: from 1."""

    by: By
    days: int
    state: str | None
    district: str | None
    page: int

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Choice:
        """What stands in an address; a number that is none, or a level that is none, counts as the first choice."""
        state = place_in(asked, "state")
        district = place_in(asked, "district") if state is not None else None
        finest = By.STATE if state is None else By.DISTRICT if district is None else By.FACILITY
        by = next((one for one in By if one.value == asked.get("by")), finest)
        return cls(by, _number(asked.get("days"), 7), state, district, max(1, _number(asked.get("page"), 1)))

    def wanted(self, today: date) -> Wanted:
        last = (today - date(1970, 1, 1)).days
        first = last - self.days + 1 if self.days != SINCE_EVER else 0
        return Wanted(first, last, self.state, self.district)

    def address(self, path: str, **changed: Any) -> str:
        """The same, but for what is changed; None leaves something out."""
        kept = {"by": self.by.value, "days": self.days, "state": self.state, "district": self.district} | changed
        return f"{path}?{urlencode({name: one for name, one in kept.items() if one is not None})}"


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 6 else otherwise


def place_in(asked: Mapping[str, str], name: str) -> str | None:
    """A place's name; None for what none can be called."""
    text = asked.get(name)
    return text if text is not None and text.isprintable() else None


def page_of(asked: Mapping[str, str]) -> int:
    """Which page of a list, from 1."""
    return max(1, _number(asked.get("page"), 1))


def as_sheet(name: str, rows: Sequence[Sequence[Cell]]) -> Response:
    """A table as a file. name: of a-z and -; nothing that somebody typed is in it."""
    return Response(
        sheet(rows), media_type=MEDIA_TYPE, headers={"content-disposition": f'attachment; filename="{name}.csv"'}
    )


def india_time(ms: int | None) -> str | None:
    """As spreadsheets know times, in India's."""
    return None if ms is None else language.india(ms).strftime("%Y-%m-%d %H:%M")


# -- by place and day --------------------------------------------------------------------------------------------------


@router.get("/service")
def service(desk: Anyone) -> Response:
    if desk.person.role is Role.DOCTOR:
        return _own_numbers(desk)
    with desk.store.database.transaction() as connection:
        choice, levels = _chosen(desk, connection)
        wanted = choice.wanted(desk.today)
        found = stats.page(connection, choice.by, wanted, ROWS_A_PAGE, (choice.page - 1) * ROWS_A_PAGE)
        whole = stats.whole(connection, wanted)
        present = len(duty.everyone_on_duty(connection, desk.now_ms))
    return desk.page(
        "service",
        choice=choice,
        rows=[(row, _shown(desk, row)) for row in found.rows],
        pages=-(-found.total // ROWS_A_PAGE),
        turn=lambda page: choice.address("/service", page=page),
        whole=whole,
        present=present if choice.state is None else None,
        periods=PERIODS,
        levels=levels,
        waited=lambda minutes: waited(desk.words, minutes),
        date_of=stats.date_of,
    )


@router.get("/service/sheet")
def service_sheet(desk: Reviewer) -> Response:
    """The same rows, all of them."""
    with desk.store.database.transaction() as connection:
        choice, _levels = _chosen(desk, connection)
        found = stats.page(connection, choice.by, choice.wanted(desk.today), MOST_SHEET_ROWS)
    with language.speaking(desk.words):
        heads = [
            said("State"),
            said("District"),
            said("Centre"),
            said("Day"),
            said("Consultations"),
            said("Referrals"),
            said("Answered"),
            said("Within the hour"),
            said("Within the day"),
            said("Half within, minutes"),
            said("9 of 10 within, minutes"),
            said("Doctors at work"),
            said("Waiting now"),
        ]
    return as_sheet(f"service-{choice.by.value}", [heads, *map(_cells, found.rows)])


def _chosen(desk: Desk, connection: Connection) -> tuple[Choice, dict[By, str]]:
    """What is shown, and of which kinds the rows may be in that place."""
    choice = Choice.of(desk.request.query_params)
    levels = dict(LEVELS)
    if choice.state is not None:
        del levels[By.STATE]
    if choice.district is not None:
        del levels[By.DISTRICT]
    elif dashboards.count_centres(connection, choice.state) > MOST_CENTRES:
        del levels[By.FACILITY]
    by = choice.by if choice.by in levels else next(iter(levels))
    return replace(choice, by=by, days=choice.days if choice.days in PERIODS else 7), levels


def _shown(desk: Desk, row: Row) -> list[str]:
    """A row's cells behind its name, as people read them."""
    words = desk.words
    counts = (row.consultations, row.referrals, row.answered, row.within_hour, row.within_day)
    waits = [waited(words, one) for one in (row.waiting_minutes, row.waiting_minutes_90)]
    return [*map(words.number, counts), *waits, words.number(row.doctors), words.number(row.open)]


def _cells(row: Row) -> list[Cell]:
    day = stats.date_of(row.day).isoformat() if row.day is not None else None
    waits = [None if one is None else round(one, 1) for one in (row.waiting_minutes, row.waiting_minutes_90)]
    counts = (row.consultations, row.referrals, row.answered, row.within_hour, row.within_day)
    return [row.state, row.district, row.facility, day, *counts, *waits, row.doctors, row.open]


def waited(words: Words, minutes: float | None) -> str:
    """A wait as people say it; a dash for none."""
    return "–" if minutes is None else words.duration(round(minutes * _MINUTE_MS))


# -- a doctor's own ----------------------------------------------------------------------------------------------------


def _own_numbers(desk: Desk) -> Response:
    choice = Choice.of(desk.request.query_params)
    choice = choice if choice.days in PERIODS else replace(choice, days=7)
    with desk.store.database.transaction() as connection:
        own = stats.of_doctor(connection, desk.person, choice.wanted(desk.today))
        _rows, decisions = dashboards.conflicting(connection, kinds=DOCTORS_KINDS, hub=desk.person.hub, limit=1)
    waits = own.waits_ms
    cuts = quantiles(waits, n=10, method="inclusive") if len(waits) > 1 else [*waits] * 9
    return desk.page(
        "own_numbers",
        choice=choice,
        periods=PERIODS,
        own=own,
        answered=sum(one.answered for one in own.days),
        claimed=sum(one.claimed for one in own.days),
        asked=sum(one.asked for one in own.days),
        within_hour=sum(one <= 3_600_000 for one in waits),
        within_day=sum(one <= 86_400_000 for one in waits),
        median=desk.words.duration(round(cuts[4])) if cuts else "–",
        ninetieth=desk.words.duration(round(cuts[8])) if cuts else "–",
        date_of=stats.date_of,
        decisions=decisions,
    )


# -- the states --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ranked:
    """A state in the league. state: None for a name that the directory does not have. level: 0 for nothing, else the
    quarter that it is in, the highest one last. share: of 100, None for a measure of which there is no whole."""

    rank: int
    name: str
    state: State | None
    number: int
    level: int
    share: float | None


@router.get("/states")
def league(desk: Reviewer) -> Response:
    """The league of the states, and the same as a map of tiles."""
    days, measure, ranked = _league(desk)
    return desk.page(
        "states",
        ranked=ranked,
        tiles=sorted((one for one in ranked if one.state is not None), key=_reading_order),
        measure=measure,
        measures=MEASURES,
        days=days,
        periods={**PERIODS, SINCE_EVER: N_("Since the beginning")},
        quarters=range(1, QUARTERS + 1),
        total=sum(one.number for one in ranked),
    )


@router.get("/states/sheet")
def league_sheet(desk: Reviewer) -> Response:
    _days, measure, ranked = _league(desk)
    with language.speaking(desk.words):
        heads = [said("Rank"), said("State"), said("Code"), said(MEASURES[measure]), said("Share, of 100")]
    rows: list[list[Cell]] = [
        [one.rank, one.name, one.state.lgd if one.state else None, one.number, one.share] for one in ranked
    ]
    return as_sheet(f"states-{measure.replace('_', '-')}", [heads, *rows])


def _league(desk: Desk) -> tuple[int, str, list[Ranked]]:
    asked = desk.request.query_params
    days = _number(asked.get("days"), SINCE_EVER)
    days = days if days in PERIODS else SINCE_EVER
    measure = asked.get("measure", "") if asked.get("measure") in MEASURES else "consultations"
    choice = Choice(By.STATE, days, None, None, 1)
    with desk.store.database.transaction() as connection:
        sums = stats.by_state(connection, choice.wanted(desk.today))
    return days, measure, ranking(sums, measure)


def ranking(sums: Mapping[str, Sums], measure: str) -> list[Ranked]:
    """All 36 states and territories, and what else centres name as theirs; the most first, then by name."""
    numbers = {one.name: 0 for one in STATES} | {name: _measured(one, measure) for name, one in sums.items()}
    whole = sum(numbers.values())
    there = sorted(number for number in numbers.values() if number)
    order = sorted(numbers, key=lambda name: (-numbers[name], name))
    return [
        Ranked(
            rank,
            name,
            states.recognised(name),
            numbers[name],
            _level(there, numbers[name]),
            round(100 * numbers[name] / whole, 1) if whole and measure != "within_day" else None,
        )
        for rank, name in enumerate(order, 1)
    ]


def _measured(one: Sums, measure: str) -> int:
    if measure == "within_day":
        return round(100 * one.within_day / one.referrals) if one.referrals else 0
    return int(getattr(one, measure))


def _level(there: Sequence[int], number: int) -> int:
    """0 for nothing; else in which quarter of those that have something: 4 for the highest."""
    return -(-QUARTERS * sum(one <= number for one in there) // len(there)) if number else 0


def _reading_order(one: Ranked) -> tuple[int, int]:
    return (one.state.row, one.state.column) if one.state is not None else (0, 0)
