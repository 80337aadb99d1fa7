"""The doctors' queue has an index in its own order, for those who see all hospitals' referrals."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX referral_waiting ON referral (urgency, received_ms, referral)"
        " WHERE status IN ('received', 'claimed')"
    )


def downgrade() -> None:
    op.execute("DROP INDEX referral_waiting")
