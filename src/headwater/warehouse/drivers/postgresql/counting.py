"""Counts events: from the counts by slot of time if these have all required columns, otherwise from the events.

If a period does not begin or end with a slot, the events of that slot are counted.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import asyncpg
from msgspec.structs import replace

from headwater.base.errors import Unavailable, Unprocessable
from headwater.warehouse.contract import CountKey, EventCount, EventOrder, EventQuery, Interval
from headwater.warehouse.drivers.postgresql.database import Driver, Parameters
from headwater.warehouse.drivers.postgresql.filters import COLUMNS, COUNTED_COLUMNS, Columns, render, without_equalities
from headwater.warehouse.drivers.postgresql.loading import SLOT_MICROSECONDS
from headwater.warehouse.drivers.postgresql.reading import (
    COUNTED,
    MAX_ROWS,
    TIMES,
    Source,
    has_nul,
    make_conditions,
    read_spans,
)

COUNTING_SECONDS: Final = 10.0
"""Maximum duration of counting with a filter that SQL cannot decide."""

_KEYS: Final[tuple[CountKey, ...]] = ("event", "type", "connection")
_SQL_TYPES: Final[dict[CountKey, str]] = {"event": "text", "type": "text", "connection": "integer"}
_SLOTS: Final[dict[EventOrder, str]] = {"timestamp": "slot", "receivedAt": "received_slot"}
_INTERVALS: Final[dict[Interval, int]] = {"hour": 3_600_000_000, "day": 86_400_000_000}


async def read_counts(
    driver: Driver, query: EventQuery, *, by: Sequence[CountKey], interval: Interval | None, limit: int
) -> list[EventCount]:
    """Count events within the caller's snapshot.

    Raise Unprocessable when it takes too long, and Unavailable while events of an earlier version are being moved.
    """
    query = without_equalities(query)
    if has_nul(query):
        return []
    if await driver.fetchval("SELECT old_position FROM warehouse.event_loading") is not None:
        raise Unavailable("the events of an earlier version are being moved, and cannot be counted yet", retry_after=60)
    try:
        if _is_exact(query, COLUMNS):
            return await _in_sql(driver, query, by, interval, limit)
        return await _in_python(driver, query, by, interval, limit)
    except asyncpg.QueryCanceledError as error:
        raise _too_expensive() from error


def _too_expensive() -> Unprocessable:
    return Unprocessable("TooExpensive", "counting these events takes too long: ask for a shorter period")


def _is_exact(query: EventQuery, columns: Columns) -> bool:
    """Return whether these columns decide the query's filter."""
    if query.filter is None:
        return True
    where = render(query.filter, columns, Parameters(), documents=False)
    return where is not None and where.exact


# --- In SQL -------------------------------------------------------------------------------------------------------


async def _in_sql(
    driver: Driver, query: EventQuery, by: Sequence[CountKey], interval: Interval | None, limit: int
) -> list[EventCount]:
    parameters = Parameters()
    is_counted = query.user_id is None and query.anonymous_id is None and _is_exact(query, COUNTED_COLUMNS)
    since, until, edges = _whole_slots(query) if is_counted else (None, None, [query])
    parts = []
    if is_counted and (since is None or until is None or since < until):
        parts.append(_from_counts(query, since, until, by, interval, parameters))
    for edge in edges:
        for span in await read_spans(driver, edge):
            parts.append(_from_events(edge, span.table, by, interval, parameters))
    if not parts:
        return []
    sql = (
        "SELECT sum(count)::bigint AS count, start, event, type, connection "
        f"FROM ({' UNION ALL '.join(parts)}) AS parts "
        "GROUP BY start, event, type, connection ORDER BY start DESC, count DESC, event, type, connection "
        f"LIMIT {parameters.add(limit)}"
    )
    return [EventCount(*row) for row in await driver.fetch(sql, *parameters)]


def _whole_slots(query: EventQuery) -> tuple[int | None, int | None, list[EventQuery]]:
    """Return the first slot in the period, the slot after the last, and queries for the rest."""
    since = None if query.since is None else -(-query.since // SLOT_MICROSECONDS)
    until = None if query.until is None else query.until // SLOT_MICROSECONDS
    if since is not None and until is not None and since > until:
        return since, until, [query]
    edges = []
    if since is not None and query.since != since * SLOT_MICROSECONDS:
        edges.append(replace(query, until=since * SLOT_MICROSECONDS))
    if until is not None and query.until != until * SLOT_MICROSECONDS:
        edges.append(replace(query, since=until * SLOT_MICROSECONDS))
    return since, until, edges


def _from_counts(
    query: EventQuery,
    since: int | None,
    until: int | None,
    by: Sequence[CountKey],
    interval: Interval | None,
    parameters: Parameters,
) -> str:
    slot = _SLOTS[query.order]
    conditions = [f"workspace = {parameters.add(query.workspace)}"]
    if since is not None:
        conditions.append(f"{slot} >= {parameters.add(since)}::bigint")
    if until is not None:
        conditions.append(f"{slot} < {parameters.add(until)}::bigint")
    if query.connections is not None:
        conditions.append(f"connection = ANY({parameters.add(query.connections)}::bigint[])")
    if query.type is not None:
        conditions.append(f"type = {parameters.add(query.type)}")
    if query.event is not None:
        conditions.append(f"event = {parameters.add(query.event)}")
    if query.filter is not None:
        where = render(query.filter, COUNTED_COLUMNS, parameters)
        assert where is not None and where.exact
        conditions.append(where.sql)
    columns = _grouped_columns(f"{slot}::bigint * {SLOT_MICROSECONDS}", by, interval)
    return f"SELECT {columns}, count FROM warehouse.event_counts WHERE {' AND '.join(conditions)}"


def _from_events(
    query: EventQuery, table: str, by: Sequence[CountKey], interval: Interval | None, parameters: Parameters
) -> str:
    conditions = make_conditions(query, parameters=parameters)
    columns = _grouped_columns(TIMES[query.order], by, interval)
    return f"SELECT {columns}, 1 AS count FROM warehouse.{table} WHERE {conditions.all}"


def _grouped_columns(moment: str, by: Sequence[CountKey], interval: Interval | None) -> str:
    start = "NULL::bigint"
    if interval is not None:
        length = _INTERVALS[interval]
        start = f"{moment} - mod(mod({moment}, {length}) + {length}, {length})"  # before 1970 too
    keys = (f"{key if key in by else f'NULL::{_SQL_TYPES[key]}'} AS {key}" for key in _KEYS)
    return f"{start} AS start, {', '.join(keys)}"


# --- With the predicate -------------------------------------------------------------------------------------------


async def _in_python(
    driver: Driver, query: EventQuery, by: Sequence[CountKey], interval: Interval | None, limit: int
) -> list[EventCount]:
    end = time.monotonic() + COUNTING_SECONDS
    conditions = await asyncio.to_thread(make_conditions, query)
    length = None if interval is None else _INTERVALS[interval]
    counts: Counter[tuple[int | None, str | None, str | None, int | None]] = Counter()
    for span in await read_spans(driver, query):
        source = Source(span, conditions, query.order, columns=COUNTED)
        while not source.is_read:
            if time.monotonic() > end:
                raise _too_expensive()
            await source.read(driver, MAX_ROWS)
            for row in source.rows:
                start = None if length is None else row.time - row.time % length
                counts[
                    start,
                    row.event if "event" in by else None,
                    row.type if "type" in by else None,
                    row.connection if "connection" in by else None,
                ] += 1
            source.rows.clear()
    found = [EventCount(count, *key) for key, count in counts.items()]
    found.sort(key=_rank)
    return found[:limit]


def _rank(count: EventCount) -> tuple[int, int, bool, str, str, int]:
    """Return a sort key with the order of SQL: the latest first, the highest count first, names without NULL first."""
    return (
        -(count.start or 0),
        -count.count,
        count.event is None,
        count.event or "",
        count.type or "",
        count.connection or 0,
    )
