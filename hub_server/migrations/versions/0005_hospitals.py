"""One installation serves several hub hospitals: centres, doctors and duty contacts belong to one, or to none.

A referral stands in the queue with the centre that referred, and that centre's hospital. Of a referral that stands in
several feeds the centre is told by the segment that brought it first.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_UP = """
CREATE TABLE hospital (hub varchar NOT NULL PRIMARY KEY, name varchar NOT NULL, created_ms bigint NOT NULL);
ALTER TABLE facility ADD COLUMN hub varchar NOT NULL DEFAULT '';
ALTER TABLE person ADD COLUMN hub varchar NOT NULL DEFAULT '';
ALTER TABLE duty_contact ADD COLUMN hub varchar NOT NULL DEFAULT '';
ALTER TABLE duty_contact DROP CONSTRAINT duty_contact_pkey;
ALTER TABLE duty_contact ADD PRIMARY KEY (hub, specialty);
ALTER TABLE referral ADD COLUMN centre varchar NOT NULL DEFAULT '';
ALTER TABLE referral ADD COLUMN hub varchar NOT NULL DEFAULT '';
UPDATE referral SET centre = facility;
UPDATE referral SET centre = sent.facility FROM (
    SELECT DISTINCT ON (i.record) i.record, a.facility FROM item i JOIN arrival a ON a.segment = i.segment
    WHERE i.record IN (SELECT referral FROM referral GROUP BY referral HAVING count(*) > 1)
    ORDER BY i.record, i.receipt_ms, i.position) AS sent WHERE sent.record = referral.referral;
CREATE INDEX referral_hub ON referral (hub, urgency, received_ms) WHERE status IN ('received', 'claimed')
"""

_DOWN = """
DROP INDEX referral_hub;
ALTER TABLE referral DROP COLUMN hub, DROP COLUMN centre;
DELETE FROM duty_contact WHERE hub <> '';
ALTER TABLE duty_contact DROP CONSTRAINT duty_contact_pkey;
ALTER TABLE duty_contact DROP COLUMN hub;
ALTER TABLE duty_contact ADD PRIMARY KEY (specialty);
ALTER TABLE person DROP COLUMN hub;
ALTER TABLE facility DROP COLUMN hub;
DROP TABLE hospital
"""


def upgrade() -> None:
    for statement in _UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWN.split(";\n"):
        op.execute(statement)
