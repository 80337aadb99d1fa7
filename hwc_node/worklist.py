"""Rows by which lists of what waits are found at once: where each referral stands, when each follow-up is due.

They say nothing that the changes do not say, and are made anew for a patient whenever something of theirs is kept that
matters to them, in the same transaction. Whether a referral has left this machine is not in them, since envelopes come
and go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection

from sync_protocol import change as changes
from sync_protocol import merge, referral
from sync_protocol.change import PatientId, RecordKey
from sync_protocol.merge import Held, Record
from sync_protocol.referral import Progress, Status

REFERRAL: Final = "referral"
FOLLOW_UP: Final = "follow_up"
MATTERING: Final = frozenset({REFERRAL, FOLLOW_UP, "claim", "reply", "acknowledgement"})
"""The kinds whose changes move a row."""

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
_PATIENTS_A_READ: Final = 200
_KINDS: Final = ",".join(f"'{kind}'" for kind in sorted(MATTERING))
_LATEST_MS: Final = (1 << 63) - 1

Row = tuple[object, ...]


def refresh(connection: Connection, patients: Iterable[PatientId]) -> None:
    """Make the rows of these patients anew from their changes."""
    wanted = sorted(set(patients))
    for at in range(0, len(wanted), _PATIENTS_A_READ):
        _refresh(connection, wanted[at : at + _PATIENTS_A_READ])


def forget(connection: Connection, patient: PatientId) -> None:
    """The patient was erased."""
    for table in ("referral_work", "follow_up_work"):
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE patient = ?", (patient,))


def _refresh(connection: Connection, patients: Sequence[PatientId]) -> None:
    marks = ",".join("?" * len(patients))
    found = connection.exec_driver_sql(
        f"SELECT raw, receipt_ms FROM change INDEXED BY change_patient WHERE patient IN ({marks}) AND kind IN ({_KINDS})",
        tuple(patients),
    )
    of_key: dict[RecordKey, list[Held]] = {}
    for raw, receipt_ms in found:
        change = changes.parse(raw)
        of_key.setdefault(change.key, []).append(Held(change, receipt_ms))
    records = [merge.fold(key, held) for key, held in of_key.items()]
    for table in ("referral_work", "follow_up_work"):
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE patient IN ({marks})", tuple(patients))
    _insert(connection, "referral_work", _referral_rows(records))
    _insert(connection, "follow_up_work", [row for one in records if (row := _follow_up_row(one)) is not None])


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
                progress = referral.progress(one, [other for other in beside if other is not one], sent=False)
                rows.append(_referral_row(one, patient, progress))
    return rows


def _referral_row(one: Record, patient: PatientId, now: Progress) -> Row:
    shown = one.shown("urgency")
    urgency = referral.urgency_rank(shown.value if shown is not None else None)
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
    )


def _follow_up_row(one: Record) -> Row | None:
    if one.key.kind != FOLLOW_UP or not merge.is_visible(one):
        return None
    view = one.view()
    due = view.get("due")
    return (one.key.record, one.patient, due if isinstance(due, str) else "", view.get("done") is True)
