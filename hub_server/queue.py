"""The rows that doctors' lists are made of: referrals in the queue, and records with open conflicts.

Derived from the records and kept in the transaction that joins them; nothing else writes them. In the clear stand only
specialty, urgency, status, times, the centre that referred and the hospital it belongs to. When it was answered is when
the first answer came, which is what was waited for: a correction moves no waiting time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hub_server.database import Connection
from sync_protocol import exports, referral
from sync_protocol.canonical import Value
from sync_protocol.change import Change, PatientId
from sync_protocol.merge import Record
from sync_protocol.replica import Joined

ANSWER_KINDS: Final = frozenset({"claim", "reply", "acknowledgement"})
QUEUE_KINDS: Final = ANSWER_KINDS | {"referral"}
UNKNOWN_SPECIALTY: Final = "general-medicine"  # where a referral names none that can be read: somebody must see it
_MAX_SPECIALTY_CHARS: Final = 60


def _specialty(value: Value) -> str:
    return value[:_MAX_SPECIALTY_CHARS] if isinstance(value, str) and value.strip() else UNKNOWN_SPECIALTY


def add_new(connection: Connection, facility: str, arrived: Sequence[tuple[Change, int]]) -> None:
    """Rows for referrals that came with one change and nothing about them: the common case, without a fold."""
    if arrived:
        connection.execute(
            "INSERT INTO referral (facility, referral, patient, specialty, urgency, status, received_ms, centre, hub)"
            " SELECT %s, r, p, s, u, 'received', t, c, coalesce(f.hub, '')"
            " FROM unnest(%b::bytea[], %b::bytea[], %b::text[], %b::int[], %b::bigint[], %b::text[])"
            " AS new (r, p, s, u, t, c) LEFT JOIN facility f ON f.facility = c ON CONFLICT DO NOTHING",
            (
                facility,
                [change.record for change, _ in arrived],
                [change.patient for change, _ in arrived],
                [_specialty(change.writes.get("specialty")) for change, _ in arrived],
                [referral.urgency_rank(change.writes.get("urgency")) for change, _ in arrived],
                [receipt_ms for _, receipt_ms in arrived],
                [change.facility for change, _ in arrived],
            ),
        )


def derive(connection: Connection, facility: str, patient: PatientId, records: Sequence[Record]) -> list[int]:
    """The rows of a patient's referrals from its records: what the table of `referral.progress` says. When each was
    received, as its row has it."""
    received_ms = []
    for record in records:
        if record.key.kind != "referral":
            continue
        stands = referral.progress(record, records, sent=True)
        view = record.view()
        centre = exports.facility_of(record)
        row = connection.execute(
            "INSERT INTO referral (facility, referral, patient, specialty, urgency, status, received_ms, claimed_by,"
            " claimed_ms, answered_ms, centre, hub) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
            " coalesce((SELECT hub FROM facility WHERE facility = %s), ''))"
            " ON CONFLICT (facility, referral) DO UPDATE SET specialty = EXCLUDED.specialty,"
            " urgency = EXCLUDED.urgency, status = EXCLUDED.status, claimed_by = EXCLUDED.claimed_by,"
            " claimed_ms = EXCLUDED.claimed_ms, answered_ms = EXCLUDED.answered_ms RETURNING received_ms",
            (
                facility,
                record.key.record,
                patient,
                _specialty(view.get("specialty")),
                referral.urgency_rank(view.get("urgency")),
                stands.status.value,
                stands.received_ms or stands.saved_ms,
                stands.claimed_by,
                stands.claimed_ms,
                stands.first_answered_ms,
                centre,
                centre,
            ),
        ).fetchone()
        received_ms.append(row[0] if row else 0)
    return received_ms


def move(connection: Connection, centre: str, hub: str) -> None:
    """A centre belongs to another hospital now, and with it all that it referred. Its feed is locked."""
    connection.execute(
        "UPDATE referral SET hub = %s WHERE centre = %s AND referral IN"
        " (SELECT referral FROM referral WHERE facility = %s AND centre = %s)",
        (hub, centre, centre, centre),
    )


def keep_conflicts(connection: Connection, facility: str, folded: Sequence[Joined], now_ms: int) -> None:
    """A row for each folded record with open conflicts; none for one without."""
    settled = [one.key.record for one in folded if not one.conflicts]
    if settled:
        connection.execute("DELETE FROM conflicted WHERE facility = %s AND record = ANY(%b)", (facility, settled))
    for one in folded:
        if one.conflicts:
            connection.execute(
                "INSERT INTO conflicted (facility, record, kind, patient, fields, since_ms)"
                " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (facility, record) DO UPDATE SET fields = EXCLUDED.fields",
                (facility, one.key.record, one.key.kind, one.patient, len(one.conflicts), now_ms),
            )
