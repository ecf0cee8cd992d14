"""The partitions of the events: one for each day of `received_at`, in UTC.

Days before the first start, or long after it, share a partition each, so that a wrong clock cannot make many.
"""

from collections.abc import Iterable
from datetime import date
from typing import Final

from headwater.warehouse.drivers.postgresql.database import Driver

DAY_MICROSECONDS: Final = 86_400_000_000
MAX_DAYS: Final = 36_500
"""Number of days from the first one that can have a partition, as in the first revision."""
DAYS_AHEAD: Final = 2
"""Number of days after today that already have a partition."""
MAX_KNOWN: Final = 4_000
"""Maximum number of partitions that a process remembers."""
_PREFIX: Final = "events_"
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_LOCK: Final = 0x6576656E7473  # "events"


def find_day(partition: str) -> int | None:
    """Return the day since the epoch that a partition is for; None for those that days share."""
    text = partition.removeprefix(_PREFIX)
    return date.fromisoformat(text).toordinal() - _EPOCH_DAY if text.isdigit() else None


async def set_first_day(driver: Driver, day: int) -> None:
    """Let the days from `day` on have a partition each, in a warehouse without events.

    Call it before the warehouse is opened. It removes nothing if there are events.
    """
    first, end = day * DAY_MICROSECONDS, (day + MAX_DAYS) * DAY_MICROSECONDS
    async with driver.transaction():
        await driver.execute("LOCK TABLE warehouse.events")
        if await driver.fetchval("SELECT EXISTS (SELECT FROM warehouse.events)"):
            return
        for name, values in (
            ("events_before", f"FROM (MINVALUE) TO ({first})"),
            ("events_after", f"FROM ({end}) TO (MAXVALUE)"),
        ):
            await driver.execute(f"DROP TABLE warehouse.{name}")
            await driver.execute(f"CREATE TABLE warehouse.{name} PARTITION OF warehouse.events FOR VALUES {values}")
        await driver.execute("UPDATE warehouse.event_loading SET first_day = $1", day)


class Partitions:
    """Names and creates the partitions of one warehouse."""

    def __init__(self, first_day: int) -> None:
        self._first_day = first_day
        self._known: set[int] = set()

    def partition_name(self, day: int) -> str:
        """Return the name of the partition of a day since the epoch."""
        if day < self._first_day:
            return "events_before"
        if day >= self._first_day + MAX_DAYS:
            return "events_after"
        return f"events_{date.fromordinal(_EPOCH_DAY + day):%Y%m%d}"

    async def create(self, driver: Driver, days: Iterable[int]) -> None:
        """Create the missing partitions of these days, each in its own transaction.

        A partition is attached, which neither waits for readers of the events nor blocks them.
        """
        for day in sorted(set(days) - self._known):
            if self._first_day <= day < self._first_day + MAX_DAYS:
                await self._create(driver, day)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known.add(day)

    def forget(self) -> None:
        """Forget the known partitions, so that the next call queries the database."""
        self._known.clear()

    async def _create(self, driver: Driver, day: int) -> None:
        name = self.partition_name(day)
        async with driver.transaction():
            await driver.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if await driver.fetchval("SELECT to_regclass($1)", f"warehouse.{name}") is not None:
                return
            await driver.execute(f"CREATE TABLE warehouse.{name} (LIKE warehouse.events INCLUDING INDEXES)")
            await driver.execute(
                f"ALTER TABLE warehouse.events ATTACH PARTITION warehouse.{name} "
                f"FOR VALUES FROM ({day * DAY_MICROSECONDS}) TO ({(day + 1) * DAY_MICROSECONDS})"
            )
