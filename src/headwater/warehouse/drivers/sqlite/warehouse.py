"""A warehouse in one SQLite file: one thread that writes, a few that read."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.threads import SerialExecutor
from headwater.storage.scrubbing import Scrubber
from headwater.warehouse.conditions import Selection, select
from headwater.warehouse.contract import (
    Capabilities,
    CountKey,
    ErasureCursor,
    ErasureStep,
    EventCount,
    EventCursor,
    EventPage,
    EventQuery,
    Interval,
    Person,
    StoredEvent,
)
from headwater.warehouse.drivers.sqlite import loading, maintenance, removing
from headwater.warehouse.drivers.sqlite.cache import Cache
from headwater.warehouse.drivers.sqlite.counting import Counter
from headwater.warehouse.drivers.sqlite.database import as_unavailable, connect, snapshot
from headwater.warehouse.drivers.sqlite.reading import Budget, PageReader, make_window
from headwater.warehouse.persons import PersonSet

MAX_READERS: Final = 3
MAX_COUNTING: Final = MAX_READERS - 1
"""Maximum number of counts in parallel. Counting may take seconds, so one reader is left for pages."""
READER_TIMEOUT_SECONDS: Final = 5.0
"""Maximum time that a call waits for a reader."""
PAGE_SECONDS: Final = 0.15
"""Maximum processor time of a page before it ends early."""
COUNT_SECONDS: Final = 5.0
"""Maximum processor time of counting."""
MAINTENANCE_SECONDS: Final = 0.5
"""The time after which `maintain` begins no further step."""

_Result = TypeVar("_Result")


class SqliteWarehouse:
    """A `Warehouse` in the file `path`. Only one that `writes` may load and maintain."""

    capabilities = Capabilities(filters=True, counts=True)

    def __init__(
        self,
        path: Path,
        *,
        writes: bool,
        clock: Clock,
        page_seconds: float = PAGE_SECONDS,
        count_seconds: float = COUNT_SECONDS,
    ) -> None:
        self._clock = clock
        self._page_seconds = page_seconds
        self._count_seconds = count_seconds
        self._cache = Cache()
        self._scrubber = Scrubber(path)
        self._writer = _Connection(path, writes=True) if writes else None
        self._readers = [_Connection(path, writes=False) for _ in range(MAX_READERS)]
        self._counting = asyncio.Semaphore(MAX_COUNTING)
        self._idle: asyncio.LifoQueue[_Connection] = asyncio.LifoQueue()
        for reader in self._readers:
            self._idle.put_nowait(reader)

    async def open(self) -> None:
        """Create missing tables. Raises the errors of `connect`."""
        await (self._writer or self._readers[0]).run(lambda _: None)

    async def loaded(self) -> int:
        return await self._read(loading.loaded)

    async def load(self, events: Sequence[StoredEvent], *, through: int) -> None:
        now = microseconds(self._clock.now())
        await self._write(lambda connection: loading.load(connection, events, through=through, now=now))

    async def check(self, events: Sequence[StoredEvent]) -> None:
        if events:
            now, through = microseconds(self._clock.now()), events[-1].position
            await self._write(
                lambda connection: loading.load(connection, events, through=through, now=now, commit=False)
            )

    async def events(
        self, query: EventQuery, *, ascending: bool, after: EventCursor | None, offset: int, limit: int
    ) -> EventPage:
        selection = select(query)
        window = make_window(query, ascending=ascending, after=after)
        if selection.is_empty or window.low >= window.high:
            return EventPage((), None)

        def read(connection: sqlite3.Connection) -> EventPage:
            budget = Budget(self._page_seconds)
            with snapshot(connection):
                reader = PageReader(
                    connection, self._cache, query, selection, window, ascending=ascending, budget=budget
                )
                return reader.read(offset, limit)

        return await self._read(read)

    async def counts(
        self, query: EventQuery, *, by: Sequence[CountKey], interval: Interval | None, limit: int
    ) -> list[EventCount]:
        selection = select(query)
        if selection.is_empty:
            return []

        def read(connection: sqlite3.Connection) -> list[EventCount]:
            budget = Budget(self._count_seconds)
            with snapshot(connection):
                counter = Counter(connection, self._cache, query, selection, by=by, interval=interval, budget=budget)
                return counter.count(limit)

        async with _timeout():
            await self._counting.acquire()
        try:
            return await self._read(read)
        finally:
            self._counting.release()

    async def maintain(self) -> None:
        """Do some of the maintenance that is due. Loads may run between two steps."""
        deadline = time.monotonic() + MAINTENANCE_SECONDS
        now = microseconds(self._clock.now())
        while await self._write(lambda connection: maintenance.step(connection, now)):
            if time.monotonic() > deadline:
                return

    async def find_events(
        self, workspace: int, persons: Sequence[Person], *, before: EventCursor | None, limit: int
    ) -> EventPage:
        query = EventQuery(workspace=workspace)
        selection = Selection(None, {}, None, persons=PersonSet(persons))
        window = make_window(query, ascending=False, after=before)
        if not selection.persons or window.low >= window.high:
            return EventPage((), None)

        def read(connection: sqlite3.Connection) -> EventPage:
            budget = Budget(self._page_seconds)
            with snapshot(connection):
                reader = PageReader(connection, self._cache, query, selection, window, ascending=False, budget=budget)
                return reader.read(0, limit)

        return await self._read(read)

    async def erase(
        self, workspace: int, persons: Sequence[Person], cursor: ErasureCursor | None = None
    ) -> ErasureStep:
        wanted = PersonSet(persons)
        return await self._write(lambda connection: removing.erase(connection, workspace, wanted, cursor))

    async def remove_before(self, workspace: int, received_at: int) -> int:
        return await self._write(lambda connection: removing.remove_before(connection, workspace, received_at))

    async def overwrite_removed(self) -> bool:
        return await self._scrubber.step()

    async def close(self) -> None:
        for connection in (self._writer, *self._readers):
            if connection is not None:
                await connection.close()

    async def _write(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        assert self._writer is not None, "the warehouse was opened for reading"
        with as_unavailable():
            return await self._writer.run(work)

    async def _read(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        async with _timeout():
            reader = await self._idle.get()
        try:
            with as_unavailable():
                return await reader.run(work)
        finally:
            self._idle.put_nowait(reader)


@asynccontextmanager
async def _timeout() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(READER_TIMEOUT_SECONDS):
            yield
    except TimeoutError:
        raise Unavailable("all readers of the warehouse are busy") from None


class _Connection:
    """A connection that is opened on first use, and the thread that owns it."""

    def __init__(self, path: Path, *, writes: bool) -> None:
        self._path = path
        self._writes = writes
        self._thread = SerialExecutor("warehouse")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        return await self._thread.run(lambda: work(self._open()))

    async def close(self) -> None:
        await self._thread.close(self._disconnect)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._path, writes=self._writes)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()


@asynccontextmanager
async def open_sqlite_warehouse(path: Path, *, writes: bool, clock: Clock) -> AsyncIterator[SqliteWarehouse]:
    """Open the warehouse in the file `path` and migrate its tables; close it at the end of the block.

    One process at a time may open it for writing. Reads a file of an older release as it is. Raises Unavailable when
    the file cannot be used.
    """
    warehouse = SqliteWarehouse(path, writes=writes, clock=clock)
    try:
        with as_unavailable():
            await warehouse.open()
        yield warehouse
    finally:
        await warehouse.close()
