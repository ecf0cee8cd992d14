"""Identities by workspace, in the order of their age."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_index("identities_by_workspace", "identities", ["workspace", "id"])
