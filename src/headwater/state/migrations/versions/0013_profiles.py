"""Profiles: members, links, separations, and the state of identity resolution."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_Key = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "members",
        sa.Column("identity", _Id, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("connection", sa.Integer, nullable=False),
        sa.Column("identity_id", sa.String, nullable=False),
        sa.Column("is_anonymous", sa.Boolean, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("profile", sa.BigInteger, nullable=False),
    )
    op.create_index("members_by_profile", "members", ["profile"])
    op.create_table(
        "links",
        sa.Column("workspace", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("identifier", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", _Key, primary_key=True),
        sa.Column("identity", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("mask", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    _create_profiles()
    _create_separations()
    _create_resolutions()


def _create_profiles() -> None:
    op.create_table(
        "profiles",
        sa.Column("id", _Id, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("kpid", sa.LargeBinary, nullable=False),
        sa.Column("founder", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.Column("is_constrained", sa.Boolean, nullable=False),
        sa.UniqueConstraint("kpid", name="profiles_kpid"),
    )
    op.create_index("profiles_by_time", "profiles", ["workspace", "updated_at", "id"])
    op.create_table(
        "profile_counter",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "profile_counts",
        sa.Column("workspace", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("profiles", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "profile_values",
        sa.Column("property", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("profile", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("value", _Key, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "profile_aliases",
        sa.Column("kpid", sa.LargeBinary, primary_key=True),
        sa.Column("profile", sa.BigInteger, nullable=False),
        sa.Column("founder", sa.BigInteger, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_index("profile_aliases_by_profile", "profile_aliases", ["profile"])
    op.create_table(
        "profile_changes",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("profile", sa.BigInteger, nullable=False),
        sa.Column("other", sa.LargeBinary, nullable=False),
    )
    op.create_index("profile_changes_by_profile", "profile_changes", ["profile", "id"])
    op.create_index("profile_changes_by_workspace", "profile_changes", ["workspace", "id"])


def _create_separations() -> None:
    op.create_table(
        "separations",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("kpid", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("separations_by_workspace", "separations", ["workspace", "id"])
    op.create_table(
        "separation_members",
        sa.Column("separation", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("connection", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("identity_id", sa.String, primary_key=True),
        sa.Column("is_anonymous", sa.Boolean, primary_key=True),
        sa.Column("side", sa.Integer, nullable=False),
    )
    op.create_index("separation_members_by_name", "separation_members", ["connection", "identity_id"])


def _create_resolutions() -> None:
    op.create_table(
        "resolution_refusals",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("identifier", sa.Integer, nullable=False),
        sa.Column("value", _Key, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("identity", sa.BigInteger, nullable=False),
        sa.Column("other", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint(
            "workspace", "identifier", "value", "reason", "identity", "other", name="resolution_refusals_key"
        ),
    )
    op.create_index("resolution_refusals_by_workspace", "resolution_refusals", ["workspace", "id"])
    op.create_index("resolution_refusals_by_identity", "resolution_refusals", ["identity"])
    op.create_index("resolution_refusals_by_other", "resolution_refusals", ["other"])
    op.create_table(
        "unresolved",
        sa.Column("identity", _Id, primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.Integer, nullable=False),
        sa.Column("successor", sa.BigInteger, nullable=False),
    )
    op.create_index("unresolved_by_workspace", "unresolved", ["workspace", "identity"])
    op.create_index("unresolved_by_successor", "unresolved", ["successor"])
    op.create_table(
        "resolutions",
        sa.Column("workspace", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("applied", sa.String),
        sa.Column("checkpoint", sa.LargeBinary),
    )
