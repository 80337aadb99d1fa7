"""Signing in: credentials, sessions, tries. Who is on duty. How long a claim keeps others away."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_UP = """
CREATE TABLE credential (
    person bytea NOT NULL PRIMARY KEY, password bytea NOT NULL DEFAULT '', salt bytea NOT NULL DEFAULT '',
    memory_kib integer NOT NULL DEFAULT 0, iterations integer NOT NULL DEFAULT 0, lanes integer NOT NULL DEFAULT 0,
    password_ms bigint NOT NULL DEFAULT 0, must_change boolean NOT NULL DEFAULT false,
    totp bytea NOT NULL DEFAULT '', totp_ms bigint NOT NULL DEFAULT 0, totp_step bigint NOT NULL DEFAULT 0,
    totp_next bytea NOT NULL DEFAULT '');
CREATE TABLE pending_sign_in (
    token_hash bytea NOT NULL PRIMARY KEY, person bytea NOT NULL, password_ms bigint NOT NULL,
    created_ms bigint NOT NULL, tries smallint NOT NULL);
CREATE INDEX pending_sign_in_person ON pending_sign_in (person);
CREATE TABLE session (
    token_hash bytea NOT NULL PRIMARY KEY, person bytea NOT NULL, created_ms bigint NOT NULL, used_ms bigint NOT NULL,
    second_factor_ms bigint NOT NULL);
CREATE INDEX session_person ON session (person);
CREATE TABLE sign_in_try (
    subject bytea NOT NULL PRIMARY KEY, forgotten_ms bigint NOT NULL, again_ms bigint NOT NULL);
CREATE INDEX sign_in_try_forgotten ON sign_in_try (forgotten_ms);
CREATE TABLE claim_lock (
    facility varchar NOT NULL, referral bytea NOT NULL, patient bytea NOT NULL, touched_ms bigint NOT NULL DEFAULT 0,
    handed_to bytea, handed_by bytea, handed_ms bigint NOT NULL DEFAULT 0, PRIMARY KEY (facility, referral));
CREATE INDEX claim_lock_patient ON claim_lock (patient);
CREATE TABLE duty (
    person bytea NOT NULL PRIMARY KEY, specialties varchar NOT NULL DEFAULT '', since_ms bigint NOT NULL,
    until_ms bigint NOT NULL);
CREATE TABLE duty_contact (
    specialty varchar NOT NULL PRIMARY KEY, name varchar NOT NULL, phone varchar NOT NULL, set_ms bigint NOT NULL)
"""


def upgrade() -> None:
    for statement in _UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE duty_contact, duty, claim_lock, sign_in_try, session, pending_sign_in, credential")
