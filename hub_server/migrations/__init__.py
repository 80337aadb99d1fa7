"""The hub's database schema, step by step (Alembic). `database.migrate` runs what is missing."""
