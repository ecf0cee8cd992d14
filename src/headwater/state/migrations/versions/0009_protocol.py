"""Rename the wire format to `protocol`, and the counts of rejected events."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    for table in ("rejected_events", "refusals", "calls"):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN dialect TO protocol")
    op.execute("ALTER TABLE refusals RENAME TO rejection_counts")
