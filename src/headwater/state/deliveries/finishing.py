"""Finishes chunks: the courier's progress, and deliveries that are given up. All work runs under the lock "finish"."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, Table, bindparam, delete, select, update

from headwater.base.compression import compress
from headwater.state.deliveries.chunks import ITEM_BITS, ChunkHead, is_done
from headwater.state.deliveries.counts import ROW_BYTES, Changes
from headwater.state.deliveries.packing import (
    LoggedChunk,
    count_done,
    join_done,
    pack_logged,
    unfinished_by_pipeline,
    unpack_positions,
    unpack_wanted,
)
from headwater.state.deliveries.records import (
    EXPIRED,
    MAX_RESPONSE_BYTES,
    ChunkProgress,
    DeadLetter,
    Expired,
    LaneHealth,
)
from headwater.state.deliveries.rows import StoredRow, delete_ids, in_steps, insert_rows, upsert_rows, with_ids
from headwater.state.deliveries.tables import (
    dead_chunks,
    dead_letters,
    delivery_bodies,
    delivery_chunks,
    delivery_lanes,
    delivery_log,
)

LETTER_BYTES: Final = 512
"""Size that a dead letter takes on the disk besides its document."""
LOG_ROW_BYTES: Final = 256


_SET_DONE: Final = (
    update(delivery_chunks).where(delivery_chunks.c.id == bindparam("chunk")).values(done=bindparam("bits"))
)


def store_progress(connection: Connection, progress: Sequence[ChunkProgress], changes: Changes, *, now: int) -> None:
    """Set the bits of finished items, and delete chunks that are finished."""
    wanted = {each.chunk: each for each in progress}
    finished: list[tuple[StoredRow, ChunkProgress]] = []
    partly: list[dict[str, Any]] = []
    for row in _rows(connection, delivery_chunks, wanted):
        each = wanted.pop(row.id)
        done = join_done(row.done, each.done)
        if count_done(done) >= row.item_count:
            finished.append((row, each))
        elif done != row.done:
            partly.append({"chunk": row.id, "bits": done})
    if partly:
        connection.execute(_SET_DONE, partly)
    if finished:
        _log(connection, finished, changes, now)
        close(connection, [row for row, _ in finished], changes)
        free_bodies(connection, {row.body for row, _ in finished}, changes)
    if wanted:
        _store_late_progress(connection, wanted, changes)


def _store_late_progress(connection: Connection, progress: Mapping[int, ChunkProgress], changes: Changes) -> None:
    """Take items out of chunks that were given up while they were under way."""
    emptied = []
    for row in _rows(connection, dead_chunks, progress):
        done = join_done(row.done, progress[row.id].done)
        if set_dead_done(connection, row, done, changes):
            emptied.append(row)
    if emptied:
        free_bodies(connection, {row.body for row in emptied}, changes)


def set_dead_done(connection: Connection, row: StoredRow, done: bytes, changes: Changes) -> bool:
    """Set bits of a dead chunk; delete it if none of its items is left. Return whether it was deleted."""
    wanted = unpack_wanted(row.wanted)
    before = unfinished_by_pipeline(wanted, row.item_count, row.done)
    after = unfinished_by_pipeline(wanted, row.item_count, done)
    for pipeline, count in before.items():
        changes.add_reason(row.workspace, row.destination, pipeline, row.reason, after.get(pipeline, 0) - count)
    is_empty = not any(after.values())
    fewer = sum(before.values()) - sum(after.values())
    changes.add_dead(row.destination, -fewer, -row.bytes if is_empty else 0)
    if is_empty:
        connection.execute(delete(dead_chunks).where(dead_chunks.c.id == row.id))
        changes.add_size(-ROW_BYTES)
    else:
        connection.execute(update(dead_chunks).where(dead_chunks.c.id == row.id).values(done=done))
    return is_empty


@cache
def _by_id(table: Table) -> Select[Any]:
    return select(table).where(with_ids(table.c.id)).order_by(table.c.id)


def _rows(connection: Connection, table: Table, ids: Iterable[int]) -> list[StoredRow]:
    return [row for some in in_steps(sorted(ids)) for row in connection.execute(_by_id(table), {"ids": some})]


def close(connection: Connection, rows: Collection[StoredRow], changes: Changes) -> None:
    """Delete chunks, whatever becomes of their items."""
    delete_ids(connection, delivery_chunks.c.id, [row.id for row in rows])
    for row in rows:
        changes.add_open(row.destination, -row.item_count, -row.bytes)
        changes.add_size(-ROW_BYTES)


_USED: Final = [select(table.c.body).where(with_ids(table.c.body)) for table in (delivery_chunks, dead_chunks)]
_FREE: Final = delete(delivery_bodies).where(with_ids(delivery_bodies.c.id)).returning(delivery_bodies.c.bytes)


def free_bodies(connection: Connection, bodies: Collection[int], changes: Changes) -> None:
    """Delete those of the bodies that no chunk refers to."""
    for some in in_steps(sorted(bodies)):
        used = {row.body for query in _USED for row in connection.execute(query, {"ids": some})}
        if unused := [body for body in some if body not in used]:
            changes.add_size(-sum(connection.scalars(_FREE, {"ids": unused})))


_POSITIONS: Final = select(delivery_bodies.c.id, delivery_bodies.c.positions).where(with_ids(delivery_bodies.c.id))


def _log(
    connection: Connection, finished: Sequence[tuple[StoredRow, ChunkProgress]], changes: Changes, now: int
) -> None:
    """Store the attempts of finished chunks."""
    logged = [(row, each) for row, each in finished if each.attempts]
    positions: dict[int, bytes] = {}
    for some in in_steps({row.body for row, _ in logged}):
        positions.update((row.id, row.positions) for row in connection.execute(_POSITIONS, {"ids": some}))
    rows = []
    for row, each in logged:
        chunk = LoggedChunk(unpack_positions(positions[row.body]), unpack_wanted(row.wanted), list(each.attempts))
        packed = pack_logged(chunk)
        size = len(packed) + LOG_ROW_BYTES
        changes.add_log(size)
        rows.append(
            {
                "chunk": row.id,
                "destination": row.destination,
                "origin": row.origin,
                "first_position": row.first_position,
                "last_position": row.last_position,
                "enqueued_at": row.enqueued_at,
                "finished_at": now,
                "bytes": size,
                "attempts": packed,
            }
        )
    insert_rows(connection, delivery_log, rows)


_KNOWN: Final = select(dead_letters.c.id).where(with_ids(dead_letters.c.id))


def add_dead(connection: Connection, letters: Sequence[DeadLetter], changes: Changes) -> None:
    """Store dead letters. Those that are stored already change nothing, nor do those of finished items: an erasure has
    removed such an event while its delivery was under way."""
    known: set[int] = set()
    for some in in_steps([letter.number for letter in letters]):
        known.update(connection.scalars(_KNOWN, {"ids": some}))
    unfinished = _unfinished(connection, [letter.number for letter in letters if letter.number not in known])
    rows = []
    for letter in letters:
        if letter.number not in unfinished:
            continue
        event = letter.event
        document = compress(event.document)
        size = len(document) + LETTER_BYTES
        rows.append(
            {
                "id": letter.number,
                "workspace": letter.workspace,
                "destination": letter.destination,
                "pipeline": letter.pipeline,
                "reason": letter.reason,
                "message": letter.message.replace("\0", "\ufffd"),  # PostgreSQL texts cannot contain NUL
                "status": letter.status,
                "attempts": letter.attempts,
                "step": letter.step,
                "enqueued_at": letter.enqueued_at,
                "died_at": letter.died_at,
                "position": event.position,
                "source": event.source,
                "message_id": event.message_id,
                "received_at": event.received_at,
                "user_id": event.user_id,
                "anonymous_id": event.anonymous_id,
                "bytes": size,
                "document": document,
            }
        )
        changes.add_dead(letter.destination, 1, size)
        changes.add_reason(letter.workspace, letter.destination, letter.pipeline, letter.reason, 1)
        changes.add_size(size)
    insert_rows(connection, dead_letters, rows)


_DONE: Final = [
    select(table.c.id, table.c.done).where(with_ids(table.c.id)) for table in (delivery_chunks, dead_chunks)
]


def _unfinished(connection: Connection, numbers: Sequence[int]) -> set[int]:
    """Return the numbers of those items whose chunk has not finished them."""
    done: dict[int, bytes] = {}
    for some in in_steps({number >> ITEM_BITS for number in numbers}):
        for query in _DONE:
            done.update((row.id, row.done) for row in connection.execute(query, {"ids": some}))
    return {
        number
        for number in numbers
        if number >> ITEM_BITS in done and not is_done(done[number >> ITEM_BITS], number & (1 << ITEM_BITS) - 1)
    }


def save_health(connection: Connection, health: Sequence[LaneHealth]) -> None:
    """Store the health of destinations."""
    rows = []
    for each in health:
        row = msgspec.structs.asdict(each)
        row["last_response"] = each.last_response[:MAX_RESPONSE_BYTES]
        row["last_error"] = each.last_error.replace("\0", "\ufffd")
        rows.append(row)
    upsert_rows(connection, delivery_lanes, rows)


def expire(connection: Connection, changes: Changes, *, after: int, before: int, now: int, limit: int) -> Expired:
    """Make dead chunks of the chunks with ids above `after` that were appended before a time, the oldest first."""
    table = delivery_chunks.c
    query = select(delivery_chunks).where(table.id > after).order_by(table.id).limit(limit)
    expired = []
    for row in connection.execute(query).all():
        if row.enqueued_at >= before:  # the ids ascend with the time
            break
        expired.append(row)
    items = kill(connection, expired, EXPIRED, changes, now=now)
    return Expired([head(row) for row in expired], items)


def kill(
    connection: Connection, rows: Sequence[StoredRow], reason: str, changes: Changes, *, now: int
) -> Counter[tuple[int, int]]:
    """Make dead chunks of chunks. Their bodies stay. Return the number of items by destination and pipeline."""
    close(connection, rows, changes)
    dead = []
    items: Counter[tuple[int, int]] = Counter()
    for row in rows:
        dead.append({**row._mapping, "died_at": now, "reason": reason})
        left = unfinished_by_pipeline(unpack_wanted(row.wanted), row.item_count, row.done)
        for pipeline, count in left.items():
            changes.add_reason(row.workspace, row.destination, pipeline, reason, count)
            items[row.destination, pipeline] += count
        changes.add_dead(row.destination, sum(left.values()), row.bytes)
        changes.add_size(ROW_BYTES)
    insert_rows(connection, dead_chunks, dead)
    return items


def head(row: StoredRow) -> ChunkHead:
    """Return a row of `delivery_chunks` without its events."""
    return ChunkHead(row.id, row.destination, row.workspace, row.item_count, row.bytes, row.enqueued_at)
