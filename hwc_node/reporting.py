"""A month of a centre in numbers: consultations, referrals, how long they waited, follow-ups. From local data only.

What is counted is what this centre did: records that it began, not those of a patient that it follows from elsewhere.
What was entered in error does not count, nor does what was written about a patient whose registration was; a referral
that was withdrawn is told apart. A record counts in the month in which it happened, by India Standard Time, whatever the
clock that wrote it; one that does not say when it happened is told as such. Rows made for it are read (`worklist`), no
record is opened, so that it costs the same however long the history is.

It refuses to know what a report looks like.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from hwc_node import worklist
from hwc_node.engine import begin_read
from hwc_node.store import Store
from sync_protocol.errors import InvalidValue
from sync_protocol.referral import Status
from sync_protocol.schema import URGENCIES
from sync_protocol.words import N_

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199
INDIA_MS: Final = int(timedelta(hours=5, minutes=30).total_seconds() * 1000)
DAY_MS: Final = 86_400_000  # of every day in India, where clocks are not put forward
PLAUSIBLE_WAIT_MS: Final = 366 * DAY_MS  # beyond a year, and below nothing, a clock was wrong
MOST_SPECIALTIES: Final = 30  # a centre refers to a dozen; what is typed freely may be anything
NINETIETH: Final = 0.9

AGES: Final = ((0, 0), (1, 4), (5, 14), (15, 29), (30, 59), (60, 130))
"""Bands of years, both ends within: infants, young children, children, youth, from 30 on as screening counts, elders."""
SEXES: Final = ("F", "M", "O", "")
"""As they are counted; "U" and what is not known are one."""

AGE_WORDS: Final = (
    N_("under 1 year"),
    N_("1 to 4 years"),
    N_("5 to 14 years"),
    N_("15 to 29 years"),
    N_("30 to 59 years"),
    N_("60 years and more"),
    N_("age not known"),
)
URGENCY_WORDS: Final = {"routine": N_("Routine"), "urgent": N_("Urgent"), "emergency": N_("Emergency")}
SEX_WORDS: Final = {"F": N_("Female"), "M": N_("Male"), "O": N_("Other"), "": N_("Not known")}

STAGES: Final = {
    "waiting": N_("Not at the hub yet"),
    "received": N_("Received by the hub"),
    "claimed": N_("A doctor has it"),
    "answered": N_("Answered, not read"),
    "seen": N_("Answer read"),
    "closed": N_("Closed"),
}
"""How far a referral is, in the order in which they are told. Those withdrawn stand apart."""
_STAGE_OF: Final = {
    Status.SAVED.value: "waiting",
    Status.SENT.value: "waiting",
    Status.RECEIVED.value: "received",
    Status.CLAIMED.value: "claimed",
    Status.ANSWERED.value: "answered",
    Status.SEEN.value: "seen",
    Status.CLOSED.value: "closed",
}

_OTHER_OUTCOMES: Final = {worklist.IN_WORDS: N_("Told in words only"), "": N_("Not noted")}
OUTCOMES: Final = (*worklist.OUTCOMES, *_OTHER_OUTCOMES)
"""What became of who was referred: the choices of a case, told in words only, and not noted at all."""


# -- months ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A month in India. month: 1 to 12."""

    year: int
    month: int

    @classmethod
    def of(cls, day: date) -> Month:
        """The month of a day, as far as months are counted here."""
        return cls(min(max(day.year, FIRST_YEAR), LAST_YEAR), day.month)

    @property
    def text(self) -> str:
        """YYYY-MM."""
        return f"{self.year:04}-{self.month:02}"

    @property
    def before(self) -> Month:
        return Month(self.year, self.month - 1) if self.month > 1 else Month(self.year - 1, 12)

    @property
    def after(self) -> Month:
        return Month(self.year, self.month + 1) if self.month < 12 else Month(self.year + 1, 1)

    @property
    def is_counted(self) -> bool:
        return FIRST_YEAR <= self.year <= LAST_YEAR

    @property
    def begins_ms(self) -> int:
        """Its first millisecond."""
        return int(datetime(self.year, self.month, 1, tzinfo=UTC).timestamp()) * 1000 - INDIA_MS

    def day(self, number: int) -> date:
        """Its day of that number, from 1."""
        return date(self.year, self.month, number)

    @property
    def days(self) -> int:
        return (self.after.begins_ms - self.begins_ms) // DAY_MS


def parse_month(text: str) -> Month:
    """``YYYY-MM``. Raises InvalidValue (``E_BAD_MONTH``)."""
    found = re.fullmatch(r"([0-9]{4})-([0-9]{2})", text.strip())
    month = Month(int(found[1]), int(found[2])) if found else Month(0, 0)
    if not (month.is_counted and 1 <= month.month <= 12):
        raise InvalidValue(N_("That is no month. Months are written like 2026-03."), field="month", code="E_BAD_MONTH")
    return month


def india_day(now_ms: int) -> date:
    """The day in India."""
    return (datetime.fromtimestamp(now_ms / 1000, UTC) + timedelta(milliseconds=INDIA_MS)).date()


# -- the report --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waits:
    """How long it took, of those that came so far. median_ms, ninetieth_ms: None where there is none; the ninetieth of a
    hundred had waited no longer. odd: how many were left out, since a clock must have been wrong."""

    count: int
    median_ms: int | None
    ninetieth_ms: int | None
    odd: int


@dataclass(frozen=True, slots=True)
class Report:
    """A month. so_far: it is not over. by_day: of each day from the first. by_age: sex → of each band of `AGES`, then of
    those whose age is not known. specialties: the most frequent first, then all others as one with an empty name, if there
    are more. outcomes: of each of `OUTCOMES`. undated: records that do not say when they happened."""

    month: Month
    so_far: bool
    patients: int
    by_day: tuple[int, ...]
    by_age: dict[str, tuple[int, ...]]
    referrals: int
    withdrawn: int
    specialties: tuple[tuple[str, int], ...]
    urgencies: dict[str, int]
    stages: dict[str, int]
    outcomes: dict[str, int]
    to_received: Waits
    to_answered: Waits
    due: int
    done: int
    overdue: int
    undated: int

    @property
    def consultations(self) -> int:
        return sum(self.by_day)

    @property
    def to_come(self) -> int:
        """Follow-ups whose day has not come."""
        return self.due - self.done - self.overdue


_COUNTS: Final = "NOT r.hidden AND r.facility = :facility AND p.hidden IS NOT 1"
_OURS: Final = f"r.at_ms >= :begins AND r.at_ms < :ends AND {_COUNTS}"
_DATED: Final = "FROM record r INDEXED BY record_at LEFT JOIN patient_work p ON p.patient = r.patient"
_CONSULTATIONS: Final = f"SELECT r.patient, r.at_ms, p.sex, p.born {_DATED} WHERE r.kind = 'case' AND {_OURS}"
_REFERRALS: Final = (
    f"SELECT w.specialty, w.urgency, w.status, w.saved_ms, w.received_ms, w.first_answered_ms, w.outcome"
    f" {_DATED}"
    f" JOIN referral_work w ON w.referral = r.record WHERE r.kind = 'referral' AND {_OURS}"
)
_FOLLOW_UPS: Final = (
    "SELECT w.done, w.due < :today, count(*) FROM follow_up_work w"
    " JOIN record r ON r.kind = 'follow_up' AND r.record = w.follow_up LEFT JOIN patient_work p ON p.patient = r.patient"
    f" WHERE w.done IN (0, 1) AND w.due >= :first AND w.due < :next AND {_COUNTS} GROUP BY 1, 2"
)
_UNDATED: Final = f"SELECT count(*) {_DATED} WHERE r.kind IN ('case', 'referral') AND r.at_ms IS NULL AND {_COUNTS}"

_Visit = tuple[bytes, int, str | None, int | None]
"""The patient; when they came; their sex and day of birth, as `worklist` has them."""
_Referral = tuple[str, int, str, int, int | None, int | None, str]
"""Specialty, rank of urgency, status, when it was saved, received, first answered; what became of the patient."""


def report(store: Store, month: Month, today: date) -> Report:
    """The month as it is known on this computer. today: in India."""
    asked = {
        "begins": month.begins_ms,
        "ends": month.after.begins_ms,
        "facility": store.membership.facility,
        "first": month.text,
        "next": month.after.text,
        "today": today.isoformat(),
    }
    with begin_read(store.engine) as connection:
        visits: list[_Visit] = _rows(connection, _CONSULTATIONS, asked)
        referrals: list[_Referral] = _rows(connection, _REFERRALS, asked)
        follow_ups = {
            (bool(done), bool(past)): int(count) for done, past, count in _rows(connection, _FOLLOW_UPS, asked)
        }
        ((undated,),) = _rows(connection, _UNDATED, asked)
    kept = [one for one in referrals if one[2] != Status.WITHDRAWN.value]
    return Report(
        month,
        Month.of(today) <= month,
        len({patient for patient, _, _, _ in visits}),
        _by_day(visits, month),
        _by_age(visits, month),
        len(kept),
        len(referrals) - len(kept),
        _most_frequent(one[0] for one in kept),
        {word: sum(one[1] == rank for one in kept) for rank, word in enumerate(reversed(URGENCIES))},
        {stage: sum(_STAGE_OF.get(one[2]) == stage for one in kept) for stage in STAGES},
        {word: sum(one[6] == word for one in kept) for word in OUTCOMES},
        _waits([(one[3], one[4]) for one in kept]),
        _waits([(one[3], one[5]) for one in kept]),
        sum(follow_ups.values()),
        sum(count for (done, _), count in follow_ups.items() if done),
        follow_ups.get((False, True), 0),
        int(undated),
    )


def _rows(connection: Connection, query: str, asked: dict[str, object]) -> list[Any]:
    used = {name: value for name, value in asked.items() if f":{name}" in query}
    return [tuple(row) for row in connection.exec_driver_sql(query, used)]


# -- counting ----------------------------------------------------------------------------------------------------------


def _by_day(visits: Sequence[_Visit], month: Month) -> tuple[int, ...]:
    begins_ms = month.begins_ms
    counts = Counter((at_ms - begins_ms) // DAY_MS for _, at_ms, _, _ in visits)
    return tuple(counts[day] for day in range(month.days))


def _by_age(visits: Sequence[_Visit], month: Month) -> dict[str, tuple[int, ...]]:
    first = month.year * 10_000 + month.month * 100 + 1  # digits YYYYMMDD, as `worklist.born` has them
    begins_ms = month.begins_ms
    counts: Counter[tuple[str, int | None]] = Counter()
    for _, at_ms, sex, born in visits:
        day = first + (at_ms - begins_ms) // DAY_MS
        age = (day - born) // 10_000 if born is not None and born <= day else None
        counts[sex if sex is not None and sex in SEXES else "", age] += 1
    found = {sex: [0] * (len(AGES) + 1) for sex in SEXES}
    for (sex, age), count in counts.items():
        found[sex][_band(age)] += count
    return {sex: tuple(of_sex) for sex, of_sex in found.items()}


def _band(age: int | None) -> int:
    """The place of an age among `AGES`, behind them where it is none."""
    return next((at for at, (low, high) in enumerate(AGES) if age is not None and low <= age <= high), len(AGES))


def _most_frequent(names: Iterable[str]) -> tuple[tuple[str, int], ...]:
    counts = sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in counts[MOST_SPECIALTIES:])
    return (*counts[:MOST_SPECIALTIES], *((("", rest),) if rest else ()))


def _waits(pairs: Sequence[tuple[int, int | None]]) -> Waits:
    """pairs: when it began and when it came, None for not yet."""
    came = [end - begin for begin, end in pairs if end is not None]
    sound = sorted(one for one in came if 0 <= one <= PLAUSIBLE_WAIT_MS)
    return Waits(len(sound), _ranked(sound, 0.5), _ranked(sound, NINETIETH), len(came) - len(sound))


def _ranked(values: Sequence[int], share: float) -> int | None:
    """The least of sorted values that is not below so many of them (nearest rank)."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else None


# -- as lines ----------------------------------------------------------------------------------------------------------

Line = tuple[str, str, int | None]


def outcome_said(outcome: str, word: Callable[[str], str], say: Callable[[str], str]) -> str:
    """One of `OUTCOMES` as it is told. word: a choice in the reader's language."""
    return say(_OTHER_OUTCOMES[outcome]) if outcome in _OTHER_OUTCOMES else word(outcome)


def lines(
    found: Report, say: Callable[[str], str], specialty: Callable[[object], str], word: Callable[[str], str]
) -> list[Line]:
    """The whole report as (what, of which, number). say: in the reader's language; specialty, word: what is chosen from a
    list. Waits are in minutes."""
    by_day = [(found.month.day(at).isoformat(), count) for at, count in enumerate(found.by_day, 1)]
    by_age = [
        (f"{say(band)}, {say(SEX_WORDS[sex])}", found.by_age[sex][at])
        for at, band in enumerate(AGE_WORDS)
        for sex in SEXES
    ]
    specialties = [(specialty(name) if name else say(N_("All others")), count) for name, count in found.specialties]
    urgencies = [(say(URGENCY_WORDS[rank]), found.urgencies[rank]) for rank in reversed(URGENCIES)]
    stages = [(say(stage), found.stages[name]) for name, stage in STAGES.items()]
    outcomes = [(outcome_said(one, word, say), found.outcomes[one]) for one in OUTCOMES]
    follow_ups = [
        (say(N_("done")), found.done),
        (say(N_("overdue")), found.overdue),
        (say(N_("still to come")), found.to_come),
    ]
    groups: list[tuple[str, Sequence[tuple[str, int | None]]]] = [
        (N_("Consultations"), [("", found.consultations)]),
        (N_("Patients seen"), [("", found.patients)]),
        (N_("Consultations by day"), by_day),
        (N_("Consultations by age and sex"), by_age),
        (N_("Referrals"), [("", found.referrals)]),
        (N_("Referrals withdrawn"), [("", found.withdrawn)]),
        (N_("Referrals by specialty"), specialties),
        (N_("Referrals by urgency"), urgencies),
        (N_("How far the referrals are"), stages),
        (N_("What became of the patients referred"), outcomes),
        (N_("Minutes until the hub received it"), _wait_lines(found.to_received, say)),
        (N_("Minutes until a doctor answered"), _wait_lines(found.to_answered, say)),
        (N_("Follow-ups due"), [("", found.due)]),
        (N_("Follow-ups"), follow_ups),
        (N_("Records without a time, not counted"), [("", found.undated)]),
    ]
    return [(say(what), of_which, number) for what, rows in groups for of_which, number in rows]


def _wait_lines(waits: Waits, say: Callable[[str], str]) -> list[tuple[str, int | None]]:
    return [
        (say(N_("how many")), waits.count),
        (say(N_("median")), _minutes(waits.median_ms)),
        (say(N_("90 of 100 within")), _minutes(waits.ninetieth_ms)),
        (say(N_("left out: a clock was wrong")), waits.odd),
    ]


def _minutes(length_ms: int | None) -> int | None:
    return None if length_ms is None else round(length_ms / 60_000)
