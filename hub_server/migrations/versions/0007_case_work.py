"""Drafts of replies; patients whom a doctor opened with a reason (breaking the glass)."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_UP = """
CREATE TABLE draft (
    facility varchar NOT NULL, person bytea NOT NULL, referral bytea NOT NULL, patient bytea NOT NULL,
    sealed bytea NOT NULL, at_ms bigint NOT NULL, PRIMARY KEY (facility, person, referral));
CREATE INDEX draft_person ON draft (person, referral);
CREATE INDEX draft_patient ON draft (patient);
CREATE TABLE glass (
    facility varchar NOT NULL, glass bytea NOT NULL, person bytea NOT NULL, patient bytea NOT NULL,
    referral bytea NOT NULL, reason bytea NOT NULL, opened_ms bigint NOT NULL, until_ms bigint NOT NULL,
    reviewed_ms bigint, reviewed_by bytea, PRIMARY KEY (facility, glass));
CREATE INDEX glass_patient ON glass (patient, person);
CREATE INDEX glass_person ON glass (person, opened_ms);
CREATE INDEX glass_waiting ON glass (opened_ms) WHERE reviewed_ms IS NULL
"""


def upgrade() -> None:
    for statement in _UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE glass, draft")
