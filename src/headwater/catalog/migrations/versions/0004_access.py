"""API keys that may only read."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("access", sa.String(8), nullable=False, server_default=sa.text("'Full'")))
