"""What those who look after the service see of its centres: who is out of touch, and what waits for a person there.

Counted from what stands in the clear; nothing of a single patient is opened.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub_server.database import Connection


@dataclass(frozen=True, slots=True)
class Centre:
    """A facility. last_seen_ms: when any of its devices that are not revoked was last in touch, None for never."""

    facility: str
    name: str
    last_seen_ms: int | None
    conflicts: int
    quarantined: int


def centres(connection: Connection, limit: int, offset: int = 0) -> list[Centre]:
    """Never in touch first, then the longest out of touch."""
    found = connection.execute(
        "WITH seen AS (SELECT facility, max(last_seen_ms) AS last_seen_ms FROM node WHERE revoked_ms IS NULL GROUP BY 1),"
        " odd AS (SELECT facility, sum(fields) AS fields FROM conflicted GROUP BY 1),"
        " held AS (SELECT facility, count(*) AS entries FROM quarantine WHERE verdict = 'open' GROUP BY 1)"
        " SELECT f.facility, f.name, seen.last_seen_ms, coalesce(odd.fields, 0), coalesce(held.entries, 0)"
        " FROM facility f LEFT JOIN seen USING (facility) LEFT JOIN odd USING (facility) LEFT JOIN held USING (facility)"
        " ORDER BY seen.last_seen_ms NULLS FIRST, f.facility LIMIT %s OFFSET %s",
        (limit, offset),
    ).fetchall()
    return [
        Centre(str(facility), str(name), seen_ms, int(conflicts), int(entries))
        for facility, name, seen_ms, conflicts, entries in found
    ]


def count_centres(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM facility").fetchone()
    return int(row[0]) if row else 0
