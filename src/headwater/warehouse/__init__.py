"""Warehouses: the data for queries, in a database with a driver."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from sqlalchemy import make_url

from headwater.base.clock import Clock
from headwater.storage.database import Location
from headwater.warehouse.contract import (
    Capabilities,
    CountKey,
    ErasureCursor,
    ErasureStep,
    EventCount,
    EventCursor,
    EventOrder,
    EventPage,
    EventQuery,
    Interval,
    Person,
    StoredEvent,
    Warehouse,
)
from headwater.warehouse.persons import PersonSet

__all__ = [
    "Capabilities", "CountKey", "ErasureCursor", "ErasureStep", "EventCount", "EventCursor", "EventOrder", "EventPage",
    "EventQuery", "Interval", "Person", "PersonSet", "StoredEvent", "Warehouse", "open_warehouse",
]  # fmt: skip


def open_warehouse(location: Location, *, writes: bool, clock: Clock) -> AbstractAsyncContextManager[Warehouse]:
    """Open the warehouse at `location` and migrate its tables; close it at the end of the block.

    A URL decides the driver: `sqlite+aiosqlite:///FILE`, or `postgresql+asyncpg://…`. One process at a time may open
    a warehouse for writing.
    """
    if not isinstance(location, str) or location.startswith("postgresql"):
        from headwater.warehouse.drivers.postgresql import open_postgresql_warehouse

        return open_postgresql_warehouse(location, writes=writes, clock=clock)
    from headwater.warehouse.drivers.sqlite import open_sqlite_warehouse

    return open_sqlite_warehouse(Path(str(make_url(location).database)), writes=writes, clock=clock)
