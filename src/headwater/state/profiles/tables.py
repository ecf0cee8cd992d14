"""The tables of profiles, in the state store. Times are microseconds since the epoch, UTC."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text, text
from sqlalchemy import UniqueConstraint as Unique

from headwater.state.tables import METADATA

_Id: Final = BigInteger().with_variant(Integer, "sqlite")
"""A primary key. In SQLite it is the row id."""
_IS_FAILED: Final = text("is_failed")
_Key: Final = String().with_variant(String(collation="C"), "postgresql")
"""A text that is ordered by its bytes in UTF-8, on both databases."""

members = Table(
    "members",
    METADATA,
    Column("identity", _Id, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("connection", Integer, nullable=False),
    Column("identity_id", String, nullable=False),
    Column("is_anonymous", Boolean, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("profile", BigInteger, nullable=False),
    Index("members_by_profile", "profile"),
)
"""The identities as identity resolution saw them last. `evidence` is a JSON array with a string or null for each
identifier. A row stays when its identity is deleted, until the resolution has processed the deletion."""

links = Table(
    "links",
    METADATA,
    Column("workspace", Integer, primary_key=True, autoincrement=False),
    Column("identifier", Integer, primary_key=True, autoincrement=False),
    Column("value", _Key, primary_key=True),
    Column("identity", BigInteger, primary_key=True, autoincrement=False),
    Column("mask", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""The identities that have a value of an identifier, the oldest first, with the stronger identifiers that each has."""

profiles = Table(
    "profiles",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("kpid", LargeBinary, nullable=False),
    Column("founder", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("is_constrained", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    Unique("kpid", name="profiles_kpid"),
    Index("profiles_by_time", "workspace", "updated_at", "id"),
    Index("profiles_by_workspace", "workspace", "id"),
    Index("profiles_by_version", "workspace", "version"),
)
"""The profiles. `attributes` is a JSON object. `version` is that of the last write: a transaction writes profiles with
one above all that were committed before it."""

profile_counter = Table(
    "profile_counter",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
)
"""The last id of a profile in its only row, so that no id is used again."""

profile_version_counter = Table(
    "profile_version_counter",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
)
"""The last version of a profile, in its only row."""

profile_counts = Table(
    "profile_counts",
    METADATA,
    Column("workspace", Integer, primary_key=True, autoincrement=False),
    Column("profiles", BigInteger, nullable=False),
)
"""The number of profiles of each workspace: counting a million takes longer than finding those of a page."""

profile_values = Table(
    "profile_values",
    METADATA,
    Column("property", BigInteger, primary_key=True, autoincrement=False),
    Column("profile", BigInteger, primary_key=True, autoincrement=False),
    Column("value", _Key, nullable=False),
    sqlite_with_rowid=False,
)
"""The scalar attributes of profiles by property, to search and order profiles (`headwater.state.profiles.values`)."""

profile_aliases = Table(
    "profile_aliases",
    METADATA,
    Column("kpid", LargeBinary, primary_key=True),
    Column("profile", BigInteger, nullable=False),
    Column("founder", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Index("profile_aliases_by_profile", "profile"),
)
"""The public ids of profiles that were merged into others."""

separations = Table(
    "separations",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("workspace", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("kpid", LargeBinary, nullable=False),
    Index("separations_by_workspace", "workspace", "id"),
    sqlite_autoincrement=True,
)
"""The decisions that keep identities apart. An id is not used again."""

separation_members = Table(
    "separation_members",
    METADATA,
    Column("separation", BigInteger, primary_key=True, autoincrement=False),
    Column("connection", Integer, primary_key=True, autoincrement=False),
    Column("identity_id", String, primary_key=True),
    Column("is_anonymous", Boolean, primary_key=True),
    Column("side", Integer, nullable=False),
    Index("separation_members_by_name", "connection", "identity_id"),
)
"""The names of the sides of a separation. Sides are counted from 0."""

profile_changes = Table(
    "profile_changes",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("workspace", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("profile", BigInteger, nullable=False),
    Column("other", LargeBinary, nullable=False),
    Index("profile_changes_by_profile", "profile", "id"),
    Index("profile_changes_by_workspace", "workspace", "id"),
)
"""The merges and splits of profiles."""

resolution_refusals = Table(
    "resolution_refusals",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("workspace", Integer, nullable=False),
    Column("identifier", Integer, nullable=False),
    Column("value", _Key, nullable=False),
    Column("reason", String, nullable=False),
    Column("identity", BigInteger, nullable=False),
    Column("other", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Unique("workspace", "identifier", "value", "reason", "identity", "other", name="resolution_refusals_key"),
    Index("resolution_refusals_by_workspace", "workspace", "id"),
    Index("resolution_refusals_by_identity", "identity"),
    Index("resolution_refusals_by_other", "other"),
)
"""The evidence that guards and separations refused."""

unresolved = Table(
    "unresolved",
    METADATA,
    Column("identity", _Id, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("successor", BigInteger, nullable=False),
    Index("unresolved_by_workspace", "workspace", "identity"),
    Index("unresolved_by_successor", "successor"),
)
"""The identities that changed, or were deleted, and that the next resolution has to process. `successor` is the
identity that took the place of a deleted one; 0 for none."""

resolutions = Table(
    "resolutions",
    METADATA,
    Column("workspace", Integer, primary_key=True, autoincrement=False),
    Column("applied", String),
    Column("checkpoint", LargeBinary),
)
"""The digest of the settings and the schema that the profiles of a workspace follow, and the checkpoint of a resolution
of all identities that has not ended. Null for none."""

exports = Table(
    "exports",
    METADATA,
    Column("pipeline", Integer, primary_key=True, autoincrement=False),
    Column("profile", BigInteger, primary_key=True, autoincrement=False),
    Column("source", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("is_failed", Boolean, nullable=False),
    Column("run", BigInteger, nullable=False),
    Index("exports_by_profile", "profile"),
    Index("exports_failed", "pipeline", "profile", sqlite_where=_IS_FAILED, postgresql_where=_IS_FAILED),
    sqlite_with_rowid=False,
)
"""The profiles that each pipeline has written to its destination. `source` is a digest of the attributes that were
read, and `content` one of what was written (`headwater.state.exports`)."""

export_checkpoints = Table(
    "export_checkpoints",
    METADATA,
    Column("pipeline", Integer, primary_key=True, autoincrement=False),
    Column("definition", LargeBinary, nullable=False),
    Column("version", BigInteger, nullable=False),
)
"""The version up to which each pipeline has records of all profiles, and a digest of its definition then."""
