"""The tables of runs. Times are microseconds since the epoch, UTC."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

METADATA = MetaData()
_IS_LIVE = text("ended_at IS NULL")

runs = Table(
    "runs",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("pipeline", Integer, nullable=False),
    Column("connection", Integer, nullable=False),
    Column("trigger", String, nullable=False),
    Column("is_incremental", Boolean, nullable=False),
    Column("is_full", Boolean, nullable=False),
    Column("due_at", BigInteger),
    Column("status", String, nullable=False),
    Column("is_cancelled", Boolean, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("best_rows", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("ending", Text, nullable=False, server_default=text("''")),
    Column("progress", LargeBinary, nullable=False),
    Column("error", Text, nullable=False),
    Column("error_step", String),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Index("runs_by_workspace", "workspace", "created_at", "id"),
    Index("runs_by_pipeline", "pipeline", "created_at", "id"),
    Index("runs_by_time", "created_at", "id"),
    Index("runs_by_id", "workspace", "id"),
    Index("runs_due", "pipeline", "due_at", unique=True),
    Index("runs_live", "pipeline", unique=True, sqlite_where=_IS_LIVE, postgresql_where=_IS_LIVE),
    Index(
        "runs_waiting",
        *("workspace", "created_at", "id", "lease_until"),
        sqlite_where=_IS_LIVE,
        postgresql_where=_IS_LIVE,
    ),
)
"""Runs. A process executes one until `lease_until`; 0 if none does. `attempts` is the number of claims since the run
got further than before, and `best_rows` the number of rows that earlier attempts read. `ending` says how the last
process ended unexpectedly; empty if it has not, or its scheduler ended with it."""

run_errors = Table(
    "run_errors",
    METADATA,
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("step", SmallInteger, primary_key=True, autoincrement=False),
    Column("digest", BigInteger, primary_key=True, autoincrement=False),
    Column("message", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("samples", LargeBinary, nullable=False),
)
"""The records of a run that failed at one step for one reason: their number, and the first of them."""

schedules = Table(
    "schedules",
    METADATA,
    Column("pipeline", Integer, primary_key=True, autoincrement=False),
    Column("period_minutes", Integer, nullable=False),
    Column("start_minute", Integer, nullable=False),
    Column("since", BigInteger, nullable=False),
)
"""The schedules of enabled pipelines, and the time since which they are followed. Earlier ticks start no run."""
