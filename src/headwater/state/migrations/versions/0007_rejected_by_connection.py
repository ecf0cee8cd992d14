"""Refused events are found by their source, to be listed, and to be removed when it is."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_index("rejected_events_by_connection", "rejected_events", ["connection", "position"])
