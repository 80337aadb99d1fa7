"""Backups of the hub's database by PostgreSQL's own tools, each tried out before it is called one, and the way back.

Rules. A backup is one snapshot, taken while the hub serves. Its payloads are encrypted as they stand in the database;
the keys that open them are not in it, and neither is the ledger: both are copied apart (`hub backup` says where they
lie). It is restored into a scratch database and compared before the file gets its name. Restoring does the same first,
then exchanges the names of the databases: the one that was there stays for 35 days, under another name. A restored
database has a new epoch; nodes see that their place is not on its feeds and send again what it lost (PROTOCOL.md §11).
Nobody is signed in there: a session may have been ended since.

It refuses to know what stands in the tables, but for the feeds' heads.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import msgspec
import psycopg
from psycopg import conninfo, sql

from hub_server import pg_programs, sign_in
from hub_server.config import HubConfig
from hub_server.database import Connection, Database
from hub_server.pg_programs import Account, Binaries, fault, last_complaint
from hub_server.registry import DAY_MS, SEALED_DAYS
from hub_server.vault import HubIdentity
from sync_protocol.errors import NeedsPerson, OurFault, TheirBytes

SCHEMA: Final = "hub.backup/1"
MANIFEST: Final = "backup.json"
DUMP: Final = "database.dump"
MAX_MANIFEST_BYTES: Final = 16 * 1024
MAX_DUMP_BYTES: Final = 4 * 1024**4
PROGRAM_TIMEOUT_S: Final = 6 * 3600.0  # of a dump or a restore: a terabyte on a slow disk
COMPRESSION: Final = "1"  # payloads are encrypted, so little is gained, and time is lost
_PIECE_BYTES: Final = 1024 * 1024
_ASIDE: Final = "_before_"  # then the time in milliseconds
_MAX_NAME_BYTES: Final = 63  # of a database: PostgreSQL cuts off what is longer
_TIME_DIGITS: Final = 13  # until the year 2286


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says of itself. environment, hub: hex. items: over all feeds. feeds: a hash over their heads."""

    schema: str
    made_ms: int
    environment: str
    hub: str
    server_major: int
    facilities: int
    items: int
    feeds: str
    dump_bytes: int
    dump_sha256: str
    program: str = ""


@dataclass(frozen=True, slots=True)
class Heads:
    """How far all feeds go: what a restored database is compared by."""

    facilities: int
    items: int
    hash: str


@dataclass(frozen=True, slots=True)
class Server:
    """A database and the programs that dump and restore it."""

    url: str
    binaries: Binaries

    @property
    def name(self) -> str:
        return str(conninfo.conninfo_to_dict(self.url).get("dbname") or "hub")

    def of(self, name: str) -> str:
        """The URL of another database of the same server."""
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def run(self, program: str, *arguments: str, name: str | None = None) -> None:
        """Run one of PostgreSQL's programs. No password is in its arguments. Raises OurFault (``E_PG_PROGRAM``)."""
        parts = conninfo.conninfo_to_dict(self.of(name) if name else self.url)
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
        environment = {variable: str(parts[part]) for part, variable in names.items() if parts.get(part)}
        try:
            done = subprocess.run(
                [self.binaries.program(program), *arguments],
                env=pg_programs.ENVIRONMENT | environment,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=PROGRAM_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise fault("E_PG_PROGRAM", f"PostgreSQL's {program} could not be run: {type(error).__name__}.") from None
        if done.returncode != 0:
            pg_programs.refuse_full_disk(done.stderr)
            raise fault("E_PG_PROGRAM", f"PostgreSQL's {program} failed: {last_complaint(done.stderr)}.")


def server(config: HubConfig, url: str, server_version: int) -> Server:
    """The programs of the server's own version, or for a given server of a later one. Raises OurFault."""
    own, major = Account(os.geteuid(), os.getegid()), server_version // 10_000
    if config.database_url is None:
        return Server(url, pg_programs.matching(own, config.pg_bin, major))
    for binaries in pg_programs.usable(own, config.pg_bin):
        if binaries.major >= major:
            return Server(url, binaries)
    raise fault("E_PG_BINARIES", f"No PostgreSQL {major} or later is here to dump with.", "Install postgresql-client.")


def write(
    at: Server, identity: HubIdentity, target: Path, now_ms: int, *, replace: bool = False, program: str = ""
) -> Manifest:
    """Dump, try the dump out, and give it its name. Raises OurFault (``E_FILE_EXISTS``, ``E_PG_…``, the disk's)."""
    if target.exists() and not replace:
        raise OurFault("there is a file of that name", code="E_FILE_EXISTS", next_step="choose another, or give --yes")
    dump, partial = (target.with_name(f"{target.name}{ending}") for ending in (".dump", ".partial"))
    with _only_for_now(dump, partial):
        try:
            heads = _dump(at, dump)
            _try_out(at, dump, heads)
            manifest = Manifest(
                SCHEMA,
                now_ms,
                identity.environment.hex(),
                identity.hub.hex(),
                at.binaries.major,
                heads.facilities,
                heads.items,
                heads.hash,
                dump.stat().st_size,
                _sha256(dump),
                program,
            )
            _pack(partial, manifest, dump)
            partial.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise _disk_fault(error) from None
    return manifest


def restore(at: Server, identity: HubIdentity, source: Path, now_ms: int) -> tuple[Manifest, str]:
    """Put the backup's database in the place of this one; (what it is, the name that the present one has from then on).

    Nothing else may use the database. Raises TheirBytes (``E_BACKUP_CORRUPT``), NeedsPerson (``E_OTHER_HUB``) or OurFault
    (``E_PG_…``); then nothing was changed.
    """
    dump = source.with_name(f"{source.name}.unpacked")
    scratch, aside = f"{at.name}_restoring", f"{_aside(at.name)}{now_ms}"
    with _only_for_now(dump), _scratch(at, scratch):
        try:
            manifest = _unpack(source, dump)
        except OSError as error:
            raise _disk_fault(error) from None
        if (manifest.environment, manifest.hub) != (identity.environment.hex(), identity.hub.hex()):
            raise NeedsPerson(
                "the backup is another hub's than the keys here; nothing was changed",
                code="E_OTHER_HUB",
                next_step="put that hub's keys folder back first",
            )
        at.run("pg_restore", "--exit-on-error", "--no-owner", "--no-privileges", "-d", scratch, str(dump), name=scratch)
        _require_heads(at, scratch, Heads(manifest.facilities, manifest.items, manifest.feeds))
        restored = Database(at.of(scratch))
        try:
            restored.migrate()
            with restored.transaction() as connection:
                connection.execute("DELETE FROM setting WHERE key = 'epoch'")  # the next start draws another
                sign_in.end_all(connection)
        finally:
            restored.close()
        _exchange_names(at, scratch, aside)
    return manifest, aside


def drop_set_aside(database: Database, now_ms: int) -> int:
    """Drop the databases that `restore` set aside more than `SEALED_DAYS` ago; how many. They hold what was erased since.

    Raises DatabaseAway. One that somebody looks at is left for the next time.
    """
    dropped = 0
    with database.outside_transactions() as connection:
        own = connection.info.dbname
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (_aside(own),))
        for (name,) in rows.fetchall():
            when = name.rpartition(_ASIDE)[2]
            if when.isascii() and when.isdecimal() and int(when) < now_ms - SEALED_DAYS * DAY_MS:
                with suppress(psycopg.errors.ObjectInUse):
                    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
                    dropped += 1
    return dropped


def _aside(name: str) -> str:
    """What the names of databases begin with that were set aside for one of this name; the time has room behind it."""
    room_bytes = _MAX_NAME_BYTES - len(_ASIDE) - _TIME_DIGITS
    return name.encode()[:room_bytes].decode("utf-8", "ignore") + _ASIDE


def read_manifest(source: Path) -> Manifest:
    """What the backup says of itself. Raises OurFault (``E_NO_FILE``) or TheirBytes (``E_BACKUP_CORRUPT``)."""
    with _opened(source) as (manifest, _):
        return manifest


# -- dumping and trying out --------------------------------------------------------------------------------------------


def _dump(at: Server, target: Path) -> Heads:
    """A dump of one snapshot, and where the feeds stand in it."""
    with psycopg.connect(at.url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        heads = _heads(connection)
        options = ["--format=custom", f"--compress={COMPRESSION}", "--no-owner", "--no-privileges"]
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"):
            pass  # made first, so that nobody else can read it
        at.run("pg_dump", *options, f"--snapshot={row[0] if row else ''}", f"--file={target}")
    return heads


def _heads(connection: Connection) -> Heads:
    hashed, items, facilities = hashlib.sha256(), 0, 0
    for facility, position, head in connection.execute("SELECT facility, position, hash FROM feed ORDER BY facility"):
        hashed.update(f"{facility} {position} {bytes(head).hex()}\n".encode())
        items += position
        facilities += 1
    row = connection.execute("SELECT count(*) FROM item").fetchone()
    if row is None or row[0] != items:
        raise OurFault("the feeds' heads do not tell what the database holds", code="E_FEED_GAP")
    return Heads(facilities, items, hashed.hexdigest())


def _try_out(at: Server, dump: Path, heads: Heads) -> None:
    scratch = f"{at.name}_trial_{os.getpid()}"
    with _scratch(at, scratch):
        at.run("pg_restore", "--exit-on-error", "--no-owner", "--no-privileges", "-d", scratch, str(dump), name=scratch)
        _require_heads(at, scratch, heads)


def _require_heads(at: Server, name: str, wanted: Heads) -> None:
    with psycopg.connect(at.of(name)) as connection:
        if _heads(connection) != wanted:
            raise _corrupt("what comes out of it is not what went in")


@contextmanager
def _scratch(at: Server, name: str) -> Iterator[None]:
    """An empty database of this name, gone afterwards unless it was renamed. Raises OurFault (``E_PG_RIGHTS``)."""
    drop = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    try:
        with psycopg.connect(at.url, autocommit=True) as connection:
            connection.execute(drop)
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege:
        raise fault(
            "E_PG_RIGHTS",
            "The hub's role may not make databases, which trying out a backup needs.",
            "As an administrator: ALTER ROLE … CREATEDB",
        ) from None
    try:
        yield
    finally:
        with suppress(psycopg.Error), psycopg.connect(at.of("postgres"), autocommit=True) as connection:
            connection.execute(drop)


def _exchange_names(at: Server, scratch: str, aside: str) -> None:
    """Both names in one transaction. Raises OurFault (``E_PG_BUSY``) while somebody uses either."""
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    try:
        with psycopg.connect(at.of("postgres")) as connection:
            connection.execute(rename.format(sql.Identifier(at.name), sql.Identifier(aside)))
            connection.execute(rename.format(sql.Identifier(scratch), sql.Identifier(at.name)))
    except psycopg.errors.ObjectInUse:
        raise fault("E_PG_BUSY", "Another program uses the hub's database.", "Stop the hub and its commands.") from None


# -- the file ----------------------------------------------------------------------------------------------------------


def _pack(target: Path, manifest: Manifest, dump: Path) -> None:
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive, dump.open("rb") as content:
            said = msgspec.json.encode(manifest)
            archive.addfile(_entry(MANIFEST, len(said), manifest.made_ms), BytesIO(said))
            archive.addfile(_entry(DUMP, manifest.dump_bytes, manifest.made_ms), content)
        out.flush()
        os.fsync(out.fileno())


def _entry(name: str, size_bytes: int, made_ms: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size_bytes, 0o600, made_ms // 1000
    return entry


@contextmanager
def _opened(source: Path) -> Iterator[tuple[Manifest, IO[bytes]]]:
    try:
        with tarfile.open(source, mode="r:") as archive:
            raw = _member(archive, MANIFEST, MAX_MANIFEST_BYTES).read()
            try:
                manifest = msgspec.json.decode(raw, type=Manifest)
            except (msgspec.MsgspecError, RecursionError, ValueError):
                raise _corrupt("it does not say what it is") from None
            if manifest.schema != SCHEMA:
                raise _corrupt("it is something else, or of a newer program")
            yield manifest, _member(archive, DUMP, MAX_DUMP_BYTES)
    except FileNotFoundError:
        raise OurFault("there is no such file", code="E_NO_FILE") from None
    except (tarfile.TarError, EOFError):
        raise _corrupt("it is cut short, or no backup") from None


def _member(archive: tarfile.TarFile, name: str, limit_bytes: int) -> IO[bytes]:
    entry = archive.next()
    content = archive.extractfile(entry) if entry is not None and entry.isreg() else None
    if entry is None or content is None or entry.name != name or entry.size > limit_bytes:
        raise _corrupt("it is no backup of this program")
    return content


def _unpack(source: Path, target: Path) -> Manifest:
    hashed, size_bytes = hashlib.sha256(), 0
    with _opened(source) as (manifest, content):
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            while piece := content.read(_PIECE_BYTES):
                hashed.update(piece)
                size_bytes += len(piece)
                out.write(piece)
        if (size_bytes, hashed.hexdigest()) != (manifest.dump_bytes, manifest.dump_sha256):
            raise _corrupt("it was altered or is cut short")
        return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _only_for_now(*paths: Path) -> Iterator[None]:
    for path in paths:
        path.unlink(missing_ok=True)
    try:
        yield
    finally:
        for path in paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_fault(error: OSError) -> OurFault:
    reason = error.strerror or type(error).__name__
    return OurFault(f"the backup's file cannot be used ({reason})", code="E_DISK_FULL", next_step="make room there")


def _corrupt(why: str) -> TheirBytes:
    return TheirBytes(
        f"the backup cannot be used: {why}", code="E_BACKUP_CORRUPT", next_step="take another one; nothing was changed"
    )


def as_json(manifest: Manifest) -> Mapping[str, Any]:
    """What may be shown of a backup."""
    return msgspec.structs.asdict(manifest)
