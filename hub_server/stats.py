"""How the service does, in numbers: consultations, referrals, answers and waiting times, by place or by day.

Read from the counts that `tallies` keeps: no patient's data is opened for it, and no number is of a single patient's
condition. Days are those of India Standard Time. A median or a 90th percentile is read out of classes of waiting times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from typing import Any, Final

from hub_server.database import Connection
from hub_server.people import Person
from hub_server.tallies import COUNTS, DISTRICT, INDIA, NOW, STATE, Tally, begins_ms, day_of, of_list, of_map, tally_of

LAST_DAY: Final = 1 << 30  # beyond any


class By(str, Enum):
    """What the rows are."""

    STATE = "state"
    DISTRICT = "district"
    FACILITY = "facility"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Wanted:
    """first_day, last_day: counted from 1970 in India, both included. state, district: only there, None for everywhere;
    a district is one of a state."""

    first_day: int = 0
    last_day: int = LAST_DAY
    state: str | None = None
    district: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A place's or a day's numbers.

    name: of the place as scripts know it, or the day. consultations: cases that arrived. answered: referrals with a
    reply. within_hour, within_day: of the answered, since the hub received them. waiting_minutes, waiting_minutes_90: the
    median and the 90th percentile of the answered, None where there is none. doctors: who did something. open: referrals
    that wait now, of a place also those that came before; oldest_ms: since when the first of them.
    """

    name: str
    state: str
    district: str
    facility: str
    day: int | None
    consultations: int
    referrals: int
    answered: int
    within_hour: int
    within_day: int
    waiting_minutes: float | None
    waiting_minutes_90: float | None
    doctors: int
    open: int
    oldest_ms: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the rows, and how many there are."""

    rows: tuple[Row, ...]
    total: int


def page(connection: Connection, by: By, wanted: Wanted, limit: int | None = None, offset: int = 0) -> Page:
    """A row for each place or day that has something: places with the most consultations first, the latest days first."""
    source = _source(by, wanted)
    there = f"SELECT {_KEY[by]}, l.consultations, l.consultations + l.referrals {source} AND {_PERIOD}"
    if by is not By.DAY:
        there += f" UNION ALL SELECT {_KEY[by]}, 0, l.open {source} AND l.day = {NOW} AND l.open > 0"
    order = "k::int DESC" if by is By.DAY else "sum(c) DESC, s, t, k"
    found = connection.execute(
        f"SELECT s, t, k, count(*) OVER () FROM ({there}) AS l (s, t, k, c, n) GROUP BY s, t, k HAVING sum(n) > 0"
        f" ORDER BY {order} LIMIT %(limit)s OFFSET %(offset)s".encode(),
        _asked(wanted) | {"limit": limit, "offset": offset},
    ).fetchall()
    keys = [(str(state), str(district), str(key)) for state, district, key, _ in found]
    counted = _counted(connection, by, wanted, keys)
    return Page(tuple(_row(by, key, counted[key]) for key in keys), int(found[0][3]) if found else 0)


def whole(connection: Connection, wanted: Wanted) -> Row:
    """All of this place and time as one row, named by nothing."""
    days = _counted(connection, By.DAY, wanted, None)
    everything = Tally()
    for one in days.values():
        everything.add(one)
    waiting = connection.execute(
        f"SELECT l.open, l.oldest_ms {_source(By.DAY, wanted)} AND l.day = {NOW}".encode(), _asked(wanted)
    ).fetchone()
    everything.open, everything.oldest_ms = waiting or (0, None)
    return _row(By.STATE, ("", "", ""), everything)


def rows(connection: Connection, by: By, since_ms: int = 0) -> list[Row]:
    """Every row, by name. since_ms: only the days from that one on; 0 for all."""
    found = page(connection, by, Wanted(day_of(since_ms) if since_ms else 0)).rows
    return sorted(found, key=lambda row: row.name)


@dataclass(frozen=True, slots=True)
class Sums:
    """A state's numbers, as far as they are plain sums. open: that wait now, whenever they came."""

    consultations: int = 0
    referrals: int = 0
    answered: int = 0
    within_day: int = 0
    open: int = 0


def by_state(connection: Connection, wanted: Wanted) -> dict[str, Sums]:
    """State, as it is written → its sums, of those that have something. For years as for a day: one row a state is read."""
    found = connection.execute(
        "SELECT state, coalesce(sum(consultations) FILTER (WHERE here), 0), coalesce(sum(referrals) FILTER (WHERE here), 0),"
        " coalesce(sum(answered) FILTER (WHERE here), 0), coalesce(sum(within_day) FILTER (WHERE here), 0),"
        " coalesce(sum(open) FILTER (WHERE day = %(now)s), 0)"
        " FROM (SELECT *, day BETWEEN %(first)s AND %(last)s AS here FROM place_day WHERE level = %(level)s) AS l"
        " GROUP BY state",
        _asked(wanted) | {"level": STATE, "now": NOW},
    ).fetchall()
    sums = {str(state): Sums(*(int(one) for one in row)) for state, *row in found}
    return {state: one for state, one in sums.items() if one.consultations or one.referrals or one.open}


@dataclass(frozen=True, slots=True)
class OwnDay:
    """What one doctor did on a day. answered: replies and corrections. asked: messages to centres."""

    day: int
    claimed: int
    answered: int
    asked: int


@dataclass(frozen=True, slots=True)
class Own:
    """One doctor's own numbers. days: the latest first. waits_ms: of each referral that they were the first to answer, since
    the hub had it; who corrects an answer, their own or another's, answers nothing by it."""

    days: tuple[OwnDay, ...]
    waits_ms: tuple[int, ...]


def of_doctor(connection: Connection, doctor: Person, wanted: Wanted) -> Own:
    """What the audit says that they did, and which referrals they answered: those whose first answer is theirs."""
    asked: dict[str, Any] = {
        "actor": doctor.actor,
        "begin": begins_ms(wanted.first_day),
        "end": begins_ms(wanted.last_day + 1),
    }
    done = (
        "a.actor = %(actor)s AND a.at_ms >= %(begin)s AND a.at_ms < %(end)s AND a.verb IN ('claim', 'message', 'reply')"
    )
    days: dict[int, Counter[str]] = {}
    for at_ms, verb in connection.execute(
        f"SELECT a.at_ms, a.verb FROM audit a WHERE {done}".encode(), asked
    ).fetchall():
        days.setdefault(day_of(at_ms), Counter())[verb] += 1
    waits = connection.execute(
        f"SELECT min(a.at_ms) - min(r.received_ms) FROM audit a JOIN referral r ON r.referral = a.subject WHERE {done}"
        f" AND a.verb = 'reply' AND a.at_ms <= r.answered_ms GROUP BY a.subject".encode(),
        asked,
    ).fetchall()
    return Own(
        tuple(
            OwnDay(day, days[day]["claim"], days[day]["reply"], days[day]["message"])
            for day in sorted(days, reverse=True)
        ),
        tuple(max(0, int(row[0])) for row in waits),
    )


def date_of(day: int) -> date:
    """A day that is counted from 1970, as a date."""
    return date(1970, 1, 1) + timedelta(days=day)


# -- where the counts stand --------------------------------------------------------------------------------------------

_Name = tuple[str, str, str]
"""State, district and what the row is beyond them: a centre's code, a day's number, or nothing."""

_KEY: Final = {
    By.STATE: "l.state, '', ''",
    By.DISTRICT: "l.state, l.district, ''",
    By.FACILITY: "f.state, f.district, l.facility",
    By.DAY: "'', '', l.day::text",
}
_PERIOD: Final = "l.day BETWEEN %(first)s AND %(last)s"


def _source(by: By, wanted: Wanted) -> str:
    """FROM and WHERE of the counts that are this fine, in the wanted place."""
    if by is By.FACILITY:
        table, place = "facility_day l JOIN facility f ON f.facility = l.facility", "f"
        level = "true"
    else:
        finest = INDIA if wanted.state is None else STATE if wanted.district is None else DISTRICT
        number = {By.STATE: STATE, By.DISTRICT: DISTRICT}.get(by, finest)
        table, place, level = "place_day l", "l", f"l.level = {number}"
    within = [
        f"{place}.{name} = %({name})s"
        for name, said in (("state", wanted.state), ("district", wanted.district))
        if said is not None
    ]
    return f"FROM {table} WHERE {' AND '.join([level, *within])}"


def _asked(wanted: Wanted) -> dict[str, Any]:
    return {
        "first": wanted.first_day,
        "last": wanted.last_day,
        "state": wanted.state,
        "district": wanted.district,
    }


def _counted(connection: Connection, by: By, wanted: Wanted, keys: Sequence[_Name] | None) -> dict[_Name, Tally]:
    """The sums of these rows, None for all of them; of a place with what waits there whenever it came."""
    found = {key: Tally() for key in keys or ()}
    chosen, asked = "", _asked(wanted)
    if keys is not None:
        chosen = f" AND ({_KEY[by]}) IN (SELECT * FROM unnest(%(s)s::text[], %(t)s::text[], %(k)s::text[]))"
        asked |= {name: [key[at] for key in keys] for at, name in enumerate("stk")}
    doctors_of = of_list if by is By.FACILITY else of_map
    source, columns = _source(by, wanted), ", ".join(f"l.{name}" for name in COUNTS.split(", "))
    for state, district, key, *counts in connection.execute(
        f"SELECT {_KEY[by]}, {columns} {source} AND {_PERIOD}{chosen}".encode(), asked, binary=True
    ).fetchall():
        found.setdefault((state, district, key), Tally()).add(tally_of(counts, doctors_of))
    if by is By.DAY:
        return found
    for one in found.values():
        one.open, one.oldest_ms = 0, None
    for state, district, key, waiting, oldest_ms in connection.execute(
        f"SELECT {_KEY[by]}, l.open, l.oldest_ms {source} AND l.day = {NOW} AND l.open > 0{chosen}".encode(), asked
    ).fetchall():
        one = found[state, district, key]
        one.open, one.oldest_ms = waiting, oldest_ms
    return found


def _row(by: By, key: _Name, one: Tally) -> Row:
    state, district, rest = key
    day = int(rest) if by is By.DAY else None
    names = {
        By.STATE: state,
        By.DISTRICT: f"{state} / {district}",
        By.FACILITY: rest,
        By.DAY: date_of(day or 0).isoformat(),
    }
    return Row(
        names[by],
        state,
        district,
        rest if by is By.FACILITY else "",
        day,
        one.consultations,
        one.referrals,
        one.answered,
        one.within_hour,
        one.within_day,
        one.wait_minutes(0.5),
        one.wait_minutes(0.9),
        one.doctors.bit_count(),
        one.open,
        one.oldest_ms,
    )
