"""The doctors' queue has an index in its own order, for those who see all hospitals' referrals. It stands in the place of
one by status, which nothing asked by any more: what it cost a referral that arrives, this one costs now."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DROP INDEX referral_queue")
    op.execute(
        "CREATE INDEX referral_waiting ON referral (urgency, received_ms, referral)"
        " WHERE status IN ('received', 'claimed')"
    )


def downgrade() -> None:
    op.execute("DROP INDEX referral_waiting")
    op.execute("CREATE INDEX referral_queue ON referral (status, urgency, received_ms)")
