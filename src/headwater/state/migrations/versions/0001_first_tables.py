"""Messages, events, identities, rejected events, and positions of consumers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "messages",
        sa.Column("position", _POSITION, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, nullable=False),
        sa.Column("message_id", sa.String, nullable=False),
        sa.UniqueConstraint("connection", "message_id", name="messages_key"),
    )
    op.create_table(
        "events",
        sa.Column("position", _POSITION, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, nullable=False),
        sa.Column("pipeline", sa.Integer, nullable=False),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("events_by_time", "events", ["workspace", "timestamp"])
    op.create_table(
        "identities",
        sa.Column("id", _POSITION, primary_key=True),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, nullable=False),
        sa.Column("identity_id", sa.String, nullable=False),
        sa.Column("is_anonymous", sa.Boolean, nullable=False),
        sa.Column("pipeline", sa.Integer, nullable=False),
        sa.Column("anonymous_ids", sa.Text, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("connection", "identity_id", "is_anonymous", "pipeline", name="identities_key"),
    )
    op.create_index("identities_by_time", "identities", ["connection", "updated_at"])
    op.create_table(
        "rejected_events",
        sa.Column("position", _POSITION, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, nullable=False),
        sa.Column("dialect", sa.String, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("code", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("rejected_events_by_workspace", "rejected_events", ["workspace", "position"])
    op.create_table(
        "progress",
        sa.Column("consumer", sa.String, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("progress", "rejected_events", "identities", "events", "messages"):
        op.drop_table(table)
