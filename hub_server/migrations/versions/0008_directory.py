"""Centres are told of themselves: those with a node are marked, to be told what there is."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_UP = """
ALTER TABLE facility ADD COLUMN entry_due boolean NOT NULL DEFAULT false;
CREATE INDEX facility_entry_due ON facility (facility) WHERE entry_due;
UPDATE facility SET entry_due = true WHERE facility IN (SELECT facility FROM node WHERE revoked_ms IS NULL)
"""


def upgrade() -> None:
    for statement in _UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE facility DROP COLUMN entry_due")
