"""Drop the events, which are in the warehouse."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("DROP TABLE IF EXISTS events")
