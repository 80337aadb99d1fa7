"""Names in scripts that cannot be spelt in Latin letters find their patients too: the words of those who are here."""

from __future__ import annotations

from alembic import op

from hwc_node import lexicon, names
from sync_protocol import change as changes

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

CHANGES_A_READ = 1_000


def upgrade() -> None:
    connection, last = op.get_bind(), 0
    while True:
        rows = connection.exec_driver_sql(
            "SELECT rowid, raw FROM change WHERE kind = 'patient' AND rowid > ? ORDER BY rowid LIMIT ?",
            (last, CHANGES_A_READ),
        ).fetchall()
        if not rows:
            return
        last = rows[-1][0]
        read = [changes.parse(raw) for _, raw in rows]
        lexicon.keep(connection, [(word, one.patient) for one in read for word in names.words(one.writes)])


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
