"""The first sign-in: the second factor that it sets up stands with its own token."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE pending_sign_in ADD COLUMN totp_next bytea NOT NULL DEFAULT ''")


def downgrade() -> None:
    op.execute("ALTER TABLE pending_sign_in DROP COLUMN totp_next")
