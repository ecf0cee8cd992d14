"""Alembic revisions of runs. A new revision moves `HEAD`; a released revision is never edited."""

HEAD = "0002"
OLDEST_USABLE = "0001"
"""The head of the former version. Its code can use the tables at `HEAD`."""
VERSION_TABLE = "run_revision"
SCHEMA = "runs"
"""The schema of the tables on PostgreSQL. On SQLite they have a file of their own."""
