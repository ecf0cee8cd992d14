"""Identities by connection, with their update times. Replaces the index by time."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.drop_index("identities_by_time", "identities")
    op.create_index("identities_by_connection", "identities", ["connection", "id", "updated_at"])
