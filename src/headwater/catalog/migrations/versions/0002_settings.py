"""Encrypted settings of connections, and the preferences of workspaces."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("connections", sa.Column("sealed_settings", sa.LargeBinary, nullable=True))
    op.add_column("workspaces", sa.Column("ui_preferences", sa.Text, nullable=True))
