"""The warehouse on PostgreSQL."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

import asyncpg

from headwater.base.clock import Clock, microseconds
from headwater.storage.database import Location, open_database
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
    Warehouse,
)
from headwater.warehouse.drivers.postgresql import oldevents, removing
from headwater.warehouse.drivers.postgresql.counting import read_counts
from headwater.warehouse.drivers.postgresql.database import Database, Driver
from headwater.warehouse.drivers.postgresql.loading import load_after_fence
from headwater.warehouse.drivers.postgresql.partitions import DAY_MICROSECONDS, DAYS_AHEAD, Partitions
from headwater.warehouse.drivers.postgresql.reading import read_page, read_persons_page
from headwater.warehouse.persons import PersonSet

MIGRATIONS: Final = "headwater.warehouse.drivers.postgresql.migrations"
_Result = TypeVar("_Result")


class PostgresqlWarehouse(Warehouse):
    """Events in a table that is partitioned by day. Open it with `open_postgresql_warehouse`."""

    capabilities = Capabilities(filters=True, counts=True)

    def __init__(self, database: Database, partitions: Partitions, clock: Clock) -> None:
        self._database = database
        self._partitions = partitions
        self._clock = clock
        self._has_old_events = True
        """Whether events of an earlier version may be left."""

    async def loaded(self) -> int:
        async with self._database.connect() as driver:
            position: int = await driver.fetchval("SELECT position FROM warehouse.event_loading")
            return position

    async def load(self, events: Sequence[StoredEvent], *, through: int) -> None:
        async with self._database.connect() as driver:
            await self._load(driver, events, through)

    async def check(self, events: Sequence[StoredEvent]) -> None:
        async with self._database.connect() as driver:
            with suppress(_GivenUp):
                await self._load(driver, events, events[-1].position if events else 0, then=_give_up)

    async def events(
        self, query: EventQuery, *, ascending: bool, after: EventCursor | None, offset: int, limit: int
    ) -> EventPage:
        return await self._read(
            lambda driver: read_page(driver, query, ascending=ascending, after=after, offset=offset, limit=limit)
        )

    async def counts(
        self, query: EventQuery, *, by: Sequence[CountKey], interval: Interval | None, limit: int
    ) -> list[EventCount]:
        return await self._read(lambda driver: read_counts(driver, query, by=by, interval=interval, limit=limit))

    async def find_events(
        self, workspace: int, persons: Sequence[Person], *, before: EventCursor | None, limit: int
    ) -> EventPage:
        wanted = _person_set(persons)
        if not wanted:
            return EventPage((), None)
        return await self._read(lambda driver: read_persons_page(driver, workspace, wanted, before=before, limit=limit))

    async def erase(
        self, workspace: int, persons: Sequence[Person], cursor: ErasureCursor | None = None
    ) -> ErasureStep:
        async with self._database.connect() as driver:
            return await removing.erase(driver, workspace, _person_set(persons), cursor or ErasureCursor())

    async def remove_before(self, workspace: int, received_at: int) -> int:
        async with self._database.connect() as driver:
            removed = await removing.remove_before(driver, workspace, received_at)
        self._partitions.forget()  # one may be gone, and an event that arrived on its day may still come
        return removed

    async def overwrite_removed(self) -> bool:
        """Return True: PostgreSQL's vacuum frees the space of removed rows, which it uses again."""
        return True

    async def maintain(self) -> None:
        """Create the partitions of the next days, and move events of an earlier version for a while."""
        await self.create_partitions()
        if self._has_old_events:
            self._has_old_events = not await oldevents.move(self._database, self._partitions)

    async def create_partitions(self) -> None:
        """Create the partitions of today and the next days."""
        today = microseconds(self._clock.now()) // DAY_MICROSECONDS
        async with self._database.connect() as driver:
            await self._partitions.create(driver, range(today, today + DAYS_AHEAD + 1))

    async def close(self) -> None:
        """Do nothing: `open_postgresql_warehouse` disposes of the engine and its connections."""

    async def _load(
        self, driver: Driver, events: Sequence[StoredEvent], through: int, then: Callable[[], None] = lambda: None
    ) -> None:
        try:
            await self._partitions.create(driver, {event.received_at // DAY_MICROSECONDS for event in events})
            async with driver.transaction():
                await load_after_fence(driver, events, through, self._partitions.partition_name)
                then()
        except asyncpg.PostgresError:
            self._partitions.forget()
            raise

    async def _read(self, read: Callable[[Driver], Awaitable[_Result]]) -> _Result:
        try:
            async with self._database.snapshot() as driver:
                return await read(driver)
        except asyncpg.UndefinedTableError:  # another call moved the last old events meanwhile, and dropped their table
            async with self._database.snapshot() as driver:
                return await read(driver)


def _person_set(persons: Sequence[Person]) -> PersonSet:
    """Return the persons whose ids PostgreSQL can store: those without NUL."""
    return PersonSet(each for each in persons if "\0" not in (each.user_id or each.anonymous_id or ""))


class _GivenUp(Exception):
    """Rolls back a transaction on purpose."""


def _give_up() -> None:
    raise _GivenUp


@asynccontextmanager
async def open_postgresql_warehouse(
    location: Location, *, writes: bool, clock: Clock
) -> AsyncIterator[PostgresqlWarehouse]:
    """Open the warehouse at `location` and migrate its tables; close it at the end of the block.

    Raises UnusableDatabase when the database is unreachable, too old, or not writable.
    """
    async with open_database(location, MIGRATIONS) as engine:
        database = Database(engine)
        async with database.connect() as driver:
            first_day = await driver.fetchval("SELECT first_day FROM warehouse.event_loading")
        warehouse = PostgresqlWarehouse(database, Partitions(first_day), clock)
        if writes:
            await warehouse.create_partitions()
        yield warehouse
