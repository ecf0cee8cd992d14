"""Alembic revisions of the catalog. A new revision moves `HEAD`; a released revision is never edited."""

HEAD = "0007"
VERSION_TABLE = "catalog_revision"
SCHEMA = "catalog"
"""The schema of the tables on PostgreSQL. SQLite has a file for them."""
