"""Identities by connection and pipeline, with their update times. Replaces the indexes by time and by pipeline."""

from alembic import op

revision = "0019"
down_revision = "0017"


def upgrade() -> None:
    op.drop_index("identities_by_time", "identities")
    op.drop_index("identities_by_pipeline", "identities")
    op.create_index("identities_by_connection", "identities", ["connection", "pipeline", "id", "updated_at"])
