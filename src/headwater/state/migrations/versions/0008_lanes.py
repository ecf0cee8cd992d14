"""Lanes: the durable queues of the pipelines that do not run in the worker's transaction."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_Position = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "lanes",
        sa.Column("pipeline", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, nullable=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "lane_chunks",
        sa.Column("pipeline", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("first_position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("enqueued_at", sa.BigInteger, nullable=False),
        sa.Column("entry_count", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("body", sa.BigInteger, nullable=False),
        sa.Column("entries", sa.LargeBinary, nullable=False),
    )
    op.create_index("lane_chunks_by_body", "lane_chunks", ["body"])
    op.create_table(
        "lane_bodies",
        sa.Column("id", _Position, primary_key=True, autoincrement=False),
        sa.Column("documents", sa.LargeBinary, nullable=False),
    )
