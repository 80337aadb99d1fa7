"""What a doctor asks and nobody has answered yet. All rows of referrals and follow-ups are made anew for it."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Connection

from hwc_node import worklist
from sync_protocol.change import PatientId

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

PATIENTS_A_READ = 500


def upgrade() -> None:
    op.execute("ALTER TABLE referral_work ADD COLUMN asked BLOB")
    op.execute(
        "CREATE INDEX referral_work_asked ON referral_work (facility, urgency, saved_ms, referral) WHERE asked IS NOT NULL"
    )
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
