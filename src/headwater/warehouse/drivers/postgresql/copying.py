"""Fills an empty warehouse with the events of another one, in a transaction of the caller."""

from collections.abc import Callable, Iterable, Set
from typing import Final

from headwater.base.errors import UnusableDatabase
from headwater.warehouse.contract import StoredEvent
from headwater.warehouse.drivers.postgresql.database import Driver
from headwater.warehouse.drivers.postgresql.loading import insert
from headwater.warehouse.drivers.postgresql.partitions import Partitions, set_first_day

LOADING: Final = "warehouse.event_loading"
TABLES: Final = ("warehouse.events", "warehouse.event_spans", "warehouse.event_counts", LOADING)
"""The tables of a warehouse, without its partitions."""
MAX_DAYS: Final = 400
"""Number of the latest days whose events get a partition each. Earlier ones share a partition.

A transaction that copies events locks each partition and its indexes, and PostgreSQL has some 6,400 locks by default.
"""
_COUNT_SECONDS: Final = 24 * 3_600.0


async def prepare_partitions(driver: Driver, days: Set[int]) -> Partitions:
    """Create the partitions of these days, outside of a transaction. A call that was killed is repeated."""
    first: int = await driver.fetchval(f"SELECT first_day FROM {LOADING}")
    if days:
        oldest = max(min(days), max(days) - MAX_DAYS)
        if oldest < first:
            await set_first_day(driver, oldest)
            first = oldest
    partitions = Partitions(first)
    await partitions.create(driver, days)
    return partitions


async def copy_events(
    driver: Driver,
    events: Iterable[list[StoredEvent]],
    *,
    through: int,
    partitions: Partitions,
    count: Callable[[int], None],
) -> int:
    """Insert events, and set the position through which events are loaded. Return the number of events.

    Raises UnusableDatabase if the warehouse has another number of events afterwards.
    """
    read = 0
    for some in events:
        await insert(driver, some, partitions.partition_name)
        read += len(some)
        count(len(some))
    await driver.execute(f"UPDATE {LOADING} SET position = $1", through)
    for query in ("SELECT count(*) FROM warehouse.events", "SELECT sum(events) FROM warehouse.event_spans"):
        written = await driver.fetchval(query, timeout=_COUNT_SECONDS) or 0
        if written != read:
            raise UnusableDatabase(f"the warehouse has {written} events, and the file {read}: nothing was moved")
    return read
