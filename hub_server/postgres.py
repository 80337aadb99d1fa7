"""The hub's PostgreSQL: the server a URL names, or a private cluster that the hub makes, starts and stops (DESIGN §8).

Rules: the private server listens on a Unix socket only, in a folder of mode 0700, and asks for a SCRAM password that
lies in a 0600 file of the home. A root hub keeps it below ``/var/lib/health-sync-hub``, since the server's user cannot
reach a home of mode 0700. A cluster is only ever opened with programs of its own major version. One program at a time
makes, starts or stops it; each user of it holds a shared lock, and the last one out stops it, also when it was a hub
since killed that had started it. A home whose database is gone is an error, never silently a new empty database. No
password, URL or server's answer is ever part of an error: libpq's own messages quote pieces of the URL.

It refuses to know any table: it hands out a URL for role ``hub`` and its empty database ``hub``.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self
from urllib.parse import quote

import psycopg

from hub_server.config import HubConfig, make_folders
from hub_server.pg_programs import (
    MIN_MAJOR,
    PORT,
    SETTINGS,
    SOCKET_NAME,
    SYSTEM_FOLDER,
    Account,
    Binaries,
    account_for,
    bound_log,
    fault,
    last_complaint,
    matching,
    reason_of,
    refuse_full_disk,
    settings_text,
    usable,
)
from sync_protocol.errors import OurFault

MAX_SOCKET_PATH_BYTES: Final = 100  # the kernel allows 107 with the closing zero
DYING_LOOKS: Final = 20  # with a poll between them: what was killed is gone by then, also on a loaded machine
START_TIMEOUT_S: Final = 300.0  # a crash recovery of max_wal_size on a slow disk
LOCK_TIMEOUT_S: Final = START_TIMEOUT_S + 30.0  # another program may be in that recovery
STOP_TIMEOUT_S: Final = 120.0  # a last checkpoint on a slow disk
ORPHAN_TIMEOUT_S: Final = 20.0  # backends notice within moments that their postmaster was killed
CONNECT_TIMEOUT_S: Final = 10
POLL_S: Final = 0.05
LOG_TAIL_BYTES: Final = 8 * 1024
MAX_PID_FILE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the private cluster of a home lies, and which user it belongs to."""

    config: HubConfig
    place: Path
    account: Account

    @property
    def files(self) -> Path:
        return self.place / "cluster"

    @property
    def log_file(self) -> Path:
        return self.place / "server.log"

    @property
    def record(self) -> Path:
        """Names the place, from within the home, so that a missing cluster is noticed."""
        return self.config.home / "postgres.place"

    def password_file(self, role: str) -> Path:
        """``hub`` is the role the hub works as; ``admin`` is the superuser ``postgres``, for operators."""
        return self.config.keys_folder / f"postgres-{role}.password"

    def password(self, role: str) -> str:
        path = self.password_file(role)
        try:
            return path.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            message = f"The password of the hub's own PostgreSQL cannot be read from {path}."
            raise fault("E_PG_PASSWORD", message, "Put that file back.") from error

    def major(self) -> int | None:
        """The version that the cluster belongs to; None while there is none."""
        try:
            return int((self.files / "PG_VERSION").read_text("ascii")[:8])
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise fault("E_PG_VERSION", f"The version of the cluster in {self.files} cannot be read.") from error


class Postmaster(NamedTuple):
    """What the server wrote down last; pid 0 if there is nothing. It may be long dead."""

    pid: int
    socket_folder: str
    state: str  # starting, ready or stopping


@dataclass(frozen=True, slots=True)
class Status:
    """``private`` is False where a URL was given; then nothing else is known here."""

    private: bool
    running: bool = False
    pid: int | None = None
    major: int | None = None
    place: Path | None = None


@dataclass(slots=True)
class Running:
    """A reachable database. ``url`` suits psycopg and SQLAlchemy; ``release()`` (or ``with``) when it is not needed.

    It need not be kept alive: what is never released counts as in use until the program ends.
    """

    url: str = field(repr=False)
    started_here: bool
    server_version: int  # 150004 is 15.4
    cluster: Cluster | None = None
    _users_lock: int | None = field(default=None, repr=False)

    def release(self) -> bool:
        """Give it up; the last user stops the private server. True if it was stopped now. Safe to repeat."""
        if self.cluster is None or self._users_lock is None:
            return False
        with _locked(self.cluster.config.postgres_lock):
            held, self._users_lock = self._users_lock, None
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            finally:
                os.close(held)
            return _stop(self.cluster)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def ensure_running(config: HubConfig, extra_settings: Mapping[str, str] | None = None) -> Running:
    """The given server, checked, or the private one, made and started where needed.

    ``extra_settings`` win over ``SETTINGS`` when the server is started here. Raises ``OurFault``: ``E_PG_…``,
    ``E_HOME``, ``E_DISK_FULL``.
    """
    if config.database_url is not None:
        return Running(config.database_url, False, _check_given(config.database_url))
    make_folders(config)
    with _locked(config.postgres_lock):
        cluster = _cluster(config)
        settings = {**SETTINGS, **(extra_settings or {})}
        if cluster.major() is None:
            _make(cluster, settings)
        started, url, version = _start_and_check(cluster, settings)
        users_lock = _open_lock(config.postgres_users_lock)
        fcntl.flock(users_lock, fcntl.LOCK_SH)  # never waits: it is taken exclusively only under the lock held here
    return Running(url, started, version, cluster, users_lock)


def _start_and_check(cluster: Cluster, settings: Mapping[str, str]) -> tuple[bool, str, int]:
    """(started here, URL, version). A server that is dying while it is looked at still says "ready": look again."""
    looks = 0
    while True:
        started, url = _start(cluster, settings), _url(cluster)
        try:
            return started, url, _check_private(cluster, url)
        except OurFault as error:
            looks += 1
            if started or looks == DYING_LOOKS or error.code != "E_PG_UNREACHABLE":
                raise
            time.sleep(POLL_S)


def stop(config: HubConfig) -> bool:
    """Stop the private server now, whoever uses it: open transactions are rolled back. True if it was running."""
    if config.database_url is not None or not config.locks_folder.is_dir():
        return False
    with _locked(config.postgres_lock):
        return _stop(_cluster(config))


def status(config: HubConfig) -> Status:
    """What is there, without starting or changing anything."""
    if config.database_url is not None:
        return Status(private=False)
    cluster = _cluster(config)
    told = _postmaster(cluster)
    running = told.state == "ready" and told.pid in _living(cluster, told.pid)
    return Status(True, running, told.pid if running else None, cluster.major(), cluster.place)


def _cluster(config: HubConfig) -> Cluster:
    if config.pg_folder is not None:
        place = config.pg_folder
    elif os.geteuid() == 0 and not (config.postgres_folder / "cluster").exists():
        place = SYSTEM_FOLDER / _short_hash(config.home)
    else:  # also for root, where a normal user began
        place = config.postgres_folder
    return Cluster(config, place, account_for(place / "cluster"))


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


# --- making ----------------------------------------------------------------------------------------------------------


def _make(cluster: Cluster, settings: Mapping[str, str]) -> None:
    if cluster.record.exists():
        recorded = cluster.record.read_text("utf-8", "surrogateescape").strip()
        raise fault(
            "E_PG_MISSING",
            f"This home's database was kept in {recorded}; now none is in {cluster.place}.",
            f"If the home was moved, set HUB_PG_FOLDER to that; to begin with an empty one, remove {cluster.record}.",
        )
    cluster.account.take_folder(cluster.place)
    problem = ""
    for binaries in usable(cluster.account, cluster.config.pg_bin):
        problem = _init(cluster, binaries, durable=settings["fsync"] == "on")
        if not problem:
            return
    refuse_full_disk(problem)
    if problem:
        raise fault("E_PG_INIT", f"PostgreSQL could not make the hub's database: {problem}.")
    raise fault(
        "E_PG_BINARIES",
        f"No PostgreSQL {MIN_MAJOR} or later was found on this machine.",
        f"Install postgresql-{MIN_MAJOR} or later or the hub with its [hub] extra, or set HUB_DATABASE_URL.",
    )


def _init(cluster: Cluster, binaries: Binaries, *, durable: bool) -> str:
    """Make it aside, with its role and database, and put it in place by one rename. Returns what went wrong, or ''."""
    account, place = cluster.account, cluster.place
    fresh, password_file = place / "cluster.new", place / "admin-password.new"
    shutil.rmtree(fresh, ignore_errors=True)  # a half-made one, from a crash
    for role in ("admin", "hub"):
        if not cluster.password_file(role).exists():
            _write_synced(cluster.password_file(role), secrets.token_urlsafe(32))
    options = ["--encoding=UTF8", "--locale=C", "--locale-provider=libc", "--data-checksums", "--no-instructions"]
    options += ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={password_file}"]
    options += [] if durable else ["--no-sync"]
    # Single-user mode, so that no server is reachable before it is complete. The password is base64: nothing to quote.
    single = ["--single", "-c", "exit_on_error=on", "-c", f"fsync={'on' if durable else 'off'}", "-D", str(fresh)]
    statements = f"CREATE ROLE hub LOGIN CREATEDB PASSWORD '{cluster.password('hub')}';\n"
    statements += "CREATE DATABASE hub OWNER hub;\n"
    try:
        account.write(password_file, cluster.password("admin") + "\n")
        made = account.run([binaries.program("initdb"), "-D", str(fresh), *options], folder=place)
        if made.returncode == 0:
            command = [binaries.program("postgres"), *single, "postgres"]
            made = account.run(command, folder=place, text=statements)
        if made.returncode != 0:
            return last_complaint(made.stderr)
        fresh.rename(cluster.files)
        _sync_folder(place)
        _write_synced(cluster.record, f"{place}\n")
    except subprocess.TimeoutExpired:
        return "it took too long"
    except OSError as error:
        return error.strerror or "a program could not be run"
    finally:
        password_file.unlink(missing_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
    return ""


# --- starting and stopping -------------------------------------------------------------------------------------------


def _start(cluster: Cluster, settings: Mapping[str, str]) -> bool:
    """True if it was started, False if it was running already."""
    if _await_settled(cluster):
        return False
    account = cluster.account
    binaries = matching(account, cluster.config.pg_bin, cluster.major() or 0)
    socket_folder = cluster.place / "socket"
    if len(os.fsencode(socket_folder / SOCKET_NAME)) > MAX_SOCKET_PATH_BYTES:
        socket_folder = Path(tempfile.gettempdir()) / f"hsh-{account.uid}-{_short_hash(cluster.place)}"
    account.make_folder(socket_folder)
    account.write(cluster.files / "postgresql.conf", settings_text(socket_folder, settings))
    with suppress(OSError):
        bound_log(cluster.log_file)
    # Relative paths: pg_ctl hands them to a shell in double quotes.
    command = [binaries.program("pg_ctl"), "start", "-D", cluster.files.name, "-l", cluster.log_file.name, "-w", "-s"]
    command += ["-t", f"{START_TIMEOUT_S:.0f}"]
    try:
        done = account.run(command, folder=cluster.place, timeout_s=START_TIMEOUT_S + 10)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise fault("E_PG_START", "PostgreSQL's pg_ctl did not run to its end.") from error
    if done.returncode != 0:
        complaint = last_complaint(_log_tail(cluster))
        refuse_full_disk(complaint)
        raise fault("E_PG_START", f"PostgreSQL did not start: {complaint}.", f"See {cluster.log_file}.")
    return True


def _await_settled(cluster: Cluster) -> bool:
    """Wait until the server is ready (True), or nothing of it lives any more and it can be started (False)."""
    began = time.monotonic()
    while True:
        told = _postmaster(cluster)
        living = _living(cluster, told.pid)
        if told.pid in living and told.state == "ready":
            return True
        if not living:
            break
        if time.monotonic() - began > (START_TIMEOUT_S if told.pid in living else ORPHAN_TIMEOUT_S):
            pids = ", ".join(str(pid) for pid in sorted(living))
            message = f"PostgreSQL is neither ready nor gone (pids {pids})."
            raise fault("E_PG_START", message, f"See {cluster.log_file}.")
        time.sleep(POLL_S)
    # PostgreSQL minds its own stale lock files, but not one whose pid by now is something else's (after a reboot, in a
    # container, a zombie). Nothing of this cluster lives, so they guard nothing.
    if told.pid:
        (cluster.files / "postmaster.pid").unlink(missing_ok=True)
        (Path(told.socket_folder or cluster.place) / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
    return False


def _stop(cluster: Cluster) -> bool:
    pid = _postmaster(cluster).pid
    if pid not in _living(cluster, pid):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)  # "fast": connections end, a checkpoint is written
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while pid in _living(cluster, pid):
        if time.monotonic() > deadline:
            raise fault("E_PG_STOP", f"PostgreSQL (pid {pid}) did not stop.", f"See {cluster.log_file}.")
        time.sleep(POLL_S)
    return True


def _postmaster(cluster: Cluster) -> Postmaster:
    try:
        with (cluster.files / "postmaster.pid").open("rb") as opened:
            lines = os.fsdecode(opened.read(MAX_PID_FILE_BYTES)).splitlines()
        lines += [""] * (8 - len(lines))  # it is written line by line
        return Postmaster(max(0, int(lines[0])), lines[4], lines[7].strip())
    except (OSError, ValueError):
        return Postmaster(0, "", "")


def _living(cluster: Cluster, pid: int) -> set[int]:
    """PostgreSQL's processes that live and are of this cluster: they, and no others, work in its folder."""
    if not Path("/proc/self").exists():  # macOS: the pid file is all there is to go by
        with suppress(OSError):
            os.kill(pid, 0)
            return {pid} if pid else set()
        return set()
    found: set[int] = set()
    with suppress(FileNotFoundError):
        folder = cluster.files.stat()
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError):
                program = Path(f"/proc/{name}/comm").read_text("utf-8", "replace").strip()
                if program == "postgres" and os.path.samestat(os.stat(f"/proc/{name}/cwd"), folder):
                    found.add(int(name))
    return found


# --- asking it -------------------------------------------------------------------------------------------------------


def _url(cluster: Cluster) -> str:
    folder = quote(_postmaster(cluster).socket_folder, safe="")
    return f"postgresql://hub:{cluster.password('hub')}@/hub?host={folder}&port={PORT}"


def _check_given(url: str) -> int:
    try:
        version = _server_version(url)
    except (psycopg.Error, ValueError) as error:
        reason = reason_of(error)
        message = f"The PostgreSQL that HUB_DATABASE_URL names cannot be used: {reason}."
        raise fault("E_PG_UNREACHABLE", message, "Check HUB_DATABASE_URL and that server.") from None
    if version < MIN_MAJOR * 10_000:
        message = f"HUB_DATABASE_URL names a PostgreSQL {version // 10_000}; the hub needs {MIN_MAJOR} or later."
        raise fault("E_PG_VERSION", message, f"Install postgresql-{MIN_MAJOR} or later there.")
    return version


def _check_private(cluster: Cluster, url: str) -> int:
    try:
        return _server_version(url)
    except (psycopg.Error, ValueError) as error:
        reason = reason_of(error)
    if "no free connection" in reason:  # others use it, so it runs
        return (cluster.major() or 0) * 10_000
    refused = "password" in reason
    raise fault(
        "E_PG_PASSWORD" if refused else "E_PG_UNREACHABLE",
        f"The hub's own PostgreSQL runs, but cannot be used: {reason}.",
        f"Put the right {cluster.password_file('hub')} back." if refused else f"See {cluster.log_file}.",
    )


def _server_version(url: str) -> int:
    with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
        return connection.info.server_version


# --- files and locks -------------------------------------------------------------------------------------------------


def _write_synced(path: Path, text: str) -> None:
    """Write a 0600 file of the home, durable when this returns, whole or not at all."""
    fresh = path.with_name(path.name + ".tmp")
    try:
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(os.fsencode(text))
            opened.flush()
            os.fsync(opened.fileno())
        fresh.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        code = "E_DISK_FULL" if error.errno == errno.ENOSPC else "E_HOME"
        raise fault(code, f"{path} cannot be written: {error.strerror}.") from error


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise fault("E_HOME", f"The lock {path} cannot be opened: {error.strerror}.") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one program at a time; the kernel gives it back when a program dies."""
    opened = _open_lock(path)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise fault("E_PG_BUSY", "Another program is still starting or stopping PostgreSQL.")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(opened)


def _log_tail(cluster: Cluster) -> str:
    with suppress(OSError), cluster.log_file.open("rb") as opened:
        opened.seek(max(0, os.fstat(opened.fileno()).st_size - LOG_TAIL_BYTES))
        return opened.read(LOG_TAIL_BYTES).decode("utf-8", "replace")
    return ""
