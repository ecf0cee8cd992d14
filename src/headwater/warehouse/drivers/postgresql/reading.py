"""Reads pages of events: a few partitions at a time, in slices, merged in the order of the page.

`event_spans` has the range of times that the events of a workspace have in each partition. A page opens a partition
when its events may come before all events of the open ones. A condition that an index serves in the order of the page
is read with a LIMIT. Any other is read in slices: first the place some thousand rows further on, then the matching rows
up to it. So the work of every statement is bounded, whatever statistics the planner has.
"""

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from headwater.warehouse.conditions import document_test
from headwater.warehouse.contract import EventCursor, EventOrder, EventPage, EventQuery
from headwater.warehouse.drivers.postgresql import oldevents
from headwater.warehouse.drivers.postgresql.database import Driver, Parameters
from headwater.warehouse.drivers.postgresql.filters import COLUMNS, OLD_COLUMNS, render, without_equalities
from headwater.warehouse.persons import PersonSet

PAGE_SECONDS: Final = 0.7
"""Maximum time after which reading a page begins no further slice."""
EXTRA_SECONDS: Final = 0.05
"""Maximum time that a full page spends on finding whether an event follows it."""
MAX_ROWS: Final = 2_000
"""Maximum number of rows with documents that one statement returns."""
MAX_PLACES: Final = 5_000
"""Maximum number of rows without documents that one statement returns."""
YIELD_ROWS: Final = 1_000
"""Number of rows that are merged without a pause: a few milliseconds."""
INITIAL_TEST_ROWS: Final = 250
"""Number of rows that the first statement returns for tests in Python."""
INITIAL_SLICE_ROWS: Final = 1_000
MAX_SLICE_ROWS: Final = 20_000
"""Maximum number of rows that one statement examines."""
MAX_INDEXED_BYTES: Final = 2_000
"""Length of the longest name in the index."""

TIMES: Final[dict[EventOrder, str]] = {"timestamp": "timestamp", "receivedAt": "received_at"}
_MAX_INT64: Final = 2**63 - 1


class Row(Struct, frozen=True):
    """An event of a list."""

    time: int
    position: int
    document: str = ""
    """Empty if only the place is read."""
    event: str | None = None
    type: str | None = None
    connection: int | None = None


_PLACE: Final = "{moment}, position"
_DOCUMENT: Final = f"{_PLACE}, document"
COUNTED: Final = f"{_DOCUMENT}, event, type, connection"
"""The columns of a row with everything that counts need."""


class Span(Struct, frozen=True):
    """A table with events of the workspace, and the range of their times."""

    table: str
    first: int
    last: int

    @property
    def is_old(self) -> bool:
        """Return whether it is the table of an earlier version."""
        return self.table == oldevents.TABLE


class Conditions(Struct, frozen=True):
    """The conditions on the rows of one table."""

    indexed: list[str]
    """The conditions that an index serves in the order of the page."""
    others: list[str]
    tests: list[oldevents.DocumentTest]
    indexed_parameters: Parameters
    parameters: Parameters
    """The values of `indexed`, followed by those of `others`."""

    @property
    def is_direct(self) -> bool:
        """Return whether the index serves all conditions."""
        return not self.others and not self.tests

    @property
    def all(self) -> str:
        """All conditions of SQL."""
        return " AND ".join([*self.indexed, *self.others])


def make_conditions(query: EventQuery, *, is_old: bool = False, parameters: Parameters | None = None) -> Conditions:
    """Return the conditions of a query on the rows of a partition, or of the old events.

    Adds their values to the `parameters` of a statement, if given.
    """
    parameters = Parameters() if parameters is None else parameters
    moment = TIMES[query.order]
    indexed = [f"workspace = {parameters.add(query.workspace)}"]
    if query.since is not None:
        indexed.append(f"{moment} >= {parameters.add(query.since)}")
    if query.until is not None:
        indexed.append(f"{moment} < {parameters.add(query.until)}")
    equalities = {} if is_old else _equalities(query)
    path = _indexed_column(query, equalities)
    if path is not None:
        indexed.append(f"{path} = {parameters.add(equalities.pop(path))}")
        if path == "event":
            indexed.append(f"octet_length(event) <= {MAX_INDEXED_BYTES}")
    indexed_parameters = Parameters(parameters)
    others = [f"{column} = {parameters.add(value)}" for column, value in equalities.items()]
    if query.connections is not None:
        others.append(f"connection = ANY({parameters.add(query.connections)}::bigint[])")
    tests: list[oldevents.DocumentTest] = []
    if is_old:
        others.append("position > (SELECT old_position FROM warehouse.event_loading)")
        tests += oldevents.equalities(query)
    if query.filter is not None:
        where = render(query.filter, OLD_COLUMNS if is_old else COLUMNS, parameters)
        if where is not None:
            others.append(where.sql)
        if where is None or not where.exact:
            tests.append(document_test(query.filter))
    return Conditions(indexed, others, tests, indexed_parameters, parameters)


def _equalities(query: EventQuery) -> dict[str, str]:
    """Return the required values of columns."""
    wanted = {
        "user_id": query.user_id,
        "anonymous_id": query.anonymous_id,
        "event": query.event,
        "type": query.type,
    }
    return {column: value for column, value in wanted.items() if value is not None}


def _indexed_column(query: EventQuery, equalities: Mapping[str, str]) -> str | None:
    """Return the column whose index finds the events; None for the index by time alone.

    The events of one user are few, so any order can be sorted. Those with a name may be most events.
    """
    for column in ("user_id", "anonymous_id"):
        if column in equalities:
            return column
    event = equalities.get("event")
    is_indexed = event is not None and query.order == "timestamp" and len(event.encode()) <= MAX_INDEXED_BYTES
    return "event" if is_indexed else None


async def read_spans(driver: Driver, query: EventQuery) -> list[Span]:
    """Return the tables that may have events of the query."""
    moment = TIMES[query.order]
    rows = await driver.fetch(
        f"SELECT partition, first_{moment} AS first, last_{moment} AS last FROM warehouse.event_spans "
        f"WHERE workspace = $1 AND last_{moment} >= $2 AND first_{moment} < $3",
        query.workspace,
        -_MAX_INT64 if query.since is None else query.since,
        _MAX_INT64 if query.until is None else query.until,
    )
    spans = [Span(row["partition"], row["first"], row["last"]) for row in rows]
    if await driver.fetchval("SELECT old_position FROM warehouse.event_loading") is not None:
        spans.append(Span(oldevents.TABLE, -_MAX_INT64, _MAX_INT64))
    return spans


class Source:
    """The events of one table that meet a query, in its order, read slice by slice."""

    def __init__(
        self,
        span: Span,
        conditions: Conditions,
        order: EventOrder,
        *,
        ascending: bool = False,
        columns: str = _DOCUMENT,
    ) -> None:
        self.rows: deque[Row] = deque()
        self.is_read = False
        """Whether `rows` has all remaining events."""
        self.conditions = conditions
        self._span = span
        self._table = f"warehouse.{span.table}"
        self._moment = TIMES[order]
        self._is_ascending = ascending
        if conditions.tests and columns == _PLACE:
            columns = _DOCUMENT
        self._columns = columns.format(moment=self._moment)
        self._max_rows = MAX_PLACES if columns == _PLACE else MAX_ROWS
        self._test_rows = INITIAL_TEST_ROWS
        self._slice_rows = INITIAL_SLICE_ROWS
        self.frontier = EventCursor(span.first, -1) if ascending else EventCursor(span.last, _MAX_INT64)
        """The place up to which all events are in `rows` or were returned."""

    def start_after(self, cursor: EventCursor) -> bool:
        """Drop the events up to the cursor. Return whether there may be others."""
        if self.key(cursor) > self.key(self.frontier):
            self.frontier = cursor
        return self._span.last >= cursor.time if self._is_ascending else self._span.first <= cursor.time

    def key(self, place: EventCursor | Row) -> tuple[int, int]:
        """Return a key that sorts places in the order of the list."""
        return (place.time, place.position) if self._is_ascending else (-place.time, -place.position)

    async def read(self, driver: Driver, wanted: int) -> None:
        """Read the next slice; `wanted` is the number of events that the page still needs."""
        if self.conditions.is_direct:
            limit = max(1, min(self._max_rows, wanted))
            rows = await self._rows(driver, None, limit)
            self._advance(rows, None, limit)
            self.rows.extend(rows)
            return
        end = await self._end_of_slice(driver)
        limit = max(1, min(self._max_rows, max(wanted, self._test_rows) if self.conditions.tests else wanted))
        rows = await self._rows(driver, end, limit)
        self._advance(rows, end, limit)
        self.rows.extend(await self._passing(rows))
        self._slice_rows = min(MAX_SLICE_ROWS, self._slice_rows * 4)
        self._test_rows = min(MAX_ROWS, self._test_rows * 2)

    def _advance(self, rows: Sequence[Row], end: EventCursor | None, limit: int) -> None:
        if len(rows) == limit:
            self.frontier = EventCursor(rows[-1].time, rows[-1].position)
        elif end is not None:
            self.frontier = end
        else:
            self.is_read = True

    async def _passing(self, rows: list[Row]) -> list[Row]:
        tests = self.conditions.tests
        if not tests:
            return rows
        # Let the event loop run while a thread computes.
        return await asyncio.to_thread(
            lambda: [row for row in rows if all(test(row.document.encode()) for test in tests)]
        )

    async def _end_of_slice(self, driver: Driver) -> EventCursor | None:
        """Return the place some thousand rows further on; None when there are fewer rows."""
        parameters = Parameters(self.conditions.indexed_parameters)
        sql = (
            f"SELECT {self._moment} AS time, position FROM {self._table} "
            f"WHERE {' AND '.join(self.conditions.indexed)} AND {self._after(parameters)} {self._in_order()} "
            f"OFFSET {parameters.add(self._slice_rows - 1)} LIMIT 1"
        )
        row = await driver.fetchrow(sql, *parameters)
        return None if row is None else EventCursor(row["time"], row["position"])

    async def _rows(self, driver: Driver, end: EventCursor | None, limit: int) -> list[Row]:
        parameters = Parameters(self.conditions.parameters)
        conditions = [self.conditions.all, self._after(parameters)]
        if end is not None:
            conditions.append(self._compared("<=" if self._is_ascending else ">=", end, parameters))
        sql = (
            f"SELECT {self._columns} FROM {self._table} WHERE {' AND '.join(conditions)} {self._in_order()} "
            f"LIMIT {parameters.add(limit)}"
        )
        return [Row(*row) for row in await driver.fetch(sql, *parameters)]

    def _after(self, parameters: Parameters) -> str:
        return self._compared(">" if self._is_ascending else "<", self.frontier, parameters)

    def _compared(self, symbol: str, place: EventCursor, parameters: Parameters) -> str:
        time, position = parameters.add(place.time), parameters.add(place.position)
        return f"({self._moment}, position) {symbol} ({time}::bigint, {position}::bigint)"

    def _in_order(self) -> str:
        direction = "ASC" if self._is_ascending else "DESC"
        return f"ORDER BY {self._moment} {direction}, position {direction}"


class PersonSource(Source):
    """The events of persons in one partition: the newest of each through the index of its id, merged in SQL."""

    def __init__(self, span: Span, workspace: int, persons: PersonSet) -> None:
        values = Parameters()
        conditions = Conditions([f"workspace = {values.add(workspace)}"], [], [], Parameters(values), values)
        super().__init__(span, conditions, "timestamp")
        self._persons = persons

    async def _rows(self, driver: Driver, end: EventCursor | None, limit: int) -> list[Row]:
        parameters = Parameters(self.conditions.parameters)
        newest = f"{self._after(parameters)} {self._in_order()} LIMIT {parameters.add(limit)}"
        found = select_persons(self._table, self._persons, parameters, f" AND {newest}")
        sql = (
            "SELECT timestamp, position, "
            f"(SELECT document FROM {self._table} AS event WHERE event.ctid = newest.place) AS document "
            f"FROM (SELECT timestamp, position, place FROM ({found}) AS found {self._in_order()} "
            f"LIMIT {parameters.add(limit)}) AS newest {self._in_order()}"
        )
        return [Row(*row) for row in await driver.fetch(sql, *parameters)]


def select_persons(table: str, persons: PersonSet, parameters: Parameters, newest: str = "") -> str:
    """Return a statement for the times, positions and places of the events of persons in a table.

    `$1` is the workspace. `newest` is added to the statement for each person. There is at least one person, and no id
    has NUL.
    """
    parts = []
    for is_anonymous, condition in ((False, "user_id = person.id"), (True, _IS_ANONYMOUS)):
        pairs = list(persons.pairs(anonymous=is_anonymous))
        if not pairs:
            continue
        connections = parameters.add([connection for connection, _ in pairs])
        ids = parameters.add([id for _, id in pairs])
        parts.append(
            "SELECT event.timestamp, event.position, event.place "
            f"FROM unnest({connections}::int[], {ids}::text[]) AS person (connection, id) CROSS JOIN LATERAL ("
            f"SELECT timestamp, position, ctid AS place FROM {table} AS event WHERE workspace = $1 AND {condition} "
            f"AND (person.connection IS NULL OR event.connection = person.connection){newest}) AS event"
        )
    return " UNION ALL ".join(parts)


_IS_ANONYMOUS: Final = "anonymous_id = person.id AND user_id IS NULL"


class Walk:
    """The events of a query in its order, from several tables."""

    def __init__(self, driver: Driver, sources: Sequence[Source]) -> None:
        self._driver = driver
        self._heap: list[tuple[tuple[int, int], bool, int, Source]] = []
        for number, source in enumerate(sources):
            self._push(number, source)

    @property
    def place(self) -> EventCursor | None:
        """The place before which all events were returned; None at the end."""
        if not self._heap:
            return None
        source = self._heap[0][3]
        return source.frontier if not source.rows else EventCursor(source.rows[0].time, source.rows[0].position)

    async def next(self, wanted: int, *, until: float) -> Row | None:
        """Return the next event; None at the end, when `place` is None, and if none was found by the time `until`.

        `wanted` is the number of events that the page still needs.
        """
        while self._heap:
            _, has_row, number, source = self._heap[0]
            if has_row:
                heapq.heappop(self._heap)
                row = source.rows.popleft()
                self._push(number, source)
                return row
            if time.monotonic() >= until:
                return None
            await source.read(self._driver, wanted)
            heapq.heappop(self._heap)
            self._push(number, source)
        return None

    def _push(self, number: int, source: Source) -> None:
        if source.rows:
            heapq.heappush(self._heap, (source.key(source.rows[0]), True, number, source))
        elif not source.is_read:
            heapq.heappush(self._heap, (source.key(source.frontier), False, number, source))


async def read_page(
    driver: Driver, query: EventQuery, *, ascending: bool, after: EventCursor | None, offset: int, limit: int
) -> EventPage:
    """Read a page in the caller's snapshot."""
    query = without_equalities(query)
    if has_nul(query):
        return EventPage((), None)
    spans = await read_spans(driver, query)
    until = time.monotonic() + PAGE_SECONDS
    if offset:
        walk = await _walk(driver, query, spans, ascending=ascending, after=after, columns=_PLACE)
        after, rest = await _skip(walk, offset, until=until)
        if after is None or rest:
            return EventPage((), after, rest if after is not None else 0)
    walk = await _walk(driver, query, spans, ascending=ascending, after=after, columns=_DOCUMENT)
    return await _read_page(walk, after, limit, until)


async def read_persons_page(
    driver: Driver, workspace: int, persons: PersonSet, *, before: EventCursor | None, limit: int
) -> EventPage:
    """Read a page of the events of persons, the newest first, in the caller's snapshot."""
    spans = await read_spans(driver, EventQuery(workspace=workspace))
    until = time.monotonic() + PAGE_SECONDS
    sources: list[Source] = []
    for span in spans:
        if span.is_old:
            conditions = make_conditions(EventQuery(workspace=workspace), is_old=True)
            conditions.tests.append(oldevents.person_test(persons))
            sources.append(Source(span, conditions, "timestamp"))
        else:
            sources.append(PersonSource(span, workspace, persons))
    if before is not None:
        sources = [source for source in sources if source.start_after(before)]
    return await _read_page(Walk(driver, sources), before, limit, until)


async def _read_page(walk: Walk, after: EventCursor | None, limit: int, until: float) -> EventPage:
    documents: list[bytes] = []
    positions: list[int] = []
    last = after
    while len(documents) < limit:
        row = await walk.next(limit + 1 - len(documents), until=until)
        if row is None:
            return EventPage(tuple(documents), walk.place, positions=tuple(positions))
        documents.append(row.document.encode())
        positions.append(row.position)
        last = EventCursor(row.time, row.position)
    more = await walk.next(1, until=min(until, time.monotonic() + EXTRA_SECONDS))
    is_end = more is None and walk.place is None
    return EventPage(tuple(documents), None if is_end else last, positions=tuple(positions))


async def _skip(walk: Walk, offset: int, *, until: float) -> tuple[EventCursor | None, int]:
    """Return the place after `offset` events, None if there are fewer, and the part of the offset left at `until`."""
    row: Row | None = None
    for number in range(offset):
        row = await walk.next(offset - number, until=until)
        if row is None:
            return walk.place, offset - number
        if number % YIELD_ROWS == 0:
            await asyncio.sleep(0)
    return (None if row is None else EventCursor(row.time, row.position)), 0


async def _walk(
    driver: Driver,
    query: EventQuery,
    spans: Sequence[Span],
    *,
    ascending: bool,
    after: EventCursor | None,
    columns: str,
) -> Walk:
    def make() -> list[Source]:
        conditions = {is_old: make_conditions(query, is_old=is_old) for is_old in {span.is_old for span in spans}}
        return [
            Source(span, conditions[span.is_old], query.order, ascending=ascending, columns=columns) for span in spans
        ]

    # Checking and compiling a filter may take long.
    sources = make() if query.filter is None else await asyncio.to_thread(make)
    if after is not None:
        sources = [source for source in sources if source.start_after(after)]
    return Walk(driver, sources)


def has_nul(query: EventQuery) -> bool:
    """Return whether a text of the query has NUL, which texts of PostgreSQL cannot have."""
    texts = (query.type, query.event, query.user_id, query.anonymous_id)
    return any(text is not None and "\0" in text for text in texts)
