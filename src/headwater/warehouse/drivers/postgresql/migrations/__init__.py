"""Alembic revisions of the warehouse on PostgreSQL.

A new revision moves `HEAD`, and never edits one that was released.
"""

HEAD = "0001"
OLDEST_USABLE = "0001"
"""The head of the former version. Its code can use the tables at `HEAD`."""
VERSION_TABLE = "event_revision"
"""`warehouse_revision` is the state store's: its tables were in this schema."""
SCHEMA = "warehouse"
