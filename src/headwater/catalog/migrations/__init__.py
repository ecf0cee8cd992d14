"""Alembic revisions of the catalog. A new revision moves `HEAD`, and never edits one that was released."""

HEAD = "0002"
VERSION_TABLE = "catalog_revision"
