"""Alembic revisions of the courier's state. A new revision moves `HEAD`; a released revision is never edited."""

HEAD = "0003"
OLDEST_USABLE = "0003"
"""The head of the former version. Its code can use the tables at `HEAD`."""
VERSION_TABLE = "courier_revision"
SCHEMA = "courier"
"""The schema of the tables on PostgreSQL. On SQLite they have a file of their own."""
