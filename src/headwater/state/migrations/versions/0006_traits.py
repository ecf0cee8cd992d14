"""What sources know of people by the client API, whose calls say what changes."""

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
