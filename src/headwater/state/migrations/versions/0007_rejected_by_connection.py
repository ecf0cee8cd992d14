"""Find rejected events by their source, to list them and to delete them with it."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_index("rejected_events_by_connection", "rejected_events", ["connection", "position"])
