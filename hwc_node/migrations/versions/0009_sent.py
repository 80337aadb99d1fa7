"""When a referral first left this computer: its page tells it."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE change ADD COLUMN sent_ms INTEGER")


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
