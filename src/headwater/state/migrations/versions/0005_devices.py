"""Devices of users, as their sources register them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "devices",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, nullable=False),
        sa.Column("device_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String),
        sa.Column("anonymous_id", sa.String),
        sa.Column("token", sa.String),
        sa.Column("os", sa.Text, nullable=False),
        sa.Column("os_version", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("app_build", sa.Text, nullable=False),
        sa.Column("app_version", sa.Text, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("connection", "device_id", name="devices_key"),
    )
    op.create_index("devices_by_token", "devices", ["connection", "token"])
    op.create_index("devices_by_user", "devices", ["connection", "user_id"])
    op.create_index("devices_by_anonymous", "devices", ["connection", "anonymous_id"])
    op.create_index("devices_by_time", "devices", ["connection", "updated_at"])
