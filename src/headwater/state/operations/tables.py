"""The table of operations. Times are microseconds since the epoch, UTC."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text, text

METADATA = MetaData()
_IS_RESOLVING = text("ended_at IS NULL AND kind IN ('IdentityResolution', 'ProfileSchemaUpdate')")

operations = Table(
    "operations",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("parameters", LargeBinary, nullable=False),
    Column("status", String, nullable=False),
    Column("is_cancelled", Boolean, nullable=False),
    Column("total", BigInteger),
    Column("done", BigInteger, nullable=False),
    Column("enqueued", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("owner", String, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("result", Text, nullable=False, server_default=text("''")),
    Index("operations_by_workspace", "workspace", "created_at", "id"),
    Index("operations_by_kind", "workspace", "kind", "created_at", "id"),
    Index("operations_by_end", "ended_at", "created_at", "id"),
    Index(
        "operations_resolving",
        "workspace",
        unique=True,
        sqlite_where=_IS_RESOLVING,
        postgresql_where=_IS_RESOLVING,
    ),
)
"""Long-running actions. `owner` is the process that executes one until `lease_until`; empty and 0 if none does."""
