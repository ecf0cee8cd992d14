"""Identities of imports, and the progress of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("identities", sa.Column("run", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.drop_index("identities_by_pipeline", "identities")
    op.create_index("identities_by_pipeline", "identities", ["pipeline", "id"])
    op.create_table(
        "run_progress",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("pipeline", sa.Integer, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("cursor", sa.BigInteger),
        sa.Column("position", sa.LargeBinary, nullable=False),
        sa.Column("progress", sa.LargeBinary, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
    )
    op.create_index("run_progress_by_pipeline", "run_progress", ["pipeline", "run"])
    op.create_table(
        "pipeline_cursors",
        sa.Column("pipeline", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("cursor", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "import_changes",
        sa.Column("pipeline", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("identity", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pending_resolutions",
        sa.Column("workspace", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("requested_at", sa.BigInteger, nullable=False),
    )
