"""Tests of the hub, one file a module, against a real PostgreSQL."""
