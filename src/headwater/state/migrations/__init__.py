"""Alembic revisions of the warehouse. A new revision moves `HEAD`, and never edits one that was released."""

HEAD = "0010"
VERSION_TABLE = "warehouse_revision"
SCHEMA = "warehouse"
"""Where the tables are on PostgreSQL; SQLite has a file for them."""
