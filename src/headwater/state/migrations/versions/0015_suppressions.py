"""The persons that are erased, as digests."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "suppressions",
        sa.Column("workspace", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("hash", sa.BigInteger, nullable=False),
        sa.Column("until_position", sa.BigInteger, nullable=False),
        sa.Column("erasure", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("dropped", sa.BigInteger, nullable=False),
    )
    op.create_index("suppressions_by_erasure", "suppressions", ["erasure"])
    op.create_index("suppressions_by_time", "suppressions", ["created_at"])
