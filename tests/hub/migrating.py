"""A hub's database brought to a step of its schema, forwards or back: for tests of the steps."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from hub_server.database import STEPS


def bring(url: str, revision: str) -> None:
    """To that step, from wherever it is."""
    config = Config()
    config.set_main_option("script_location", str(STEPS))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        there = connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar()
        current = there and connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        (command.downgrade if current and str(current) > revision else command.upgrade)(config, revision)
    engine.dispose()
