"""Runs the migrations on the connection that `migrations.upgrade` hands over; there is no other way in."""

from __future__ import annotations

from alembic import context

from hwc_node.tables import NodeRow

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=NodeRow.metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
