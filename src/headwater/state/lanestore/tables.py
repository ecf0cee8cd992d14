"""The tables of the courier's state. Times are microseconds since the epoch, UTC."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, Text

from headwater.state.counts import CountTables

METADATA = MetaData()

lane_progress = Table(
    "lane_progress",
    METADATA,
    Column("pipeline", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("paused_until", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("definition", String, nullable=False),
)
"""The courier's progress in each lane, and the end of its pause."""

lane_results = Table(
    "lane_results",
    METADATA,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("pipeline", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)
"""Results that the worker has not applied, in the order of their completion."""

lane_counter = Table(
    "lane_counter",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
)
"""One row with the last sequence number of a result."""

counts = CountTables(METADATA, prefix="lane_")
"""The counts and errors of pipelines in the courier."""
