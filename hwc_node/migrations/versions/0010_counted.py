"""What a month's report counts by: a referral's specialty, a patient's sex and day of birth; and what it counts, in one
index that has all of it. Step 0013 fills in the specialties."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Connection

from hwc_node import worklist
from sync_protocol.change import PatientId

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

PATIENTS_A_READ = 500


def upgrade() -> None:
    op.execute("ALTER TABLE referral_work ADD COLUMN specialty TEXT NOT NULL DEFAULT ''")  # step 0012 fills it
    op.execute(
        "CREATE TABLE patient_work (patient BLOB NOT NULL PRIMARY KEY, sex TEXT NOT NULL, born INTEGER,"
        " hidden BOOLEAN NOT NULL) WITHOUT ROWID"
    )
    op.execute("DROP INDEX record_at")
    op.execute("CREATE INDEX record_at ON record (kind, at_ms, hidden, facility, patient, record)")
    connection, last = op.get_bind(), b""
    while patients := _next(connection, last):
        last = patients[-1]
        worklist.count_patients(connection, patients)


def _next(connection: Connection, last: bytes) -> list[PatientId]:
    """Patients, some at a time."""
    rows = connection.exec_driver_sql(
        "SELECT DISTINCT patient FROM change WHERE patient > ? AND kind = 'patient' ORDER BY patient LIMIT ?",
        (last, PATIENTS_A_READ),
    ).fetchall()
    return [PatientId(patient) for (patient,) in rows]


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
