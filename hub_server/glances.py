"""One line of a patient for each row of a doctor's queue: who it is and why they wait, and where.

A queue is looked at all day and changes little, and to open a patient for it costs more than all else on that page. So
what was opened is kept in memory, by the digest of all that the feed holds of the patient: whatever arrives makes it
another, and it is opened anew. It is forgotten when nobody has looked for a session's idle time (`forget_old`, which the
hub's clockwork calls each minute): so it is soon after a patient was erased, who stands in no queue any more. Kept or not,
each look is noted in the audit (`note`), in a transaction that is committed before `read`.

It refuses to know who may see a queue (`consults`) and what else a chart holds (`charts`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hub_server import audit
from hub_server.charts import Queued
from hub_server.database import Connection
from hub_server.sign_in import IDLE_MS
from hub_server.store import Store
from sync_protocol import merge
from sync_protocol.canonical import Value
from sync_protocol.change import FacilityCode, PatientId, RecordId, RecordKey
from sync_protocol.merge import Held

MOST_KEPT: Final = 5_000  # some 300 bytes each: the first rows of all queues of a large hub
REASON_CHARS: Final = 200  # of a line; a page cuts it shorter

Digests = Mapping[tuple[FacilityCode, PatientId], bytes]
"""(feed, patient) → the digest of all its changes there; none of a patient who was erased."""


@dataclass(frozen=True, slots=True)
class Line:
    """What is kept of a patient and a referral."""

    name: str = ""
    birth: Value = None
    sex: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Glance:
    """What a queue shows beside the row itself. seen_ms: when the centre was last in touch."""

    line: Line
    centre: str
    seen_ms: int | None


@dataclass(frozen=True, slots=True)
class Noted:
    """Rows whose looking at is in the audit. `note` makes one; it counts once its transaction is committed. digests: of
    what each row's feed held of its patient then."""

    rows: tuple[Queued, ...]
    digests: Digests


def note(connection: Connection, rows: Sequence[Queued], actor: str, now_ms: int) -> Noted:
    """Note that ``actor`` looks at these rows. Call it last: the audit is locked until the commit."""
    found = digests(connection, rows)
    audit.note_all(connection, [audit.Entry(actor, "list referral", row.feed, row.referral) for row in rows], now_ms)
    return Noted(tuple(rows), found)


@dataclass(slots=True)
class _Kept:
    digest: bytes
    line: Line
    asked_ms: int


_Place = tuple[FacilityCode, RecordId]


class Glances:
    """Of one hub. Thread-safe."""

    def __init__(self, store: Store, most: int = MOST_KEPT) -> None:
        self._store = store
        self._most = most
        self._kept: OrderedDict[_Place, _Kept] = OrderedDict()  # what was asked for last stands last
        self._lock = threading.Lock()

    def read(self, noted: Noted, now_ms: int) -> dict[RecordId, Glance]:
        """One for each row; only the patient's own record and the referral are opened, if at all."""
        rows = noted.rows
        lines = self._find(noted, now_ms)
        with self._store.database.transaction() as connection:
            missing = [row for row in rows if row.referral not in lines]
            opened = self._open(connection, missing)
            centres = _centres(connection, rows)
        self._keep(missing, opened, noted.digests, now_ms)
        lines |= opened
        return {row.referral: Glance(lines[row.referral], *centres.get(row.centre, (row.centre, None))) for row in rows}

    @property
    def kept(self) -> int:
        """How many rows' lines are in memory."""
        with self._lock:
            return len(self._kept)

    def forget_old(self, now_ms: int) -> None:
        """Forget what nobody has looked at for a session's idle time."""
        with self._lock:
            while self._kept and next(iter(self._kept.values())).asked_ms <= now_ms - IDLE_MS:
                self._kept.popitem(last=False)

    def _find(self, noted: Noted, now_ms: int) -> dict[RecordId, Line]:
        found = {}
        with self._lock:
            for row in noted.rows:
                place = (row.feed, row.referral)
                kept = self._kept.get(place)
                if kept is not None and kept.digest == noted.digests.get((row.feed, row.patient)):
                    kept.asked_ms = now_ms
                    self._kept.move_to_end(place)
                    found[row.referral] = kept.line
        return found

    def _keep(
        self,
        rows: Iterable[Queued],
        lines: Mapping[RecordId, Line],
        digests: Digests,
        now_ms: int,
    ) -> None:
        with self._lock:
            for row in rows:
                place = (row.feed, row.referral)
                self._kept.pop(place, None)
                digest = digests.get((row.feed, row.patient))
                if digest is not None:
                    self._kept[place] = _Kept(digest, lines[row.referral], now_ms)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def _open(self, connection: Connection, rows: Sequence[Queued]) -> dict[RecordId, Line]:
        found = {}
        for feed in sorted({row.feed for row in rows}):
            wanted = [row for row in rows if row.feed == feed]
            names = sorted({bytes(row.patient) for row in wanted} | {bytes(row.referral) for row in wanted})
            by_key: dict[RecordKey, list[Held]] = {}
            for _, held in self._store.changes(connection, feed, sorted({row.patient for row in wanted}), names):
                by_key.setdefault(held.change.key, []).append(held)
            for row in wanted:
                found[row.referral] = _line(row, by_key)
        return found


def _line(row: Queued, by_key: Mapping[RecordKey, Sequence[Held]]) -> Line:
    def view(key: RecordKey) -> Mapping[str, Value]:
        return merge.fold(key, by_key.get(key, ())).view()

    own, asked = view(RecordKey("patient", RecordId(row.patient))), view(RecordKey("referral", row.referral))
    reason = str(asked.get("reason") or asked.get("question") or "")
    return Line(str(own.get("name") or ""), own.get("birth"), str(own.get("sex") or ""), reason[:REASON_CHARS])


def digests(connection: Connection, rows: Iterable[Queued]) -> Digests:
    """Of each patient's changes in the feed of its row."""
    asked = {(row.feed, row.patient) for row in rows}
    found = connection.execute(
        "SELECT s.facility, s.patient, s.digest FROM unnest(%s::text[], %b::bytea[]) AS asked (facility, patient)"
        " JOIN subscription s USING (facility, patient) JOIN patient p USING (patient) WHERE p.wrapped_key <> ''",
        ([feed for feed, _ in asked], [patient for _, patient in asked]),
        binary=True,
    ).fetchall()
    return {(FacilityCode(feed), PatientId(patient)): digest for feed, patient, digest in found}


def _centres(connection: Connection, rows: Iterable[Queued]) -> dict[FacilityCode, tuple[str, int | None]]:
    """Who referred → (the centre's name, when it was last in touch)."""
    found = connection.execute(
        "SELECT f.facility, f.name, (SELECT max(n.last_seen_ms) FROM node n"
        " WHERE n.facility = f.facility AND n.revoked_ms IS NULL) FROM facility f WHERE f.facility = ANY(%s)",
        (sorted({row.centre for row in rows}),),
    ).fetchall()
    return {FacilityCode(feed): (name, seen_ms) for feed, name, seen_ms in found}
