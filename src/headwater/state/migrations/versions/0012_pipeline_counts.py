"""Counts and errors of pipelines."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_STEPS = ("receive", "input_validation", "filter", "transformation", "output_validation", "finalize")


def upgrade() -> None:
    op.create_table(
        "pipeline_counts",
        sa.Column("pipeline", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seconds", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        *(sa.Column(f"{step}_{end}", sa.BigInteger, nullable=False) for end in ("passed", "failed") for step in _STEPS),
    )
    op.create_index("pipeline_counts_by_start", "pipeline_counts", ["seconds", "start"])
    op.create_table(
        "pipeline_errors",
        sa.Column("pipeline", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("step", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
    )
    op.create_index("pipeline_errors_by_start", "pipeline_errors", ["start"])
