"""Alembic itself, kept apart: only an upgrade needs it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def known(folder: Path) -> set[str]:
    """The names of the steps in a folder."""
    return {step.revision for step in ScriptDirectory.from_config(_config(folder)).walk_revisions()}


def run(folder: Path, connection: Connection) -> None:
    """All steps that this database lacks, on this connection, in its transaction."""
    config = _config(folder)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config(folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config
