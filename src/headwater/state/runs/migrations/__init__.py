"""Alembic revisions of runs. A new revision moves `HEAD`; a released revision is never edited."""

HEAD = "0002"
VERSION_TABLE = "run_revision"
SCHEMA = "runs"
"""The schema of the tables on PostgreSQL. On SQLite they have a file of their own."""
