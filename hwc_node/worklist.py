"""Rows by which lists of what waits are found at once: where each referral stands, when each follow-up is due, whose they
are; and what a month's report counts by: a referral's specialty, its first answer and what became of the patient, a
patient's sex and day of birth.

They say nothing that the changes do not say, and are made anew for a patient whenever something of theirs is kept that
matters to them, in the same transaction. Whether a referral has left this machine is not in them, since envelopes come
and go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

from sqlalchemy import Connection

from hwc_node.tables import ORIGINS
from sync_protocol import change as changes
from sync_protocol import exports, merge, referral, schema
from sync_protocol.canonical import Value
from sync_protocol.change import PatientId, RecordId, RecordKey
from sync_protocol.merge import Held, Record
from sync_protocol.referral import Progress, Status

REFERRAL: Final = "referral"
FOLLOW_UP: Final = "follow_up"
CASE: Final = "case"
PATIENT: Final = "patient"
MATTERING: Final = frozenset({REFERRAL, FOLLOW_UP, "claim", "reply", "acknowledgement", "message"})
"""The kinds whose changes move a row."""
IN_WORDS: Final = "in_words"
"""What became of the patient, where an acknowledgement tells it and the case has none of its choices."""

UNREAD: Final = 0
WAITING: Final = 1
READ: Final = 2
FINISHED: Final = 3
_SECTIONS: Final = {
    Status.ANSWERED: UNREAD,
    Status.CLAIMED: WAITING,
    Status.RECEIVED: WAITING,
    Status.SENT: WAITING,
    Status.SAVED: WAITING,
    Status.SEEN: READ,
    Status.CLOSED: FINISHED,
    Status.WITHDRAWN: FINISHED,
}
OUTCOMES: Final = schema.KINDS[CASE].fields["outcome"].choices
SEXES: Final = frozenset("FMOU")
MAX_YEAR: Final = 10_000
_PATIENTS_A_READ: Final = 200
_KINDS: Final = ",".join(f"'{kind}'" for kind in sorted(MATTERING | {CASE}))
_LATEST_MS: Final = (1 << 63) - 1

Row = tuple[object, ...]


def refresh(connection: Connection, patients: Iterable[PatientId]) -> None:
    """Make the rows of these patients anew from their changes."""
    wanted = sorted(set(patients))
    for at in range(0, len(wanted), _PATIENTS_A_READ):
        _refresh(connection, wanted[at : at + _PATIENTS_A_READ])


def with_referrals(connection: Connection, patients: Iterable[PatientId]) -> set[PatientId]:
    """Those of these patients who were referred: what becomes of their cases is told in a referral's row."""
    wanted, found = sorted(set(patients)), set[PatientId]()
    for at in range(0, len(wanted), _PATIENTS_A_READ):
        part = wanted[at : at + _PATIENTS_A_READ]
        marks = ",".join("?" * len(part))
        rows = connection.exec_driver_sql(
            f"SELECT patient FROM referral_work WHERE patient IN ({marks})", tuple(part)
        ).fetchall()
        found.update(PatientId(name) for (name,) in rows)
    return found


def forget(connection: Connection, patient: PatientId) -> None:
    """The patient was erased."""
    for table in ("referral_work", "follow_up_work", "patient_work"):
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE patient = ?", (patient,))


def _refresh(connection: Connection, patients: Sequence[PatientId]) -> None:
    marks = ",".join("?" * len(patients))
    records = _records(connection, patients, _KINDS)
    for table in ("referral_work", "follow_up_work"):
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE patient IN ({marks})", tuple(patients))
    _insert(connection, "referral_work", _referral_rows(records))
    _insert(connection, "follow_up_work", [row for one in records if (row := _follow_up_row(one)) is not None])


def _records(connection: Connection, patients: Sequence[PatientId], kinds: str) -> list[Record]:
    """Of these patients. kinds: as SQL lists them."""
    marks = ",".join("?" * len(patients))
    found = connection.exec_driver_sql(
        "SELECT raw, receipt_ms, origin FROM change INDEXED BY change_patient"
        f" WHERE patient IN ({marks}) AND kind IN ({kinds})",
        tuple(patients),
    )
    of_key: dict[RecordKey, list[Held]] = {}
    for raw, receipt_ms, origin in found:
        change = changes.parse(raw)
        of_key.setdefault(change.key, []).append(Held(change, receipt_ms, ORIGINS[origin]))
    return [merge.fold(key, held) for key, held in of_key.items()]


def _insert(connection: Connection, table: str, rows: Sequence[Row]) -> None:
    if rows:
        marks = ",".join("?" * len(rows[0]))
        connection.exec_driver_sql(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", list(rows))


def _referral_rows(records: Sequence[Record]) -> list[Row]:
    of_patient: dict[PatientId, list[Record]] = {}
    for one in records:
        of_patient.setdefault(one.patient, []).append(one)
    rows: list[Row] = []
    for patient, beside in of_patient.items():
        for one in beside:
            if one.key.kind == REFERRAL and merge.is_visible(one):
                others = [other for other in beside if other is not one]
                progress = referral.progress(one, others, sent=False)
                asked = referral.unanswered(one, others) if _SECTIONS[progress.status] != FINISHED else None
                rows.append(_referral_row(one, patient, progress, _outcome(one, others), asked))
    return rows


def _outcome(one: Record, others: Sequence[Record]) -> str:
    """What became of the patient: the choice that the referral's case shows, else whether it was told in words."""
    name, case = one.key.record, one.view().get("case")
    visible = [other for other in others if merge.is_visible(other)]
    for other in visible:
        if other.key.kind == CASE and other.key.record == case:
            chosen = other.view().get("outcome")
            if isinstance(chosen, str) and chosen in OUTCOMES:
                return chosen
    told = (other.view() for other in visible if other.key.kind == "acknowledgement")
    return IN_WORDS if any(view.get("referral") == name and view.get("outcome") for view in told) else ""


def _referral_row(one: Record, patient: PatientId, now: Progress, outcome: str, asked: RecordId | None) -> Row:
    view = one.view()
    urgency = referral.urgency_rank(view.get("urgency"))
    specialty = view.get("specialty")
    saved_ms = min(now.saved_ms, _LATEST_MS)
    return (
        one.key.record,
        patient,
        _SECTIONS[now.status],
        urgency,
        now.status.value,
        saved_ms,
        now.received_ms,
        now.answered_ms,
        specialty if isinstance(specialty, str) else "",
        exports.facility_of(one),
        now.first_answered_ms,
        outcome,
        asked,
    )


def _follow_up_row(one: Record) -> Row | None:
    if one.key.kind != FOLLOW_UP or not merge.is_visible(one):
        return None
    view = one.view()
    due = view.get("due")
    day = due if isinstance(due, str) else ""
    return (one.key.record, one.patient, day, view.get("done") is True, exports.facility_of(one))


# -- patients ----------------------------------------------------------------------------------------------------------


def keep_patients(connection: Connection, own: Iterable[Record]) -> None:
    """The rows of these patients. own: their own records, as they are now."""
    _insert(connection, "patient_work", [_patient_row(one) for one in own])


def count_patients(connection: Connection, patients: Sequence[PatientId]) -> None:
    """Make these patients' rows anew from their changes. As many as a query takes."""
    found = _records(connection, patients, f"'{PATIENT}'")
    keep_patients(connection, [one for one in found if bytes(one.key.record) == bytes(one.patient)])


def _patient_row(own: Record) -> Row:
    view = own.view()
    sex = view.get("sex")
    known = sex if isinstance(sex, str) and sex in SEXES else ""
    return (own.patient, known, born(view.get("birth")), not merge.is_visible(own))


def born(birth: Value) -> int | None:
    """The day of birth that an age is counted from, as the digits YYYYMMDD; None where nothing is known.

    Of who is known by the year, that year's first day; of who said an age, the day on which they said it, so many years
    before. The difference of two such numbers, divided by 10,000, is an age in years.
    """
    if not isinstance(birth, dict):
        return None
    begun, year, age = _digits(birth.get("date")), birth.get("year"), birth.get("age_years")
    if begun is not None:
        return begun if birth.get("precision") in (None, "day") else begun // 10_000 * 10_000 + 101
    if type(year) is int and 0 < year < MAX_YEAR:
        return year * 10_000 + 101
    said_on = _digits(birth.get("said_on"))
    if type(age) is int and said_on is not None and 0 <= age * 10_000 < said_on:
        return said_on - age * 10_000
    return None


def _digits(text: object) -> int | None:
    """A day as a record has it, its month and day where they are not known the first."""
    if not isinstance(text, str):
        return None
    parts = text.split("-")
    try:
        known = date(*(int(part) for part in (*parts, "1", "1")[:3]))
    except ValueError:
        return None
    return known.year * 10_000 + known.month * 100 + known.day
