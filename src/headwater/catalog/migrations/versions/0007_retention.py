"""The retention of a workspace's data."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("workspaces", sa.Column("retention", sa.Text))
