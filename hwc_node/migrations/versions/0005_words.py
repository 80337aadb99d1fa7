"""Words by which patients are found. Step 0008 fills them with what was written so far."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE patient_word (word TEXT NOT NULL, patient BLOB NOT NULL, PRIMARY KEY (word, patient)) WITHOUT ROWID"
    )


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
