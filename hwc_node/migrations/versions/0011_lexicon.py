"""The words by which patients are found, each once, with what it is looked up by: a search no longer reads them all. And
since when something waits to be sent, found at once however much that is."""

from __future__ import annotations

from alembic import op

from hwc_node import lexicon

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

WORDS_A_READ = 2_000


def upgrade() -> None:
    op.execute(
        "CREATE TABLE word (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, word TEXT NOT NULL UNIQUE, key TEXT NOT NULL)"
    )
    op.execute("CREATE INDEX word_key ON word (key)")
    op.execute("CREATE INDEX change_oldest ON change (hlc) WHERE position IS NULL AND state = 0")
    connection, last = op.get_bind(), ""
    while True:
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT word FROM patient_word WHERE word > ? ORDER BY word LIMIT ?", (last, WORDS_A_READ)
        ).fetchall()
        if not rows:
            return
        last = rows[-1][0]
        found = [(word, lexicon.key_of(word)) for (word,) in rows]
        connection.exec_driver_sql("INSERT INTO word (word, key) VALUES (?, ?)", found)


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
