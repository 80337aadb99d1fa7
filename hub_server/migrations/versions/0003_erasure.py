"""Erasures that law makes wait."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE held_erasure (patient bytea NOT NULL PRIMARY KEY, until_ms bigint NOT NULL,"
        " reason varchar NOT NULL, asked_ms bigint NOT NULL)"
    )


def downgrade() -> None:
    op.execute("DROP TABLE held_erasure")
