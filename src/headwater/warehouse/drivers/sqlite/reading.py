"""Lists events: merges rows and blocks by time, and opens a block only if its events may be next."""

import sqlite3
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush, heapreplace
from typing import Any, Final, Protocol

from msgspec import Struct

from headwater.warehouse.conditions import Selection
from headwater.warehouse.contract import EventCursor, EventOrder, EventPage, EventQuery
from headwater.warehouse.drivers.sqlite.block import Block, unpack_counts
from headwater.warehouse.drivers.sqlite.cache import Cache
from headwater.warehouse.drivers.sqlite.columns import Distinct, hash_ids, may_have, may_have_any
from headwater.warehouse.drivers.sqlite.database import documents_id, has_old_rows
from headwater.warehouse.drivers.sqlite.rows import OLD_COLUMNS, read_old_row
from headwater.warehouse.persons import PersonSet

Key = tuple[int, int]
"""A time and a position. In a descending list both are negated, so that the next event has the smallest key."""

COLUMNS: Final[dict[EventOrder, str]] = {"timestamp": "timestamp", "receivedAt": "received_at"}
EARLIEST: Final = -(2**63)
LATEST: Final = 2**63 - 1


class Budget:
    """The processor time of one page: on a busy machine a page takes longer, and is not shorter."""

    def __init__(self, seconds: float) -> None:
        self._end = time.thread_time() + seconds

    def is_spent(self) -> bool:
        """Return whether the thread that made the budget has used it up."""
        return time.thread_time() > self._end


class Window(Struct, frozen=True):
    """The range of times and positions of a page, without its ends."""

    low: Key
    high: Key

    def __contains__(self, key: Key) -> bool:
        return self.low < key < self.high


def make_window(query: EventQuery, *, ascending: bool, after: EventCursor | None) -> Window:
    """Return the range of the query that begins after the cursor."""
    low = (EARLIEST if query.since is None else query.since, -1)
    high = (LATEST, 0) if query.until is None else (query.until, 0)
    if after is not None:
        place = (after.time, after.position)
        low, high = (max(low, place), high) if ascending else (low, min(high, place))
    return Window(low, high)


class _Stream(Protocol):
    """Events of one block or table, in the order of the list."""

    def advance(self) -> Key | None:
        """Go to the next event; return its key, or None at the end."""

    def is_selected(self) -> bool:
        """Return whether the columns of the event meet the conditions."""

    def document(self) -> bytes:
        """Return the document of the event."""


class PageReader:
    """Reads one page, inside one snapshot."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        cache: Cache,
        query: EventQuery,
        selection: Selection,
        window: Window,
        *,
        ascending: bool,
        budget: Budget,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._query = query
        self._selection = selection
        self._window = window
        self._sign = 1 if ascending else -1
        time_, position = window.low if ascending else window.high
        self._start = (self._sign * time_, self._sign * position)
        """The key before all keys of the window."""
        self._budget = budget
        persons = selection.persons
        self._persons = hash_ids(persons.user_ids, persons.anonymous_ids) if persons else frozenset[int]()
        self._heap: list[tuple[Key, int, _Stream]] = []
        self._streams = 0

    def read(self, offset: int, limit: int) -> EventPage:
        """Return the page. It makes progress, however little time there is."""
        for stream in self._row_streams():
            self._push(stream)
        headers = self._headers()
        header = next(headers, None)
        test = self._selection.test
        documents: list[bytes] = []
        positions: list[int] = []
        last: Key | None = None
        visited = 0

        def page(key: Key | None) -> EventPage:
            cursor = None if key is None else EventCursor(self._sign * key[0], self._sign * key[1])
            return EventPage(tuple(documents), cursor, 0 if cursor is None else offset, tuple(positions))

        while True:
            while header is not None and (not self._heap or header.bound <= self._heap[0][0]):
                before = (header.bound[0], header.bound[1] - 1)
                if self._budget.is_spent() and (last is not None or before > self._start):
                    return page(before if last is None else max(last, before))
                if self._may_match(header):
                    self._push(self._open(header))
                header = next(headers, None)
            if not self._heap:
                return page(None)
            visited += 1
            if last is not None and (len(documents) == limit or (visited % 16 == 0 and self._budget.is_spent())):
                return page(last)
            last, number, stream = self._heap[0]
            if stream.is_selected() and (test is None or test(stream.document())):
                if offset:
                    offset -= 1
                else:
                    documents.append(stream.document())
                    positions.append(self._sign * last[1])
            key = stream.advance()
            if key is None:
                heappop(self._heap)
            else:
                heapreplace(self._heap, (key, number, stream))

    def _push(self, stream: _Stream) -> None:
        key = stream.advance()
        if key is not None:
            self._streams += 1
            heappush(self._heap, (key, self._streams, stream))

    # --- Rows ---------------------------------------------------------------------------------------------------------

    def _row_streams(self) -> Iterator[_Stream]:
        column, direction = COLUMNS[self._query.order], "ASC" if self._sign > 0 else "DESC"
        (low, after), (high, before) = self._window.low, self._window.high
        times = f"{column} >= ? AND {column} <= ? AND ({column} > ? OR position > ?) AND ({column} < ? OR position < ?)"
        end = f"WHERE workspace = ? AND {times} %s ORDER BY {column} {direction}, position {direction}"
        values = (self._query.workspace, low, high, low, after, high, before)
        equal = "".join(f" AND {name} = ?" for name in self._selection.values)
        rows = self._connection.execute(
            f"SELECT {column}, position, connection, document, user_id, anonymous_id FROM event_rows {end % equal}",
            (*values, *self._selection.values.values()),
        )
        yield _Rows(rows, self._selection, self._sign)
        if has_old_rows(self._connection):
            rows = self._connection.execute(f"SELECT {column}, {OLD_COLUMNS} FROM events {end % ''}", values)
            yield _OldRows(rows, self._selection, self._sign)

    # --- Blocks -------------------------------------------------------------------------------------------------------

    def _headers(self) -> Iterator["_Header"]:
        """Yield the blocks that overlap the window, by the smallest possible key of their events."""
        column = COLUMNS[self._query.order]
        edge, position = (f"min_{column}", "first_position") if self._sign > 0 else (f"max_{column}", "last_position")
        direction = "ASC" if self._sign > 0 else "DESC"
        has_ids = self._persons or self._selection.values.keys() & {"user_id", "anonymous_id"}
        people = "people" if has_ids else "NULL"
        is_counted = self._selection.connections is not None or self._selection.values.keys() & {"type", "event"}
        counts = "counts" if is_counted else "NULL"
        rows = self._connection.execute(
            f"""SELECT id, {edge}, {position}, events, {people}, {counts}
            FROM event_blocks INDEXED BY event_blocks_by_{edge}
            WHERE workspace = ? AND max_{column} >= ? AND min_{column} <= ?
            ORDER BY {edge} {direction}, {position} {direction}""",
            (self._query.workspace, self._window.low[0], self._window.high[0]),
        )
        for id, time_, at, events, people, counts in rows:
            bound = max((self._sign * time_, self._sign * at), self._start)
            yield _Header(id, bound, events, people, counts)

    def _may_match(self, header: "_Header") -> bool:
        """Return False if no event of the block meets the conditions on columns."""
        values = self._selection.values
        if header.people is not None and not may_have(
            header.people, user_id=values.get("user_id"), anonymous_id=values.get("anonymous_id")
        ):
            return False
        if header.people is not None and self._persons and not may_have_any(header.people, self._persons):
            return False
        return header.counts is None or any(
            counts_row_matches(self._selection, type, event, connection)
            for _, _, type, event, connection, _ in unpack_counts(header.counts)
        )

    def _open(self, header: "_Header") -> "_BlockEvents":
        block = open_block(self._connection, self._cache, header.id, header.events)
        indexes = matching(block, self._selection, self._query.order, self._window)
        if self._sign < 0:
            indexes.reverse()
        return _BlockEvents(self._connection, self._cache, block, indexes, self._query.order, self._sign)


class _Header(Struct, frozen=True):
    """A block that is not open."""

    id: int
    bound: Key
    """Lower bound of the keys of the block's events in the window."""
    events: int
    people: bytes | None
    counts: bytes | None


def counts_row_matches(selection: Selection, type: str, event: str | None, connection: int) -> bool:
    """Return whether events of this type, event name and connection meet the conditions on these three."""
    return (
        (selection.connections is None or connection in selection.connections)
        and selection.values.get("type", type) == type
        and selection.values.get("event", event) == event
    )


def open_block(connection: sqlite3.Connection, cache: Cache, id: int, events: int) -> Block:
    """Return a block, from the cache or the file."""

    def columns() -> bytes:
        query = "SELECT columns FROM event_blocks WHERE id = ?"
        packed: bytes = connection.execute(query, (id,)).fetchone()[0]
        return packed

    return cache.block(id, columns, events)


def read_document(connection: sqlite3.Connection, cache: Cache, block: Block, index: int) -> bytes:
    """Return the document of an event of a block."""
    first = block.find_chunk(index)
    id = documents_id(block.id, first)

    def packed() -> bytes:
        query = "SELECT documents FROM event_documents WHERE id = ?"
        found: bytes = connection.execute(query, (id,)).fetchone()[0]
        return found

    return cache.documents(id, packed)[index - first]


def matching(block: Block, selection: Selection, order: EventOrder, window: Window) -> list[int]:
    """Return the events of a block that are in the window and meet the conditions on columns, by time and position."""
    times, positions = block.times(order), block.positions
    if selection.has_columns:
        found: Sequence[int] = sorted(selected(block, selection), key=times.offsets.__getitem__)
    else:
        found = block.sorted(order)

    def find_key(index: int) -> Key:
        return times[index], positions[index]

    return list(found[bisect_right(found, window.low, key=find_key) : bisect_left(found, window.high, key=find_key)])


def selected(block: Block, selection: Selection) -> Iterable[int]:
    """Return the events of a block that meet the conditions on columns, by position."""
    columns: dict[str, Callable[[], Distinct[Any]]] = {
        "user_id": lambda: block.user_ids,
        "anonymous_id": lambda: block.anonymous_ids,
        "event": lambda: block.events,
        "type": lambda: block.types,
    }
    if selection.persons is not None:
        return find_person_events(block, selection.persons)
    names = [name for name in columns if name in selection.values]
    found: Iterable[int] = range(len(block))
    for place, name in enumerate(names):
        column, value = columns[name](), selection.values[name]
        found = column.where(value) if place == 0 else _with(found, column.indexes, column.among((value,)))
    if selection.connections is not None:
        found = _with(found, block.connections.indexes, block.connections.among(selection.connections))
    return found


def find_person_events(block: Block, persons: PersonSet) -> list[int]:
    """Return the events of a block that belong to persons, by position."""
    users, connections = block.user_ids, block.connections
    found = _events_among(users, persons.user_ids)
    found = [event for event in found if persons.has(connections[event], users[event], None)]
    if persons.anonymous_ids:
        anonymous = block.anonymous_ids
        without_user = [event for event in _events_among(anonymous, persons.anonymous_ids) if users[event] is None]
        found += [event for event in without_user if persons.has(connections[event], None, anonymous[event])]
        found.sort()
    return found


def _events_among(column: Distinct[Any], ids: frozenset[str]) -> list[int]:
    """Return the events with one of the ids, by position."""
    wanted = column.among(ids)
    if len(wanted) <= _FEW_IDS:
        return sorted(event for index in wanted for event in column.where(column.values[index]))
    return [event for event, index in enumerate(column.indexes) if index in wanted]


_FEW_IDS: Final = 10
"""Number of ids up to which it is faster to search a column for each of them."""


def _with(events: Iterable[int], indexes: Sequence[int], wanted: frozenset[int]) -> Iterable[int]:
    return (event for event in events if indexes[event] in wanted)


class _BlockEvents:
    def __init__(
        self,
        connection: sqlite3.Connection,
        cache: Cache,
        block: Block,
        indexes: list[int],
        order: EventOrder,
        sign: int,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._block = block
        self._indexes = iter(indexes)
        self._times = block.times(order)
        self._sign = sign
        self._index = 0

    def advance(self) -> Key | None:
        index = next(self._indexes, None)
        if index is None:
            return None
        self._index = index
        return self._sign * self._times[index], self._sign * self._block.positions[index]

    def is_selected(self) -> bool:
        return True

    def document(self) -> bytes:
        return read_document(self._connection, self._cache, self._block, self._index)


class _Rows:
    def __init__(self, rows: sqlite3.Cursor, selection: Selection, sign: int) -> None:
        self._rows = rows
        self._selection = selection
        self._sign = sign
        self._row: Any = None

    def advance(self) -> Key | None:
        self._row = self._rows.fetchone()
        return None if self._row is None else (self._sign * self._row[0], self._sign * self._row[1])

    def is_selected(self) -> bool:
        persons = self._selection.persons
        if persons is not None:
            return persons.has(self._row[2], self._row[4], self._row[5])
        return self._selection.connections is None or self._row[2] in self._selection.connections

    def document(self) -> bytes:
        document: bytes = self._row[3]
        return document


class _OldRows(_Rows):
    def is_selected(self) -> bool:
        selection = self._selection
        if not selection.has_columns:
            return True
        event = read_old_row(self._row[1:])
        if selection.persons is not None:
            return selection.persons.has(event.connection, event.user_id, event.anonymous_id)
        return (selection.connections is None or event.connection in selection.connections) and all(
            getattr(event, name) == value for name, value in selection.values.items()
        )

    def document(self) -> bytes:
        text: str = self._row[7]
        return text.encode()
