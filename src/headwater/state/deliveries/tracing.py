"""Finds the deliveries of one event."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, Table, select

from headwater.state.deliveries.chunks import ITEM_BITS, Wanted, is_done, wanted_pairs
from headwater.state.deliveries.packing import LoggedChunk, unpack_logged, unpack_positions, unpack_wanted
from headwater.state.deliveries.records import NO_SPACE, AttemptRecord, TracedDelivery
from headwater.state.deliveries.rows import StoredRow
from headwater.state.deliveries.space import read_range_counts
from headwater.state.deliveries.tables import (
    dead_chunks,
    dead_letters,
    dead_ranges,
    delivery_bodies,
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
        found += _trace(connection, destination, position).values()
        found += _dropped(connection, destination, position)
    found.sort(key=lambda each: (each.destination, each.pipeline, each.enqueued_at, each.origin))
    return [_without_guess(each, following) for each, following in zip(found, [*found[1:], None], strict=False)]


def _trace(connection: Connection, destination: int, position: int) -> dict[int, TracedDelivery]:
    """Return the deliveries to one destination by the number of the item.

    The tables are read in the order in which an item moves through them, so that one that moves meanwhile is not
    missed; its later state counts.
    """
    found: dict[int, TracedDelivery] = {}
    for row in _around(connection, delivery_chunks, destination, position):
        found.update(_queued(connection, row, position))
    for row in _around(connection, dead_chunks, destination, position):
        found.update(_given_up(connection, row, position))
    letters = {row.id: row for row in _letters(connection, destination, position)}
    for number, letter in letters.items():
        found[number] = _dead(letter, found[number].origin if number in found else "")
    for row in _around(connection, delivery_log, destination, position):
        found.update(_logged(row, unpack_logged(row.attempts), position, letters))
    return found


def _without_guess(delivery: TracedDelivery, following: TracedDelivery | None) -> TracedDelivery:
    """Return the delivery, whose outcome is not known if it has no attempts and was followed by another.

    A dead letter that is sent again while its chunk is unfinished leaves nothing but its bit.
    """
    is_known = delivery.state != "Delivered" or bool(delivery.attempts)
    if is_known or following is None or following.pipeline != delivery.pipeline:
        return delivery
    return msgspec.structs.replace(delivery, state="Ended")


def _around(connection: Connection, table: Table, destination: int, position: int) -> list[StoredRow]:
    """Return the chunks whose positions reach over this one. Those of the worker do not overlap in a destination."""
    columns = table.c
    before = select(table).where(columns.destination == destination, columns.first_position <= position)
    own = before.where(columns.origin == "").order_by(columns.first_position.desc()).limit(1)
    again = before.where(columns.origin > "", columns.last_position >= position).limit(MAX_AGAIN)
    rows = [*connection.execute(own), *connection.execute(again)]
    return [row for row in rows if row.last_position >= position]


def _queued(connection: Connection, row: StoredRow, position: int) -> Iterator[tuple[int, TracedDelivery]]:
    for item, pipeline in _items(_positions(connection, row), unpack_wanted(row.wanted), position):
        yield (
            row.id << ITEM_BITS | item,
            TracedDelivery(
                destination=row.destination,
                pipeline=pipeline,
                state="Delivered" if is_done(row.done, item) else "Queued",
                origin=row.origin,
                enqueued_at=row.enqueued_at,
            ),
        )


def _given_up(connection: Connection, row: StoredRow, position: int) -> Iterator[tuple[int, TracedDelivery]]:
    for item, pipeline in _items(_positions(connection, row), unpack_wanted(row.wanted), position):
        if not is_done(row.done, item):
            yield (
                row.id << ITEM_BITS | item,
                TracedDelivery(
                    destination=row.destination,
                    pipeline=pipeline,
                    state="Dead",
                    origin=row.origin,
                    enqueued_at=row.enqueued_at,
                    ended_at=row.died_at,
                    reason=row.reason,
                ),
            )


def _logged(
    row: StoredRow, chunk: LoggedChunk, position: int, letters: Mapping[int, StoredRow]
) -> Iterator[tuple[int, TracedDelivery]]:
    for item, pipeline in _items(chunk.positions, chunk.wanted, position):
        number = row.chunk << ITEM_BITS | item
        records = tuple(each for each in chunk.attempts if _contains(each, item))
        attempts = tuple(each for each in records if each.number)
        letter = letters.get(number)
        if letter is not None:
            yield number, _dead(letter, row.origin, attempts)
        else:
            yield number, _ended(row, pipeline, records[-1] if records else None, attempts)


def _ended(
    row: StoredRow, pipeline: int, last: AttemptRecord | None, attempts: tuple[AttemptRecord, ...]
) -> TracedDelivery:
    """Return a finished delivery without a dead letter, by its last record."""
    if last is None or last.outcome == "Retried":
        return TracedDelivery(
            destination=row.destination,
            pipeline=pipeline,
            state="Ended",
            origin=row.origin,
            enqueued_at=row.enqueued_at,
            ended_at=row.finished_at,
            attempts=attempts,
        )
    reason, _, message = last.message.partition(": ")
    return TracedDelivery(
        destination=row.destination,
        pipeline=pipeline,
        state=last.outcome,
        origin=row.origin,
        enqueued_at=row.enqueued_at,
        ended_at=last.at,
        step=last.step,
        reason=reason,
        message=message,
        attempt_count=attempts[-1].number if attempts else 0,
        attempts=attempts,
    )


def _positions(connection: Connection, row: StoredRow) -> list[int]:
    query = select(delivery_bodies.c.positions).where(delivery_bodies.c.id == row.body)
    packed = connection.execute(query).scalar_one_or_none()
    return [] if packed is None else unpack_positions(packed)


def _items(positions: list[int], wanted: Wanted, position: int) -> Iterator[tuple[int, int]]:
    """Yield the items of the event at a position: the index of each in its chunk, and its pipeline."""
    if position not in positions:
        return
    index = positions.index(position)
    for item, (event, pipeline) in enumerate(wanted_pairs(wanted, len(positions))):
        if event == index:
            yield item, pipeline


def _contains(attempt: AttemptRecord, item: int) -> bool:
    return attempt.first <= item <= attempt.last and (attempt.others is None or item in attempt.others)


_LETTER_COLUMNS: Final = [
    dead_letters.c[name]
    for name in (
        *("id", "destination", "pipeline", "reason", "message", "attempts", "step"),
        *("enqueued_at", "died_at"),
    )
]


def _letters(connection: Connection, destination: int, position: int) -> list[StoredRow]:
    table = dead_letters.c
    query = select(*_LETTER_COLUMNS).where(table.destination == destination, table.position == position)
    return list(connection.execute(query.order_by(table.id).limit(MAX_AGAIN)))


def _dead(letter: StoredRow, origin: str = "", attempts: tuple[AttemptRecord, ...] = ()) -> TracedDelivery:
    return TracedDelivery(
        destination=letter.destination,
        pipeline=letter.pipeline,
        state="Dead",
        origin=origin,
        enqueued_at=letter.enqueued_at,
        ended_at=letter.died_at,
        step=letter.step,
        reason=letter.reason,
        message=letter.message,
        attempt_count=letter.attempts,
        attempts=attempts,
    )


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
            destination=destination,
            pipeline=pipeline,
            state="Dropped",
            enqueued_at=row.enqueued_at,
            ended_at=row.died_at,
            reason=NO_SPACE,
        )
