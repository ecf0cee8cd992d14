"""The file of a warehouse: its tables, how it is opened, and the migration of files of older releases.

| table | content |
| --- | --- |
| `loaded` | the position through which events are loaded |
| `event_rows` | events that are not in a block yet |
| `row_counts` | for each workspace the number of its rows, and the time of the first |
| `event_blocks` | blocks: the ranges of their positions and times, counts, hashes of ids, columns |
| `event_documents` | the documents of blocks, in chunks |
| `events` | rows of older releases, which maintenance moves into blocks; absent in files made since |

The file is in WAL mode with `synchronous=FULL`: committed data survives a power cut, and readers in any process never
wait for the writer.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from headwater.base.errors import Unavailable
from headwater.storage.database import BUSY_TIMEOUT_SECONDS, MIGRATION_TIMEOUT_SECONDS, is_sqlite_outage
from headwater.storage.postgresql import milliseconds
from headwater.storage.scrubbing import SECURE_DELETE
from headwater.warehouse.drivers.sqlite.block import FULL_BLOCK_EVENTS, MAX_BLOCK_BYTES, MAX_BLOCK_EVENTS

PAGE_BYTES: Final = 16 * 1024
CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
"""The size at which the WAL is checkpointed into the file: a block has about 700 KB."""
CACHE_KIB: Final = 4 * 1024
"""SQLite's cache of one connection. Blocks are read once and decompressed, so caching their pages is useless."""
VERSION: Final = 1
"""The `user_version` of files that have all tables."""
IS_SMALL: Final = f"events < {FULL_BLOCK_EVENTS // 2} AND document_bytes < {MAX_BLOCK_BYTES // 2}"
"""The condition of blocks to merge. Use it literally: the index of small blocks has this very condition."""
_CONSUMER: Final = "warehouse"
"""The consumer whose position older releases kept in the same file."""

_SCHEMA: Final = f"""
CREATE TABLE loaded (id INTEGER PRIMARY KEY CHECK (id = 1), position INTEGER NOT NULL);
CREATE TABLE event_rows (
    position INTEGER PRIMARY KEY,
    workspace INTEGER NOT NULL,
    connection INTEGER NOT NULL,
    pipeline INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    type TEXT NOT NULL,
    event TEXT,
    user_id TEXT,
    anonymous_id TEXT,
    document BLOB NOT NULL
);
CREATE INDEX event_rows_by_timestamp ON event_rows (workspace, timestamp);
CREATE INDEX event_rows_by_received_at ON event_rows (workspace, received_at);
CREATE TABLE row_counts (workspace INTEGER PRIMARY KEY, events INTEGER NOT NULL, since INTEGER NOT NULL);
CREATE INDEX row_counts_by_events ON row_counts (events);
CREATE TABLE event_blocks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace INTEGER NOT NULL,
    events INTEGER NOT NULL,
    document_bytes INTEGER NOT NULL,
    first_position INTEGER NOT NULL,
    last_position INTEGER NOT NULL,
    min_timestamp INTEGER NOT NULL,
    max_timestamp INTEGER NOT NULL,
    min_received_at INTEGER NOT NULL,
    max_received_at INTEGER NOT NULL,
    counts BLOB NOT NULL,
    people BLOB NOT NULL,
    columns BLOB NOT NULL
);
CREATE INDEX event_blocks_by_max_timestamp
    ON event_blocks (workspace, max_timestamp, last_position, min_timestamp);
CREATE INDEX event_blocks_by_min_timestamp
    ON event_blocks (workspace, min_timestamp, first_position, max_timestamp);
CREATE INDEX event_blocks_by_max_received_at
    ON event_blocks (workspace, max_received_at, last_position, min_received_at);
CREATE INDEX event_blocks_by_min_received_at
    ON event_blocks (workspace, min_received_at, first_position, max_received_at);
CREATE INDEX small_event_blocks ON event_blocks (workspace, min_timestamp, events, document_bytes) WHERE {IS_SMALL};
CREATE TABLE event_documents (id INTEGER PRIMARY KEY, documents BLOB NOT NULL);
"""


def documents_id(block: int, first: int) -> int:
    """Return the id of the chunk of documents that begins with this event of the block."""
    return block * MAX_BLOCK_EVENTS + first


def connect(path: Path, *, writes: bool) -> sqlite3.Connection:
    """Open the file, make its tables if need be, and return a connection for one thread at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=MIGRATION_TIMEOUT_SECONDS)
    try:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # has an effect only before the first table
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_BYTES // PAGE_BYTES}")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        connection.execute(SECURE_DELETE)
        if _version(connection) < VERSION:
            _make_tables(connection)
        connection.execute(f"PRAGMA busy_timeout={milliseconds(BUSY_TIMEOUT_SECONDS)}")
        if not writes:
            connection.execute("PRAGMA query_only=ON")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, *, commit: bool = True) -> Iterator[None]:
    """Run the block in one write transaction; without `commit`, or after an exception, roll it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT" if commit else "ROLLBACK")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Run all statements of the block on one state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


@contextmanager
def as_unavailable() -> Iterator[None]:
    """Raise Unavailable when the file is busy for too long or cannot be used. Other errors are bugs and pass."""
    try:
        yield
    except sqlite3.Error as error:
        if not is_sqlite_outage(error):
            raise
        raise Unavailable(f"the warehouse's database does not respond: {error}") from error


def has_old_rows(connection: sqlite3.Connection) -> bool:
    """Return whether the file was made by a release that kept every event as a row of the table `events`."""
    return _has_table(connection, "events")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _make_tables(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        if _version(connection) >= VERSION:  # another process was faster
            return
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO loaded VALUES (1, ?)", (_old_position(connection),))
        connection.execute(f"PRAGMA user_version={VERSION}")


def _old_position(connection: sqlite3.Connection) -> int:
    """Return the position through which an older release has loaded events into this file."""
    found = None
    if _has_table(connection, "progress"):
        found = connection.execute("SELECT position FROM progress WHERE consumer = ?", (_CONSUMER,)).fetchone()
    if found is None and has_old_rows(connection):
        found = connection.execute("SELECT max(position) FROM events").fetchone()
    return (found and found[0]) or 0


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None
