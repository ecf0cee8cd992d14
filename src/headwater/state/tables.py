"""The tables of the warehouse. Times are microseconds since the epoch, UTC: exact, and compared as integers."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text, text
from sqlalchemy import UniqueConstraint as Unique

METADATA = MetaData()
POSTGRESQL_METADATA = MetaData()
"""The tables that only PostgreSQL has."""

_Position = BigInteger().with_variant(Integer, "sqlite")
"""A log position as primary key; in SQLite it is the row id, so rows are appended in the order of acceptance."""

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
    Unique("connection", "identity_id", "is_anonymous", "pipeline", name="identities_key"),
    Index("identities_by_time", "connection", "updated_at"),
    Index("identities_by_pipeline", "pipeline"),
)
"""One person as one pipeline sees them. `anonymous_ids` is a JSON array of strings, in the order of their arrival."""

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
"""The devices of people. Registering one is rare, so what it is looked up by has an index."""

traits = Table(
    "traits",
    METADATA,
    Column("connection", Integer, primary_key=True, autoincrement=False),
    Column("identity_id", String, primary_key=True),
    Column("is_anonymous", Boolean, primary_key=True),
    Column("traits", Text, nullable=False),
)
"""What each source knows of people by the client API: a JSON object each."""

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
"""Refused events and calls with their reason and bytes. Workspace and connection are 0 where the key was unknown."""

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
"""How often each source was sent what breaks each rule. Unlike the refused events themselves it is never shortened
while the source is there."""

calls = Table(
    "calls",
    METADATA,
    Column("connection", Integer, primary_key=True, autoincrement=False),
    Column("workspace", Integer, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("protocol", String, nullable=False),
)
"""The latest call that came with a key of each source connection, refused ones too: what setting one up waits for."""

checkpoints = Table(
    "checkpoints",
    METADATA,
    Column("owner", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""Where each owner continues, such as a consumer of the log: written in the transaction of what it led to."""

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
"""The lanes that have entries: how many, their size, and the position of the newest. An empty lane has no row."""

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
"""The entries of one lane from one batch of the log, as MessagePack. `body` is 0 when no entry has a document."""

lane_bodies = Table(
    "lane_bodies",
    METADATA,
    Column("id", _Position, primary_key=True, autoincrement=False),
    Column("documents", LargeBinary, nullable=False),
)
"""The documents of one source's events from one batch of the log, compressed; shared by all lanes of the source."""

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
"""The ledger, in the order of the first arrivals: what is old is at the beginning."""
