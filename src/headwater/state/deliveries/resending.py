"""Moves dead letters back into the queue, step by step. All work runs under both locks."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, insert, select

from headwater.state.deliveries.appending import End, append, move_end
from headwater.state.deliveries.chunks import ITEM_BITS, NewChunk, NewDeliveries, QueuedEvent
from headwater.state.deliveries.contract import MAX_STEP_ITEMS
from headwater.state.deliveries.counts import ROW_BYTES, Changes
from headwater.state.deliveries.dead import oldest_dead_chunk, read_event, select_letters, selected_items
from headwater.state.deliveries.finishing import set_dead_done
from headwater.state.deliveries.packing import join_done, pack, pack_wanted
from headwater.state.deliveries.records import DeadCursor, DeadSelection, OperationProgress
from headwater.state.deliveries.rows import StoredRow, upsert_rows
from headwater.state.deliveries.space import remove_letters
from headwater.state.deliveries.tables import delivery_chunks, delivery_operations

MAX_SKIPPED: Final = 200
"""Maximum number of dead chunks without selected items that one step skips."""


class _Place(Struct, frozen=True, array_like=True):
    """The place of a re-send in the dead letters, in the order of time."""

    until: int
    """The start of the re-send: what dies later is not sent again."""
    died_at: int = -1
    number: int = -1


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Place).decode


def read_progress(connection: Connection, operation: str) -> OperationProgress:
    """Return the progress of an operation."""
    query = select(delivery_operations).where(delivery_operations.c.operation == operation)
    row = connection.execute(query).one_or_none()
    return OperationProgress() if row is None else OperationProgress(row.items, row.cursor, row.is_complete)


def save_progress(connection: Connection, operation: str, progress: OperationProgress) -> None:
    """Store the progress of an operation."""
    upsert_rows(connection, delivery_operations, [{"operation": operation, **msgspec.structs.asdict(progress)}])


def forget(connection: Connection, operation: str) -> None:
    """Delete the progress of an operation."""
    connection.execute(delete(delivery_operations).where(delivery_operations.c.operation == operation))


def resend(
    connection: Connection, operation: str, selection: DeadSelection, end: End, changes: Changes, *, now: int
) -> OperationProgress:
    """Move the next dead letters behind all other deliveries, and store the progress."""
    progress = read_progress(connection, operation)
    if progress.is_complete:
        return progress
    place = _decode(progress.cursor) if progress.cursor else _Place(now)
    until = place.until if selection.until is None else min(selection.until, place.until)
    selection = msgspec.structs.replace(selection, until=until)
    after = DeadCursor(place.died_at, place.number)
    letters = select_letters(connection, selection, MAX_STEP_ITEMS, oldest_after=after)
    chunk = oldest_dead_chunk(connection, selection, after)
    for _ in range(MAX_SKIPPED):
        if chunk is None or any(True for _ in selected_items(chunk, selection)):
            break
        chunk = oldest_dead_chunk(connection, selection, DeadCursor(chunk.died_at, _last_number(chunk)))
    if chunk is not None:
        first = chunk.died_at, chunk.id << ITEM_BITS
        letters = [row for row in letters if (row.died_at, row.id) < first]
    if letters:
        moved = len(letters)
        append(connection, pack(_deliveries(letters)), end, changes, position=end.position, now=now, origin=operation)
        remove_letters(connection, changes, letters)
        place = _Place(place.until, letters[-1].died_at, letters[-1].id)
    elif chunk is not None:
        moved = _move_chunk(connection, chunk, selection, end, changes, now=now, origin=operation)
        place = _Place(place.until, chunk.died_at, _last_number(chunk))
    else:
        moved = 0
    new = OperationProgress(progress.items + moved, _encode(place), not letters and chunk is None)
    save_progress(connection, operation, new)
    return new


def _last_number(chunk: StoredRow) -> int:
    return (int(chunk.id) + 1 << ITEM_BITS) - 1


def _deliveries(letters: Sequence[StoredRow]) -> list[NewDeliveries]:
    """Return dead letters as deliveries, those of each destination in the order of their events."""
    by_destination: defaultdict[tuple[int, int], list[StoredRow]] = defaultdict(list)
    for row in letters:
        by_destination[row.workspace, row.destination].append(row)
    deliveries = []
    for (workspace, destination), rows in by_destination.items():
        events: list[QueuedEvent] = []
        wanted: defaultdict[int, list[int]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: (row.position, row.pipeline)):
            if not events or events[-1].position != row.position:
                events.append(read_event(row))
            wanted[row.pipeline].append(len(events) - 1)
        deliveries.append(NewDeliveries(workspace, events, [NewChunk(destination, workspace, dict(wanted))]))
    return deliveries


def _move_chunk(
    connection: Connection,
    row: StoredRow,
    selection: DeadSelection,
    end: End,
    changes: Changes,
    *,
    now: int,
    origin: str,
) -> int:
    """Append a chunk with the selected items of a dead one, with the same body; return their number."""
    wanted: defaultdict[int, list[int]] = defaultdict(list)
    done = bytearray((row.item_count + 7) // 8)
    count = 0
    for index, event, pipeline in selected_items(row, selection):
        wanted[pipeline].append(event)
        done[index >> 3] |= 1 << (index & 7)
        count += 1
    if not count:
        return 0
    values = {column.name: row._mapping[column.name] for column in delivery_chunks.c}
    values |= {
        "id": end.chunk + 1,
        "item_count": count,
        "enqueued_at": now,
        "origin": origin,
        "wanted": pack_wanted(wanted),
        "done": b"",
    }
    connection.execute(insert(delivery_chunks).values(**values))
    move_end(connection, end, End(end.chunk + 1, end.position))
    changes.add_open(row.destination, count, row.bytes)
    changes.add_size(ROW_BYTES)
    set_dead_done(connection, row, join_done(row.done, bytes(done)), changes)
    return count
