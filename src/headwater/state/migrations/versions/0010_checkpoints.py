"""Checkpoints are bytes by owner; removing and listing rows never reads a whole table."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    checkpoints = op.create_table(
        "checkpoints",
        sa.Column("owner", sa.String, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    progress = op.get_bind().execute(sa.text("SELECT consumer, position FROM progress WHERE position > 0"))
    rows = [{"owner": consumer, "value": int(position).to_bytes(8)} for consumer, position in progress]
    if rows:
        op.bulk_insert(checkpoints, rows)
    op.drop_table("progress")
    op.create_index("identities_by_pipeline", "identities", ["pipeline"])
    op.create_index("rejection_counts_by_connection", "rejection_counts", ["connection"])
    for name, columns in (
        ("rejected_events_by_workspace", ["workspace", "position", "connection", "protocol"]),
        ("rejected_events_by_connection", ["connection", "position", "workspace", "protocol"]),
    ):
        op.drop_index(name, "rejected_events")
        op.create_index(name, "rejected_events", columns)
