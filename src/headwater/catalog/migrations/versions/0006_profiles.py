"""The profile schema of a workspace, and its settings of identity resolution."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("workspaces", sa.Column("resolution", sa.Text))
    op.add_column("workspaces", sa.Column("profile_schema", sa.Text))
