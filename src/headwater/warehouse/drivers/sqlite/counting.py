"""Counts events: by the counts of each block if these are enough, and event by event otherwise."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from headwater.base.errors import Unprocessable
from headwater.warehouse.conditions import Selection
from headwater.warehouse.contract import CountKey, EventCount, EventQuery, Interval
from headwater.warehouse.drivers.sqlite.block import HOUR, Block, unpack_counts
from headwater.warehouse.drivers.sqlite.cache import Cache
from headwater.warehouse.drivers.sqlite.columns import may_have
from headwater.warehouse.drivers.sqlite.database import has_old_rows
from headwater.warehouse.drivers.sqlite.reading import (
    COLUMNS,
    EARLIEST,
    LATEST,
    Budget,
    counts_row_matches,
    open_block,
    read_document,
    selected,
)
from headwater.warehouse.drivers.sqlite.rows import COLUMNS as ROW_COLUMNS
from headwater.warehouse.drivers.sqlite.rows import OLD_COLUMNS, read_old_row, read_row

MAX_GROUPS: Final = 200_000
"""Maximum number of combinations of values that one call may count."""
_INTERVALS: Final[dict[Interval, int]] = {"hour": HOUR, "day": 24 * HOUR}

Group = tuple[int | None, str | None, str | None, int | None]
"""The start of the interval, event name, type and connection; None for those that were not requested."""


class Counter:
    """Counts the events of one query, inside one snapshot."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        cache: Cache,
        query: EventQuery,
        selection: Selection,
        *,
        by: Sequence[CountKey],
        interval: Interval | None,
        budget: Budget,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._query = query
        self._selection = selection
        self._by_event = "event" in by
        self._by_type = "type" in by
        self._by_connection = "connection" in by
        self._length = None if interval is None else _INTERVALS[interval]
        self._budget = budget
        self._since = EARLIEST if query.since is None else query.since
        self._until = LATEST if query.until is None else query.until
        self._counts: dict[Group, int] = {}

    def count(self, limit: int) -> list[EventCount]:
        """Return the counts. Raises Unprocessable when they take too much time or space."""
        self._count_rows()
        self._count_blocks()
        groups = sorted(self._counts.items(), key=_rank)
        return [EventCount(count, *group) for group, count in groups[:limit]]

    def _check(self) -> None:
        if self._budget.is_spent() or len(self._counts) > MAX_GROUPS:
            raise Unprocessable("TooExpensive", "there is too much to count: choose a shorter period or fewer keys")

    def _add(self, time: int, type: str, event: str | None, connection: int, count: int = 1) -> None:
        group = (
            None if self._length is None else time // self._length * self._length,
            event if self._by_event else None,
            type if self._by_type else None,
            connection if self._by_connection else None,
        )
        self._counts[group] = self._counts.get(group, 0) + count

    # --- Rows ---------------------------------------------------------------------------------------------------------

    def _count_rows(self) -> None:
        column = COLUMNS[self._query.order]
        end = f"WHERE workspace = ? AND {column} >= ? AND {column} < ?"
        values = (self._query.workspace, self._since, self._until)
        rows = self._connection.execute(f"SELECT {ROW_COLUMNS} FROM event_rows {end}", values)
        self._count_events(map(read_row, rows))
        if has_old_rows(self._connection):
            rows = self._connection.execute(f"SELECT {OLD_COLUMNS} FROM events {end}", values)
            self._count_events(map(read_old_row, rows))

    def _count_events(self, events: Iterable[Any]) -> None:
        selection, column = self._selection, COLUMNS[self._query.order]
        for number, event in enumerate(events):
            if number % 1_000 == 0:
                self._check()
            if (
                (selection.connections is None or event.connection in selection.connections)
                and all(getattr(event, name) == value for name, value in selection.values.items())
                and (selection.test is None or selection.test(event.document))
            ):
                self._add(getattr(event, column), event.type, event.event, event.connection)

    # --- Blocks -------------------------------------------------------------------------------------------------------

    def _count_blocks(self) -> None:
        column = COLUMNS[self._query.order]
        ids = {name: value for name, value in self._selection.values.items() if name in ("user_id", "anonymous_id")}
        rows = self._connection.execute(
            f"""SELECT id, events, counts, {"people" if ids else "NULL"} FROM event_blocks
            INDEXED BY event_blocks_by_min_{column} WHERE workspace = ? AND min_{column} < ? AND max_{column} >= ?""",
            (self._query.workspace, self._until, self._since),
        )
        for id, events, counts, people in rows:
            self._check()
            if people is not None and not may_have(people, **ids):
                continue
            if ids or self._selection.test is not None:
                if self._has_any(counts):
                    self._count_each(open_block(self._connection, self._cache, id, events))
            elif hours := self._count_whole_hours(counts):
                self._count_each(open_block(self._connection, self._cache, id, events), hours)

    def _has_any(self, counts: bytes) -> bool:
        return any(counts_row_matches(self._selection, *row[2:5]) for row in unpack_counts(counts))

    def _count_whole_hours(self, counts: bytes) -> set[int]:
        """Add the counts of all hours that are completely in the period; return the hours that are partly in it."""
        by_timestamp = self._query.order == "timestamp"
        since, until, add, selection = self._since, self._until, self._add, self._selection
        is_selecting = selection.has_columns
        parts: set[int] = set()
        for hour, arrival, type, event, connection, count in unpack_counts(counts):
            if is_selecting and not counts_row_matches(selection, type, event, connection):
                continue
            start = (hour if by_timestamp else arrival) * HOUR
            if start >= since and start + HOUR <= until:
                add(start, type, event, connection, count)
            elif start < until and start + HOUR > since:
                parts.add(hour if by_timestamp else arrival)
        return parts

    def _count_each(self, block: Block, hours: set[int] | None = None) -> None:
        """Add the events of a block one by one, or only those of some hours."""
        times, types, names, connections = block.times(self._query.order), block.types, block.events, block.connections
        test = self._selection.test
        for number, index in enumerate(self._in_period(block)):
            if hours is not None and times[index] // HOUR not in hours:
                continue
            if test is not None:
                if number % 100 == 0:
                    self._check()
                if not test(read_document(self._connection, self._cache, block, index)):
                    continue
            self._add(times[index], types[index], names[index], connections[index])

    def _in_period(self, block: Block) -> Iterator[int]:
        times = block.times(self._query.order)
        return (index for index in selected(block, self._selection) if self._since <= times[index] < self._until)


def _rank(counted: tuple[Group, int]) -> tuple[int, int, tuple[str, str, int]]:
    """Return a sort key: the latest intervals first, then the highest counts, then by name."""
    (start, event, type, connection), count = counted
    return -(start or 0), -count, (event or "", type or "", connection or 0)
