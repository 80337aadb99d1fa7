"""The door to SQLCipher: nothing in the clear, nothing acknowledged is lost, no write lost to another program."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlcipher3 import dbapi2 as sqlcipher  # type: ignore[import-untyped]
from sqlmodel import Field, Session, SQLModel, select

from hwc_node import engine as door
from sync_protocol.errors import HealthSyncError, NeedsPerson, OurFault, TheirBytes
from tests.beside import BESIDE

KEY = bytes(range(32))
PLANTED = "Lakshmi Narayanan"
PATIENCE_S = 120.0
FORK = multiprocessing.get_context("fork")


class EngineTestRow(SQLModel, table=True):
    """A row of this file's own table."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    opened = door.open_engine(path, KEY)
    with door.begin_write(opened) as connection:
        connection.execute(text("CREATE TABLE note (number INTEGER PRIMARY KEY, body TEXT UNIQUE)"))
    yield opened
    opened.dispose()


def _error(call: Callable[[], object], kind: type[HealthSyncError]) -> HealthSyncError:
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def _write(engine: Engine, number: int, body: str | bytes) -> None:
    with door.begin_write(engine) as connection:
        connection.execute(text("INSERT INTO note VALUES (:number, :body)"), {"number": number, "body": body})


def _numbers(engine: Engine) -> list[int]:
    with door.begin_read(engine) as connection:
        return list(connection.scalars(text("SELECT number FROM note ORDER BY number")))


def _short_of_patience(engine: Engine) -> Engine:
    """The same engine with connections that wait 50 ms for a lock instead of 10 s."""
    engine.dispose()
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout = 50"))
    return engine


# -- what stands on the disk ------------------------------------------------------------------------------------------


def test_no_file_holds_a_planted_name_in_the_clear(engine: Engine, path: Path) -> None:
    for number in range(50):
        _write(engine, number, f"{PLANTED} {number}")
    open_files = {entry.name: entry.read_bytes() for entry in path.parent.iterdir() if entry != path}
    assert set(open_files) == {"node.db-wal", "node.db-shm"} and len(open_files["node.db-wal"]) > 4096
    engine.dispose()  # folds the log into the database; only now may this program open the file by other means
    for raw in [*open_files.values(), path.read_bytes()]:
        assert PLANTED.encode() not in raw and PLANTED.encode("utf-16-le") not in raw
        assert b"SQLite format" not in raw and b"note" not in raw


def test_the_files_are_the_owners_only(engine: Engine, path: Path) -> None:
    _write(engine, 1, "x")
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()} == {0o600}
    engine.dispose()
    path.chmod(0o644)
    door.open_engine(path, KEY).dispose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_connection_has_the_settings_that_durability_needs(engine: Engine) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "temp_store": 2, "secure_delete": 1, "foreign_keys": 1,
              "busy_timeout": door.BUSY_TIMEOUT_MS, "journal_size_limit": door.WAL_LIMIT_BYTES}  # fmt: skip
    with contextlib.ExitStack() as several:
        for _ in range(door.POOL_CONNECTIONS + 1):
            connection = several.enter_context(door.begin_read(engine))
            assert {name: connection.scalar(text(f"PRAGMA {name}")) for name in wanted} == wanted


def test_an_old_sqlite_is_refused_and_this_one_is_not() -> None:
    for version in ((3, 7, 0), (3, 50, 7), (3, 51, 2)):
        error = _error(lambda version=version: door.require_safe_sqlite(version), OurFault)  # type: ignore[misc]
        assert error.code == "E_OLD_SQLITE" and "3.51.3" in error.message
    for version in ((3, 51, 3), (3, 53, 0), (4, 0, 0)):
        door.require_safe_sqlite(version)
    assert sqlcipher.sqlite_version_info >= door.OLDEST_SAFE_SQLITE


def test_the_standard_librarys_sqlite_is_never_loaded(path: Path) -> None:
    program = (
        "import sys, pathlib, sqlmodel\n"
        "from hwc_node import engine\n"
        "opened = engine.open_engine(pathlib.Path(sys.argv[1]), bytes(32))\n"
        "with engine.begin_write(opened) as connection: connection.exec_driver_sql('CREATE TABLE t (a)')\n"
        "sys.exit('sqlite3' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# -- opening what does not open ---------------------------------------------------------------------------------------


def test_the_wrong_key_is_told_and_silent(engine: Engine, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _write(engine, 1, PLANTED)
    for closed in (False, True):
        if closed:
            engine.dispose()
        error = _error(lambda: door.open_engine(path, bytes(32)), NeedsPerson)
        assert error.code == "E_WRONG_KEY"
    assert capfd.readouterr() == ("", "")
    assert _numbers(engine) == [1]


def test_a_key_of_another_size_is_refused(path: Path) -> None:
    assert _error(lambda: door.open_engine(path, b"short"), OurFault).code == "E_OUR_FAULT"
    assert not path.exists()


def test_without_create_a_missing_database_stays_missing(path: Path) -> None:
    assert _error(lambda: door.open_engine(path, KEY, create=False), OurFault).code == "E_NO_DATABASE"
    assert not path.exists()


@pytest.mark.parametrize("raw", [b"hello", b"\x00" * 5000, b"SQLite format 3\x00" + b"\x00" * 100])
def test_a_file_that_is_no_database_is_corrupt(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    assert _error(lambda: door.open_engine(path, KEY), TheirBytes).code == "E_DB_CORRUPT"
    assert path.read_bytes() == raw


def test_an_unencrypted_database_is_not_taken(path: Path) -> None:
    plain = sqlcipher.connect(str(path))
    plain.execute("CREATE TABLE t (a)")
    plain.close()
    assert _error(lambda: door.open_engine(path, KEY), TheirBytes).code == "E_DB_CORRUPT"


def test_a_flipped_bit_and_a_cut_file_are_found_when_they_are_read(engine: Engine, path: Path) -> None:
    for number in range(200):
        _write(engine, number, f"{number} " + "x" * 200)
    engine.dispose()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) - 3000] ^= 1
    for raw in (bytes(flipped), whole[: len(whole) // 2 // 4096 * 4096]):
        path.write_bytes(raw)

        def read_all() -> None:
            opened = door.open_engine(path, KEY)
            try:
                with door.begin_read(opened) as connection:
                    connection.execute(text("SELECT sum(length(body)) FROM note NOT INDEXED")).all()
                    connection.execute(text("PRAGMA integrity_check")).all()
            finally:
                opened.dispose()

        assert _error(read_all, TheirBytes).code == "E_DB_CORRUPT"


def test_a_folder_in_the_databases_place_is_a_coded_error(path: Path) -> None:
    path.mkdir()
    assert _error(lambda: door.open_engine(path, KEY), OurFault).code == "E_STORAGE"


# -- transactions -----------------------------------------------------------------------------------------------------


def test_a_write_commits_and_an_error_takes_everything_back(engine: Engine) -> None:
    _write(engine, 1, "kept")
    with pytest.raises(ValueError, match="a mistake"), door.begin_write(engine) as connection:
        connection.execute(text("INSERT INTO note VALUES (2, 'gone')"))
        raise ValueError("a mistake")
    assert _numbers(engine) == [1]


def test_sessions_work_inside_of_a_transaction_and_the_transaction_commits(engine: Engine) -> None:
    with door.begin_write(engine) as connection:
        SQLModel.metadata.create_all(connection, tables=[SQLModel.metadata.tables["enginetestrow"]])
        with Session(bind=connection) as session:
            session.add(EngineTestRow(name="Asha"))
            session.commit()
    with pytest.raises(ValueError, match="after"), door.begin_write(engine) as connection:
        with Session(bind=connection) as session:
            session.add(EngineTestRow(name="Ravi"))
            session.commit()  # the session's, not ours: what follows still takes it back
        raise ValueError("after the session")
    with door.begin_read(engine) as connection, Session(bind=connection) as session:
        assert [row.name for row in session.exec(select(EngineTestRow))] == ["Asha"]


def test_a_read_sees_the_state_of_its_beginning(engine: Engine) -> None:
    _write(engine, 1, "a")
    with door.begin_read(engine) as reading:
        _write(engine, 2, "b")
        assert reading.scalar(text("SELECT count(*) FROM note")) == 1
    assert _numbers(engine) == [1, 2]


def test_a_read_cannot_write_and_leaves_no_trace_on_its_connection(engine: Engine) -> None:
    def write_in_a_read() -> None:
        with door.begin_read(engine) as connection:
            connection.execute(text("INSERT INTO note VALUES (1, 'x')"))

    for _ in range(door.POOL_CONNECTIONS + 1):
        error = _error(write_in_a_read, OurFault)
        assert error.code == "E_OUR_FAULT" and "only reads" in error.message
    _write(engine, 2, "y")
    assert _numbers(engine) == [2]


def test_a_writer_that_waits_too_long_is_told_so(engine: Engine, path: Path) -> None:
    other = _short_of_patience(door.open_engine(path, KEY))
    with door.begin_write(engine) as connection:
        connection.execute(text("INSERT INTO note VALUES (1, 'x')"))
        assert _error(lambda: _write(other, 2, "y"), OurFault).code == "E_BUSY"
        assert _numbers(other) == []  # readers do not wait
    _write(other, 2, "y")
    other.dispose()
    assert _numbers(engine) == [1, 2]


def test_plain_use_of_the_engine_is_a_write_transaction_tables_included(engine: Engine, path: Path) -> None:
    """What migrations do: a change of tables that fails half-way leaves nothing behind."""
    other = _short_of_patience(door.open_engine(path, KEY))
    with pytest.raises(ValueError, match="half-way"), engine.begin() as connection:
        connection.execute(text("CREATE TABLE half (a)"))
        assert _error(lambda: _write(other, 1, "x"), OurFault).code == "E_BUSY"
        raise ValueError("half-way")
    other.dispose()
    with door.begin_read(engine) as connection:
        assert connection.scalar(text("SELECT count(*) FROM sqlite_schema WHERE name = 'half'")) == 0


def test_savepoints_work(engine: Engine) -> None:
    with door.begin_write(engine) as connection:
        connection.execute(text("INSERT INTO note VALUES (1, 'x')"))
        with contextlib.suppress(ValueError), connection.begin_nested():
            connection.execute(text("INSERT INTO note VALUES (2, 'y')"))
            raise ValueError
    assert _numbers(engine) == [1]


def test_threads_share_an_engine_and_lose_nothing(engine: Engine) -> None:
    with ThreadPoolExecutor(24) as threads:  # more than the pool holds
        list(threads.map(lambda number: _write(engine, number, str(number)), range(96)))
        read = list(threads.map(lambda _: len(_numbers(engine)), range(48)))
    assert set(read) == {96}


# -- errors -----------------------------------------------------------------------------------------------------------


def test_no_error_repeats_a_value(engine: Engine) -> None:
    _write(engine, 1, PLANTED)
    error = _error(lambda: _write(engine, 2, PLANTED), OurFault)
    assert error.code == "E_DATABASE" and "SQLITE_CONSTRAINT" in error.message
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__ or link.__context__
    assert len(chain) > 1 and not any(PLANTED in str(one) + repr(one.args) for one in chain)


def test_a_full_database_refuses_and_keeps_what_it_had(engine: Engine) -> None:
    _write(engine, 1, "kept")

    def fill(connection: Connection) -> None:
        connection.execute(text("INSERT INTO note VALUES (2, hex(randomblob(200000)))"))

    def fill_to_the_limit() -> None:
        with door.begin_write(engine) as connection:
            pages = connection.scalar(text("PRAGMA page_count"))
            connection.execute(text(f"PRAGMA max_page_count = {pages}"))
            fill(connection)

    error = _error(fill_to_the_limit, OurFault)
    assert error.code == "E_DISK_FULL" and error.next_step
    assert _numbers(engine) == [1]
    with door.begin_write(engine) as connection:
        connection.execute(text("PRAGMA max_page_count = 100000"))
        fill(connection)
    assert _numbers(engine) == [1, 2]


def _write_beyond_a_limit(path: str, pipe: Pipe) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    opened = door.open_engine(Path(path), KEY)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    number = 1
    try:
        while number < 1_000:
            _write(opened, number, f"{number}" + "x" * 5_000)
            pipe.send(number)
            number += 1
    except HealthSyncError as error:
        pipe.send(error.code)
    pipe.send(_numbers(opened)[-1])


def test_a_write_that_the_system_refuses_is_not_there_and_all_before_it_are(engine: Engine, path: Path) -> None:
    engine.dispose()
    *acknowledged, code, seen = _answers(_write_beyond_a_limit, str(path))
    assert code == "E_DISK_FULL" and len(acknowledged) > 5
    assert _numbers(engine) == acknowledged and seen == acknowledged[-1]


def _open_as_nobody(folder: str, pipe: Pipe) -> None:
    if os.geteuid() == 0:  # no permission stops root
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    for name in ("node.db", "missing.db"):
        try:
            _write(door.open_engine(Path(folder) / name, KEY), 1, "x")
        except HealthSyncError as error:
            pipe.send(error.code)


def test_a_place_where_nothing_can_be_written_is_read_only() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: others cannot enter that
        opened = door.open_engine(Path(folder) / "node.db", KEY)
        with door.begin_write(opened) as connection:
            connection.execute(text("CREATE TABLE note (number INTEGER PRIMARY KEY, body TEXT)"))
        opened.dispose()
        (Path(folder) / "node.db").chmod(0o444)
        Path(folder).chmod(0o555)
        try:
            assert _answers(_open_as_nobody, folder, context=FORK) == ["E_READ_ONLY", "E_READ_ONLY"]
        finally:
            Path(folder).chmod(0o755)


def test_errors_from_elsewhere_have_codes() -> None:
    assert door.translate(OSError(errno.ENOSPC, "No space left on device")).code == "E_DISK_FULL"
    assert door.translate(OSError(errno.EROFS, "Read-only file system")).code == "E_READ_ONLY"
    assert door.translate(MemoryError()).code == "E_NO_MEMORY"
    assert door.translate(KeyError(PLANTED)).code == "E_DATABASE" and PLANTED not in str(
        door.translate(KeyError(PLANTED))
    )
    own = OurFault("x", code="E_OWN")
    assert door.translate(own) is own


# -- several programs -------------------------------------------------------------------------------------------------


def _answers(program: Callable[..., None], *arguments: object, context: Any = BESIDE) -> list[Any]:
    """Run ``program(*arguments, pipe)`` in a process of its own; everything it sent."""
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=program, args=(*arguments, sending))
    child.start()
    sending.close()
    answers = _drained(receiving)
    child.join(PATIENCE_S)
    assert child.exitcode == 0
    return answers


def _drained(pipe: Pipe) -> list[Any]:
    answers = []
    with contextlib.suppress(EOFError):
        while True:
            assert pipe.poll(PATIENCE_S)
            answers.append(pipe.recv())
    return answers


def _count_up(path: str, times: int, pipe: Pipe) -> None:
    opened = door.open_engine(Path(path), KEY)
    for _ in range(times):
        with door.begin_write(opened) as connection:
            number = connection.scalar(text("SELECT number FROM note"))
            connection.execute(text("UPDATE note SET number = :next"), {"next": int(number or 0) + 1})
    pipe.send("done")


def test_programs_that_read_and_then_write_lose_no_update(engine: Engine, path: Path) -> None:
    _write(engine, 0, "counter")
    with ThreadPoolExecutor(2) as two:
        both = [two.submit(_answers, _count_up, str(path), 150) for _ in range(2)]
        for _ in range(50):
            with door.begin_write(engine) as connection:
                connection.execute(text("UPDATE note SET number = number + 1"))
        assert [one.result() for one in both] == [["done"], ["done"]]
    assert _numbers(engine) == [350]


def _open_and_add(path: str, number: int, pipe: Pipe) -> None:
    opened = door.open_engine(Path(path), KEY)
    with door.begin_write(opened) as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS note (number INTEGER PRIMARY KEY, body TEXT)"))
    _write(opened, number, "x")
    opened.dispose()
    pipe.send(number)


def test_programs_that_make_the_database_at_once_all_get_it(tmp_path: Path) -> None:
    for attempt in range(3):
        path = tmp_path / f"{attempt}.db"
        with ThreadPoolExecutor(3) as three:
            programs = [three.submit(_answers, _open_and_add, str(path), number) for number in range(3)]
            assert [program.result() for program in programs] == [[0], [1], [2]]
        opened = door.open_engine(path, KEY)
        assert _numbers(opened) == [0, 1, 2]
        opened.dispose()


def _write_forever(path: str, first: int, pipe: Pipe) -> None:
    opened = door.open_engine(Path(path), KEY)
    number = first
    while True:
        _write(opened, number, f"{number} " + "x" * 3_000)  # some rows to a checkpoint, so kills fall into them too
        pipe.send(number)
        number += 1


def test_what_was_acknowledged_survives_kill_9(engine: Engine, path: Path) -> None:
    engine.dispose()
    acknowledged: list[int] = []
    for wanted in (1, 40, 7, 120):
        receiving, sending = BESIDE.Pipe(duplex=False)
        child = BESIDE.Process(target=_write_forever, args=(str(path), len(acknowledged), sending), daemon=True)
        child.start()
        sending.close()
        for _ in range(wanted):
            assert receiving.poll(PATIENCE_S)
            acknowledged.append(receiving.recv())
        child.kill()
        child.join(PATIENCE_S)
        assert child.exitcode == -signal.SIGKILL
        acknowledged += _drained(receiving)
        there = _numbers(engine)
        assert there[: len(acknowledged)] == acknowledged == list(range(len(acknowledged)))
        assert len(there) - len(acknowledged) <= 1  # one may have been committed and not yet told
        acknowledged = there
        with door.begin_read(engine) as connection:
            assert connection.scalars(text("PRAGMA integrity_check")).all() == ["ok"]
            assert connection.execute(text("PRAGMA cipher_integrity_check")).all() == []
        engine.dispose()


def test_a_writer_killed_inside_of_its_transaction_holds_no_lock(engine: Engine, path: Path) -> None:
    engine.dispose()
    receiving, sending = BESIDE.Pipe(duplex=False)
    child = BESIDE.Process(target=_write_and_wait, args=(str(path), sending), daemon=True)
    child.start()
    assert receiving.poll(PATIENCE_S) and receiving.recv() == "written, not committed"
    child.kill()
    child.join(PATIENCE_S)
    with ThreadPoolExecutor(1) as one:
        one.submit(_write, engine, 2, "y").result()  # E_BUSY, were there still a lock
    assert _numbers(engine) == [2]


def _write_and_wait(path: str, pipe: Pipe) -> None:
    with door.begin_write(door.open_engine(Path(path), KEY)) as connection:
        connection.execute(text("INSERT INTO note VALUES (1, 'x')"))
        pipe.send("written, not committed")
        threading.Event().wait()
