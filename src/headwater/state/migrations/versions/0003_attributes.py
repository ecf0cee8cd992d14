"""Attributes of identities, from the transformations of pipelines."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("identities", sa.Column("attributes", sa.Text, nullable=False, server_default=sa.text("'{}'")))
