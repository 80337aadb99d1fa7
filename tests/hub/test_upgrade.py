"""Upgrades of a hub with data: a kill at any moment is finished by the next start; what is newer is left alone."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
import pytest

from hub_server.database import STEPS, Database
from tests.hub.command_line import Terminal, consultation
from tests.hub.test_cli import hub as hub  # the fixture
from tests.killing_upgrade import Lives
from tests.moments import some_of

MANY_MOMENTS: Final = 20  # fewer would mean that the wrapping misses most of the upgrade
NEXT: Final = "9002"

MADE_UP: Final = '''
"""A made-up step: it adds, fills, alters and drops."""

from alembic import op

revision = "9002"
down_revision = "{newest}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE TABLE made_up (facility text NOT NULL, count bigint NOT NULL, PRIMARY KEY (facility))")
    op.execute("INSERT INTO made_up SELECT facility, count(*) FROM item GROUP BY facility")
    op.execute("ALTER TABLE facility ADD COLUMN flag integer NOT NULL DEFAULT 0")
    op.execute("UPDATE facility SET flag = 1")
    op.execute("CREATE INDEX facility_flag ON facility (flag)")
    op.execute("ALTER TABLE made_up RENAME COLUMN count TO items")
'''

COLUMNS: Final = """
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'public' ORDER BY 1, 2
"""


def content(url: str) -> dict[str, Any]:
    """Every table's rows, columns and indexes."""
    with psycopg.connect(url) as connection:
        run = connection.execute
        tables = [name for (name,) in run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()]
        rows = {name: sorted(map(repr, run(f'SELECT * FROM "{name}"'.encode()).fetchall())) for name in tables}
        indexes = sorted(run("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'").fetchall())
        return {"columns": run(COLUMNS.encode()).fetchall(), "indexes": indexes, **rows}


def upgrade(url: str, steps: Path) -> None:
    database = Database(url)
    try:
        database.migrate(steps, NEXT)
    finally:
        database.close()


@contextmanager
def copy_of(url: str, name: str) -> Iterator[str]:
    """A database with the same content."""
    parts = urlsplit(url)
    with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as owner:
        owner.execute(f'CREATE DATABASE "{name}" TEMPLATE "{parts.path[1:]}"'.encode())
        yield parts._replace(path=f"/{name}").geturl()
        owner.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def next_steps(tmp_path: Path) -> Path:
    """Those of a made-up next version of this program."""
    folder = tmp_path / "next"
    shutil.copytree(STEPS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    newest = max(one.name[:4] for one in (folder / "versions").glob("[0-9]*.py"))
    (folder / "versions" / f"{NEXT}_made_up.py").write_text(MADE_UP.replace("{newest}", newest))
    return folder


def test_an_upgrade_killed_at_any_moment_is_finished_by_the_next_start(
    hub: Terminal, database_url: str, next_steps: Path
) -> None:
    consultation(hub, database_url)
    disconnect(database_url)
    before = content(database_url)
    named = {"side": "hub", "steps": str(next_steps), "head": NEXT}
    with copy_of(database_url, "whole") as url, Lives() as lives:
        moments = lives.moments(where=url, **named)
        after = content(url)
    assert before["item"] == after["item"] != []
    assert len(after["made_up"]) == 1

    assert len(moments) > MANY_MOMENTS
    assert {"before commit", "after commit", "before ALTER", "after CREATE", "after INSERT"} <= set(moments)

    with Lives() as lives, ExitStack() as used:
        url = used.enter_context(copy_of(database_url, "life_0"))
        for number in some_of(moments):  # each life is the next start of the one before
            moment = lives.live(where=url, moments=number, **named)
            left = content(url)
            assert left == after or (left == before and moment), moment
            if left == after:
                upgrade(url, next_steps)
                assert content(url) == after, moment
                url = used.enter_context(copy_of(database_url, f"life_{number}"))


def disconnect(url: str) -> None:
    """A template may have no other user."""
    parts = urlsplit(url)
    with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as owner:
        owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [parts.path[1:]])


def files_of(folder: Path) -> dict[str, str]:
    files = (one for one in folder.rglob("*") if one.is_file() and one.parent.name != "locks")
    return {str(one): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["doctor"],
        ["export"],
        ["facility", "add", "HWC2", "HWC Melur"],
        ["people", "list"],
        ["backup", "copy.hubbackup"],
        ["serve", "--port", "0"],
    ],
)
def test_no_command_touches_a_database_that_is_newer(
    hub: Terminal, database_url: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub("facility", "add", "HWC1", "HWC Rampur").status == 0
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("UPDATE alembic_version SET version_num = '9999'")
    before, files = content(database_url), files_of(hub.home)
    monkeypatch.chdir(tmp_path)
    ended = hub(*words)
    assert content(database_url) == before
    assert files_of(hub.home) == files
    assert ended.status == 3
    assert "E_DB_NEWER" in ended.out + ended.err
    assert not (tmp_path / "copy.hubbackup").exists()
