"""Loads events with COPY, and updates their counts and the time spans of partitions in the same transaction."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from headwater.warehouse.contract import StoredEvent
from headwater.warehouse.drivers.postgresql.database import Driver
from headwater.warehouse.drivers.postgresql.partitions import DAY_MICROSECONDS

MAX_SLICE_EVENTS: Final = 2_000
"""Events that are encoded without a pause: about 10 ms."""
SLOT_MICROSECONDS: Final = 300_000_000
"""The length of the periods for which events are counted.

The events of a period that begins or ends within a slot are counted one by one: some 300,000 at 1,000 a second.
"""

_COLUMNS: Final = (
    "position", "timestamp", "received_at", "workspace", "connection", "pipeline",
    "type", "event", "user_id", "anonymous_id", "document",
)  # fmt: skip
_FENCE: Final = """
    UPDATE warehouse.event_loading AS loading SET position = greatest(loading.position, $1)
    FROM (SELECT position FROM warehouse.event_loading FOR UPDATE) AS before
    RETURNING before.position
"""
_COUNT: Final = """
    INSERT INTO warehouse.event_counts AS counts
        (workspace, slot, received_slot, connection, type, event_key, event, count)
    SELECT * FROM unnest($1::int[], $2::int[], $3::int[], $4::int[], $5::text[], $6::bytea[], $7::text[], $8::bigint[])
    ON CONFLICT (workspace, slot, received_slot, connection, type, event_key)
    DO UPDATE SET count = counts.count + excluded.count
"""
_SPAN: Final = """
    INSERT INTO warehouse.event_spans AS spans
        (workspace, partition, events, first_timestamp, last_timestamp, first_received_at, last_received_at)
    SELECT * FROM unnest($1::int[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    ON CONFLICT (workspace, partition) DO UPDATE SET
        events = spans.events + excluded.events,
        first_timestamp = least(spans.first_timestamp, excluded.first_timestamp),
        last_timestamp = greatest(spans.last_timestamp, excluded.last_timestamp),
        first_received_at = least(spans.first_received_at, excluded.first_received_at),
        last_received_at = greatest(spans.last_received_at, excluded.last_received_at)
"""
_KEYS: Final = """
    unnest($1::int[], $2::int[], $3::int[], $4::int[], $5::text[], $6::bytea[]{})
    AS removed (workspace, slot, received_slot, connection, type, event_key{})
    WHERE counts.workspace = removed.workspace AND counts.slot = removed.slot
    AND counts.received_slot = removed.received_slot AND counts.connection = removed.connection
    AND counts.type = removed.type AND counts.event_key = removed.event_key
"""
_SUBTRACT: Final = f"""
    UPDATE warehouse.event_counts AS counts SET count = counts.count - removed.count
    FROM {_KEYS.format(", $7::bigint[]", ", count")}
"""
_REMOVE_EMPTY: Final = f"""
    DELETE FROM warehouse.event_counts AS counts USING {_KEYS.format("", "")} AND counts.count <= 0
"""
_SHORTEN_SPAN: Final = """
    UPDATE warehouse.event_spans SET events = events - $3 WHERE workspace = $1 AND partition = $2
"""
_REMOVE_EMPTY_SPAN: Final = """
    DELETE FROM warehouse.event_spans WHERE workspace = $1 AND partition = $2 AND events <= 0
"""
Removed = tuple[int, int, int, str, str | None]
"""A removed event: timestamp, time of arrival, connection, type, event name."""
_CountKey = tuple[int, int, int, int, str, str | None]


async def load_after_fence(
    driver: Driver, events: Sequence[StoredEvent], through: int, partition_name: Callable[[int], str]
) -> None:
    """Load the events after the loaded position, and move that position to `through`.

    Runs in the caller's transaction. It locks the row of the position, so that two writers load one after the other and
    the second finds its events loaded.
    """
    loaded: int = await driver.fetchval(_FENCE, through)
    if events and events[0].position <= loaded:
        events = [event for event in events if event.position > loaded]
    await insert(driver, events, partition_name)


async def insert(driver: Driver, events: Sequence[StoredEvent], partition_name: Callable[[int], str]) -> None:
    """Insert events in the caller's transaction. Their partitions exist; `partition_name` returns the partition of a
    day."""
    if not events:
        return
    counts: Counter[_CountKey] = Counter()
    spans: dict[tuple[int, int], list[int]] = {}
    for start in range(0, len(events), MAX_SLICE_EVENTS):
        some = events[start : start + MAX_SLICE_EVENTS]
        counts.update(map(_count_key, some))
        _extend(spans, some)
        await asyncio.sleep(0)
        rows = map(_row, some)
        await driver.copy_records_to_table("events", schema_name="warehouse", columns=_COLUMNS, records=rows)
    await _upsert_counts(driver, counts)
    await _upsert_spans(driver, spans, partition_name)


async def subtract(driver: Driver, workspace: int, partition: str, removed: Sequence[Removed]) -> None:
    """Correct the counts after these events of a workspace were removed from a partition, in the same transaction."""
    counts = Counter(
        (
            workspace,
            timestamp // SLOT_MICROSECONDS,
            received_at // SLOT_MICROSECONDS,
            connection,
            type,
            event,
        )
        for timestamp, received_at, connection, type, event in removed
    )
    rows = sorted((*key[:5], _event_key(key[5]), count) for key, count in counts.items())
    if rows:
        columns = list(map(list, zip(*rows, strict=True)))
        await driver.execute(_SUBTRACT, *columns)
        await driver.execute(_REMOVE_EMPTY, *columns[:-1])
        await driver.execute(_SHORTEN_SPAN, workspace, partition, len(removed))
        await driver.execute(_REMOVE_EMPTY_SPAN, workspace, partition)


def _row(event: StoredEvent) -> tuple[object, ...]:
    return (
        event.position,
        event.timestamp,
        event.received_at,
        event.workspace,
        event.connection,
        event.pipeline,
        event.type,
        event.event,
        event.user_id,
        event.anonymous_id,
        event.document.decode(),
    )


def _count_key(event: StoredEvent) -> _CountKey:
    return (
        event.workspace,
        event.timestamp // SLOT_MICROSECONDS,
        event.received_at // SLOT_MICROSECONDS,
        event.connection,
        event.type,
        event.event,
    )


def _extend(spans: dict[tuple[int, int], list[int]], events: Sequence[StoredEvent]) -> None:
    for event in events:
        timestamp, received_at = event.timestamp, event.received_at
        key = event.workspace, received_at // DAY_MICROSECONDS
        span = spans.get(key)
        if span is None:
            spans[key] = [1, timestamp, timestamp, received_at, received_at]
            continue
        span[0] += 1
        if timestamp < span[1]:
            span[1] = timestamp
        elif timestamp > span[2]:
            span[2] = timestamp
        if received_at < span[3]:
            span[3] = received_at
        elif received_at > span[4]:
            span[4] = received_at


async def _upsert_counts(driver: Driver, counts: Counter[_CountKey]) -> None:
    rows = [(*key[:5], _event_key(key[5]), key[5], count) for key, count in counts.items()]
    rows.sort(key=lambda row: row[:6])
    for start in range(0, len(rows), MAX_SLICE_EVENTS):
        columns = zip(*rows[start : start + MAX_SLICE_EVENTS], strict=True)
        await driver.execute(_COUNT, *map(list, columns))


def _event_key(event: str | None) -> bytes:
    """Return a name as part of a key. A name may be longer than an index entry, and a key must not be NULL."""
    return b"" if event is None else hashlib.blake2b(event.encode(), digest_size=16).digest()


async def _upsert_spans(
    driver: Driver, spans: dict[tuple[int, int], list[int]], partition_name: Callable[[int], str]
) -> None:
    merged: dict[tuple[int, str], list[int]] = {}
    for (workspace, day), span in spans.items():
        key = workspace, partition_name(day)
        other = merged.get(key, span)
        merged[key] = [
            span[0] + (other[0] if other is not span else 0),
            min(span[1], other[1]),
            max(span[2], other[2]),
            min(span[3], other[3]),
            max(span[4], other[4]),
        ]
    rows = [(*key, *merged[key]) for key in sorted(merged)]
    await driver.execute(_SPAN, *map(list, zip(*rows, strict=True)))
