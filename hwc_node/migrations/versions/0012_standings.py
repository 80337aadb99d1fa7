"""Where referrals stand is told anew: an answer that came after the one that was read is unread. Rows say whose they are,
when the first answer came, and what became of the patient."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Connection

from hwc_node import worklist
from sync_protocol.change import PatientId

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

PATIENTS_A_READ = 500

_STEPS = (
    "ALTER TABLE referral_work ADD COLUMN facility TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE referral_work ADD COLUMN first_answered_ms INTEGER",
    "ALTER TABLE referral_work ADD COLUMN outcome TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE follow_up_work ADD COLUMN facility TEXT NOT NULL DEFAULT ''",
    "DROP INDEX referral_work_order",
    "CREATE INDEX referral_work_order ON referral_work (facility, section, urgency, saved_ms, referral)",
    "DROP INDEX follow_up_work_due",
    "CREATE INDEX follow_up_work_due ON follow_up_work (facility, done, due, follow_up)",
)


def upgrade() -> None:
    for statement in _STEPS:
        op.execute(statement)
    connection, last = op.get_bind(), b""
    while patients := _next(connection, last):
        last = patients[-1]
        worklist.refresh(connection, patients)


def _next(connection: Connection, last: bytes) -> list[PatientId]:
    """Patients with something that waits, some at a time."""
    rows = connection.exec_driver_sql(
        "SELECT DISTINCT patient FROM change WHERE patient > ? AND kind IN ('referral', 'follow_up')"
        " ORDER BY patient LIMIT ?",
        (last, PATIENTS_A_READ),
    ).fetchall()
    return [PatientId(patient) for (patient,) in rows]


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
