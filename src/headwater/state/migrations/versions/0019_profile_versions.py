"""Versions of profiles, checkpoints of exports, and indexes of their records by profile and of those that failed.

The records of deleted profiles are deleted. From here on the worker deletes them with their profiles.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("profiles", sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.execute("INSERT INTO profile_counter (id, last) VALUES (2, 0)")
    op.create_index("profiles_by_version", "profiles", ["workspace", "version"])
    op.execute("DELETE FROM exports WHERE profile NOT IN (SELECT id FROM profiles)")
    op.create_index("exports_by_profile", "exports", ["profile"])
    is_failed = sa.text("is_failed")
    op.create_index(
        "exports_failed", "exports", ["pipeline", "profile"], sqlite_where=is_failed, postgresql_where=is_failed
    )
    op.create_table(
        "export_checkpoints",
        sa.Column("pipeline", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("definition", sa.LargeBinary, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
