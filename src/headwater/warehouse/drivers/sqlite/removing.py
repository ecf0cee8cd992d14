"""Removes events: those of persons, and those that arrived before a time.

A block is replaced by one with the remaining events. It gets another id, so caches of blocks stay valid. A step is one
transaction, so a crash loses no other event.
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from headwater.warehouse.contract import ErasureCursor, ErasureStep, StoredEvent
from headwater.warehouse.drivers.sqlite.block import MAX_BLOCK_EVENTS, Block, make_block
from headwater.warehouse.drivers.sqlite.columns import hash_ids, may_have_any, unpack_documents
from headwater.warehouse.drivers.sqlite.database import documents_id, has_old_rows, transaction
from headwater.warehouse.drivers.sqlite.loading import insert_block
from headwater.warehouse.drivers.sqlite.reading import find_person_events
from headwater.warehouse.drivers.sqlite.rows import OLD_COLUMNS, read_old_row
from headwater.warehouse.persons import PersonSet

STEP_SECONDS: Final = 0.05
"""Time after which a step examines no further block. Replacing one takes about as long."""
MAX_STEP_ROWS: Final = 4_000
"""Maximum number of rows that a step examines or removes."""
MAX_STEP_BLOCKS: Final = 20
"""Maximum number of whole blocks that a step removes."""

# Rows become blocks with higher ids, and merged blocks get higher ids, so this order misses no event.
_OLD_ROWS_STAGE: Final = 0
_ROWS_STAGE: Final = 1
_BLOCKS_STAGE: Final = 2

_OLD_ROWS: Final = f"SELECT {OLD_COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?"
_ROWS: Final = "SELECT position, connection, user_id, anonymous_id FROM event_rows WHERE workspace = ?"
_BLOCKS: Final = "SELECT id, workspace, people FROM event_blocks WHERE id > ? ORDER BY id"
_COLUMNS: Final = "SELECT columns FROM event_blocks WHERE id = ?"
_DOCUMENTS: Final = "SELECT documents FROM event_documents WHERE id = ?"
_REMOVE_DOCUMENTS: Final = "DELETE FROM event_documents WHERE id >= ? AND id < ?"
_EXPIRED_ROWS: Final = """
SELECT position FROM event_rows INDEXED BY event_rows_by_received_at WHERE workspace = ? AND received_at < ? LIMIT ?
"""
_EXPIRED_BLOCKS: Final = """
SELECT id, events FROM event_blocks INDEXED BY event_blocks_by_max_received_at
WHERE workspace = ? AND max_received_at < ? LIMIT ?
"""
_EDGE_BLOCK: Final = """
SELECT id FROM event_blocks INDEXED BY event_blocks_by_min_received_at
WHERE workspace = ? AND min_received_at < ? LIMIT 1
"""
_OLDEST_OLD_ROWS: Final = (
    "SELECT position, workspace, received_at FROM events WHERE position > 0 ORDER BY position LIMIT ?"
)


def erase(
    connection: sqlite3.Connection, workspace: int, persons: PersonSet, cursor: ErasureCursor | None
) -> ErasureStep:
    """Do one step of an erasure, as the contract says."""
    cursor = cursor or ErasureCursor()
    if not persons:
        return ErasureStep(0, None)
    if cursor.stage == _OLD_ROWS_STAGE:
        if has_old_rows(connection):
            return _erase_old_rows(connection, workspace, persons, cursor.place)
        cursor = ErasureCursor(_ROWS_STAGE)
    if cursor.stage == _ROWS_STAGE:
        return _erase_rows(connection, workspace, persons)
    return _erase_from_blocks(connection, workspace, persons, cursor.place)


def _erase_old_rows(connection: sqlite3.Connection, workspace: int, persons: PersonSet, after: int) -> ErasureStep:
    with transaction(connection):
        rows = connection.execute(_OLD_ROWS, (after, MAX_STEP_ROWS)).fetchall()
        events = [read_old_row(row) for row in rows if row[1] == workspace]
        removed = [event.position for event in events if _is_by_person(persons, event)]
        _remove_rows(connection, "events", removed)
    if len(rows) < MAX_STEP_ROWS:
        return ErasureStep(len(removed), ErasureCursor(_ROWS_STAGE))
    return ErasureStep(len(removed), ErasureCursor(_OLD_ROWS_STAGE, rows[-1][0]))


def _erase_rows(connection: sqlite3.Connection, workspace: int, persons: PersonSet) -> ErasureStep:
    """Remove rows in one step: a workspace has some thousand at most."""
    with transaction(connection):
        rows = connection.execute(_ROWS, (workspace,))
        removed = [position for position, *ids in rows if persons.has(*ids)]
        _remove_rows(connection, "event_rows", removed)
        _subtract(connection, workspace, len(removed))
    return ErasureStep(len(removed), ErasureCursor(_BLOCKS_STAGE))


def _erase_from_blocks(connection: sqlite3.Connection, workspace: int, persons: PersonSet, after: int) -> ErasureStep:
    end = time.monotonic() + STEP_SECONDS
    wanted = hash_ids(persons.user_ids, persons.anonymous_ids)
    for id, owner, people in connection.execute(_BLOCKS, (after,)):
        if owner == workspace and may_have_any(people, wanted):
            removed = _remove_from_block(connection, workspace, id, lambda block: find_person_events(block, persons))
            return ErasureStep(removed, ErasureCursor(_BLOCKS_STAGE, id))
        if time.monotonic() > end:
            return ErasureStep(0, ErasureCursor(_BLOCKS_STAGE, id))
    return ErasureStep(0, None)


def remove_before(connection: sqlite3.Connection, workspace: int, received_at: int) -> int:
    """Remove some of the events that arrived before a time; return their number, 0 if there are none."""
    return (
        _remove_blocks_before(connection, workspace, received_at)
        or _remove_rows_before(connection, workspace, received_at)
        or _shorten_block(connection, workspace, received_at)
        or _remove_old_rows_before(connection, workspace, received_at)
    )


def _remove_blocks_before(connection: sqlite3.Connection, workspace: int, received_at: int) -> int:
    values = (workspace, received_at, MAX_STEP_BLOCKS)
    if not connection.execute(_EXPIRED_BLOCKS, values).fetchall():
        return 0
    with transaction(connection):
        blocks = connection.execute(_EXPIRED_BLOCKS, values).fetchall()
        for id, _ in blocks:
            remove_block(connection, id)
    return sum(events for _, events in blocks)


def _remove_rows_before(connection: sqlite3.Connection, workspace: int, received_at: int) -> int:
    values = (workspace, received_at, MAX_STEP_ROWS)
    if connection.execute(_EXPIRED_ROWS, values).fetchone() is None:
        return 0
    with transaction(connection):
        removed = [position for (position,) in connection.execute(_EXPIRED_ROWS, values)]
        _remove_rows(connection, "event_rows", removed)
        _subtract(connection, workspace, len(removed))
    return len(removed)


def _shorten_block(connection: sqlite3.Connection, workspace: int, received_at: int) -> int:
    """Replace a block that has events from before and after the time."""
    found = connection.execute(_EDGE_BLOCK, (workspace, received_at)).fetchone()
    if found is None:
        return 0

    def expired(block: Block) -> list[int]:
        return [event for event, time in enumerate(block.received_at) if time < received_at]

    return _remove_from_block(connection, workspace, found[0], expired)


def _remove_old_rows_before(connection: sqlite3.Connection, workspace: int, received_at: int) -> int:
    """Remove the oldest rows of an older release. Others follow once maintenance has moved those before them."""
    if not has_old_rows(connection):
        return 0
    with transaction(connection):
        rows = connection.execute(_OLDEST_OLD_ROWS, (MAX_STEP_ROWS,)).fetchall()
        removed = [position for position, owner, time in rows if owner == workspace and time < received_at]
        _remove_rows(connection, "events", removed)
    return len(removed)


def _remove_from_block(
    connection: sqlite3.Connection, workspace: int, id: int, select: Callable[[Block], Collection[int]]
) -> int:
    """Replace a block by one without the selected events; return their number."""
    with transaction(connection):
        block = Block(id, connection.execute(_COLUMNS, (id,)).fetchone()[0])
        removed = frozenset(select(block))
        if removed:
            documents = read_documents(connection, block) if len(removed) < len(block) else []
            remove_block(connection, id)
            if documents:
                events = block.stored_events(workspace, documents)
                insert_block(connection, make_block(_without(events, removed)))
    return len(removed)


def read_documents(connection: sqlite3.Connection, block: Block) -> list[bytes]:
    """Return all documents of a block."""
    return [
        document
        for first in block.chunks
        for document in unpack_documents(connection.execute(_DOCUMENTS, (documents_id(block.id, first),)).fetchone()[0])
    ]


def _without(events: Iterable[StoredEvent], removed: frozenset[int]) -> list[StoredEvent]:
    return [event for index, event in enumerate(events) if index not in removed]


def remove_block(connection: sqlite3.Connection, id: int) -> None:
    """Remove a block and its documents."""
    first = documents_id(id, 0)
    connection.execute(_REMOVE_DOCUMENTS, (first, first + MAX_BLOCK_EVENTS))
    connection.execute("DELETE FROM event_blocks WHERE id = ?", (id,))


def _remove_rows(connection: sqlite3.Connection, table: str, positions: Sequence[int]) -> None:
    connection.executemany(f"DELETE FROM {table} WHERE position = ?", [(position,) for position in positions])


def _subtract(connection: sqlite3.Connection, workspace: int, count: int) -> None:
    """Correct the number of rows of a workspace."""
    if count:
        connection.execute("UPDATE row_counts SET events = events - ? WHERE workspace = ?", (count, workspace))
        connection.execute("DELETE FROM row_counts WHERE workspace = ? AND events <= 0", (workspace,))


def _is_by_person(persons: PersonSet, event: StoredEvent) -> bool:
    return persons.has(event.connection, event.user_id, event.anonymous_id)
