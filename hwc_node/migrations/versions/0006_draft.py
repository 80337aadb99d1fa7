"""Entries that people have begun and not saved, kept over a lock, a reload and a restart."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE draft (person BLOB NOT NULL, place TEXT NOT NULL, patient BLOB, fields BLOB NOT NULL,"
        " at_ms INTEGER NOT NULL, PRIMARY KEY (person, place)) WITHOUT ROWID"
    )


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
