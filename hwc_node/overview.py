"""What the lists of a centre's pages show: what waits, what a doctor asks, what is due, one patient's records.

Reads only. A list reads the rows that are made for it (`worklist`) and then only the records of what one page shows, so
that it costs the same with a hundred thousand records. Lists and counts are of what this centre did itself: what another
centre did for a patient whom both see stands among that patient's records, and waits for nobody here. Plain values.
It refuses to know what a page looks like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from hwc_node import ledger, worklist
from hwc_node.engine import begin_read
from hwc_node.standing import conflicts_open
from hwc_node.store import KeptRecord, Store
from sync_protocol import merge, referral
from sync_protocol.canonical import Value
from sync_protocol.change import PatientId, RecordId, RecordKey
from sync_protocol.merge import Record
from sync_protocol.referral import Status

PAGE_ROWS: Final = 50
DAY_MS: Final = 86_400_000
FIRST_CHARS: Final = 120  # of a message in a list
EMERGENCY_WAITS_MS: Final = 10 * 60_000  # then the health officer phones
QUESTIONED: Final = "SELECT count(*) FROM questioned WHERE verdict = 'open'"
SET_ASIDE: Final = "SELECT count(*) FROM change WHERE state <> 0"


# -- counts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counts:
    """What the navigation shows, of this centre's own. unread: answers that nobody has read. asked: referrals about which a
    doctor asks. refused: changes that the hub could not take. questioned: news that was put aside."""

    overdue: int
    unread: int
    asked: int
    waiting: int
    conflicts: int
    refused: int
    questioned: int

    @property
    def from_doctors(self) -> int:
        """What doctors said that somebody has to look at."""
        return self.unread + self.asked

    @property
    def decisions(self) -> int:
        """What needs a person: to be decided, or to be looked at."""
        return self.conflicts + self.refused + (1 if self.questioned else 0)


def counts(store: Store, today: str) -> Counts:
    """today: the day, as ``YYYY-MM-DD``."""
    here = store.membership.facility
    with begin_read(store.engine) as connection:
        sections = {
            int(section): int(number)
            for section, number in connection.exec_driver_sql(
                "SELECT section, count(*) FROM referral_work WHERE facility = ? AND section < 2 GROUP BY section",
                (here,),
            )
        }
        overdue = counted(
            connection,
            "SELECT count(*) FROM follow_up_work WHERE facility = ? AND done = 0 AND due <> '' AND due < ?",
            (here, today),
        )
        asked = counted(
            connection, "SELECT count(*) FROM referral_work WHERE facility = ? AND asked IS NOT NULL", (here,)
        )
        refused = counted(connection, SET_ASIDE)
        questioned = counted(connection, QUESTIONED)
    return Counts(
        overdue,
        sections.get(worklist.UNREAD, 0),
        asked,
        sections.get(worklist.WAITING, 0),
        conflicts_open(store),
        refused,
        questioned,
    )


def counted(connection: Connection, query: str, values: tuple[Any, ...] = ()) -> int:
    """The one number that a query finds."""
    return int(connection.exec_driver_sql(query, values).scalar() or 0)


# -- lists -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a list. who: the patient's own record as it is shown, empty where it has not arrived. view: what the
    list is of, as it is shown. at_ms: when. status, urgency: of a referral. begins: a message's first words."""

    key: RecordKey
    patient: PatientId
    who: Mapping[str, Value]
    view: Mapping[str, Value]
    at_ms: int | None = None
    status: str = ""
    urgency: int = 1
    section: int = 0
    saved_ms: int | None = None
    received_ms: int | None = None
    answered_ms: int | None = None
    due: str = ""
    referred: bool = False
    specialty: str = ""
    begins: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """lines: of this page. total: of the whole list. number: of this page, from 1."""

    lines: tuple[Line, ...]
    total: int
    number: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PAGE_ROWS))


def referrals(store: Store, number: int = 1) -> Page:
    """Answered and unread first, then those that wait, emergencies first and the longest waiting before others."""
    here = store.membership.facility
    with begin_read(store.engine) as connection:
        total = counted(connection, "SELECT count(*) FROM referral_work WHERE facility = ?", (here,))
        rows = connection.exec_driver_sql(
            "SELECT referral, patient, section, urgency, status, saved_ms, received_ms, answered_ms FROM referral_work"
            " WHERE facility = ? ORDER BY section, urgency, saved_ms, referral LIMIT ? OFFSET ?",
            (here, PAGE_ROWS, (number - 1) * PAGE_ROWS),
        ).fetchall()
    views = _views(store, [RecordKey(worklist.REFERRAL, RecordId(row[0])) for row in rows])
    who = _patients(store, [PatientId(row[1]) for row in rows])
    lines = []
    for name, patient, section, urgency, status, saved_ms, received_ms, answered_ms in rows:
        key = RecordKey(worklist.REFERRAL, RecordId(name))
        kept = views.get(key)
        sent = kept is not None and status == Status.SAVED.value and kept.sent
        lines.append(
            Line(
                key,
                PatientId(patient),
                who.get(PatientId(patient), {}),
                kept.record.view() if kept is not None else {},
                status=Status.SENT.value if sent else status,
                urgency=urgency,
                section=section,
                saved_ms=saved_ms,
                received_ms=received_ms,
                answered_ms=answered_ms,
            )
        )
    return Page(tuple(lines), total, number)


def alarms(store: Store, now_ms: int) -> list[Line]:
    """Emergencies that the hub has not received ten minutes after they were saved: somebody phones."""
    with begin_read(store.engine) as connection:
        rows = connection.exec_driver_sql(
            "SELECT referral, patient, saved_ms, specialty FROM referral_work WHERE facility = ? AND section = ?"
            " AND urgency = 0 AND received_ms IS NULL AND saved_ms <= ? ORDER BY saved_ms LIMIT ?",
            (store.membership.facility, worklist.WAITING, now_ms - EMERGENCY_WAITS_MS, PAGE_ROWS),
        ).fetchall()
    who = _patients(store, [PatientId(row[1]) for row in rows])
    return [
        Line(
            RecordKey(worklist.REFERRAL, RecordId(name)),
            PatientId(patient),
            who.get(PatientId(patient), {}),
            {},
            saved_ms=saved_ms,
            urgency=0,
            specialty=specialty,
        )
        for name, patient, saved_ms, specialty in rows
    ]


def questions(store: Store) -> list[Line]:
    """Referrals about which a doctor asks what nobody has answered, each with the message; emergencies first."""
    with begin_read(store.engine) as connection:
        rows = connection.exec_driver_sql(
            "SELECT referral, patient, urgency, saved_ms, asked FROM referral_work WHERE facility = ? AND asked IS NOT NULL"
            " ORDER BY urgency, saved_ms, referral LIMIT ?",
            (store.membership.facility, PAGE_ROWS),
        ).fetchall()
    messages = _views(store, [RecordKey("message", RecordId(row[4])) for row in rows])
    who = _patients(store, [PatientId(row[1]) for row in rows])
    lines = []
    for name, patient, urgency, saved_ms, asked in rows:
        kept = messages.get(RecordKey("message", RecordId(asked)))
        lines.append(
            Line(
                RecordKey(worklist.REFERRAL, RecordId(name)),
                PatientId(patient),
                who.get(PatientId(patient), {}),
                {},
                at_ms=when_ms(kept) if kept is not None else None,
                urgency=urgency,
                saved_ms=saved_ms,
                begins=first_words(kept.record.view().get("text")) if kept is not None else "",
            )
        )
    return lines


def first_words(text: Value) -> str:
    """Of what somebody wrote, as much as one line takes."""
    said = " ".join(text.split()) if isinstance(text, str) else ""
    return said if len(said) <= FIRST_CHARS else said[: FIRST_CHARS - 1].rstrip() + "…"


def follow_ups(store: Store, until: str, number: int = 1) -> Page:
    """Those that are not done and due up to this day (``YYYY-MM-DD``), the longest overdue first."""
    condition, here = "facility = ? AND done = 0 AND due <> '' AND due <= ?", store.membership.facility
    with begin_read(store.engine) as connection:
        total = counted(connection, f"SELECT count(*) FROM follow_up_work WHERE {condition}", (here, until))
        rows = connection.exec_driver_sql(
            f"SELECT follow_up, patient, due FROM follow_up_work WHERE {condition} ORDER BY due, follow_up"
            " LIMIT ? OFFSET ?",
            (here, until, PAGE_ROWS, (number - 1) * PAGE_ROWS),
        ).fetchall()
    views = _views(store, [RecordKey(worklist.FOLLOW_UP, RecordId(row[0])) for row in rows])
    who = _patients(store, [PatientId(row[1]) for row in rows])
    lines = []
    for name, patient, due in rows:
        key = RecordKey(worklist.FOLLOW_UP, RecordId(name))
        view = views[key].record.view() if key in views else {}
        lines.append(Line(key, PatientId(patient), who.get(PatientId(patient), {}), view, due=due))
    return Page(tuple(lines), total, number)


def latest_visits(store: Store, most: int) -> Sequence[Line]:
    """This centre's visits that were last, whenever that was."""
    with begin_read(store.engine) as connection:
        rows = connection.exec_driver_sql(
            "SELECT record, patient, at_ms FROM record WHERE kind = 'case' AND at_ms IS NOT NULL AND NOT hidden"
            " AND facility = ? ORDER BY at_ms DESC, record LIMIT ?",
            (store.membership.facility, most),
        ).fetchall()
        referred = _referrals_of(connection, {PatientId(row[1]) for row in rows})
    return _visit_lines(store, rows, referred)


def visits(store: Store, from_ms: int, until_ms: int, number: int = 1) -> Page:
    """This centre's cases of a time, the latest first."""
    with begin_read(store.engine) as connection:
        condition = "kind = 'case' AND at_ms >= ? AND at_ms < ? AND NOT hidden AND facility = ?"
        asked = (from_ms, until_ms, store.membership.facility)
        total = counted(connection, f"SELECT count(*) FROM record WHERE {condition}", asked)
        rows = connection.exec_driver_sql(
            f"SELECT record, patient, at_ms FROM record WHERE {condition} ORDER BY at_ms DESC, record LIMIT ? OFFSET ?",
            (*asked, PAGE_ROWS, (number - 1) * PAGE_ROWS),
        ).fetchall()
        referred = _referrals_of(connection, {PatientId(row[1]) for row in rows})
    return Page(_visit_lines(store, rows, referred), total, number)


def _referrals_of(connection: Connection, patients: Set[PatientId]) -> list[RecordKey]:
    found = ledger.select_in(connection, "SELECT referral FROM referral_work WHERE patient IN ({})", patients)
    return [RecordKey(worklist.REFERRAL, RecordId(name)) for (name,) in found]


def _visit_lines(store: Store, rows: Sequence[Any], referrals_of: Sequence[RecordKey]) -> tuple[Line, ...]:
    views = _views(store, [RecordKey("case", RecordId(row[0])) for row in rows])
    who = _patients(store, [PatientId(row[1]) for row in rows])
    referred = {one.record.view().get("case") for one in store.some_records(referrals_of)}
    lines = []
    for name, patient, at_ms in rows:
        key = RecordKey("case", RecordId(name))
        view = views[key].record.view() if key in views else {}
        owner = PatientId(patient)
        lines.append(Line(key, owner, who.get(owner, {}), view, at_ms, referred=key.record in referred))
    return tuple(lines)


def _views(store: Store, keys: Sequence[RecordKey]) -> dict[RecordKey, KeptRecord]:
    return {one.key: one for one in store.some_records(keys)}


def _patients(store: Store, patients: Sequence[PatientId]) -> dict[PatientId, Mapping[str, Value]]:
    keys = [RecordKey("patient", RecordId(one)) for one in dict.fromkeys(patients)]
    return {PatientId(bytes(one.key.record)): one.record.view() for one in store.some_records(keys)}


# -- one patient -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PatientPage:
    """All of one patient. own: their own record, None where it has not arrived. last: of each measured field the
    latest value with its time. hidden: what was entered in error. Every list has the latest first."""

    patient: PatientId
    own: KeptRecord | None
    cases: tuple[KeptRecord, ...]
    vitals: tuple[KeptRecord, ...]
    referrals: tuple[KeptRecord, ...]
    replies: tuple[KeptRecord, ...]
    follow_ups: tuple[KeptRecord, ...]
    others: tuple[KeptRecord, ...]
    hidden: tuple[KeptRecord, ...]
    last: Mapping[str, tuple[Value, int | None]]
    progress: Mapping[RecordId, referral.Progress]

    @property
    def view(self) -> Mapping[str, Value]:
        return self.own.record.view() if self.own is not None else {}

    def of_case(self, kind: str, case: RecordId) -> list[KeptRecord]:
        """The records of a kind that belong to a case."""
        return [one for one in getattr(self, kind) if one.record.view().get("case") == case]

    @property
    def conflicts(self) -> int:
        every = (self.own, *self.cases, *self.vitals, *self.referrals, *self.replies, *self.follow_ups, *self.others)
        return sum(len(one.record.conflicts()) for one in every if one is not None)


_UNMEASURED: Final = frozenset({"at", "case", "corrects", "correction_reason", "resolution_note", "entered_in_error"})


def patient_page(store: Store, patient: PatientId) -> PatientPage:
    """Everything that is here of a patient; what was entered in error stands apart."""
    every = list(store.patient_records(patient))
    visible = [one for one in every if merge.is_visible(one.record)]
    hidden = sorted((one for one in every if not merge.is_visible(one.record)), key=lambda one: -when_ms(one))
    corrected = {name for one in visible if isinstance(name := one.record.view().get("corrects"), bytes)}
    kept = sorted((one for one in visible if bytes(one.key.record) not in corrected), key=lambda one: -when_ms(one))
    of_kind: dict[str, list[KeptRecord]] = {}
    for one in kept:
        of_kind.setdefault(one.key.kind, []).append(one)
    referred = of_kind.pop("referral", [])
    records = [one.record for one in visible]
    progress = {
        one.key.record: referral.progress(
            one.record, [other for other in records if other is not one.record], sent=one.sent
        )
        for one in referred
    }
    own = next((one for one in of_kind.pop("patient", []) if bytes(one.key.record) == bytes(patient)), None)
    cases, vitals = of_kind.pop("case", []), of_kind.pop("vitals", [])
    replies, due = of_kind.pop("reply", []), of_kind.pop("follow_up", [])
    others = [one for left in of_kind.values() for one in left]
    return PatientPage(
        patient,
        own,
        tuple(cases),
        tuple(vitals),
        tuple(referred),
        tuple(replies),
        tuple(due),
        tuple(others),
        tuple(hidden),
        _last(vitals),
        progress,
    )


def when_ms(one: KeptRecord) -> int:
    """When it happened; else when it was written."""
    return one.at_ms if one.at_ms is not None else first_ms(one.record)


def first_ms(record: Record) -> int:
    """When the record was begun."""
    return merge.first_change(record).change.hlc >> 16


def _last(vitals: Sequence[KeptRecord]) -> dict[str, tuple[Value, int | None]]:
    last: dict[str, tuple[Value, int | None]] = {}
    for one in vitals:  # the latest first
        for name, value in one.record.view().items():
            if name not in _UNMEASURED and "/" not in name:
                last.setdefault(name, (value, when_ms(one)))
    return last
