"""Patients whose erasure the hub ordered: nothing is written about them any more."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE TABLE erased_patient (patient BLOB NOT NULL PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID")


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
