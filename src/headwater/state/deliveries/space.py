"""Keeps the queue within its maximum size, and deletes outdated data. All work runs under the lock "finish"."""

from collections import Counter
from collections.abc import Collection
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Table, delete, func, select, update

from headwater.state.deliveries.chunks import ChunkHead
from headwater.state.deliveries.counts import EVERYTHING, ROW_BYTES, Changes, read_sizes
from headwater.state.deliveries.finishing import close, free_bodies, head
from headwater.state.deliveries.packing import unfinished_by_pipeline, unpack_wanted
from headwater.state.deliveries.records import NO_SPACE, Owners
from headwater.state.deliveries.rows import StoredRow, delete_ids
from headwater.state.deliveries.tables import (
    dead_chunks,
    dead_counts,
    dead_letters,
    dead_ranges,
    delivery_chunks,
    delivery_counts,
    delivery_lanes,
    delivery_log,
)

DEFAULT_MAX_BYTES: Final = 20 << 30
"""Default maximum size of the queue."""
LOG_SHARE: Final = 10
"""The log of attempts has at most this part of the maximum size: a tenth."""
MAX_STEPS: Final = 50
"""Number of times that one call looks for the largest destination."""
STEP_ROWS: Final = 200
"""Number of rows that are deleted at a time."""
RANGE_MICROSECONDS: Final = 3_600_000_000
"""Time after which a range is not extended, so that ranges tell when their deliveries were lost."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_counts: Final = msgspec.msgpack.Decoder(dict[int, int]).decode


class Freed(Struct):
    """The deleted data."""

    chunks: list[ChunkHead]
    """Unfinished chunks that became ranges."""
    items: Counter[tuple[int, int]]
    """Number of their unfinished items, by destination and pipeline."""
    letters: int = 0
    """Number of deleted dead letters."""


def make_space(connection: Connection, changes: Changes, *, max_bytes: int, now: int) -> Freed:
    """Delete the oldest data of the largest destinations until the size of everything is at most `max_bytes`."""
    freed = Freed([], Counter())
    sizes = read_sizes(connection)
    everything = sizes.pop(EVERYTHING, None)
    if everything is None:
        return freed
    if everything.dead_bytes > max_bytes // LOG_SHARE:
        _shorten_log(connection, changes, everything.dead_bytes - max_bytes // LOG_SHARE)
    alive = {destination: (each.open_bytes, each.dead_bytes) for destination, each in sizes.items()}
    for _ in range(MAX_STEPS):
        excess = everything.open_bytes + changes.size - max_bytes
        if excess <= 0 or not any(map(sum, alive.values())):
            break
        victim = max(alive, key=lambda destination: (sum(alive[destination]), destination))
        second = max((sum(each) for destination, each in alive.items() if destination != victim), default=0)
        aim = min(excess, sum(alive[victim]) - second)
        open_bytes, dead_bytes = alive[victim]
        if dead_bytes > 0:
            removed = _drop_dead(connection, changes, freed, victim, aim, now)
            alive[victim] = open_bytes, dead_bytes - removed if removed else 0
        else:
            removed = _drop_open(connection, changes, freed, victim, aim, now)
            alive[victim] = open_bytes - removed if removed else 0, 0
    return freed


def _drop_open(connection: Connection, changes: Changes, freed: Freed, destination: int, aim: int, now: int) -> int:
    """Make ranges of the oldest chunks of a destination, about `aim` bytes and at least one; return their size."""
    table = delivery_chunks.c
    query = select(delivery_chunks).where(table.destination == destination).order_by(table.id).limit(STEP_ROWS)
    rows = _up_to(connection.execute(query).all(), aim)
    close(connection, rows, changes)
    for row in rows:
        left = unfinished_by_pipeline(unpack_wanted(row.wanted), row.item_count, row.done)
        for pipeline, count in left.items():
            changes.add_reason(row.workspace, row.destination, pipeline, NO_SPACE, count)
            freed.items[row.destination, pipeline] += count
        _add_range(connection, changes, row, left, now)
    free_bodies(connection, {row.body for row in rows}, changes)
    freed.chunks += [head(row) for row in rows]
    return sum(row.bytes for row in rows)


def _drop_dead(connection: Connection, changes: Changes, freed: Freed, destination: int, aim: int, now: int) -> int:
    """Delete the oldest dead letters of a destination, or make ranges of its oldest dead chunks; return their size."""
    letters, chunks = dead_letters.c, dead_chunks.c
    columns = (
        letters.id, letters.workspace, letters.destination, letters.pipeline, letters.reason, letters.bytes
    )  # fmt: skip
    of_letters = select(*columns).where(letters.destination == destination).order_by(letters.died_at, letters.id)
    if rows := _up_to(connection.execute(of_letters.limit(STEP_ROWS)).all(), aim):
        remove_letters(connection, changes, rows)
        freed.letters += len(rows)
        return sum(row.bytes for row in rows)
    of_chunks = select(dead_chunks).where(chunks.destination == destination).order_by(chunks.died_at, chunks.id)
    rows = _up_to(connection.execute(of_chunks.limit(STEP_ROWS)).all(), aim)
    for row in rows:
        left = unfinished_by_pipeline(unpack_wanted(row.wanted), row.item_count, row.done)
        for pipeline, count in left.items():
            changes.add_reason(row.workspace, row.destination, pipeline, NO_SPACE, count)
        _add_range(connection, changes, row, left, now)
    remove_dead_chunks(connection, changes, rows)
    return sum(row.bytes for row in rows)


def remove_letters(connection: Connection, changes: Changes, rows: Collection[StoredRow]) -> None:
    """Delete dead letters."""
    delete_ids(connection, dead_letters.c.id, [row.id for row in rows])
    for row in rows:
        changes.add_dead(row.destination, -1, -row.bytes)
        changes.add_reason(row.workspace, row.destination, row.pipeline, row.reason, -1)
        changes.add_size(-row.bytes)


def remove_dead_chunks(connection: Connection, changes: Changes, rows: Collection[StoredRow]) -> None:
    """Delete dead chunks."""
    delete_ids(connection, dead_chunks.c.id, [row.id for row in rows])
    for row in rows:
        left = unfinished_by_pipeline(unpack_wanted(row.wanted), row.item_count, row.done)
        for pipeline, count in left.items():
            changes.add_reason(row.workspace, row.destination, pipeline, row.reason, -count)
        changes.add_dead(row.destination, -sum(left.values()), -row.bytes)
        changes.add_size(-ROW_BYTES)
    free_bodies(connection, {row.body for row in rows}, changes)


def _up_to(rows: Collection[StoredRow], size: int) -> list[StoredRow]:
    """Return the first rows that have `size` bytes together."""
    some = []
    for row in rows:
        some.append(row)
        size -= row.bytes
        if size <= 0:
            break
    return some


def _add_range(connection: Connection, changes: Changes, row: StoredRow, pipelines: dict[int, int], now: int) -> None:
    """Store a range in the place of a chunk, or extend the previous one."""
    table = dead_ranges.c
    newest = (
        select(dead_ranges)
        .where(table.destination == row.destination, table.last_position < row.first_position)
        .order_by(table.last_position.desc())
        .limit(1)
    )
    last = connection.execute(newest).one_or_none()
    if last is None or row.origin or now - last.died_at > RANGE_MICROSECONDS or _skips(connection, last, row):
        values = {
            "id": row.id,
            "workspace": row.workspace,
            "destination": row.destination,
            "first_position": row.first_position,
            "last_position": row.last_position,
            "pipelines": _encode(pipelines),
            "enqueued_at": row.enqueued_at,
            "died_at": now,
        }
        connection.execute(dead_ranges.insert().values(**values))
        changes.add_size(ROW_BYTES)
        return
    total = _decode_counts(last.pipelines)
    for pipeline, count in pipelines.items():
        total[pipeline] = total.get(pipeline, 0) + count
    extended = {
        "last_position": row.last_position,
        "pipelines": _encode(total),
        "enqueued_at": max(last.enqueued_at, row.enqueued_at),
    }
    connection.execute(update(dead_ranges).where(table.id == last.id).values(**extended))


def _skips(connection: Connection, last: StoredRow, row: StoredRow) -> bool:
    """Return whether a chunk between a range and another chunk is kept, was delivered, or is dead."""
    for table in (delivery_chunks, dead_chunks, delivery_log):
        between = (
            select(table.c.first_position)
            .where(
                table.c.destination == row.destination,
                table.c.origin == "",
                table.c.first_position > last.last_position,
                table.c.first_position < row.first_position,
            )
            .limit(1)
        )
        if connection.execute(between).one_or_none() is not None:
            return True
    return False


def read_range_counts(packed: bytes) -> dict[int, int]:
    """Return the number of deliveries by pipeline in a stored range."""
    return _decode_counts(packed)


def _shorten_log(connection: Connection, changes: Changes, excess: int) -> None:
    table = delivery_log.c
    query = select(table.chunk, table.bytes).order_by(table.finished_at).limit(STEP_ROWS * 5)
    rows = _up_to(connection.execute(query).all(), excess)
    _remove_logged(connection, changes, rows)


def _remove_logged(connection: Connection, changes: Changes, rows: Collection[StoredRow]) -> None:
    delete_ids(connection, delivery_log.c.chunk, [row.chunk for row in rows])
    changes.add_log(-sum(row.bytes for row in rows))


def trim(connection: Connection, changes: Changes, *, dead_before: int, attempts_before: int) -> int:
    """Delete some dead letters and attempts that are older; return the number of rows."""
    log = delivery_log.c
    query = select(log.chunk, log.bytes).where(log.finished_at < attempts_before).order_by(log.finished_at)
    logged = connection.execute(query.limit(STEP_ROWS)).all()
    _remove_logged(connection, changes, logged)
    removed = len(logged)
    for destination, sizes in read_sizes(connection).items():
        if destination == EVERYTHING or not sizes.dead_items:
            continue
        removed += _remove_dead(connection, changes, destination, before=dead_before)
    ranges = dead_ranges.c
    for row in connection.execute(select(dead_ranges).order_by(ranges.id).limit(STEP_ROWS)).all():
        if row.died_at >= dead_before:
            break
        remove_range(connection, changes, row)
        removed += 1
    return removed


def _remove_dead(connection: Connection, changes: Changes, destination: int, *, before: int | None = None) -> int:
    """Delete some dead letters and dead chunks of a destination; return the number of rows."""

    def oldest(table: Table) -> Collection[StoredRow]:
        chosen = [table.c.destination == destination, *([] if before is None else [table.c.died_at < before])]
        query = select(table).where(*chosen).order_by(table.c.died_at, table.c.id)
        return connection.execute(query.limit(STEP_ROWS)).all()

    letters, chunks = oldest(dead_letters), oldest(dead_chunks)
    remove_letters(connection, changes, letters)
    remove_dead_chunks(connection, changes, chunks)
    return len(letters) + len(chunks)


def remove_range(connection: Connection, changes: Changes, row: StoredRow) -> None:
    """Delete a range."""
    connection.execute(delete(dead_ranges).where(dead_ranges.c.id == row.id))
    changes.add_size(-ROW_BYTES)
    for pipeline, count in _decode_counts(row.pipelines).items():
        changes.add_reason(row.workspace, row.destination, pipeline, NO_SPACE, -count)


def remove_destination(connection: Connection, changes: Changes, destination: int) -> int:
    """Delete some data of a destination; return the number of rows, 0 when none is left."""
    chunks, ranges, log = delivery_chunks.c, dead_ranges.c, delivery_log.c
    query = select(delivery_chunks).where(chunks.destination == destination).order_by(chunks.id).limit(STEP_ROWS)
    rows = connection.execute(query).all()
    close(connection, rows, changes)
    free_bodies(connection, {row.body for row in rows}, changes)
    removed = len(rows) + _remove_dead(connection, changes, destination)
    lost = select(dead_ranges).where(ranges.destination == destination).order_by(ranges.last_position)
    for row in connection.execute(lost.limit(STEP_ROWS)).all():
        remove_range(connection, changes, row)
        removed += 1
    attempts = select(log.chunk, log.bytes).where(log.destination == destination).limit(STEP_ROWS)
    logged = connection.execute(attempts).all()
    _remove_logged(connection, changes, logged)
    removed += len(logged)
    removed += connection.execute(delete(delivery_lanes).where(delivery_lanes.c.destination == destination)).rowcount
    return removed


def read_owners(connection: Connection) -> Owners:
    """Return the destinations that may have data, and the pipelines with dead letters."""
    table, letters = delivery_counts.c, dead_counts.c
    destinations = set(connection.scalars(select(table.destination).distinct().where(table.destination != EVERYTHING)))
    destinations.update(connection.scalars(select(delivery_lanes.c.destination)))
    with_letters = select(letters.pipeline).group_by(letters.pipeline).having(func.sum(letters.count) > 0)
    return Owners(frozenset(destinations), frozenset(connection.scalars(with_letters)))


def remove_letters_of_pipelines(connection: Connection, changes: Changes, pipelines: Collection[int]) -> int:
    """Delete some dead letters of pipelines; return their number."""
    counts, letters = dead_counts.c, dead_letters.c
    key = (counts.pipeline, counts.reason)
    named = select(*key).group_by(*key).having(func.sum(counts.count) > 0)
    removed = 0
    for pipeline, reason in connection.execute(named).all():
        if pipeline not in pipelines:
            continue
        query = select(dead_letters).where(letters.pipeline == pipeline, letters.reason == reason)
        rows = connection.execute(query.order_by(letters.died_at, letters.id).limit(STEP_ROWS)).all()
        remove_letters(connection, changes, rows)
        removed += len(rows)
    return removed
