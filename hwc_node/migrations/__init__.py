"""Brings a node's database up to this program's schema, and refuses one that a newer program made.

The steps are Alembic's, in ``versions``; there is no command line for them. A database that is up to date is only
looked at: no lock is taken, no step is searched for, since every command of a slow machine starts here.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from hwc_node.engine import begin_read, begin_write
from sync_protocol.errors import NeedsPerson

HEAD: Final = "0003"
"""The newest step. A test holds it to what is in ``versions``."""


def upgrade(engine: Engine) -> None:
    """Make or upgrade the schema, in one transaction. Raises NeedsPerson (``E_DB_NEWER``), and changes nothing then."""
    with begin_read(engine) as connection:
        if version(connection) == HEAD:
            return
    config = _config()
    with begin_write(engine) as connection:
        current = version(connection)  # anew, with the lock held: two programs starting at once upgrade once
        _require_known(config, current)
        if current != HEAD:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def require_known(engine: Engine) -> None:
    """Raise NeedsPerson (``E_DB_NEWER``) for a database of a newer program. Changes nothing."""
    with begin_read(engine) as connection:
        current = version(connection)
    if current != HEAD:
        _require_known(_config(), current)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("hwc_node").joinpath("migrations")))
    return config


def _require_known(config: Config, current: str | None) -> None:
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise NeedsPerson(
            "The database was made by a newer version of this program; nothing was changed.",
            code="E_DB_NEWER",
            next_step="Install that version, or a later one.",
        )


def version(connection: Connection) -> str | None:
    """The step that the database is at, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)
