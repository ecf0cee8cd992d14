"""Alembic revisions of the catalog. A new revision moves `HEAD`, and never edits one that was released."""

HEAD = "0004"
VERSION_TABLE = "catalog_revision"
SCHEMA = "catalog"
"""Where the tables are on PostgreSQL; SQLite has a file for them."""
