"""Alembic revisions of operations. A new revision moves `HEAD`; a released revision is never edited."""

HEAD = "0002"
OLDEST_USABLE = "0002"
"""The head of the former version. Its code can use the tables at `HEAD`."""
VERSION_TABLE = "operation_revision"
SCHEMA = "operations"
"""The schema of the tables on PostgreSQL. On SQLite they have a file of their own."""
