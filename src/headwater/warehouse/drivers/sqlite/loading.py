"""Writes events: many of one workspace as blocks, few as rows."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from headwater.warehouse.contract import StoredEvent
from headwater.warehouse.drivers.sqlite.block import (
    HOUR,
    MAX_BLOCK_BYTES,
    MAX_BLOCK_EVENTS,
    MIN_BLOCK_EVENTS,
    NewBlock,
    make_block,
)
from headwater.warehouse.drivers.sqlite.database import documents_id, transaction

MAX_DELAY: Final = HOUR
"""Maximum difference between time and arrival, in microseconds. An event with a larger one is late."""

_INSERT_ROW: Final = "INSERT INTO event_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_BLOCK: Final = "INSERT INTO event_blocks VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_DOCUMENTS: Final = "INSERT INTO event_documents VALUES (?, ?)"
_ADD_COUNT: Final = """
INSERT INTO row_counts VALUES (?, ?, ?) ON CONFLICT (workspace) DO UPDATE SET events = events + excluded.events
"""


def loaded(connection: sqlite3.Connection) -> int:
    """Return the position through which events are loaded."""
    (position,) = connection.execute("SELECT position FROM loaded").fetchone()
    return int(position)


def load(
    connection: sqlite3.Connection, events: Sequence[StoredEvent], *, through: int, now: int, commit: bool = True
) -> None:
    """Load events as the contract says. Without `commit`, raise what that would raise and store nothing.

    Blocks are made before the transaction begins, so that no reader of another process waits for it.
    """
    after = loaded(connection)
    if through <= after:
        return
    rows: list[StoredEvent] = []
    blocks: list[NewBlock] = []
    for group in _groups(_after(events, after)):
        if len(group) < MIN_BLOCK_EVENTS:
            rows += group
        else:
            blocks += map(make_block, pieces(group))
    with transaction(connection, commit=commit):
        insert_rows(connection, rows, now)
        for block in blocks:
            insert_block(connection, block)
        connection.execute("UPDATE loaded SET position = ?", (through,))


def _after(events: Sequence[StoredEvent], position: int) -> Sequence[StoredEvent]:
    """Return the events after a position: nearly always all of them."""
    if not events or events[0].position > position:
        return events
    return [event for event in events if event.position > position]


def _groups(events: Sequence[StoredEvent]) -> Iterator[Sequence[StoredEvent]]:
    """Yield the events of each workspace, with the late ones separate from the others.

    A query opens each block whose time range overlaps its own. A few late events in each block would make every block
    cover days, and a query for the newest events would open all of them.
    """
    groups: dict[int, list[StoredEvent]] = {}
    for event in events:
        groups.setdefault(event.workspace, []).append(event)
    for group in groups.values():
        late = [event for event in group if is_late(event)]
        if late:
            yield late
        if len(late) < len(group):
            yield [event for event in group if not is_late(event)] if late else group


def is_late(event: StoredEvent) -> bool:
    """Return whether the event's time is far from its arrival."""
    return abs(event.received_at - event.timestamp) > MAX_DELAY


def pieces(events: Sequence[StoredEvent]) -> list[Sequence[StoredEvent]]:
    """Return the events in pieces that are small enough for a block."""
    if len(events) <= MAX_BLOCK_EVENTS and sum([len(event.document) for event in events]) <= MAX_BLOCK_BYTES:
        return [events]
    found: list[Sequence[StoredEvent]] = []
    start = size = 0
    for index, event in enumerate(events):
        size += len(event.document)
        if index > start and (index - start == MAX_BLOCK_EVENTS or size > MAX_BLOCK_BYTES):
            found.append(events[start:index])
            start, size = index, len(event.document)
    found.append(events[start:])
    return found


def insert_rows(connection: sqlite3.Connection, events: Sequence[StoredEvent], now: int) -> None:
    """Insert events as rows, and count them."""
    counts: dict[int, int] = {}
    for event in events:
        counts[event.workspace] = counts.get(event.workspace, 0) + 1
    connection.executemany(_INSERT_ROW, map(_row, events))
    connection.executemany(_ADD_COUNT, [(workspace, count, now) for workspace, count in counts.items()])


def insert_block(connection: sqlite3.Connection, block: NewBlock) -> None:
    """Insert a block and its documents."""
    values = (
        block.workspace,
        block.events,
        block.document_bytes,
        block.first_position,
        block.last_position,
        block.min_timestamp,
        block.max_timestamp,
        block.min_received_at,
        block.max_received_at,
        block.counts,
        block.people,
        block.columns,
    )
    id = connection.execute(_INSERT_BLOCK, values).lastrowid
    assert id is not None
    connection.executemany(
        _INSERT_DOCUMENTS, [(documents_id(id, first), documents) for first, documents in block.chunks]
    )


def _row(event: StoredEvent) -> tuple[object, ...]:
    return (
        event.position,
        event.workspace,
        event.connection,
        event.pipeline,
        event.timestamp,
        event.received_at,
        event.type,
        event.event,
        event.user_id,
        event.anonymous_id,
        event.document,
    )
