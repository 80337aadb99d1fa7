"""News that would hide most of what is here: put aside until a person decides."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE questioned (position INTEGER NOT NULL PRIMARY KEY, raw BLOB NOT NULL, receipt_ms INTEGER NOT NULL,"
        " origin INTEGER NOT NULL, tag BLOB NOT NULL, at_ms INTEGER NOT NULL, verdict VARCHAR NOT NULL)"
    )


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
