"""Names of the tables of counts and errors that differ from those of the state store."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for name in ("pipeline_counts", "pipeline_errors"):
        op.rename_table(name, f"lane_{name}")
