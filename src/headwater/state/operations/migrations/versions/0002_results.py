"""Results of operations, their kinds by workspace, and one resolution of a workspace at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("operations", sa.Column("result", sa.Text, nullable=False, server_default=sa.text("''")))
    op.create_index("operations_by_kind", "operations", ["workspace", "kind", "created_at", "id"])
    is_resolving = sa.text("ended_at IS NULL AND kind IN ('IdentityResolution', 'ProfileSchemaUpdate')")
    op.create_index(
        "operations_resolving",
        "operations",
        ["workspace"],
        unique=True,
        sqlite_where=is_resolving,
        postgresql_where=is_resolving,
    )
