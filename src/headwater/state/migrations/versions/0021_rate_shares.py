"""The processes that send to one account of an application, and their shares of its limits."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "rate_shares",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("holder", sa.String, primary_key=True),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("duration", sa.BigInteger, nullable=False),
        sa.Column("burst", sa.Float, nullable=False),
        sa.Column("amount", sa.Float, nullable=False),
        sa.Column("wanted", sa.Float, nullable=False),
        sa.Column("is_seen", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
