"""The table of operations. Times are microseconds since the epoch, UTC."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

METADATA = MetaData()

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
    Index("operations_by_workspace", "workspace", "created_at", "id"),
    Index("operations_by_end", "ended_at", "created_at", "id"),
)
"""Long-running actions. `owner` is the process that executes one until `lease_until`; empty and 0 if none does."""
