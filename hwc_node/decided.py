"""What this centre decided lately: the fields that were in conflict, settled here, and can still be undone.

A decision is an ordinary change that replaces several different values (DESIGN §2), and no list of decisions is kept:
they are found among the latest changes of this centre. How many of these are read is bounded. It refuses to know pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hwc_node import edits
from hwc_node.engine import begin_read
from hwc_node.store import Store
from hwc_node.views import Conflict
from sync_protocol import change as changes
from sync_protocol.change import PersonId, RecordKey
from sync_protocol.errors import NeedsPerson

DAYS: Final = 30  # whom a decision surprises has come again by then
MOST: Final = 50  # what a person looks through
LOOKED_THROUGH: Final = 20_000  # changes, of whomever: three months of a busy centre
READ: Final = 5_000  # of this centre
_DAY_MS: Final = 86_400_000
_LATEST: Final = (
    "SELECT raw FROM change WHERE rowid > (SELECT coalesce(max(rowid), 0) FROM change) - ? AND facility = ? AND hlc >= ?"
    " ORDER BY rowid DESC LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Decided:
    """A field that was settled: what holds now, by whom, when."""

    field: Conflict
    person: PersonId
    at_ms: int


def lately(store: Store, now_ms: int) -> list[Decided]:
    """The decisions in force that this centre made in the last DAYS, the latest first, at most MOST."""
    since = max(0, now_ms - DAYS * _DAY_MS) << 16
    wanted = (LOOKED_THROUGH, store.membership.facility, since, READ)
    with begin_read(store.engine) as connection:
        rows = connection.exec_driver_sql(_LATEST, wanted).fetchall()
    read = (changes.parse(raw) for (raw,) in rows)
    named = [(one, name) for one in read for name, replaced in one.supersedes.items() if len(replaced) > 1]
    found: list[Decided] = []
    seen: set[tuple[RecordKey, str]] = set()
    for one, name in named[: MOST * 4]:  # some were undone, or settled again
        if len(found) < MOST and (one.key, name) not in seen:
            seen.add((one.key, name))
            found += _in_force(store, one.key, name)
    return sorted(found, key=lambda one: -one.at_ms)


def _in_force(store: Store, key: RecordKey, name: str) -> list[Decided]:
    kept = store.record(key)
    shown = kept.record.shown(name) if kept is not None else None
    if kept is None or shown is None:
        return []
    try:
        edits.undoing(kept.record, name, None)
    except NeedsPerson:
        return []
    change = shown.live[0].change
    return [Decided(Conflict(kept.record, name, shown), change.person, change.hlc >> 16)]
