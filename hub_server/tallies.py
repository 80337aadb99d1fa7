"""Counts by day and place, kept so that the service's numbers are read at once however much there is.

Whoever changes something that is counted *marks* the centre's day, in the same transaction; the clockwork *counts*
marked days from scratch, out of what stands in the clear, and adds them up for the district, the state and the country.
So a count is never corrected, only made anew, and is right whatever came late, was put back, moved or was erased; it
may be a minute old. Days are India's. A row of a centre is written only by who holds its feed, and by the counting,
which waits for nobody.

What is counted: cases and referrals of patients at their home, by the day of their first receipt, of nobody who was
erased; answers with how long they took; referrals that wait; and who among the doctors did something for the centre
that day, by the audit. It refuses to know pages and what a record says.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub_server.database import Connection, Database

DAY_MS: Final = 86_400_000
INDIA_MS: Final = 19_800_000  # five and a half hours ahead
HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000
DAYS_A_COMMIT: Final = 200
BUDGET_S: Final = 40.0  # of a turn of the clockwork, which comes each minute
AT_WORK: Final = ("claim", "message", "reply")  # verbs of the audit; the index names them too
EDGES: Final = (
    1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1080, 1440, 2160, 2880, 4320, 7200, 10080
)  # fmt: skip
"""Minutes at which a class of waiting times ends; the last class has no end. A median is read out of the classes."""

LANE_BITS: Final = 32  # no class holds more than four thousand million
WAITS_BYTES: Final = LANE_BITS // 8 * (len(EDGES) + 1)
NUMBER_BYTES: Final = 4  # of a person's number
NOW: Final = -1  # the day of a row that says what waits now, whenever it came
_LANE: Final = (1 << LANE_BITS) - 1
_LOCK_KEY: Final = 7_461_007  # advisory lock: one program counts at a time
INDIA: Final = 0  # levels of a place
STATE: Final = 1
DISTRICT: Final = 2

Key = tuple[str, int]
"""A centre and a day, counted from 1970 in India."""


@dataclass(slots=True)
class Tally:
    """Counts of a place and a time. within_hour, within_day: of the answered. open: referrals that wait for an answer.
    waits: how many of the answered took so long, class by class (`EDGES`), `LANE_BITS` each in one number, so that sums
    are sums. doctors: a bit for each who did something, at their number among the hub's people."""

    consultations: int = 0
    referrals: int = 0
    answered: int = 0
    within_hour: int = 0
    within_day: int = 0
    open: int = 0
    oldest_ms: int | None = None
    waits: int = 0
    doctors: int = 0

    def add(self, other: Tally) -> None:
        self.consultations += other.consultations
        self.referrals += other.referrals
        self.answered += other.answered
        self.within_hour += other.within_hour
        self.within_day += other.within_day
        self.open += other.open
        self.oldest_ms = min((one for one in (self.oldest_ms, other.oldest_ms) if one is not None), default=None)
        self.waits += other.waits
        self.doctors |= other.doctors

    def answer(self, wait_ms: int) -> None:
        """One referral more was answered, after so long."""
        self.answered += 1
        self.within_hour += wait_ms <= HOUR_MS
        self.within_day += wait_ms <= DAY_MS
        self.waits += 1 << LANE_BITS * bisect_right(EDGES, max(0, wait_ms) // MINUTE_MS)

    def wait_minutes(self, share: float) -> float | None:
        """Within how many minutes this share of the answers came, read out of the classes; None where there is none.
        What took longer than the last edge counts as that."""
        left = share * self.answered
        begin = 0
        for at, end in enumerate(EDGES):
            there = self.waits >> LANE_BITS * at & _LANE
            if there and left <= there:
                return begin + (end - begin) * left / there
            left, begin = left - there, end
        return float(begin) if self.answered else None


def day_of(ms: int) -> int:
    """The day in India, counted from 1970."""
    return (ms + INDIA_MS) // DAY_MS


def begins_ms(day: int) -> int:
    return day * DAY_MS - INDIA_MS


# -- marking -----------------------------------------------------------------------------------------------------------

_DAY: Final = f"(({{}} + {INDIA_MS}) / {DAY_MS})::integer"


def mark(connection: Connection, keys: Iterable[Key]) -> None:
    """Something of these days has changed. The centres' feeds are locked."""
    marked = sorted(set(keys))
    if marked:
        connection.execute(
            "INSERT INTO facility_day (facility, day, marked) SELECT f, d, 1 FROM unnest(%b::text[], %b::int[])"
            " AS changed (f, d) ON CONFLICT (facility, day) DO UPDATE SET marked = facility_day.marked + 1",
            ([facility for facility, _ in marked], [day for _, day in marked]),
        )


def mark_patient(connection: Connection, patient: bytes) -> None:
    """All that is counted of a patient changes: it moves, or is erased. The feed of its home is locked."""
    rows = connection.execute(
        f"SELECT i.facility, {_DAY.format('i.receipt_ms')} FROM patient p JOIN item i ON i.facility = p.facility"
        f" AND i.patient = p.patient AND i.kind = 'case' WHERE p.patient = %(patient)s"
        f" UNION SELECT r.facility, {_DAY.format('r.received_ms')} FROM item i JOIN patient p ON p.patient = i.patient"
        f" AND p.facility = i.facility JOIN referral r ON r.facility = i.facility AND r.referral = i.record"
        f" WHERE p.patient = %(patient)s AND i.kind = 'referral'",
        {"patient": patient},
    ).fetchall()
    mark(connection, [(str(facility), int(day)) for facility, day in rows])


# -- counting ----------------------------------------------------------------------------------------------------------


def settle(database: Database, budget_s: float = BUDGET_S) -> int:
    """Count what is marked, some days a transaction, for about so long; how many days were counted."""
    total, ends_s = 0, time.monotonic() + budget_s
    while done := _settle_some(database):
        total += done
        if time.monotonic() > ends_s:
            break
    return total


def _settle_some(database: Database) -> int:
    with database.transaction() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        marks = {
            (str(facility), int(day)): int(marked)
            for facility, day, marked in connection.execute(
                "SELECT facility, day, marked FROM facility_day WHERE marked <> counted ORDER BY facility, day LIMIT %s",
                (DAYS_A_COMMIT,),
            ).fetchall()
        }
        counted = count(connection, list(marks))
        kept = _keep(connection, marks, counted)
        _add_up(connection, kept)
        return len(kept)


def count(connection: Connection, keys: Sequence[Key]) -> dict[Key, Tally]:
    """These days from scratch."""
    found: dict[Key, Tally] = {key: Tally() for key in keys}
    wanted: dict[str, Any] = {
        "f": [facility for facility, _ in keys],
        "d": [day for _, day in keys],
        "b": [begins_ms(day) for _, day in keys],
        "e": [begins_ms(day + 1) for _, day in keys],
    }
    asked = "FROM unnest(%(f)s::text[], %(d)s::int[], %(b)s::bigint[], %(e)s::bigint[]) AS w (f, d, b, e)"
    at_home = "JOIN patient p ON p.patient = {0}.patient AND p.facility = {0}.facility AND p.wrapped_key <> ''"
    for facility, day, cases in connection.execute(
        f"SELECT f, d, count(*) {asked} CROSS JOIN LATERAL (SELECT DISTINCT i.record FROM item i {at_home.format('i')}"
        f" WHERE i.facility = f AND i.kind = 'case' AND i.receipt_ms >= b AND i.receipt_ms < e"
        f" AND NOT EXISTS (SELECT 1 FROM item o WHERE o.facility = f AND o.patient = i.patient AND o.record = i.record"
        f" AND o.receipt_ms < b)) AS first GROUP BY f, d".encode(),
        wanted,
    ).fetchall():
        found[facility, day].consultations = int(cases)
    for facility, day, waits, received_ms, answered_ms in connection.execute(
        f"SELECT f, d, r.status IN ('received', 'claimed'), r.received_ms, r.answered_ms {asked}"
        f" JOIN referral r ON r.facility = f AND r.received_ms >= b AND r.received_ms < e {at_home.format('r')}".encode(),
        wanted,
    ).fetchall():
        one = found[facility, day]
        one.referrals += 1
        if answered_ms is not None:
            one.answer(answered_ms - received_ms)
        if waits:
            one.open += 1
            one.oldest_ms = min(received_ms, one.oldest_ms if one.oldest_ms is not None else received_ms)
    for facility, day, numbers in connection.execute(
        f"SELECT f, d, array_agg(DISTINCT s.number) {asked}"
        f" JOIN audit a ON a.facility = f AND a.at_ms >= b AND a.at_ms < e AND a.verb IN ('claim', 'message', 'reply')"
        f" JOIN person s ON a.actor = 'person ' || s.login GROUP BY f, d".encode(),
        wanted,
    ).fetchall():
        found[facility, day].doctors = sum(1 << number for number in numbers)
    return found


COUNTS: Final = "consultations, referrals, answered, within_hour, within_day, open, oldest_ms, waits, doctors"
_VALUES: Final = ", ".join(["%s"] * len(COUNTS.split(", ")))


def _values(one: Tally, doctors: bytes) -> list[Any]:
    """For the columns `COUNTS`."""
    counts = [one.consultations, one.referrals, one.answered, one.within_hour, one.within_day, one.open, one.oldest_ms]
    return [*counts, one.waits.to_bytes(WAITS_BYTES, "big"), doctors]


def tally_of(row: Sequence[Any], doctors_of: Callable[[bytes], int]) -> Tally:
    """What `_values` wrote."""
    consultations, referrals, answered, within_hour, within_day, waiting, oldest_ms, waits, doctors = row
    return Tally(
        consultations,
        referrals,
        answered,
        within_hour,
        within_day,
        waiting,
        oldest_ms,
        int.from_bytes(waits, "big"),
        doctors_of(doctors),
    )


def listed(doctors: int) -> bytes:
    """Their numbers one behind the other: a centre has few doctors on a day."""
    numbers = []
    while doctors:
        lowest = doctors & -doctors
        numbers.append((lowest.bit_length() - 1).to_bytes(NUMBER_BYTES, "big"))
        doctors ^= lowest
    return b"".join(numbers)


def of_list(raw: bytes) -> int:
    """What `listed` wrote."""
    numbers = (int.from_bytes(raw[at : at + NUMBER_BYTES], "big") for at in range(0, len(raw), NUMBER_BYTES))
    return sum(1 << number for number in numbers)


def mapped(doctors: int) -> bytes:
    """A bit each: a district has many, and they are added up soonest so."""
    return doctors.to_bytes((doctors.bit_length() + 7) // 8, "big")


def of_map(raw: bytes) -> int:
    """What `mapped` wrote."""
    return int.from_bytes(raw, "big")


def _keep(connection: Connection, marks: dict[Key, int], counted: dict[Key, Tally]) -> list[Key]:
    """Keep the counts of the days that were not marked anew meanwhile. What somebody holds is left for the next time."""
    rows = connection.execute(
        "SELECT d.facility, d.day FROM unnest(%b::text[], %b::int[], %b::bigint[]) AS seen (f, d, m)"
        " JOIN facility_day d ON d.facility = seen.f AND d.day = seen.d AND d.marked = seen.m"
        " FOR UPDATE OF d SKIP LOCKED",
        ([facility for facility, _ in marks], [day for _, day in marks], list(marks.values())),
    ).fetchall()
    kept = [(str(facility), int(day)) for facility, day in rows]
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE facility_day SET counted = marked, ({COUNTS}) = ({_VALUES}) WHERE facility = %s AND day = %s".encode(),
            [[*_values(counted[key], listed(counted[key].doctors)), *key] for key in kept],
        )
    connection.execute(
        "INSERT INTO facility_day (facility, day, marked, open, oldest_ms) SELECT w.f, %(now)s, 0, coalesce(sum(l.open), 0),"
        " min(l.oldest_ms) FROM (SELECT DISTINCT f FROM unnest(%(f)s::text[]) AS k (f)) AS w LEFT JOIN facility_day l"
        " ON l.facility = w.f AND l.day > %(now)s AND l.open > 0 GROUP BY w.f"
        " ON CONFLICT (facility, day) DO UPDATE SET open = EXCLUDED.open, oldest_ms = EXCLUDED.oldest_ms",
        {"now": NOW, "f": [facility for facility, _ in kept]},
    )
    return kept


# -- adding up ---------------------------------------------------------------------------------------------------------

Place = tuple[str, str, int]
"""A state, a district and a day; empty for all of them."""


def mark_moved(connection: Connection, facility: str, state: str, district: str) -> None:
    """A centre belonged to this district before: what is its own counts for another one now. Its feed is locked."""
    rows = connection.execute(
        "SELECT day FROM facility_day WHERE facility = %s AND day > %s", (facility, NOW)
    ).fetchall()
    days = [int(row[0]) for row in rows]
    mark(connection, [(facility, day) for day in days])
    connection.execute(
        "INSERT INTO place_due (state, district, day) SELECT %s, %s, d FROM unnest(%b::int[]) AS left_ (d)",
        (state, district, days),
    )


def _add_up(connection: Connection, keys: Sequence[Key]) -> None:
    """The districts, states and the country of these centres' days, anew from the rows below them."""
    rows = connection.execute(
        "WITH left_ AS (DELETE FROM place_due RETURNING state, district, day)"
        " SELECT state, district, day FROM left_ UNION SELECT f.state, f.district, kept.d"
        " FROM unnest(%b::text[], %b::int[]) AS kept (f, d) JOIN facility f ON f.facility = kept.f",
        ([facility for facility, _ in keys], [day for _, day in keys]),
    ).fetchall()
    districts: set[Place] = {(str(state), str(district), int(day)) for state, district, day in rows}
    states = {(state, "", day) for state, _, day in districts}
    country = {("", "", day) for _, _, day in states}
    of_centres = (
        "JOIN facility f ON f.state = s AND f.district = t JOIN facility_day l ON l.facility = f.facility AND l.day = d"
    )
    _sum(connection, DISTRICT, districts, of_centres)
    _sum(connection, STATE, states, f"JOIN place_day l ON l.level = {DISTRICT} AND l.day = d AND l.state = s")
    _sum(connection, INDIA, country, f"JOIN place_day l ON l.level = {STATE} AND l.day = d")


def _sum(connection: Connection, level: int, places: set[Place], joined: str) -> None:
    wanted = sorted(places)
    found = {place: Tally() for place in wanted}
    columns = ", ".join(f"l.{name}" for name in COUNTS.split(", "))
    doctors_of = of_list if level == DISTRICT else of_map
    for state, district, day, *row in connection.execute(
        f"SELECT s, t, d, {columns} FROM unnest(%b::text[], %b::text[], %b::int[]) AS w (s, t, d) {joined}".encode(),
        ([one[0] for one in wanted], [one[1] for one in wanted], [one[2] for one in wanted]),
        binary=True,
    ).fetchall():
        found[state, district, day].add(tally_of(row, doctors_of))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO place_day (level, state, district, day, {COUNTS}) VALUES ({level}, %s, %s, %s, {_VALUES})"
            f" ON CONFLICT (level, day, state, district) DO UPDATE SET ({COUNTS}) ="
            f" ({', '.join(f'EXCLUDED.{name}' for name in COUNTS.split(', '))})".encode(),
            [[*place, *_values(one, mapped(one.doctors))] for place, one in found.items()],
        )
    _sum_what_waits(connection, level, {(state, district) for state, district, _ in wanted})


def _sum_what_waits(connection: Connection, level: int, places: set[tuple[str, str]]) -> None:
    named = sorted(places)
    connection.execute(
        "INSERT INTO place_day (level, state, district, day, open, oldest_ms) SELECT %(level)s, s, t, %(now)s,"
        " coalesce(sum(l.open), 0), min(l.oldest_ms) FROM unnest(%(s)s::text[], %(t)s::text[]) AS w (s, t)"
        " LEFT JOIN place_day l ON l.level = %(level)s AND l.state = s AND l.district = t AND l.day > %(now)s"
        " AND l.open > 0 GROUP BY s, t ON CONFLICT (level, day, state, district)"
        " DO UPDATE SET open = EXCLUDED.open, oldest_ms = EXCLUDED.oldest_ms",
        {"level": level, "now": NOW, "s": [state for state, _ in named], "t": [district for _, district in named]},
    )
