"""A referral was answered when its first answer came, not when that was corrected: told anew from what was noted of doctors.

The days of those that move are counted again."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_UP = """
WITH first_ AS (SELECT subject, min(at_ms) AS at_ms FROM audit WHERE verb = 'reply' GROUP BY subject HAVING count(*) > 1),
    moved AS (UPDATE referral r SET answered_ms = f.at_ms FROM first_ f WHERE r.referral = f.subject
        AND r.answered_ms > f.at_ms RETURNING r.facility, (r.received_ms + 19800000) / 86400000 AS day)
UPDATE facility_day d SET marked = d.marked + 1
    FROM (SELECT DISTINCT facility, day FROM moved) AS m WHERE d.facility = m.facility AND d.day = m.day
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    """What was told anew stays: an older program tells it its own way when the referral changes."""
