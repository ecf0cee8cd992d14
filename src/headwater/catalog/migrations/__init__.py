"""Alembic revisions of the catalog. A new revision moves `HEAD`; a released revision is never edited."""

HEAD = "0007"
OLDEST_USABLE = "0007"
"""The head of the former version. Its code can use the tables at `HEAD`."""
VERSION_TABLE = "catalog_revision"
SCHEMA = "catalog"
"""The schema of the tables on PostgreSQL. SQLite has a file for them."""
