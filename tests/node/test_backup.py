"""Backups and the way back: nothing of what was there is lost, whatever is given to `restore`."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hwc_node import backup, engine, keystore, standing
from hwc_node import config as settings
from hwc_node.config import NodeConfig
from hwc_node.engine import begin_write
from hwc_node.store import Store
from sync_protocol.errors import HealthSyncError
from tests.node.command_line import Runner, point_at
from tests.node.enrolled_home import NOW_MS, PASSPHRASE, PERSON, Home, fresh_id, make_home, write

PATIENT = fresh_id()
PLANTED = "Kumudini Planted"
LATER_MS = NOW_MS + 86_400_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = make_home(tmp_path)
    with made.open() as store:
        write(store, PERSON, "patient", {"name": PLANTED}, record=PATIENT)
        for at in range(20):
            write(store, PERSON, "case", {"plan": f"plan {at}"}, patient=PATIENT)
    return made


@pytest.fixture
def hwc(capfdbinary: pytest.CaptureFixture[bytes]) -> Runner:
    return Runner(capfdbinary)


def backed_up(home: Home, name: str = "one.hwcbackup") -> Path:
    target = home.config.home.parent / name
    with home.open() as store:
        backup.write(store, target, NOW_MS)
    return target


def restored(config: NodeConfig, source: Path, passphrase: str = PASSPHRASE) -> backup.Restored:
    return backup.restore(config, source, backup.unlock(config, source, passphrase), LATER_MS)


def plans(store: Store) -> set[str]:
    return {str(one.record.view()["plan"]) for one in store.records(kind="case")}


def code(source: Path, config: NodeConfig) -> str:
    with pytest.raises(HealthSyncError) as caught:
        restored(config, source)
    return caught.value.code


def test_a_backup_restored_elsewhere_has_everything_and_opens_with_the_same_passphrase(
    home: Home, tmp_path: Path
) -> None:
    source = backed_up(home)
    elsewhere = settings.load(tmp_path / "elsewhere", {})
    done = restored(elsewhere, source)
    assert done.kept is None
    unlocked = keystore.unlock(elsewhere.slots_path, PASSPHRASE)
    with home.open() as before, Store.open(elsewhere, unlocked.key) as after:
        assert plans(after) == plans(before)
        assert standing.digest(after) == standing.digest(before)
        assert after.membership.node == before.membership.node
        assert standing.integrity(after) == []
    assert stat.S_IMODE(elsewhere.database_path.stat().st_mode) == 0o600
    assert {path.name for path in elsewhere.home.iterdir()} >= {"node.db", "slots.json"}
    assert not list(elsewhere.home.glob("restoring*"))


def test_what_was_there_is_kept_and_can_be_put_back(home: Home) -> None:
    source = backed_up(home)
    with home.open() as store:
        write(store, PERSON, "case", {"plan": "after the backup"}, patient=PATIENT)
    done = restored(home.config, source)
    with home.open() as store:
        assert "after the backup" not in plans(store)
        assert len(plans(store)) == 20
    assert done.kept is not None
    restored(home.config, done.kept)
    with home.open() as store:
        assert "after the backup" in plans(store)


def test_a_program_that_has_the_database_open_goes_on_with_what_was_restored(home: Home) -> None:
    source = backed_up(home)
    with home.open() as open_already:
        write(open_already, PERSON, "case", {"plan": "after the backup"}, patient=PATIENT)
        restored(home.config, source)
        assert "after the backup" not in plans(open_already)
        write(open_already, PERSON, "case", {"plan": "saved by the other program"}, patient=PATIENT)
    with home.open() as store:
        assert "saved by the other program" in plans(store)
        assert standing.integrity(store) == []


def test_a_backup_is_made_while_somebody_writes(home: Home) -> None:
    source = home.config.home.parent / "two.hwcbackup"
    with home.open() as other, home.open() as writer, begin_write(writer.engine) as held:
        held.exec_driver_sql("DELETE FROM record")
        engine.snapshot(other.engine, source)  # what is not committed is not in it, and nobody waits
        held.rollback()
    config = settings.load(home.config.home.parent / "snapshot", {})
    settings.make_folders(config)
    source.replace(config.database_path)
    with Store.open(config, home.key) as store:
        assert len(plans(store)) == 20
    assert stat.S_IMODE(config.database_path.stat().st_mode) == 0o600


def test_no_patient_stands_in_the_file_in_the_clear(home: Home) -> None:
    raw = backed_up(home).read_bytes()
    for planted in (PLANTED.encode(), b"plan 7", b"SQLite format"):
        assert planted not in raw


def test_a_passphrase_changed_since_opens_it_too(home: Home) -> None:
    source = backed_up(home)
    keystore.change_passphrase(home.config.slots_path, None, PASSPHRASE, "four other words here")
    restored(home.config, source, "four other words here")
    assert keystore.unlock(home.config.slots_path, "four other words here")


def test_a_file_is_not_written_over(home: Home) -> None:
    source = backed_up(home)
    before = source.read_bytes()
    with pytest.raises(HealthSyncError) as caught:
        backed_up(home)
    assert caught.value.code == "E_FILE_EXISTS"
    assert source.read_bytes() == before


def test_a_damaged_database_is_put_aside_and_the_backup_put_in_its_place(home: Home) -> None:
    source = backed_up(home)
    raw = bytearray(home.config.database_path.read_bytes())
    raw[4096 * 2 : 4096 * 4] = os.urandom(8192)
    home.config.database_path.write_bytes(raw)
    for ending in ("-wal", "-shm"):
        Path(f"{home.config.database_path}{ending}").unlink(missing_ok=True)
    restored(home.config, source)
    with home.open() as store:
        assert len(plans(store)) == 20
        assert standing.integrity(store) == []


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_file_cut_short_anywhere_or_altered_changes_nothing(home: Home, tmp_path: Path) -> None:
    whole = backed_up(home).read_bytes()
    bad = tmp_path / "bad.hwcbackup"
    before = home.config.database_path.read_bytes()
    for size in (0, 1, 511, 512, 1500, 4000, len(whole) // 2, len(whole) - 20_000):
        bad.write_bytes(whole[:size])
        assert code(bad, home.config) == "E_BACKUP_CORRUPT"
    for at in (len(whole) // 2, len(whole) - 30_000):
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert code(bad, home.config) == "E_BACKUP_CORRUPT"
    assert home.config.database_path.read_bytes() == before
    assert not list(home.config.home.glob("before-restore*"))
    assert not list(home.config.home.glob("restoring*"))


@pytest.mark.parametrize("member", ["../../escaped", "/tmp/escaped", "node.db", "link"])
def test_an_archive_of_something_else_is_refused(home: Home, tmp_path: Path, member: str) -> None:
    bad = tmp_path / "bad.hwcbackup"
    with tarfile.open(bad, "w") as archive:
        entry = tarfile.TarInfo("backup.json" if member == "link" else member)
        if member == "link":
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        entry.size = 0 if member == "link" else 5
        archive.addfile(entry, io.BytesIO(b"hello"))
    assert code(bad, home.config) == "E_BACKUP_CORRUPT"


def test_no_file_the_wrong_passphrase_and_another_nodes_home(home: Home, tmp_path: Path) -> None:
    source = backed_up(home)
    assert code(tmp_path / "nothing", home.config) == "E_NO_FILE"
    with pytest.raises(HealthSyncError) as caught:
        restored(home.config, source, "not the right words")
    assert caught.value.code == "E_WRONG_PASSPHRASE"
    other = make_home(tmp_path / "other")
    assert code(source, other.config) == "E_OTHER_NODE"


# -- the commands ------------------------------------------------------------------------------------------------------


def test_the_commands_tell_what_they_did(home: Home, hwc: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(home, monkeypatch)
    target = home.config.home.parent / "three.hwcbackup"
    made = hwc("backup", str(target), "--json")
    assert made.status == 0, made.err
    assert made.shape["schema"] == "hwc.backup/1"
    assert made.shape["file_bytes"] == target.stat().st_size
    again = hwc("backup", str(target))
    assert (again.status, "[E_FILE_EXISTS]" in again.err) == (1, True)
    assert hwc("backup", str(target), "--yes").status == 0
    age: Any = hwc("status", "--json").shape["backup_age_s"]
    assert 0 <= age < 60
    asked = hwc("restore", str(target))
    assert (asked.status, "[E_NOT_CONFIRMED]" in asked.err) == (1, True)
    ended = hwc("restore", str(target), "--yes", "--json")
    assert ended.status == 0, ended.err
    assert ended.shape["schema"] == "hwc.restore/1"
    assert Path(ended.shape["kept"]).exists()
    nothing = hwc("restore", str(target.with_name("nothing")))
    assert (nothing.status, "[E_NO_FILE]" in nothing.err) == (1, True)
