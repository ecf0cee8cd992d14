"""The tables of the state store. Times are microseconds since the epoch, UTC: exact, and compared as integers."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy import UniqueConstraint as Unique

from headwater.state.counts import CountTables

METADATA = MetaData()
POSTGRESQL_METADATA = MetaData()
"""The tables that exist only on PostgreSQL."""

_Position = BigInteger().with_variant(Integer, "sqlite")
"""A log position as primary key. In SQLite it is the row id, so that rows are appended in the order of acceptance."""

identities = Table(
    "identities",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("workspace", Integer, nullable=False),
    Column("connection", Integer, nullable=False),
    Column("identity_id", String, nullable=False),
    Column("is_anonymous", Boolean, nullable=False),
    Column("pipeline", Integer, nullable=False),
    Column("anonymous_ids", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("attributes", Text, nullable=False, server_default=text("'{}'")),
    Column("run", BigInteger, nullable=False, server_default=text("0")),
    Unique("connection", "identity_id", "is_anonymous", "pipeline", name="identities_key"),
    Index("identities_by_connection", "connection", "id", "updated_at"),
    Index("identities_by_pipeline", "pipeline", "id"),
    Index("identities_by_workspace", "workspace", "id"),
)
"""One person in one pipeline. `anonymous_ids` is a JSON array of strings, in the order of arrival. `run` is the last
import that saw the person, 0 for identities from events.

New identities are at the end of their connection in `identities_by_connection`. The update times of an import are in no
order, and an index by time would change a page for each. So the list of a connection sorts the entries of this
index."""

run_progress = Table(
    "run_progress",
    METADATA,
    Column("run", _Position, primary_key=True, autoincrement=False),
    Column("pipeline", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("cursor", BigInteger),
    Column("position", LargeBinary, nullable=False),
    Column("progress", LargeBinary, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Index("run_progress_by_pipeline", "pipeline", "run"),
)
"""The progress of the last run of each pipeline, written in the transactions of its effects. `fence` is that of the
process that executes it, `changed` the number of identities that it changed."""

pipeline_cursors = Table(
    "pipeline_cursors",
    METADATA,
    Column("pipeline", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False),
    Column("cursor", BigInteger, nullable=False),
)
"""The latest update time that a completed import of each pipeline has seen, with the digest of its definition."""

import_changes = Table(
    "import_changes",
    METADATA,
    Column("pipeline", Integer, primary_key=True, autoincrement=False),
    Column("identity", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""The identities that the imports of each pipeline have changed, until they are resolved. Imports with many changes
leave them out."""

pending_resolutions = Table(
    "pending_resolutions",
    METADATA,
    Column("workspace", Integer, primary_key=True, autoincrement=False),
    Column("requested_at", BigInteger, nullable=False),
)
"""The workspaces whose identities have to be resolved after an import."""

devices = Table(
    "devices",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("workspace", Integer, nullable=False),
    Column("connection", Integer, nullable=False),
    Column("device_id", String, nullable=False),
    Column("user_id", String),
    Column("anonymous_id", String),
    Column("token", String),
    Column("os", Text, nullable=False),
    Column("os_version", Text),
    Column("model", Text, nullable=False),
    Column("app_build", Text, nullable=False),
    Column("app_version", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Unique("connection", "device_id", name="devices_key"),
    Index("devices_by_token", "connection", "token"),
    Index("devices_by_user", "connection", "user_id"),
    Index("devices_by_anonymous", "connection", "anonymous_id"),
    Index("devices_by_time", "connection", "updated_at"),
)
"""The devices of users. Registrations are rare, so there is an index for each search."""

traits = Table(
    "traits",
    METADATA,
    Column("connection", Integer, primary_key=True, autoincrement=False),
    Column("identity_id", String, primary_key=True),
    Column("is_anonymous", Boolean, primary_key=True),
    Column("traits", Text, nullable=False),
)
"""The traits of each person, by source, from the client API: a JSON object each."""

rejected_events = Table(
    "rejected_events",
    METADATA,
    Column("position", _Position, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("connection", Integer, nullable=False),
    Column("protocol", String, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("code", String, nullable=False),
    Column("path", String, nullable=False),
    Column("message", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("message_id", String),
    Index("rejected_events_by_workspace", "workspace", "position", "connection", "protocol"),
    Index("rejected_events_by_message", "workspace", "message_id"),
    Index("rejected_events_by_connection", "connection", "position", "workspace", "protocol"),
)
"""Rejected events and calls with their reason and bytes. Workspace and connection are 0 if the key was unknown."""

rejection_counts = Table(
    "rejection_counts",
    METADATA,
    Column("workspace", Integer, primary_key=True, autoincrement=False),
    Column("connection", Integer, primary_key=True, autoincrement=False),
    Column("protocol", String, primary_key=True),
    Column("code", String, primary_key=True),
    Column("path", String, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Index("rejection_counts_by_connection", "connection"),
)
"""Number of broken rules by source. Unlike rejected events, the counts are kept as long as the source exists."""

calls = Table(
    "calls",
    METADATA,
    Column("connection", Integer, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("protocol", String, nullable=False),
)
"""The latest call with a key of each source connection, rejected calls included. Setting up a source shows it."""

checkpoints = Table(
    "checkpoints",
    METADATA,
    Column("owner", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""The checkpoint of each owner, such as a consumer of the log. It is written in the transaction of its effects."""

suppressions = Table(
    "suppressions",
    METADATA,
    Column("workspace", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, primary_key=True),
    Column("hash", BigInteger, nullable=False),
    Column("until_position", BigInteger, nullable=False),
    Column("erasure", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Index("suppressions_by_erasure", "erasure"),
    Index("suppressions_by_time", "created_at"),
)
"""Erased persons as keyed digests of their ids. Their events up to the position are dropped; `hash` is a short hash of
the id, and `dropped` the number of dropped events."""

lanes = Table(
    "lanes",
    METADATA,
    Column("pipeline", Integer, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("connection", Integer, nullable=False),
    Column("last_position", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)
"""The lanes that have entries: their number, their size, and the position of the newest. An empty lane has no row."""

lane_chunks = Table(
    "lane_chunks",
    METADATA,
    Column("pipeline", Integer, primary_key=True, autoincrement=False),
    Column("first_position", BigInteger, primary_key=True, autoincrement=False),
    Column("last_position", BigInteger, nullable=False),
    Column("enqueued_at", BigInteger, nullable=False),
    Column("entry_count", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("body", BigInteger, nullable=False),
    Column("entries", LargeBinary, nullable=False),
    Index("lane_chunks_by_body", "body"),
)
"""The entries of one lane from one batch of the log, as MessagePack. `body` is 0 if no entry has a document."""

lane_bodies = Table(
    "lane_bodies",
    METADATA,
    Column("id", _Position, primary_key=True, autoincrement=False),
    Column("documents", LargeBinary, nullable=False),
)
"""The documents of one source's events from one batch of the log, compressed. All lanes of the source share them."""

messages = Table(
    "messages",
    POSTGRESQL_METADATA,
    Column("position", _Position, primary_key=True, autoincrement=False),
    Column("connection", Integer, nullable=False),
    Column("message_id", String, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Unique("connection", "message_id", name="messages_key"),
)
"""The messages of deduplication, in the order of their first arrival, so that old ones are at the beginning."""

counts = CountTables(METADATA)
"""The counts and errors of pipelines in the worker."""

rate_shares = Table(
    "rate_shares",
    METADATA,
    Column("key", String, primary_key=True),
    Column("holder", String, primary_key=True),
    Column("lease_until", BigInteger, nullable=False),
    Column("duration", BigInteger, nullable=False),
    Column("burst", Float, nullable=False),
    Column("amount", Float, nullable=False),
    Column("wanted", Float, nullable=False),
    Column("is_seen", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
"""The processes that send within one limit of an account, and their shares: a row for each of them. `duration` is the
time of the limit in microseconds. `burst` is taken for so long after `lease_until`."""
