"""Move messages out of SQLite, and keep each message's outcome on PostgreSQL; count and trace rejections.

Existing messages are not copied.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.drop_table("messages")
    if op.get_context().dialect.name == "postgresql":
        op.create_table(
            "messages",
            sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("connection", sa.Integer, nullable=False),
            sa.Column("message_id", sa.String, nullable=False),
            sa.Column("received_at", sa.BigInteger, nullable=False),
            sa.Column("entry", sa.LargeBinary, nullable=False),
            sa.UniqueConstraint("connection", "message_id", name="messages_key"),
        )
    op.add_column("rejected_events", sa.Column("message_id", sa.String))
    op.create_index("rejected_events_by_message", "rejected_events", ["workspace", "message_id"])
    op.create_table(
        "refusals",
        sa.Column("workspace", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("connection", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("dialect", sa.String, primary_key=True),
        sa.Column("code", sa.String, primary_key=True),
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
    )
