"""OAuth accounts with their tokens, the connections that use them, and the states that were used."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "oauth_accounts",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connector", sa.String(64), nullable=False),
        sa.Column("code", sa.String(255), nullable=False),
        sa.Column("sealed_tokens", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("authorized_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("forced", sa.Boolean, nullable=False),
        sa.Column("refreshing_until", sa.DateTime(timezone=True)),
        sa.Column("refreshing_by", sa.String(32)),
        sa.Column("failed_at", sa.DateTime(timezone=True)),
        sa.Column("failure", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name="pk_oauth_accounts"),
        sa.UniqueConstraint("workspace", "connector", "code", name="uq_oauth_accounts_workspace_connector_code"),
        sa.UniqueConstraint("workspace", "id", name="uq_oauth_accounts_workspace_id"),
        sa.ForeignKeyConstraint(
            ["workspace"], ["workspaces.id"], ondelete="CASCADE", name="fk_oauth_accounts_workspace"
        ),
    )
    op.create_table(
        "connection_accounts",
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, autoincrement=False),
        sa.Column("account", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("connection", name="pk_connection_accounts"),
        sa.ForeignKeyConstraint(
            ["workspace", "connection"],
            ["connections.workspace", "connections.id"],
            ondelete="CASCADE",
            name="fk_connection_accounts_workspace_connection",
        ),
        sa.ForeignKeyConstraint(
            ["workspace", "account"],
            ["oauth_accounts.workspace", "oauth_accounts.id"],
            ondelete="CASCADE",
            name="fk_connection_accounts_workspace_account",
        ),
    )
    op.create_index("ix_connection_accounts_account", "connection_accounts", ["account"])
    op.create_table(
        "oauth_states",
        sa.Column("digest", sa.String(64)),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_oauth_states"),
    )
    op.create_index("ix_oauth_states_expires_at", "oauth_states", ["expires_at"])
