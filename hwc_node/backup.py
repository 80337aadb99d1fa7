"""Backups: one file with the encrypted database and its key slots, made while people work, and the way back.

Rules. A backup is a snapshot of one moment, encrypted as the database is; its file is whole and durable or is not there.
It opens with the passphrases that opened the node when it was made. Restoring checks everything before it changes
anything, keeps what was there in a backup of its own, and replaces a database that other programs have open through
SQLite itself, so that nobody goes on writing into a file that was moved away. A restored node needs no special care:
its old cursor brings it everything that it lacks, its own lost changes included (PROTOCOL.md §11).

It refuses to know what stands in the database.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from hwc_node import engine, keystore, membership, migrations, sync
from hwc_node.config import FILE_MODE, NodeConfig, make_folders, storage_fault
from hwc_node.engine import begin_read, begin_write, open_engine
from hwc_node.keystore import MAX_FILE_BYTES, DatabaseKey, Unlocked
from hwc_node.store import Store
from sync_protocol.errors import HealthSyncError, NeedsPerson, OurFault, TheirBytes

SCHEMA: Final = "hwc.backup/1"
MANIFEST: Final = "backup.json"
SLOTS: Final = "slots.json"
DATABASE: Final = "node.db"
MAX_MANIFEST_BYTES: Final = 16 * 1024
MAX_DATABASE_BYTES: Final = 64 * 1024**3  # twenty years of the largest centre; a lie about it is refused early
LOCK_WAIT_S: Final = 30.0  # another backup or restore of this home
_PIECE_BYTES: Final = 1024 * 1024


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says of itself. database_sha256: hex. node: hex, 32 digits. made_ms: since 1970."""

    schema: str
    node: str
    facility: str
    made_ms: int
    database_bytes: int
    database_sha256: str
    program: str = ""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back. kept: the backup of what was there before, None where there was nothing."""

    manifest: Manifest
    kept: Path | None


def write(store: Store, target: Path, now_ms: int, *, replace: bool = False, program: str = "") -> Manifest:
    """Back up the open node into a new file of mode 0600, durable on return.

    Raises OurFault (``E_FILE_EXISTS`` unless ``replace``, ``E_DISK_FULL``, ``E_READ_ONLY``, ``E_STORAGE``).
    """
    if target.exists() and not replace:
        raise OurFault(
            "There is a file of this name already.", code="E_FILE_EXISTS", next_step="Choose another, or give --yes."
        )
    with sync.one_at_a_time(store.config.lock_path, LOCK_WAIT_S):
        return _write(store, target, now_ms, program)


def _write(store: Store, target: Path, now_ms: int, program: str) -> Manifest:
    partial = target.with_name(target.name + ".partial")
    snapshot = store.config.home / "snapshot.db"
    try:
        with _only_for_now(snapshot, partial):
            engine.snapshot(store.engine, snapshot)
            manifest = _manifest(store, snapshot, now_ms, program)
            _pack(partial, manifest, store.config.slots_path.read_bytes(), snapshot)
            partial.replace(target)
            _sync_folder(target.parent)
    except OSError as error:
        raise storage_fault(error, "The backup cannot be written") from error
    with begin_write(store.engine) as connection:
        membership.put(connection, {membership.LAST_BACKUP_MS: now_ms})
    return manifest


def read_manifest(source: Path) -> Manifest:
    """What the backup says of itself, without a passphrase. Raises OurFault (``E_NO_FILE``) or TheirBytes."""
    with _opened(source) as (manifest, _, _):
        return manifest


def unlock(config: NodeConfig, source: Path, passphrase: str, name: str | None = None) -> Unlocked:
    """The key, by one of the backup's slots, or by one of the home's, where a passphrase was changed since.

    Raises as `keystore.unlock` does, and as `read_manifest`.
    """
    make_folders(config)
    with _opened(source) as (_, slots, _), sync.one_at_a_time(config.lock_path, LOCK_WAIT_S):
        path = config.home / "restoring-slots.json"
        with _only_for_now(path):
            _write_new(path, slots)
            try:
                return keystore.unlock(path, passphrase, name)
            except NeedsPerson:
                if not config.slots_path.exists():
                    raise
            unlocked = keystore.unlock(config.slots_path, passphrase, name)
            if not keystore.is_key_of(path, unlocked.key):
                raise _other_node()
            return unlocked


def restore(config: NodeConfig, source: Path, unlocked: Unlocked, now_ms: int) -> Restored:
    """Put the backup's database in the place of this home's, which is backed up first where there is one.

    Everything is checked before anything is changed. Raises TheirBytes (``E_BACKUP_CORRUPT``, ``E_DB_CORRUPT``),
    NeedsPerson (``E_OTHER_NODE``: the home is another node's; ``E_DB_NEWER``) or OurFault (the disk's).
    """
    make_folders(config)
    incoming = config.home / "restoring.db"
    with (
        sync.one_at_a_time(config.lock_path, LOCK_WAIT_S),
        _only_for_now(incoming),
        _opened(source) as (manifest, slots, database),
    ):
        try:
            _unpack(database, manifest, incoming)
        except OSError as error:
            raise storage_fault(error, "The backup cannot be unpacked") from error
        _check(incoming, unlocked.key, manifest)
        kept = _keep_what_is_here(config, unlocked.key, manifest, now_ms)
        if not config.slots_path.exists():
            _write_new(config.slots_path, slots)
        if config.database_path.exists():
            engine.replace_content(config.database_path, incoming, unlocked.key)
        else:
            incoming.replace(config.database_path)
            _sync_folder(config.home)
    with Store.open(config, unlocked.key):  # upgrades it where this program is newer
        return Restored(manifest, kept)


def undo_upgrade(config: NodeConfig, unlocked: Unlocked, now_ms: int) -> Path:
    """Put back the copy that was made before the last upgrade; where the upgraded database is kept from then on.

    For an older program, which cannot open what a newer one made. As after any restore, what was sent since comes back
    with the next sync; what was not is only in the file that is kept. Raises OurFault (``E_NO_FILE``, the disk's),
    NeedsPerson (``E_DB_NEWER``: the copy too is newer than this program; ``E_WRONG_KEY``).
    """
    copy, incoming = migrations.kept_copy(config.database_path), config.home / "restoring.db"
    if not copy.exists():
        raise OurFault("There is no copy from before an upgrade here.", code="E_NO_FILE")
    kept, partial = config.home / f"after-upgrade-{now_ms}.db", config.home / "after-upgrade.partial"
    with sync.one_at_a_time(config.lock_path, LOCK_WAIT_S), _only_for_now(incoming, partial):
        try:
            with engine.opened(copy, unlocked.key) as found:
                migrations.require_known(found)
                engine.snapshot(found, incoming)
            with engine.opened(config.database_path, unlocked.key) as found:
                engine.snapshot(found, partial)
            partial.replace(kept)
            _sync_folder(config.home)
        except OSError as error:
            raise storage_fault(error, "The databases cannot be copied") from error
        engine.replace_content(config.database_path, incoming, unlocked.key)
    return kept


# -- writing -----------------------------------------------------------------------------------------------------------


def _manifest(store: Store, snapshot: Path, now_ms: int, program: str) -> Manifest:
    member = store.membership
    hashed = hashlib.sha256()
    with snapshot.open("rb") as opened:
        while piece := opened.read(_PIECE_BYTES):
            hashed.update(piece)
    size_bytes = snapshot.stat().st_size
    return Manifest(SCHEMA, member.node.hex(), member.facility, now_ms, size_bytes, hashed.hexdigest(), program)


def _pack(target: Path, manifest: Manifest, slots: bytes, database: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as out:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, MANIFEST, msgspec.json.encode(manifest), manifest.made_ms)
            _add(archive, SLOTS, slots, manifest.made_ms)
            with database.open("rb") as opened:
                archive.addfile(_entry(DATABASE, manifest.database_bytes, manifest.made_ms), opened)
        out.flush()
        os.fsync(out.fileno())


def _entry(name: str, size_bytes: int, made_ms: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size_bytes, FILE_MODE, made_ms // 1000
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes, made_ms: int) -> None:
    archive.addfile(_entry(name, len(content), made_ms), io.BytesIO(content))


# -- reading -----------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(source: Path) -> Iterator[tuple[Manifest, bytes, IO[bytes]]]:
    """(manifest, slots, the database's bytes as a stream), each of them where it belongs and of a size that is allowed."""
    try:
        with tarfile.open(source, mode="r:") as archive:
            manifest = _read_manifest(_member(archive, MANIFEST, MAX_MANIFEST_BYTES).read())
            slots = _member(archive, SLOTS, MAX_FILE_BYTES).read()
            yield manifest, slots, _member(archive, DATABASE, MAX_DATABASE_BYTES)
    except FileNotFoundError as error:
        raise OurFault("There is no such file.", code="E_NO_FILE") from error
    except (tarfile.TarError, EOFError) as error:
        raise _corrupt("it is cut short, or no backup") from error
    except HealthSyncError:
        raise
    except OSError as error:
        raise storage_fault(error, "The backup cannot be read") from error


def _member(archive: tarfile.TarFile, name: str, limit_bytes: int) -> IO[bytes]:
    """The next entry, which has to be this plain file."""
    entry = archive.next()
    if entry is None or entry.name != name or not entry.isreg() or entry.size > limit_bytes:
        raise _corrupt("it is no backup of this program")
    content = archive.extractfile(entry)
    if content is None:
        raise _corrupt("it is no backup of this program")
    return content


def _read_manifest(raw: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        raise _corrupt("it does not say what it is") from None
    if manifest.schema != SCHEMA:
        raise _corrupt(
            "a newer program made it" if manifest.schema.startswith("hwc.backup/") else "it is something else"
        )
    return manifest


def _unpack(content: IO[bytes], manifest: Manifest, target: Path) -> None:
    hashed, size_bytes = hashlib.sha256(), 0
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb") as out:
        while piece := content.read(_PIECE_BYTES):
            hashed.update(piece)
            size_bytes += len(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    if size_bytes != manifest.database_bytes or hashed.hexdigest() != manifest.database_sha256:
        raise _corrupt("its database was altered or is cut short")


def _check(path: Path, key: bytes, manifest: Manifest) -> None:
    """Open it as this program would, and look through all of it."""
    opened = open_engine(path, key, create=False)
    try:
        migrations.require_known(opened)
        with begin_read(opened) as connection:
            sound = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check(1)")] == ["ok"]
            sound = sound and not connection.exec_driver_sql("PRAGMA cipher_integrity_check").fetchall()
            node = membership.get(connection, membership.NODE, b"")
    finally:
        opened.dispose()
    if not sound or node.hex() != manifest.node:
        raise _corrupt("its database is damaged")


def _keep_what_is_here(config: NodeConfig, key: DatabaseKey, manifest: Manifest, now_ms: int) -> Path | None:
    """Back up the home's present database, where it is the same node's and can be opened; put it aside where it cannot.

    Raises NeedsPerson (``E_OTHER_NODE``) for a home of another node.
    """
    if config.slots_path.exists() and not keystore.is_key_of(config.slots_path, key):
        raise _other_node()
    if not config.database_path.exists():
        return None
    target = config.home / f"before-restore-{now_ms}.hwcbackup"
    try:
        with Store.open(config, key) as store:
            if store.membership.node.hex() != manifest.node:
                raise _other_node()
            _write(store, target, now_ms, manifest.program)
    except TheirBytes:  # it is damaged: nobody can write into it any more, so it may be moved
        aside = config.home / f"damaged-{now_ms}.db"
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{config.database_path}{ending}").replace(f"{aside}{ending}")
        return aside
    return target


# -- files -------------------------------------------------------------------------------------------------------------


@contextmanager
def _only_for_now(*paths: Path) -> Iterator[None]:
    """No trace of these stays, nor of what SQLite puts beside them; what a killed program left goes first."""
    _remove(paths)
    try:
        yield
    finally:
        _remove(paths)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        for ending in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                Path(f"{path}{ending}").unlink()


def _write_new(path: Path, content: bytes) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        _sync_folder(path.parent)
    except OSError as error:
        raise storage_fault(error, "The key slots cannot be written") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _corrupt(why: str) -> TheirBytes:
    return TheirBytes(
        f"The backup cannot be used: {why}.",
        code="E_BACKUP_CORRUPT",
        next_step="Take another one; nothing was changed.",
    )


def _other_node() -> NeedsPerson:
    return NeedsPerson(
        "This home is another node's than the backup.",
        code="E_OTHER_NODE",
        next_step="Choose another folder with HWC_HOME; nothing was changed.",
    )
