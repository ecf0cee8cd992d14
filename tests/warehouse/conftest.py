"""Warehouses of every driver, each in a database of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from headwater.storage.database import sqlite_url
from headwater.warehouse import Warehouse, open_warehouse
from headwater.warehouse.drivers.sqlite import SqliteWarehouse
from tests.harness import MovableClock
from tests.postgresql import PostgresqlServer

DRIVERS = ["sqlite", "sqlite without patience", "postgresql"]

Open = Callable[[], AbstractAsyncContextManager[Warehouse]]
"""Opens the same warehouse on each call."""


@asynccontextmanager
async def open_impatient(path: Path, clock: MovableClock) -> AsyncIterator[Warehouse]:
    """Open a warehouse whose pages end early."""
    warehouse = SqliteWarehouse(path, writes=True, clock=clock, page_seconds=0.002)
    await warehouse.open()
    try:
        yield warehouse
    finally:
        await warehouse.close()


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    driver: str = request.param
    return driver


@pytest.fixture
def new_warehouse(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[MovableClock], Open]:
    """Make a new, empty warehouse, and return a function that opens it."""
    made: list[str] = []

    def make(clock: MovableClock) -> Open:
        path = tmp_path / f"{len(made)}.db"
        made.append(str(path))
        if driver == "sqlite without patience":
            return lambda: open_impatient(path, clock)
        if driver == "sqlite":
            return lambda: open_warehouse(sqlite_url(path), writes=True, clock=clock)
        server: PostgresqlServer = request.getfixturevalue("postgresql_server")
        url = server.create()
        request.addfinalizer(lambda: server.drop(url))
        return lambda: open_warehouse(url, writes=True, clock=clock)

    return make


@pytest.fixture
async def warehouse(new_warehouse: Callable[[MovableClock], Open], clock: MovableClock) -> AsyncIterator[Warehouse]:
    async with new_warehouse(clock)() as opened:
        yield opened
