"""Bodies, chunks, dead letters and attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "delivery_locks",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "delivery_appends",
        sa.Column("chunk", _Id, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "delivery_bodies",
        sa.Column("id", _Id, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("positions", sa.LargeBinary, nullable=False),
        sa.Column("documents", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "delivery_chunks",
        sa.Column("id", _Id, primary_key=True, autoincrement=False),
        sa.Column("destination", sa.Integer, nullable=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("body", sa.BigInteger, nullable=False),
        sa.Column("first_position", sa.BigInteger, nullable=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("item_count", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("raw_bytes", sa.Integer, nullable=False),
        sa.Column("enqueued_at", sa.BigInteger, nullable=False),
        sa.Column("origin", sa.String, nullable=False),
        sa.Column("wanted", sa.LargeBinary, nullable=False),
        sa.Column("done", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "delivery_counts",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("destination", sa.Integer, nullable=False),
        sa.Column("open_items", sa.BigInteger, nullable=False),
        sa.Column("open_bytes", sa.BigInteger, nullable=False),
        sa.Column("dead_items", sa.BigInteger, nullable=False),
        sa.Column("dead_bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "delivery_lanes",
        sa.Column("destination", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("failing_since", sa.BigInteger, nullable=False),
        sa.Column("paused_until", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("last_status", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.Column("last_response", sa.LargeBinary, nullable=False),
        sa.Column("last_success_at", sa.BigInteger, nullable=False),
        sa.Column("learned", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", _Id, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("destination", sa.Integer, nullable=False),
        sa.Column("pipeline", sa.Integer, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("step", sa.String, nullable=False),
        sa.Column("enqueued_at", sa.BigInteger, nullable=False),
        sa.Column("died_at", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("message_id", sa.String, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.String),
        sa.Column("anonymous_id", sa.String),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "dead_chunks",
        sa.Column("id", _Id, primary_key=True, autoincrement=False),
        sa.Column("destination", sa.Integer, nullable=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("body", sa.BigInteger, nullable=False),
        sa.Column("first_position", sa.BigInteger, nullable=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("item_count", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("raw_bytes", sa.Integer, nullable=False),
        sa.Column("enqueued_at", sa.BigInteger, nullable=False),
        sa.Column("origin", sa.String, nullable=False),
        sa.Column("wanted", sa.LargeBinary, nullable=False),
        sa.Column("done", sa.LargeBinary, nullable=False),
        sa.Column("died_at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
    )
    op.create_table(
        "dead_ranges",
        sa.Column("id", _Id, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("destination", sa.Integer, nullable=False),
        sa.Column("first_position", sa.BigInteger, nullable=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("pipelines", sa.LargeBinary, nullable=False),
        sa.Column("enqueued_at", sa.BigInteger, nullable=False),
        sa.Column("died_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "dead_counts",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("destination", sa.Integer, nullable=False),
        sa.Column("pipeline", sa.Integer, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "delivery_log",
        sa.Column("chunk", _Id, primary_key=True, autoincrement=False),
        sa.Column("destination", sa.Integer, nullable=False),
        sa.Column("origin", sa.String, nullable=False),
        sa.Column("first_position", sa.BigInteger, nullable=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("enqueued_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("attempts", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "delivery_operations",
        sa.Column("operation", sa.String, primary_key=True),
        sa.Column("cursor", sa.LargeBinary, nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("is_complete", sa.Boolean, nullable=False),
    )
    op.create_index("delivery_chunks_by_destination", "delivery_chunks", ["destination", "id"])
    op.create_index("delivery_chunks_by_body", "delivery_chunks", ["body"])
    op.create_index("delivery_chunks_by_position", "delivery_chunks", ["destination", "origin", "first_position"])
    op.create_index("dead_letters_by_workspace", "dead_letters", ["workspace", "died_at", "id"])
    op.create_index("dead_letters_by_destination", "dead_letters", ["destination", "died_at", "id"])
    op.create_index("dead_letters_by_reason", "dead_letters", ["pipeline", "reason", "died_at", "id"])
    op.create_index("dead_letters_by_position", "dead_letters", ["destination", "position"])
    op.create_index("dead_chunks_by_workspace", "dead_chunks", ["workspace", "died_at", "id"])
    op.create_index("dead_chunks_by_destination", "dead_chunks", ["destination", "died_at", "id"])
    op.create_index("dead_chunks_by_body", "dead_chunks", ["body"])
    op.create_index("dead_chunks_by_position", "dead_chunks", ["destination", "origin", "first_position"])
    op.create_index("dead_ranges_by_workspace", "dead_ranges", ["workspace", "id"])
    op.create_index("dead_ranges_by_destination", "dead_ranges", ["destination", "last_position"])
    op.create_index("dead_counts_by_workspace", "dead_counts", ["workspace", "destination"])
    op.create_index("delivery_log_by_position", "delivery_log", ["destination", "origin", "first_position"])
    op.create_index("delivery_log_by_time", "delivery_log", ["finished_at"])
    op.execute("INSERT INTO delivery_locks VALUES ('append', 0), ('finish', 0), ('count', 0)")
    op.execute("INSERT INTO delivery_appends VALUES (0, 0)")
    if op.get_bind().dialect.name == "postgresql":  # they are compressed already
        op.execute("ALTER TABLE delivery_bodies ALTER COLUMN documents SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE delivery_log ALTER COLUMN attempts SET STORAGE EXTERNAL")
