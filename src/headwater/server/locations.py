"""Locations of the stores: files in the data directory, or one PostgreSQL database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from headwater.server.settings import Settings
from headwater.storage.database import Location, sqlite_url
from headwater.storage.postgresql import STORE_CONNECTIONS, WAREHOUSE_CONNECTIONS, open_connections


class Locations(Struct, frozen=True):
    """The location of each store."""

    catalog: Location
    state: Location
    courier: Location
    delivery: Location
    operations: Location
    runs: Location
    warehouse: Location


@asynccontextmanager
async def open_locations(
    settings: Settings,
    process: str,
    *,
    store_connections: int = STORE_CONNECTIONS,
    warehouse_connections: int = WAREHOUSE_CONNECTIONS,
) -> AsyncIterator[Locations]:
    """Yield the locations of the stores. With PostgreSQL they share the connections of `process`, which are closed at
    the end of the block; `warehouse_connections` is the maximum number of those that go to the warehouse, and
    `store_connections` of the others."""
    if settings.database_url is None:
        yield Locations(
            catalog=sqlite_url(settings.catalog_path),
            state=sqlite_url(settings.state_path),
            courier=sqlite_url(settings.courier_path),
            delivery=sqlite_url(settings.delivery_path),
            operations=sqlite_url(settings.operations_path),
            runs=sqlite_url(settings.runs_path),
            warehouse=sqlite_url(settings.warehouse_path),
        )
        return
    async with open_connections(
        settings.database_url,
        process,
        store_connections=store_connections,
        warehouse_connections=warehouse_connections,
    ) as shared:
        yield Locations(
            catalog=shared,
            state=shared,
            courier=shared,
            delivery=shared,
            operations=shared,
            runs=shared,
            warehouse=shared,
        )
