"""Where referrals stand is told anew: an answer that came after the one that was read is unread. Rows say whose they are,
when the first answer came, and what became of the patient. Step 0013 fills them in."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

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


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
