"""How the service does, in numbers: consultations, referrals, answers and waiting times, by place or by day.

Counted from what stands in the clear (kinds, statuses, times): no patient's data is opened for it, and no number is of
a single patient's condition. Days are those of India Standard Time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from hub_server.database import Connection


class By(str, Enum):
    """What the rows are."""

    STATE = "state"
    DISTRICT = "district"
    FACILITY = "facility"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Row:
    """consultations: cases that arrived. answered: referrals with a reply. within_hour, within_day: of the answered,
    since the hub received them. waiting_minutes: the median of the answered, None where there is none."""

    name: str
    consultations: int
    referrals: int
    answered: int
    within_hour: int
    within_day: int
    waiting_minutes: float | None


_DAY: Final = "to_char(to_timestamp({} / 1000.0) AT TIME ZONE 'Asia/Kolkata', 'YYYY-MM-DD')"
_NAME: Final = {By.STATE: "f.state", By.DISTRICT: "f.state || ' / ' || f.district", By.FACILITY: "f.facility"}


def rows(connection: Connection, by: By, since_ms: int = 0) -> list[Row]:
    """One for each place or day that has something, by name. since_ms: only what the hub received from then on."""
    case_name = _NAME.get(by, _DAY.format("c.receipt_ms"))
    referral_name = _NAME.get(by, _DAY.format("r.received_ms"))
    found = connection.execute(
        f"WITH cases AS (SELECT i.facility, i.record, min(i.receipt_ms) AS receipt_ms FROM item i"  # names above
        f" JOIN patient p ON p.patient = i.patient AND p.facility = i.facility WHERE i.kind = 'case'"
        f" GROUP BY i.facility, i.record),"
        f" seen AS (SELECT {case_name} AS name, count(*) AS consultations FROM cases c"
        f" JOIN facility f ON f.facility = c.facility WHERE c.receipt_ms >= %(since)s GROUP BY 1),"
        f" referred AS (SELECT {referral_name} AS name, count(*) AS referrals, count(r.answered_ms) AS answered,"
        f" count(*) FILTER (WHERE r.answered_ms - r.received_ms <= 3600000) AS within_hour,"
        f" count(*) FILTER (WHERE r.answered_ms - r.received_ms <= 86400000) AS within_day,"
        f" percentile_cont(0.5) WITHIN GROUP (ORDER BY r.answered_ms - r.received_ms) / 60000.0 AS waiting"
        f" FROM referral r JOIN facility f ON f.facility = r.facility"
        f" JOIN patient p ON p.patient = r.patient AND p.facility = r.facility"
        f" WHERE r.received_ms >= %(since)s GROUP BY 1)"
        f" SELECT coalesce(seen.name, referred.name), coalesce(consultations, 0), coalesce(referrals, 0),"
        f" coalesce(answered, 0), coalesce(within_hour, 0), coalesce(within_day, 0), waiting"
        f" FROM seen FULL JOIN referred ON seen.name = referred.name ORDER BY 1",
        {"since": since_ms},
    ).fetchall()
    return [
        Row(name, consultations, referrals, answered, hour, day, None if waiting is None else float(waiting))
        for name, consultations, referrals, answered, hour, day, waiting in found
    ]
