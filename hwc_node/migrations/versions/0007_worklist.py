"""What waits for somebody: referrals by where they stand, and follow-ups by the day they are due. Step 0013 fills both."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE referral_work (referral BLOB NOT NULL PRIMARY KEY, patient BLOB NOT NULL, section INTEGER NOT NULL,"
        " urgency INTEGER NOT NULL, status TEXT NOT NULL, saved_ms INTEGER NOT NULL, received_ms INTEGER,"
        " answered_ms INTEGER) WITHOUT ROWID"
    )
    op.execute("CREATE INDEX referral_work_order ON referral_work (section, urgency, saved_ms, referral)")
    op.execute("CREATE INDEX referral_work_patient ON referral_work (patient)")
    op.execute(
        "CREATE TABLE follow_up_work (follow_up BLOB NOT NULL PRIMARY KEY, patient BLOB NOT NULL, due TEXT NOT NULL,"
        " done BOOLEAN NOT NULL) WITHOUT ROWID"
    )
    op.execute("CREATE INDEX follow_up_work_due ON follow_up_work (done, due, follow_up)")
    op.execute("CREATE INDEX follow_up_work_patient ON follow_up_work (patient)")
    op.execute("CREATE INDEX record_at ON record (kind, at_ms)")


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
