"""Finds the deliveries of one event."""

from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, select

from headwater.state.deliveries.bodies import read_bodies
from headwater.state.deliveries.contract import (
    AttemptRecord,
    TracedDelivery,
    is_done,
    wanted_pairs,
)
from headwater.state.deliveries.packing import LoggedChunk, unpack_logged, unpack_wanted
from headwater.state.deliveries.rows import StoredRow
from headwater.state.deliveries.space import read_range_counts
from headwater.state.deliveries.tables import (
    dead_chunks,
    dead_letters,
    dead_ranges,
    delivery_chunks,
    delivery_log,
)

MAX_AGAIN: Final = 50
"""Maximum number of chunks of re-sends that are looked at for one destination."""


def trace(connection: Connection, destinations: Collection[int], position: int) -> list[TracedDelivery]:
    """Return the states of the event at a position in some destinations, in the order of the destinations and
    pipelines."""
    found: list[TracedDelivery] = []
    for destination in destinations:
        letters = {each.pipeline: each for each in _letters(connection, destination, position)}
        for row in _around(connection, delivery_chunks, destination, position):
            for pipeline, finished in _items(connection, row, position):
                if not finished:
                    found.append(_traced(row, pipeline, "Queued"))
                elif pipeline not in letters:
                    found.append(_traced(row, pipeline, "Delivered"))
        for row in _around(connection, dead_chunks, destination, position):
            for pipeline, finished in _items(connection, row, position):
                if not finished:
                    found.append(_traced(row, pipeline, "Dead", reason=row.reason))
        for row in _around(connection, delivery_log, destination, position):
            for each in _logged(row, unpack_logged(row.attempts), position):
                letter = letters.pop(each.pipeline, None) if each.state == "Dead" else None
                found.append(each if letter is None else _with_reason(each, letter))
        found += letters.values()
        found += _dropped(connection, destination, position)
    return sorted(found, key=lambda each: (each.destination, each.pipeline, each.enqueued_at))


def _around(connection: Connection, table: Table, destination: int, position: int) -> list[StoredRow]:
    """Return the chunks whose positions reach over this one. Those of the worker do not overlap in a destination."""
    columns = table.c
    before = select(table).where(columns.destination == destination, columns.first_position <= position)
    own = before.where(columns.origin == "").order_by(columns.first_position.desc()).limit(1)
    again = before.where(columns.origin > "", columns.last_position >= position).limit(MAX_AGAIN)
    rows = [*connection.execute(own), *connection.execute(again)]
    return [row for row in rows if row.last_position >= position]


def _items(connection: Connection, row: StoredRow, position: int) -> Iterator[tuple[int, bool]]:
    """Yield the pipelines that want the event at this position, and whether each has finished it."""
    events = read_bodies(connection, [row.body]).get(row.body, [])
    index = next((index for index, event in enumerate(events) if event.position == position), None)
    for item, (event, pipeline) in enumerate(wanted_pairs(unpack_wanted(row.wanted), len(events))):
        if event == index:
            yield pipeline, is_done(row.done, item)


def _traced(row: StoredRow, pipeline: int, state: Any, *, reason: str = "") -> TracedDelivery:
    return TracedDelivery(
        destination=row.destination,
        pipeline=pipeline,
        state=state,
        origin=row.origin,
        enqueued_at=row.enqueued_at,
        reason=reason,
    )


def _logged(row: StoredRow, chunk: LoggedChunk, position: int) -> Iterator[TracedDelivery]:
    index = next((index for index, each in enumerate(chunk.positions) if each == position), None)
    for item, (event, pipeline) in enumerate(wanted_pairs(chunk.wanted, len(chunk.positions))):
        if event != index:
            continue
        attempts = tuple(each for each in chunk.attempts if _contains(each, item))
        last = attempts[-1] if attempts else None
        yield TracedDelivery(
            destination=row.destination,
            pipeline=pipeline,
            state="Dead" if last is not None and last.outcome == "Dead" else "Delivered",
            origin=row.origin,
            enqueued_at=row.enqueued_at,
            message="" if last is None else last.message,
            attempts=attempts,
        )


def _with_reason(logged: TracedDelivery, letter: TracedDelivery) -> TracedDelivery:
    return msgspec.structs.replace(logged, reason=letter.reason, message=letter.message)


def _contains(attempt: AttemptRecord, item: int) -> bool:
    return attempt.first <= item <= attempt.last and (attempt.others is None or item in attempt.others)


def _letters(connection: Connection, destination: int, position: int) -> list[TracedDelivery]:
    table = dead_letters.c
    columns = (table.destination, table.pipeline, table.enqueued_at, table.reason, table.message)
    query = select(*columns).where(table.destination == destination, table.position == position).order_by(table.id)
    return [
        TracedDelivery(
            destination=row.destination,
            pipeline=row.pipeline,
            state="Dead",
            enqueued_at=row.enqueued_at,
            reason=row.reason,
            message=row.message,
        )
        for row in connection.execute(query.limit(MAX_AGAIN))
    ]


def _dropped(connection: Connection, destination: int, position: int) -> Iterator[TracedDelivery]:
    table = dead_ranges.c
    query = (
        select(dead_ranges)
        .where(table.destination == destination, table.last_position >= position)
        .order_by(table.last_position)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None or row.first_position > position:
        return
    for pipeline in read_range_counts(row.pipelines):
        yield TracedDelivery(
            destination=destination, pipeline=pipeline, state="Dropped", enqueued_at=row.enqueued_at, reason="NoSpace"
        )
