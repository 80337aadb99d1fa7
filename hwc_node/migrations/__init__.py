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

HEAD: Final = "0001"
"""The newest step. A test holds it to what is in ``versions``."""


def upgrade(engine: Engine) -> None:
    """Make or upgrade the schema, in one transaction. Raises NeedsPerson (``E_DB_NEWER``), and changes nothing then."""
    with begin_read(engine) as connection:
        if version(connection) == HEAD:
            return
    config = Config()
    config.set_main_option("script_location", str(resources.files("hwc_node").joinpath("migrations")))
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    with begin_write(engine) as connection:
        current = version(connection)  # anew, with the lock held: two programs starting at once upgrade once
        if current is not None and current not in known:
            raise NeedsPerson(
                "The database was made by a newer version of this program; nothing was changed.",
                code="E_DB_NEWER",
                next_step="Install that version, or a later one.",
            )
        if current != HEAD:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def version(connection: Connection) -> str | None:
    """The step that the database is at, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)
