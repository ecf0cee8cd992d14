"""How the last process of a run ended."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("runs", sa.Column("ending", sa.Text, nullable=False, server_default=sa.text("''")))
