"""What those who look after the service see of its centres: who is out of touch, and what waits for a person there.

Counted from what stands in the clear; nothing of a single patient is opened. Records stand there by their ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hub_server import hospitals
from hub_server.database import Connection
from hub_server.tallies import DAY_MS
from sync_protocol.change import RecordId


class Silence(str, Enum):
    """For how long nothing was heard of a centre's devices."""

    ANY = "any"
    DAY = "day"
    THREE_DAYS = "three_days"
    WEEK = "week"
    NEVER = "never"

    @property
    def days(self) -> int | None:
        """At least so many; None where it is no matter of days."""
        return {Silence.DAY: 1, Silence.THREE_DAYS: 3, Silence.WEEK: 7}.get(self)


@dataclass(frozen=True, slots=True)
class Centre:
    """A facility. last_seen_ms: when any of its devices that are not revoked was last in touch, None for never.
    conflicts: fields that wait for a decision. quarantined: entries that wait for a person."""

    facility: str
    name: str
    state: str
    district: str
    last_seen_ms: int | None
    conflicts: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Centres:
    """Some of the centres, those longest out of touch first, and how many there are of each silence."""

    rows: tuple[Centre, ...]
    counts: dict[Silence, int]


def centres(
    connection: Connection,
    now_ms: int,
    silence: Silence = Silence.ANY,
    *,
    state: str | None = None,
    district: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Centres:
    """Those of a state or district, or all, that were silent for so long; who was never in touch stands at the end."""
    wanted = {
        Silence.ANY: "true",
        Silence.NEVER: "last_seen_ms IS NULL",
    }.get(silence, "last_seen_ms <= %(before)s")
    asked = {
        "state": state,
        "district": district,
        "before": now_ms - (silence.days or 0) * DAY_MS,
        "limit": limit,
        "offset": offset,
        **{name: now_ms - days * DAY_MS for name, days in (("day", 1), ("three", 3), ("week", 7))},
    }
    there = (
        "WITH heard AS (SELECT facility, max(last_seen_ms) AS last_seen_ms FROM node WHERE revoked_ms IS NULL GROUP BY 1),"
        " there AS MATERIALIZED (SELECT f.facility, f.name, f.state, f.district, heard.last_seen_ms FROM facility f"
        " LEFT JOIN heard ON heard.facility = f.facility WHERE (%(state)s::text IS NULL OR f.state = %(state)s)"
        " AND (%(district)s::text IS NULL OR f.district = %(district)s))"
    )
    found = connection.execute(
        f"{there}, counted AS (SELECT count(*), count(*) FILTER (WHERE last_seen_ms <= %(day)s),"
        f" count(*) FILTER (WHERE last_seen_ms <= %(three)s), count(*) FILTER (WHERE last_seen_ms <= %(week)s),"
        f" count(*) FILTER (WHERE last_seen_ms IS NULL) FROM there),"
        f" chosen AS (SELECT * FROM there WHERE {wanted} ORDER BY last_seen_ms NULLS LAST, facility"
        f" LIMIT %(limit)s OFFSET %(offset)s)"
        f" SELECT counted.*, chosen.*, (SELECT coalesce(sum(c.fields), 0) FROM conflicted c"
        f" WHERE c.facility = chosen.facility), (SELECT count(*) FROM quarantine q WHERE q.facility = chosen.facility"
        f" AND q.verdict = 'open') FROM counted LEFT JOIN chosen ON true"
        f" ORDER BY chosen.last_seen_ms NULLS LAST, chosen.facility".encode(),
        asked,
    ).fetchall()
    counts = dict(zip(_COUNTED, found[0][:5], strict=True))
    rows = [
        Centre(facility, name, there_state, there_district, seen_ms, int(conflicts), int(entries))
        for *_, facility, name, there_state, there_district, seen_ms, conflicts, entries in found
        if facility is not None
    ]
    return Centres(tuple(rows), counts)


_COUNTED = (Silence.ANY, Silence.DAY, Silence.THREE_DAYS, Silence.WEEK, Silence.NEVER)


def count_centres(connection: Connection, state: str | None = None) -> int:
    """Of a state, or of all."""
    row = connection.execute(
        "SELECT count(*) FROM facility WHERE %(state)s::text IS NULL OR state = %(state)s", {"state": state}
    ).fetchone()
    return int(row[0]) if row else 0


def places(connection: Connection) -> list[tuple[str, str]]:
    """The states and districts that have a centre, by name."""
    rows = connection.execute("SELECT DISTINCT state, district FROM facility ORDER BY state, district").fetchall()
    return [(str(state), str(district)) for state, district in rows]


@dataclass(frozen=True, slots=True)
class SetAside:
    """An entry of the quarantine that waits for a person. kind: of the record, empty for a whole segment."""

    entry: int
    facility: str
    name: str
    kind: str
    reason: str
    since_ms: int


def set_aside(connection: Connection, limit: int | None = None, offset: int = 0) -> tuple[list[SetAside], int]:
    """Some of them, the oldest first, and how many there are."""
    found = connection.execute(
        "SELECT q.id, q.facility, coalesce(f.name, ''), q.kind, q.reason, q.at_ms, count(*) OVER () FROM quarantine q"
        " LEFT JOIN facility f ON f.facility = q.facility WHERE q.verdict = 'open' ORDER BY q.at_ms, q.id"
        " LIMIT %s OFFSET %s",
        (limit, offset),
    ).fetchall()
    return [SetAside(*row[:6]) for row in found], int(found[0][6]) if found else 0


@dataclass(frozen=True, slots=True)
class Conflicting:
    """A record with fields that two people wrote without seeing each other's. Which they are is not in the clear."""

    facility: str
    name: str
    kind: str
    record: RecordId
    fields: int
    since_ms: int


def conflicting(
    connection: Connection,
    *,
    kinds: Sequence[str] | None = None,
    hub: str = hospitals.ALL,
    limit: int | None = None,
    offset: int = 0,
) -> tuple[list[Conflicting], int]:
    """Some of them, the oldest first, and how many there are; each by its patient's home. kinds, hub: only those of such
    kinds, and of the centres that a hospital's doctors see."""
    wanted = "(%(kinds)s::text[] IS NULL OR c.kind = ANY(%(kinds)s))"
    asked = {"kinds": None if kinds is None else list(kinds), "hub": hub, "limit": limit, "offset": offset}
    found = connection.execute(  # in the order of time, and only so many are looked at more closely
        f"SELECT c.facility, h.name, c.kind, c.record, c.fields, c.since_ms FROM"
        f" (SELECT * FROM conflicted c WHERE {wanted} ORDER BY c.since_ms, c.record) AS c"
        f" CROSS JOIN LATERAL (SELECT f.name FROM facility f JOIN patient p ON p.facility = f.facility"
        f" WHERE f.facility = c.facility AND p.patient = c.patient AND (%(hub)s = '' OR f.hub IN ('', %(hub)s))"
        f" OFFSET 0) AS h LIMIT %(limit)s OFFSET %(offset)s".encode(),
        asked,
    ).fetchall()
    total = connection.execute(
        f"SELECT count(DISTINCT c.record) FROM conflicted c JOIN facility f ON f.facility = c.facility"
        f" JOIN patient p ON p.patient = c.patient AND p.facility = c.facility WHERE {wanted}"
        f" AND (%(hub)s = '' OR f.hub IN ('', %(hub)s))".encode(),
        asked,
    ).fetchone()
    rows = [
        Conflicting(facility, name, kind, RecordId(bytes(record)), fields, since_ms)
        for facility, name, kind, record, fields, since_ms in found
    ]
    return rows, int(total[0]) if total else 0
