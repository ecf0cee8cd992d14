"""The tables of the delivery queue. Times are microseconds since the epoch, UTC.

Rows are few, large and immutable, because PostgreSQL keeps every old version of a row while a long transaction is open
elsewhere, such as a dump. So nothing on the way of an event updates the same row again and again: numbers are kept as
rows that are added up, the newest append is a row of its own, and writers exclude each other by a lock on a row.
"""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

METADATA = MetaData()

_Id = BigInteger().with_variant(Integer, "sqlite")


def _id(*, autoincrement: bool = False) -> "Column[Any]":
    return Column("id", _Id, primary_key=True, autoincrement=autoincrement)


delivery_locks = Table(
    "delivery_locks",
    METADATA,
    Column("name", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
)
"""A row for those who append, one for those who finish chunks, with the epoch of the active courier, and one for those
who add up counts."""

delivery_appends = Table(
    "delivery_appends",
    METADATA,
    Column("chunk", _Id, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
)
"""The newest append: the id of the last chunk, and the position through which the worker has appended."""

delivery_bodies = Table(
    "delivery_bodies",
    METADATA,
    _id(),
    Column("workspace", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("events", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("positions", LargeBinary, nullable=False),
    Column("documents", LargeBinary, nullable=False),
)
"""Events that some destinations want, compressed. `positions` are theirs. The id is that of the first chunk."""

delivery_chunks = Table(
    "delivery_chunks",
    METADATA,
    _id(),
    Column("destination", Integer, nullable=False),
    Column("workspace", Integer, nullable=False),
    Column("body", BigInteger, nullable=False),
    Column("first_position", BigInteger, nullable=False),
    Column("last_position", BigInteger, nullable=False),
    Column("item_count", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("raw_bytes", Integer, nullable=False),
    Column("enqueued_at", BigInteger, nullable=False),
    Column("origin", String, nullable=False),
    Column("wanted", LargeBinary, nullable=False),
    Column("done", LargeBinary, nullable=False),
    Index("delivery_chunks_by_destination", "destination", "id"),
    Index("delivery_chunks_by_body", "body"),
    Index("delivery_chunks_by_position", "destination", "origin", "first_position"),
)
"""The unfinished deliveries of one destination that refer to one body. `bytes` is the compressed size of the body, and
`raw_bytes` that of its documents."""

delivery_counts = Table(
    "delivery_counts",
    METADATA,
    _id(autoincrement=True),
    Column("destination", Integer, nullable=False),
    Column("open_items", BigInteger, nullable=False),
    Column("open_bytes", BigInteger, nullable=False),
    Column("dead_items", BigInteger, nullable=False),
    Column("dead_bytes", BigInteger, nullable=False),
)
"""Changes of the size of each destination's queue, which are added up. `open_bytes` of destination 0 are the size of
everything together, and `dead_bytes` of destination 0 are the size of the log of attempts. Old changes are replaced by
their sums, so the table stays small."""

delivery_lanes = Table(
    "delivery_lanes",
    METADATA,
    Column("destination", Integer, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("failing_since", BigInteger, nullable=False),
    Column("paused_until", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("last_status", Integer, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("last_response", LargeBinary, nullable=False),
    Column("last_success_at", BigInteger, nullable=False),
    Column("learned", LargeBinary, nullable=False),
)
"""The health of each destination."""

dead_letters = Table(
    "dead_letters",
    METADATA,
    _id(),
    Column("workspace", Integer, nullable=False),
    Column("destination", Integer, nullable=False),
    Column("pipeline", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("step", String, nullable=False),
    Column("enqueued_at", BigInteger, nullable=False),
    Column("died_at", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("source", Integer, nullable=False),
    Column("message_id", String, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("user_id", String),
    Column("anonymous_id", String),
    Column("bytes", Integer, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("dead_letters_by_workspace", "workspace", "died_at", "id"),
    Index("dead_letters_by_destination", "destination", "died_at", "id"),
    Index("dead_letters_by_reason", "pipeline", "reason", "died_at", "id"),
    Index("dead_letters_by_position", "destination", "position"),
)
"""Deliveries that were given up one by one. The id is the number of the item; the document is compressed."""

dead_chunks = Table(
    "dead_chunks",
    METADATA,
    _id(),
    Column("destination", Integer, nullable=False),
    Column("workspace", Integer, nullable=False),
    Column("body", BigInteger, nullable=False),
    Column("first_position", BigInteger, nullable=False),
    Column("last_position", BigInteger, nullable=False),
    Column("item_count", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("raw_bytes", Integer, nullable=False),
    Column("enqueued_at", BigInteger, nullable=False),
    Column("origin", String, nullable=False),
    Column("wanted", LargeBinary, nullable=False),
    Column("done", LargeBinary, nullable=False),
    Column("died_at", BigInteger, nullable=False),
    Column("reason", String, nullable=False),
    Index("dead_chunks_by_workspace", "workspace", "died_at", "id"),
    Index("dead_chunks_by_destination", "destination", "died_at", "id"),
    Index("dead_chunks_by_body", "body"),
    Index("dead_chunks_by_position", "destination", "origin", "first_position"),
)
"""Chunks whose unfinished items were given up together."""

dead_ranges = Table(
    "dead_ranges",
    METADATA,
    _id(),
    Column("workspace", Integer, nullable=False),
    Column("destination", Integer, nullable=False),
    Column("first_position", BigInteger, nullable=False),
    Column("last_position", BigInteger, nullable=False),
    Column("pipelines", LargeBinary, nullable=False),
    Column("enqueued_at", BigInteger, nullable=False),
    Column("died_at", BigInteger, nullable=False),
    Index("dead_ranges_by_workspace", "workspace", "id"),
    Index("dead_ranges_by_destination", "destination", "last_position"),
)
"""Chunks without their documents. The id is that of the first chunk, and `pipelines` has the number of deliveries by
pipeline."""

dead_counts = Table(
    "dead_counts",
    METADATA,
    _id(autoincrement=True),
    Column("workspace", Integer, nullable=False),
    Column("destination", Integer, nullable=False),
    Column("pipeline", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("count", BigInteger, nullable=False),
    Index("dead_counts_by_workspace", "workspace", "destination"),
)
"""Changes of the number of dead letters, which are added up as those of `delivery_counts`."""

delivery_log = Table(
    "delivery_log",
    METADATA,
    Column("chunk", _Id, primary_key=True, autoincrement=False),
    Column("destination", Integer, nullable=False),
    Column("origin", String, nullable=False),
    Column("first_position", BigInteger, nullable=False),
    Column("last_position", BigInteger, nullable=False),
    Column("enqueued_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("attempts", LargeBinary, nullable=False),
    Index("delivery_log_by_position", "destination", "origin", "first_position"),
    Index("delivery_log_by_time", "finished_at"),
)
"""The items and the attempts of finished chunks, compressed."""

delivery_operations = Table(
    "delivery_operations",
    METADATA,
    Column("operation", String, primary_key=True),
    Column("cursor", LargeBinary, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("is_complete", Boolean, nullable=False),
)
"""The progress of re-sends and replays."""
