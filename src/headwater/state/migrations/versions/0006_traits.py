"""Traits of people by source, for calls of the client API, which contain changes only."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "traits",
        sa.Column("connection", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("identity_id", sa.String, primary_key=True),
        sa.Column("is_anonymous", sa.Boolean, primary_key=True),
        sa.Column("traits", sa.Text, nullable=False),
    )
