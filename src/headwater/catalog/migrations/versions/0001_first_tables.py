"""Workspaces, API keys, connections with keys and links, pipelines, and the version that caches follow."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "workspaces",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workspaces"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("workspace", sa.Integer),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("hint", sa.String(20), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
        sa.ForeignKeyConstraint(["workspace"], ["workspaces.id"], ondelete="CASCADE", name="fk_api_keys_workspace"),
    )
    op.create_table(
        "connections",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("connector", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("strategy", sa.String(16)),
        sa.Column("sending_mode", sa.String(16)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_connections"),
        sa.UniqueConstraint("workspace", "id", name="uq_connections_workspace_id"),
        sa.ForeignKeyConstraint(["workspace"], ["workspaces.id"], ondelete="CASCADE", name="fk_connections_workspace"),
    )
    op.create_table(
        "connection_links",
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("source", sa.Integer, autoincrement=False),
        sa.Column("destination", sa.Integer, autoincrement=False),
        sa.PrimaryKeyConstraint("source", "destination", name="pk_connection_links"),
        _of_connection("connection_links", "source"),
        _of_connection("connection_links", "destination"),
    )
    op.create_index("ix_connection_links_destination", "connection_links", ["destination"])
    op.create_table(
        "event_write_keys",
        sa.Column("sequence", sa.Integer, autoincrement=True),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_event_write_keys"),
        sa.UniqueConstraint("key", name="uq_event_write_keys_key"),
        _of_connection("event_write_keys", "connection"),
    )
    op.create_index("ix_event_write_keys_connection", "event_write_keys", ["connection"])
    op.create_table(
        "pipelines",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("target", sa.String(16), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_pipelines"),
        _of_connection("pipelines", "connection"),
    )
    op.create_index("ix_pipelines_connection", "pipelines", ["connection"])
    version = op.create_table(
        "catalog_version",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_catalog_version"),
        sa.CheckConstraint("id = 1", name="ck_catalog_version_single"),
    )
    op.bulk_insert(version, [{"id": 1, "version": 0}])
    op.create_table(
        "catalog_changes",
        sa.Column("version", sa.BigInteger, autoincrement=False),
        sa.Column("kind", sa.String(16)),
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.PrimaryKeyConstraint("version", "kind", "id", name="pk_catalog_changes"),
    )


def _of_connection(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["workspace", column],
        ["connections.workspace", "connections.id"],
        ondelete="CASCADE",
        name=f"fk_{table}_workspace_{column}",
    )
