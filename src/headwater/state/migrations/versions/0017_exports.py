"""The profiles that each pipeline has written to its destination, and an index to read profiles by workspace."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "exports",
        sa.Column("pipeline", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("profile", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("source", sa.LargeBinary, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("external_id", sa.Text, nullable=False),
        sa.Column("is_failed", sa.Boolean, nullable=False),
        sa.Column("run", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("profiles_by_workspace", "profiles", ["workspace", "id"])
