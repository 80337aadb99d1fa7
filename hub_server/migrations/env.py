"""Runs the migrations on the connection that `database.migrate` hands over; there is no other way in."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from hub_server import tables  # noqa: F401  # its classes register themselves in the metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=SQLModel.metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
