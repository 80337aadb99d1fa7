"""Words by which patients are found, made anew: names are read by better rules than those that step 0005 found."""

from __future__ import annotations

from alembic import op

from hwc_node import names
from sync_protocol import change as changes

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

CHANGES_A_READ = 1_000


def upgrade() -> None:
    connection, last = op.get_bind(), 0
    op.execute("DELETE FROM patient_word")
    while True:
        rows = connection.exec_driver_sql(
            "SELECT rowid, raw FROM change WHERE kind = 'patient' AND rowid > ? ORDER BY rowid LIMIT ?",
            (last, CHANGES_A_READ),
        ).fetchall()
        if not rows:
            return
        last = rows[-1][0]
        words = [
            (word, one.patient) for one in (changes.parse(raw) for _, raw in rows) for word in names.words(one.writes)
        ]
        if words:
            connection.exec_driver_sql(
                "INSERT INTO patient_word (word, patient) VALUES (?, ?) ON CONFLICT DO NOTHING", words
            )


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
