"""Courier files that were written, and what was in their segments."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_UP = """
CREATE TABLE courier (
    seq INTEGER NOT NULL PRIMARY KEY, hello_hash BLOB NOT NULL, hello BLOB NOT NULL, segments BLOB NOT NULL,
    grants BLOB NOT NULL, written_ms INTEGER NOT NULL, answer BLOB NOT NULL);
CREATE UNIQUE INDEX courier_hello ON courier (hello_hash);
CREATE TABLE courier_segment (id8 BLOB NOT NULL PRIMARY KEY, change_ids BLOB NOT NULL)
"""


def upgrade() -> None:
    for statement in _UP.split(";"):
        op.execute(statement)


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
