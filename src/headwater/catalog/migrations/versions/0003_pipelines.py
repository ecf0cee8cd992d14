"""Pipelines of every kind: their definition as a document, event type and schedule."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("pipelines", sa.Column("event_type", sa.String(100), nullable=False, server_default=sa.text("''")))
    op.add_column("pipelines", sa.Column("schedule_start", sa.Integer, nullable=True))
    op.add_column("pipelines", sa.Column("schedule_period", sa.String(8), nullable=True))
    op.add_column("pipelines", sa.Column("definition", sa.Text, nullable=False, server_default=sa.text("'{}'")))
