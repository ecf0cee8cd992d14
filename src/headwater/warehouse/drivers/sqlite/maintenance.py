"""Moves rows into blocks and merges small blocks, one step at a time.

A step is one transaction that reads, inserts and deletes, so a crash between two statements neither loses nor
duplicates events. It takes about 50 ms, and loads may run between two steps.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from headwater.warehouse.contract import StoredEvent
from headwater.warehouse.drivers.sqlite.block import (
    FULL_BLOCK_EVENTS,
    HOUR,
    MAX_BLOCK_BYTES,
    MIN_BLOCK_EVENTS,
    Block,
    make_block,
)
from headwater.warehouse.drivers.sqlite.database import IS_SMALL, has_old_rows, transaction
from headwater.warehouse.drivers.sqlite.loading import insert_block, is_late, pieces
from headwater.warehouse.drivers.sqlite.removing import read_documents, remove_block
from headwater.warehouse.drivers.sqlite.rows import COLUMNS, OLD_COLUMNS, read_old_row, read_row

MAX_ROW_AGE: Final = HOUR
"""The age, in microseconds, at which rows become a block although they are fewer than `FULL_BLOCK_EVENTS`."""

_FULL: Final = "SELECT workspace FROM row_counts WHERE events >= ? ORDER BY events DESC LIMIT 1"
_AGED: Final = "SELECT workspace FROM row_counts WHERE events >= ? AND since <= ? LIMIT 1"
_ROWS: Final = f"SELECT {COLUMNS} FROM event_rows WHERE workspace = ? ORDER BY timestamp, position"
_OLD_WORKSPACE: Final = "SELECT min(workspace) FROM events"
_OLD_ROWS: Final = f"SELECT {OLD_COLUMNS} FROM events WHERE workspace = ? ORDER BY timestamp, position"
_REMAINING: Final = "SELECT count(*) FROM (SELECT 1 FROM event_rows WHERE workspace = ? LIMIT ?)"
_FRAGMENTED: Final = f"""
SELECT workspace FROM event_blocks INDEXED BY small_event_blocks WHERE {IS_SMALL}
GROUP BY workspace HAVING sum(events) >= {FULL_BLOCK_EVENTS} OR sum(document_bytes) >= {MAX_BLOCK_BYTES} LIMIT 1
"""
_SMALL_BLOCKS: Final = f"""
SELECT id, columns FROM event_blocks INDEXED BY small_event_blocks
WHERE {IS_SMALL} AND workspace = ? ORDER BY min_timestamp
"""


def step(connection: sqlite3.Connection, now: int) -> bool:
    """Do one step of the maintenance that is due; return False when nothing is due."""
    return _seal_rows(connection, now) or _move_old_rows(connection) or _merge_blocks(connection)


def _seal_rows(connection: sqlite3.Connection, now: int) -> bool:
    """Make a block of the rows of a workspace that has many, or has had them for an hour.

    Late events stay rows until there are enough of them for a block of their own.
    """
    found = (
        connection.execute(_FULL, (FULL_BLOCK_EVENTS,)).fetchone()
        or connection.execute(_AGED, (MIN_BLOCK_EVENTS, now - MAX_ROW_AGE)).fetchone()
    )
    if found is None:
        return False
    (workspace,) = found
    with transaction(connection):
        events = _take(connection.execute(_ROWS, (workspace,)), read_row)
        late = [event for event in events if is_late(event)]
        in_time = [event for event in events if not is_late(event)]
        for group in (late, in_time):
            if len(group) >= MIN_BLOCK_EVENTS or _size(group) >= MAX_BLOCK_BYTES // 2:
                _delete(connection, "event_rows", _insert(connection, group))
        # Also if nothing was sealed, so that the next look at these rows is in an hour, and not in a second.
        (remaining,) = connection.execute(_REMAINING, (workspace, FULL_BLOCK_EVENTS)).fetchone()
        if remaining:
            connection.execute("REPLACE INTO row_counts VALUES (?, ?, ?)", (workspace, remaining, now))
        else:
            connection.execute("DELETE FROM row_counts WHERE workspace = ?", (workspace,))
    return True


def _move_old_rows(connection: sqlite3.Connection) -> bool:
    """Make a block of the oldest rows that an older release has made, however few there are."""
    if not has_old_rows(connection):
        return False
    (workspace,) = connection.execute(_OLD_WORKSPACE).fetchone()
    if workspace is None:
        return False
    with transaction(connection):
        events = _take(connection.execute(_OLD_ROWS, (workspace,)), read_old_row)
        _delete(connection, "events", _insert(connection, events))
    return True


def _merge_blocks(connection: sqlite3.Connection) -> bool:
    """Merge small blocks of a workspace that have neighbouring times. Each event is merged once, or twice at most."""
    found = connection.execute(_FRAGMENTED).fetchone()
    if found is None:
        return False
    with transaction(connection):
        events: list[StoredEvent] = []
        merged: list[int] = []
        for id, columns in connection.execute(_SMALL_BLOCKS, found).fetchall():
            if len(events) >= FULL_BLOCK_EVENTS or _size(events) >= MAX_BLOCK_BYTES:
                break
            block = Block(id, columns)
            events += block.stored_events(found[0], read_documents(connection, block))
            merged.append(id)
        for id in merged:
            remove_block(connection, id)
        _insert(connection, events)
    return True


def _take(rows: Iterator[tuple[Any, ...]], read: Callable[[tuple[Any, ...]], StoredEvent]) -> list[StoredEvent]:
    """Return the first events, as many as a full block has."""
    events: list[StoredEvent] = []
    size = 0
    for row in rows:
        events.append(read(row))
        size += len(events[-1].document)
        if len(events) == FULL_BLOCK_EVENTS or size > MAX_BLOCK_BYTES:
            break
    return events


def _insert(connection: sqlite3.Connection, events: list[StoredEvent]) -> list[StoredEvent]:
    """Insert events as blocks; return them."""
    events.sort(key=lambda event: event.position)
    for piece in pieces(events):
        insert_block(connection, make_block(piece))
    return events


def _delete(connection: sqlite3.Connection, table: str, events: Sequence[StoredEvent]) -> None:
    connection.executemany(f"DELETE FROM {table} WHERE position = ?", [(event.position,) for event in events])


def _size(events: Iterable[StoredEvent]) -> int:
    return sum(len(event.document) for event in events)
