"""Runs, their errors, and schedules."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_IS_LIVE = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("pipeline", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, nullable=False),
        sa.Column("trigger", sa.String, nullable=False),
        sa.Column("is_incremental", sa.Boolean, nullable=False),
        sa.Column("is_full", sa.Boolean, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("is_cancelled", sa.Boolean, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("best_rows", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("progress", sa.LargeBinary, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("error_step", sa.String),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
    )
    op.create_index("runs_by_workspace", "runs", ["workspace", "created_at", "id"])
    op.create_index("runs_by_pipeline", "runs", ["pipeline", "created_at", "id"])
    op.create_index("runs_by_time", "runs", ["created_at", "id"])
    op.create_index("runs_by_id", "runs", ["workspace", "id"])
    op.create_index("runs_due", "runs", ["pipeline", "due_at"], unique=True)
    op.create_index("runs_live", "runs", ["pipeline"], unique=True, sqlite_where=_IS_LIVE, postgresql_where=_IS_LIVE)
    op.create_index(
        "runs_waiting",
        "runs",
        ["workspace", "created_at", "id", "lease_until"],
        sqlite_where=_IS_LIVE,
        postgresql_where=_IS_LIVE,
    )
    op.create_table(
        "run_errors",
        sa.Column("run", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("step", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("samples", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "schedules",
        sa.Column("pipeline", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("period_minutes", sa.Integer, nullable=False),
        sa.Column("start_minute", sa.Integer, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
