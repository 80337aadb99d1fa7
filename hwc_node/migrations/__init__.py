"""Brings a node's database up to this program's schema, and refuses one that a newer program made.

The steps are Alembic's, in ``versions``; there is no command line for them. All that are missing are done in one
transaction, so a power cut leaves the old schema or the new one, and the next start goes on from there. Before a
database with content is changed, a copy of it as it was is kept beside it (`kept_copy`), encrypted with the same key:
the way back to the older program, which refuses what this one made. There is one such copy: the next upgrade replaces
it, and an order to erase a patient drops it. A database that is up to date is only looked at: no lock is taken, no step
is searched for, since every command of a slow machine starts here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from hwc_node.config import storage_fault
from hwc_node.engine import begin_read, begin_write, snapshot
from sync_protocol.errors import NeedsPerson

HEAD: Final = "0014"
"""The newest step. A test holds it to what is in ``versions``."""

KEPT_SUFFIX: Final = ".before-upgrade"
_PARTIAL_SUFFIX: Final = ".partial"
_JOURNAL_SUFFIX: Final = "-journal"  # SQLite's own, beside a copy that was cut off


@dataclass(frozen=True, slots=True)
class Steps:
    """Where the steps lie, and the newest of them."""

    folder: Path
    head: str


STEPS: Final = Steps(Path(str(resources.files("hwc_node").joinpath("migrations"))), HEAD)


def upgrade(engine: Engine, steps: Steps = STEPS) -> None:
    """Make or upgrade the schema, in one transaction; nothing is changed where it raises.

    Raises NeedsPerson (``E_DB_NEWER``), OurFault (``E_DISK_FULL`` where there is no room for the copy of what was, and
    what `engine.snapshot` raises).
    """
    with begin_read(engine) as connection:
        if version(connection) == steps.head:
            return
    from hwc_node.migrations import running  # Alembic takes 10 MB and a fifth of every command's start

    with begin_write(engine) as connection:
        current = version(connection)  # anew, with the lock held: two programs starting at once upgrade once
        if current == steps.head:
            return
        if current is not None:
            _require_known(running.known(steps.folder), current)
            _keep_copy(engine)
        running.run(steps.folder, connection)


def kept_copy(database: Path) -> Path:
    """Where the copy of the database at ``database`` lies that was made before its last upgrade, if there was one."""
    return database.with_name(database.name + KEPT_SUFFIX)


def drop_copy(database: Path) -> None:
    """Drop what `kept_copy` names, where it is there. Raises OurFault."""
    try:
        kept_copy(database).unlink(missing_ok=True)
    except OSError as error:
        raise storage_fault(error, "The copy of the database before its upgrade cannot be dropped") from error


def _keep_copy(engine: Engine) -> None:
    """Copy what is committed, while the write lock is held: whole and durable at `kept_copy`, or not there."""
    kept = kept_copy(Path(str(engine.url.database)))
    partial = kept.with_name(kept.name + _PARTIAL_SUFFIX)
    left_overs = (partial, partial.with_name(partial.name + _JOURNAL_SUFFIX))
    try:
        for one in left_overs:
            one.unlink(missing_ok=True)
        try:
            snapshot(engine, partial)
            os.replace(partial, kept)
        finally:
            for one in left_overs:
                one.unlink(missing_ok=True)
        folder = os.open(kept.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise storage_fault(error, "The database cannot be copied before its upgrade") from error


def require_known(engine: Engine) -> None:
    """Raise NeedsPerson (``E_DB_NEWER``) for a database of a newer program. Changes nothing."""
    with begin_read(engine) as connection:
        current = version(connection)
    if current is not None and current != HEAD:
        from hwc_node.migrations import running  # as in `upgrade`

        _require_known(running.known(STEPS.folder), current)


def _require_known(known: set[str], current: str) -> None:
    if current not in known:
        raise NeedsPerson(
            "The database was made by a newer version of this program; nothing was changed.",
            code="E_DB_NEWER",
            next_step="Install that version, or a later one; or go back to before its upgrade: hwc restore --before-upgrade",
        )


def version(connection: Connection) -> str | None:
    """The step that the database is at, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)
