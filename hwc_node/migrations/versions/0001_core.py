"""The core: changes, envelopes, records, digests, cursors, grants, settings, notices, unread items."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_UP = """
CREATE TABLE change (
    id BLOB NOT NULL PRIMARY KEY, kind VARCHAR NOT NULL, record BLOB NOT NULL, patient BLOB NOT NULL,
    facility VARCHAR NOT NULL, node BLOB NOT NULL, person BLOB NOT NULL, hlc INTEGER NOT NULL, raw BLOB NOT NULL,
    origin INTEGER NOT NULL, receipt_ms INTEGER, position INTEGER, tag BLOB, lane INTEGER NOT NULL,
    state INTEGER NOT NULL, reason VARCHAR, attempts INTEGER NOT NULL, segment BLOB);
CREATE INDEX change_record ON change (record);
CREATE INDEX change_patient ON change (patient);
CREATE INDEX change_position ON change (position) WHERE position IS NOT NULL;
CREATE INDEX change_waiting ON change (segment, lane, attempts, hlc) WHERE position IS NULL AND state = 0;
CREATE INDEX change_set_aside ON change (hlc) WHERE state <> 0;
CREATE TABLE envelope (
    id8 BLOB NOT NULL PRIMARY KEY, raw BLOB NOT NULL, lane INTEGER NOT NULL, created_ms INTEGER NOT NULL,
    sent_count INTEGER NOT NULL, held BOOLEAN NOT NULL, admitted BOOLEAN NOT NULL, change_ids BLOB NOT NULL);
CREATE TABLE record (
    kind VARCHAR NOT NULL, record BLOB NOT NULL, patient BLOB NOT NULL, facility VARCHAR NOT NULL, at_ms INTEGER,
    conflicts INTEGER NOT NULL, hidden BOOLEAN NOT NULL, PRIMARY KEY (kind, record)) WITHOUT ROWID;
CREATE INDEX record_patient ON record (patient);
CREATE INDEX record_id ON record (record);
CREATE INDEX record_conflicts ON record (kind, record) WHERE conflicts > 0;
CREATE TABLE patient_digest (patient BLOB NOT NULL PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE cursor (position INTEGER NOT NULL PRIMARY KEY, hash BLOB NOT NULL, at_ms INTEGER NOT NULL);
CREATE TABLE grant_ (
    id BLOB NOT NULL PRIMARY KEY, direction VARCHAR NOT NULL, secret BLOB NOT NULL, frames BLOB NOT NULL,
    created_ms INTEGER NOT NULL, used INTEGER NOT NULL, acknowledged BOOLEAN NOT NULL);
CREATE TABLE setting (key VARCHAR NOT NULL PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE notice (
    id INTEGER NOT NULL PRIMARY KEY, at_ms INTEGER NOT NULL, kind VARCHAR NOT NULL, text VARCHAR NOT NULL,
    seen BOOLEAN NOT NULL);
CREATE TABLE unread_item (position INTEGER NOT NULL PRIMARY KEY, raw BLOB NOT NULL, error VARCHAR NOT NULL)
"""


def upgrade() -> None:
    for statement in _UP.split(";"):
        op.execute(statement)


def downgrade() -> None:
    """There is no way down: an older program refuses the database, and leaves it alone."""
