"""The door to SQLCipher: opens the node's encrypted database, and gives out transactions that mean what they say.

Rules. Everything on the disk is encrypted; a SQLite without a cipher, or one with the WAL-reset corruption, is refused
before the file is touched. What is committed is durable (``synchronous=FULL``). A write takes its lock when it begins
(``BEGIN IMMEDIATE``), so that what it read is still true when it writes, whatever other programs do; a read sees the
database as it was when it began, and cannot write. Errors of the driver become this project's own and carry no values
of any row. The file is only ever opened through the SQLite of this driver, and never by ``open``: a second copy of
SQLite, or closing any other descriptor of the file, would drop its locks and corrupt it.

It refuses to know tables, records and where the key comes from.
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool
from sqlcipher3 import dbapi2 as sqlcipher  # type: ignore[import-untyped]  # the driver brings no types

from hwc_node.config import FILE_MODE, OTHERS, storage_fault
from hwc_node.turns import Turns
from sync_protocol.errors import HealthSyncError, NeedsPerson, OurFault, TheirBytes

KEY_BYTES: Final = 32
OLDEST_SAFE_SQLITE: Final = (3, 51, 3)
"""3.7.0 to 3.51.2 can corrupt a database in WAL mode when one connection writes while another one checkpoints."""

BUSY_TIMEOUT_MS: Final = 10_000  # a writer holds its lock for some milliseconds; ten seconds mean it hangs
OPEN_BUSY_TIMEOUT_MS: Final = 1_000  # while opening, where SQLite sometimes gives up at once, we try again ourselves
OPEN_TRIES: Final = 10
OPEN_PAUSE_S: Final = 0.1
POOL_CONNECTIONS: Final = 4  # one writer at a time, and a few readers
CACHE_KIB: Final = 2_048  # pages that each of them holds: enough for what one page or one save reads
POOL_EXTRA: Final = 6  # the local pages' threads at their busiest, and the sync
WAL_LIMIT_BYTES: Final = 16 * 1024 * 1024  # what a long write leaves of the log's file after the next checkpoint
REPLACE_TIMEOUT_S: Final = 600.0  # a gigabyte on a slow card
REPLACE_PAGES: Final = 2_000  # a step of some 8 MB, after which the time is looked at
PAGE_BYTES: Final = 4096  # SQLCipher's page: a database is a whole number of them
SPACE_THAT_IS_NOT_FULL_BYTES: Final = 1024 * 1024

BEGIN_OPTION: Final = "hwc_begin"
READ: Final = "read"
WRITE: Final = "write"

_creating = threading.Lock()
_queueing = threading.Lock()
_queues: WeakKeyDictionary[Engine, Turns] = WeakKeyDictionary()


def open_engine(path: Path, key: bytes, *, create: bool = True) -> Engine:
    """The database at ``path``, opened with the raw ``key`` of 32 bytes, its page 1 read and checked.

    With ``create`` a missing file is made (mode 0600). The engine's pool may be shared by threads, not by a forked
    child; ``engine.dispose()`` closes it. Used without ``begin_write`` or ``begin_read`` (migrations do), each of its
    transactions is a write. Raises ``OurFault``: ``E_OLD_SQLITE``, ``E_NO_CIPHER``, ``E_NO_DATABASE``,
    ``E_DISK_FULL``, ``E_READ_ONLY``, ``E_BUSY``, ``E_STORAGE``; ``NeedsPerson``: ``E_WRONG_KEY``; ``TheirBytes``:
    ``E_DB_CORRUPT``.
    """
    require_safe_sqlite()
    if len(key) != KEY_BYTES:
        raise OurFault(f"A database key is {KEY_BYTES} bytes.")
    _place(path, create=create)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        module=sqlcipher,
        creator=_creator(path, bytes(key)),
        poolclass=QueuePool,
        pool_size=POOL_CONNECTIONS,
        max_overflow=POOL_EXTRA,
        pool_timeout=BUSY_TIMEOUT_MS / 1000,
        hide_parameters=True,  # a statement's values are patients' data, and errors are logged
    )
    event.listen(engine, "begin", _begin)
    with _translated(path), engine.connect():  # the first connection also tells SQLAlchemy the version
        return engine


@contextmanager
def opened(path: Path, key: bytes) -> Iterator[Engine]:
    """As `open_engine`, for a database that is there; closed on leaving."""
    engine = open_engine(path, key, create=False)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def begin_write(engine: Engine) -> Iterator[Connection]:
    """A transaction that holds the write lock from its first moment; commits on leaving, rolls back on an error.

    ``Session(bind=connection)`` works inside of it; it is this block that commits. Once it is left without an error,
    what was written is on the disk. Not to be nested: the inner one would wait for the outer one until ``E_BUSY``.
    Raises the codes of ``translate``.
    """
    with _turns(engine).taken(BUSY_TIMEOUT_MS / 1000), _transaction(engine, WRITE) as connection:
        yield connection


@contextmanager
def begin_read(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state, that of its beginning, waits for no writer and keeps nothing.

    Writing in it is refused (``OurFault``, ``E_OUR_FAULT``). Raises the codes of ``translate``. Leave it soon: while
    a read is open, the log cannot be folded into the database and grows.
    """
    with _transaction(engine, READ) as connection:
        yield connection


def snapshot(engine: Engine, target: Path) -> None:
    """Write the database as it is at this moment into a new file, encrypted with the same key; others go on meanwhile.

    The file is durable on return and has mode 0600. Raises the codes of `translate`, and OSError where it cannot be
    made.
    """
    path = Path(engine.url.database) if engine.url.database else None
    with _creating, os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)):
        pass  # made first: SQLite would make it readable for everybody
    with _translated(path):
        pooled = engine.raw_connection()
        try:
            run = pooled.driver_connection.execute  # type: ignore[union-attr]
            run("PRAGMA query_only = OFF")
            run("VACUUM INTO ?", (str(target),))
        finally:
            pooled.close()
    with target.open("rb") as opened:
        os.fsync(opened.fileno())


def replace_content(path: Path, source: Path, key: bytes) -> None:
    """Put the content of ``source`` into the database at ``path``, in one transaction of SQLite's own.

    Programs that have it open go on with the new content; a power cut leaves the old or the new one, whole. Raises the
    codes of `translate`; ``E_BUSY`` where another program holds its lock for too long.
    """
    deadline_s = time.monotonic() + REPLACE_TIMEOUT_S

    def moved(_state: int, _left: int, _total: int) -> None:
        if time.monotonic() > deadline_s:
            raise _busy()

    with _translated(path):
        taken, given = _connect(source, key), _connect(path, key)
        try:
            taken.backup(given, pages=REPLACE_PAGES, progress=moved, sleep=OPEN_PAUSE_S)
        finally:
            taken.close()
            given.close()


def translate(error: Exception, *, path: Path | None = None) -> HealthSyncError:
    """This project's error for one of SQLAlchemy, the driver or the system; its own are returned as they are.

    ``E_DISK_FULL``, ``E_READ_ONLY``, ``E_BUSY``, ``E_STORAGE`` (the disk failed, or the file cannot be opened),
    ``E_NO_MEMORY``, ``E_DATABASE`` (everything else: we used it wrongly) are ``OurFault``; ``E_WRONG_KEY``
    is ``NeedsPerson``; ``E_DB_CORRUPT`` is ``TheirBytes``. ``path`` of the database tells more about some of them.
    The message holds the error's name only, since SQLite's own text may quote a statement.
    """
    if isinstance(error, HealthSyncError):
        return error
    if isinstance(error, PoolTimeout):
        return _busy()
    if isinstance(error, OSError):
        return storage_fault(error, "The database cannot be used")
    original = error.orig if isinstance(error, DBAPIError) else error
    number = getattr(original, "sqlite_errorcode", None)
    name = str(getattr(original, "sqlite_errorname", None) or type(original).__name__)
    primary = number & 0xFF if isinstance(number, int) else None  # the rest of the number only refines it
    if primary == sqlcipher.SQLITE_NOTADB:
        return _wrong_key(path)
    if primary == sqlcipher.SQLITE_CORRUPT:
        return _corrupt()
    if primary in (sqlcipher.SQLITE_BUSY, sqlcipher.SQLITE_LOCKED):
        return _busy()
    if primary == sqlcipher.SQLITE_FULL:
        return _full()
    if primary in (sqlcipher.SQLITE_IOERR, sqlcipher.SQLITE_CANTOPEN):
        return _io_fault(name, path)
    if primary in (sqlcipher.SQLITE_READONLY, sqlcipher.SQLITE_PERM):
        return _read_only()
    if primary == sqlcipher.SQLITE_NOMEM or isinstance(original, MemoryError):
        return OurFault("The database ran out of memory; nothing was changed.", code="E_NO_MEMORY")
    return OurFault(f"The database refused what it was asked ({name}); nothing was changed.", code="E_DATABASE")


def require_safe_sqlite(version: tuple[int, ...] = sqlcipher.sqlite_version_info) -> None:
    """Refuse a SQLite older than 3.51.3 (``OurFault``, ``E_OLD_SQLITE``): it may corrupt the database (DESIGN §7)."""
    if version < OLDEST_SAFE_SQLITE:
        found, wanted = (".".join(map(str, numbers)) for numbers in (version, OLDEST_SAFE_SQLITE))
        raise OurFault(
            f"This SQLite is {found}; before {wanted} it can corrupt a database that two programs use.",
            code="E_OLD_SQLITE",
            next_step="Install sqlcipher3 0.6.4 or later.",
        )


def _place(path: Path, *, create: bool) -> None:
    """Make the file with mode 0600 before SQLite sees it (its log and index take their mode from it), or tighten it.

    An existing file is not opened here: closing a second descriptor would drop the locks that this program's SQLite
    holds on it. The lock keeps two threads from meeting between making the file and closing it.
    """
    try:
        with _creating:
            if create and not path.exists():
                path.touch(mode=FILE_MODE, exist_ok=False)
            if stat.S_IMODE(path.stat().st_mode) & OTHERS:
                path.chmod(FILE_MODE)
    except FileExistsError:
        pass  # another program made it a moment ago, with the same mode
    except FileNotFoundError as error:
        raise OurFault(
            "There is no database in this home.", code="E_NO_DATABASE", next_step="Enrol this node with 'hwc enrol'."
        ) from error
    except OSError as error:
        raise storage_fault(error, "The database cannot be used") from error


def _creator(path: Path, key: bytes) -> Callable[[], Any]:
    """A function that opens one connection. ``isolation_level=None``: the driver never begins anything by itself."""

    def connect() -> Any:
        for _ in range(OPEN_TRIES - 1):
            try:
                return _connect(path, key)
            except sqlcipher.OperationalError as error:
                if error.sqlite_errorcode != sqlcipher.SQLITE_BUSY:
                    raise
            time.sleep(OPEN_PAUSE_S)  # another program recovers the log or sets the mode just now
        return _connect(path, key)

    return connect


def _connect(path: Path, key: bytes) -> Any:
    connection = sqlcipher.connect(
        str(path), timeout=OPEN_BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection, key)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: Any, key: bytes) -> None:
    """Key first: before it SQLite would take the file for a plain database. The settings hold for this connection."""
    run = connection.execute
    run("PRAGMA cipher_log_level = NONE")  # it would write to stderr; what goes wrong comes back as an error anyway
    run(f"PRAGMA key = \"x'{key.hex()}'\"")
    if not run("PRAGMA cipher_version").fetchone():
        raise OurFault(
            "This SQLite has no cipher; patients' records would stand on the disk in the clear.",
            code="E_NO_CIPHER",
            next_step="Install sqlcipher3 0.6.4 or later.",
        )
    run("SELECT count(*) FROM sqlite_schema").fetchone()  # reads page 1: the wrong key shows here
    if run("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise OurFault(
            "This file system cannot hold a database that several programs use at once.",
            code="E_STORAGE",
            next_step="Choose a folder on a local disk with HWC_HOME.",
        )
    run("PRAGMA synchronous = FULL")  # nothing is called saved before it survives a power cut
    run(f"PRAGMA cache_size = -{CACHE_KIB}")
    run("PRAGMA temp_store = MEMORY")  # temporary files would not be encrypted
    run("PRAGMA secure_delete = ON")
    run("PRAGMA foreign_keys = ON")  # records refer softly (DESIGN §3); what a table does declare shall hold
    run(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    run(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _begin(connection: Connection) -> None:
    """SQLAlchemy's event at the start of each transaction. Both states are set anew, so a pool cannot mix them up."""
    if connection.get_execution_options().get(BEGIN_OPTION, WRITE) == READ:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.exec_driver_sql("BEGIN")
        # A deferred BEGIN sees nothing yet: the first read fixes what the transaction sees.
        connection.exec_driver_sql("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    else:
        connection.exec_driver_sql("PRAGMA query_only = OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _transaction(engine: Engine, mode: str) -> Iterator[Connection]:
    path = Path(engine.url.database) if engine.url.database else None
    with _translated(path, mode), engine.connect().execution_options(**{BEGIN_OPTION: mode}) as connection:
        transaction = connection.begin()
        if mode == READ:
            try:
                yield connection
            finally:
                transaction.rollback()
        else:
            with transaction:
                yield connection


def _turns(engine: Engine) -> Turns:
    """Who writes next through this engine."""
    with _queueing:
        return _queues.setdefault(engine, Turns())


@contextmanager
def _translated(path: Path | None, mode: str = WRITE) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout, sqlcipher.Error) as error:
        translated = translate(error, path=path)
        if mode == READ and translated.code == "E_READ_ONLY":
            translated = OurFault("A transaction that only reads was asked to write.")
        raise translated from error


def _wrong_key(path: Path | None) -> HealthSyncError:
    """SQLite says "not a database": the key is wrong, or page 1 is. Only a wrong size or a plain file tells which."""
    if path is not None:
        size_bytes = path.stat().st_size if path.is_file() else 0
        if size_bytes % PAGE_BYTES or _is_plain(path):
            return _corrupt()
    return NeedsPerson(
        "The database does not open with this key.",
        code="E_WRONG_KEY",
        next_step="Check that node.db and slots.json belong together; if they do, the file is damaged: restore it.",
    )


def _is_plain(path: Path) -> bool:
    """Whether the file is an unencrypted SQLite database, asked of SQLite itself (see the rules above)."""
    connection = None
    try:
        connection = sqlcipher.connect(path.absolute().as_uri() + "?mode=ro", uri=True, isolation_level=None)
        return connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() is not None
    except sqlcipher.Error:
        return False
    finally:
        if connection is not None:
            connection.close()


def _io_fault(name: str, path: Path | None) -> OurFault:
    """A read or write failed, or the file cannot be opened: a full disk, a read-only card, or a dying one."""
    folder = path.parent if path is not None else None
    try:
        if path is not None and name.startswith("SQLITE_IOERR") and _is_at_size_limit(path):
            return _full()
        if folder is not None and shutil.disk_usage(folder).free >= SPACE_THAT_IS_NOT_FULL_BYTES:
            return _failing(name) if os.access(folder, os.W_OK) else _read_only()
    except OSError:
        return _failing(name)  # the folder itself is gone or unreadable
    return _full() if name.startswith("SQLITE_IOERR") else _failing(name)


def _is_at_size_limit(path: Path) -> bool:
    """Whether the system lets a file of the database grow no more (``ulimit -f``): to a person that is a full disk."""
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit_bytes == resource.RLIM_INFINITY:
        return False
    files = (path, path.with_name(path.name + "-wal"))
    return any(file.stat().st_size + PAGE_BYTES > limit_bytes for file in files if file.exists())


def _full() -> OurFault:
    return OurFault(
        "The disk is full; nothing was changed.",
        code="E_DISK_FULL",
        next_step="Free some space and save again; what was saved before is safe.",
    )


def _read_only() -> OurFault:
    return OurFault(
        "The disk or the database file is read-only; nothing was changed.",
        code="E_READ_ONLY",
        next_step="Check the card's lock and its health, and that the folder belongs to this user.",
    )


def _failing(name: str) -> OurFault:
    return OurFault(
        f"The disk did not read or write the database ({name}); nothing was changed.",
        code="E_STORAGE",
        next_step="Check the disk's quota and health, and copy the home folder to another disk.",
    )


def _busy() -> OurFault:
    return OurFault(
        "Another program keeps the database locked; nothing was changed.",
        code="E_BUSY",
        next_step="Wait a moment and repeat; if it stays so, look for a program that hangs.",
    )


def _corrupt() -> TheirBytes:
    return TheirBytes(
        "The database file is damaged, or is no database of this program.",
        code="E_DB_CORRUPT",
        next_step="Keep the file, and restore the latest backup or enrol anew; the hub gives back what it holds.",
    )
