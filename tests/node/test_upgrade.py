"""Upgrades of a node with data: a kill at any moment is finished by the next start; what is newer is left alone."""

from __future__ import annotations

import hashlib
import resource
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from hwc_node import migrations, standing
from hwc_node.engine import begin_read, begin_write, open_engine, opened
from hwc_node.migrations import STEPS, Steps
from hwc_node.store import Store
from sync_protocol.errors import OurFault
from tests.killing_upgrade import Lives
from tests.moments import some_of
from tests.node import enrolled_home
from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import PERSON, Home, make_home

PATIENTS: Final = 30
MANY_MOMENTS: Final = 20  # fewer would mean that the wrapping misses most of the upgrade

MADE_UP: Final = '''
"""A made-up step: it adds, fills, alters and drops."""

from alembic import op

revision = "9002"
down_revision = "{newest}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE TABLE made_up (id BLOB NOT NULL PRIMARY KEY, length INTEGER NOT NULL)")
    op.execute("INSERT INTO made_up SELECT id, length(raw) FROM change")
    op.execute("ALTER TABLE change ADD COLUMN flag INTEGER NOT NULL DEFAULT 0")
    op.execute("UPDATE change SET flag = 1 WHERE kind = 'patient'")
    op.execute("DROP INDEX change_set_aside")
    op.execute("CREATE INDEX change_flag ON change (flag)")
'''


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = make_home(tmp_path)
    with made.open() as store:
        for number in range(PATIENTS):
            enrolled_home.write(store, PERSON, "patient", {"name": f"Sita {number}"})
    return made


@pytest.fixture
def next_steps(tmp_path: Path) -> Steps:
    """Those of a made-up next version of this program."""
    folder = tmp_path / "next"
    shutil.copytree(STEPS.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9002_made_up.py").write_text(MADE_UP.replace("{newest}", STEPS.head))
    return Steps(folder, "9002")


def content(path: Path, key: bytes) -> dict[str, Any]:
    """Every table's rows and every definition of a database, read without upgrading it."""
    engine = open_engine(path, key, create=False)
    try:
        with begin_read(engine) as connection:
            run = connection.exec_driver_sql
            defined = sorted(tuple(row) for row in run("SELECT type, name, sql FROM sqlite_schema"))
            tables = [name for kind, name, _ in defined if kind == "table"]
            rows = {name: sorted(map(repr, run(f"SELECT * FROM {name}").fetchall())) for name in tables}
            assert run("PRAGMA integrity_check").scalar() == "ok"
            return {"schema": defined, **rows}
    finally:
        engine.dispose()


def upgrade(path: Path, key: bytes, steps: Steps) -> None:
    engine = open_engine(path, key, create=False)
    try:
        migrations.upgrade(engine, steps)
    finally:
        engine.dispose()


def files_of(folder: Path) -> dict[str, str]:
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in folder.iterdir()}


def test_an_upgrade_killed_at_any_moment_is_finished_by_the_next_start(
    home: Home, next_steps: Steps, tmp_path: Path
) -> None:
    source = home.config.database_path
    before = content(source, home.key)
    named = {"side": "node", "steps": str(next_steps.folder), "head": next_steps.head, "key": home.key.hex()}
    whole = tmp_path / "whole.db"
    shutil.copy(source, whole)
    with Lives() as lives:
        moments = lives.moments(where=str(whole), **named)
    after = content(whole, home.key)
    assert len(after["made_up"]) == len(before["change"]) > PATIENTS - 1
    assert after["alembic_version"] != before["alembic_version"]

    assert len(moments) > MANY_MOMENTS
    assert {"before commit", "after commit", "after replace", "before ALTER", "after DROP"} <= set(moments)

    folder = tmp_path / "lives"
    folder.mkdir()
    path = folder / "node.db"
    kept = migrations.kept_copy(path)
    shutil.copy(source, path)
    with Lives() as lives:
        for number in some_of(moments):  # each life is the next start of the one before
            moment = lives.live(where=str(path), moments=number, **named)
            left = content(path, home.key)
            assert left == after or (left == before and moment), moment
            if left == after:
                assert content(kept, home.key) == before, moment
                assert {one.name for one in folder.iterdir()} == {path.name, kept.name}, moment
            if left == after:
                upgrade(path, home.key, next_steps)
                assert content(path, home.key) == after, moment
                shutil.copy(source, path)


def test_the_older_program_refuses_the_upgraded_database_and_takes_the_kept_copy(home: Home, next_steps: Steps) -> None:
    path = home.config.database_path
    with home.open() as store:
        digest, held = standing.digest(store), standing.pending_changes(store)
    upgrade(path, home.key, next_steps)
    kept = migrations.kept_copy(path)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert b"Sita" not in kept.read_bytes()
    kept.replace(path)
    with Store.open(home.config, home.key) as store:
        assert (standing.digest(store), standing.pending_changes(store)) == (digest, held)


def test_the_way_back_to_the_older_program_keeps_the_upgraded_database(
    home: Home, next_steps: Steps, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    point_at(home, monkeypatch)
    hwc = Runner(capfdbinary)
    path = home.config.database_path
    none = hwc("restore", "--before-upgrade", "--yes")
    assert (none.status, "E_NO_FILE" in none.err) == (1, True)
    before = content(path, home.key)
    upgrade(path, home.key, next_steps)
    upgraded = content(path, home.key)
    refused = hwc("status")
    assert (refused.status, "hwc restore --before-upgrade" in refused.err) == (1, True)
    assert hwc("restore", "--before-upgrade", "file").status == 2
    assert hwc("restore").status == 2
    done = hwc("restore", "--before-upgrade", "--yes", "--json")
    assert done.status == 0, done.err
    kept = Path(done.shape["kept"])
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (content(path, home.key), content(kept, home.key)) == (before, upgraded)
    assert hwc("status").status == 0


def test_where_the_way_back_finds_no_room_nothing_is_changed_and_no_half_a_file_stays(
    home: Home, next_steps: Steps, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    point_at(home, monkeypatch)
    path = home.config.database_path
    upgrade(path, home.key, next_steps)
    with opened(path, home.key) as engine, begin_write(engine) as connection:
        connection.exec_driver_sql("INSERT INTO made_up VALUES (randomblob(2000000), 0)")
    before = content(path, home.key)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (migrations.kept_copy(path).stat().st_size + 500_000, limits[1]))
    try:
        refused = Runner(capfdbinary)("restore", "--before-upgrade", "--yes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (refused.status, "E_DISK_FULL" in refused.err) == (1, True)
    assert content(path, home.key) == before
    assert {one.name for one in home.config.home.glob("*.db*")} == {path.name, migrations.kept_copy(path).name}
    assert not list(home.config.home.glob("after-upgrade*"))


def test_the_kept_copy_is_the_newest_and_the_only_one(home: Home, next_steps: Steps) -> None:
    path = home.config.database_path
    kept = migrations.kept_copy(path)
    kept.write_bytes(b"of the upgrade before")
    kept.with_name(kept.name + ".partial").write_bytes(b"of an upgrade that was cut off")
    before = content(path, home.key)
    upgrade(path, home.key, next_steps)
    assert content(kept, home.key) == before
    upgrade(path, home.key, next_steps)
    assert content(kept, home.key) == before, "nothing was upgraded, so nothing is copied"
    assert {one.name for one in path.parent.glob("node.db*")} == {path.name, kept.name}


def test_a_fresh_database_has_nothing_to_copy(home: Home) -> None:
    assert not migrations.kept_copy(home.config.database_path).exists()


def test_where_the_copy_cannot_be_kept_nothing_is_upgraded(home: Home, next_steps: Steps) -> None:
    """Its place is taken by a folder: what cannot be written is a coded error, whatever the reason."""
    path = home.config.database_path
    migrations.kept_copy(path).mkdir()
    before = content(path, home.key)
    with pytest.raises(OurFault) as refused:
        upgrade(path, home.key, next_steps)
    assert refused.value.code in ("E_STORAGE", "E_READ_ONLY")
    assert content(path, home.key) == before


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["export"],
        ["import", "-"],
        ["sync"],
        ["doctor"],
        ["conflicts", "list"],
        ["backup", "copy.hwcbackup"],
        ["serve", "--port", "0"],
    ],
)
def test_no_command_touches_a_database_that_is_newer(
    home: Home,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    with home.open() as store, begin_write(store.engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = files_of(home.config.home)
    point_at(home, monkeypatch)
    monkeypatch.chdir(tmp_path)
    ended = Runner(capfdbinary)(*words)
    assert files_of(home.config.home) == before
    assert ended.status == 1
    assert "E_DB_NEWER" in ended.err
    assert not (tmp_path / "copy.hwcbackup").exists()
