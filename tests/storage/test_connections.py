"""Connections that the stores of a process share: their number, their names, and the schemas of their tables."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.state import open_state
from headwater.state.deliveries import open_delivery_store
from headwater.state.lanestore import open_lane_store
from headwater.state.operations import open_operations
from headwater.state.runs import open_runs
from headwater.storage.database import Location
from headwater.storage.postgresql import (
    STORE_CONNECTIONS,
    STORE_SCHEMAS,
    WAREHOUSE_CONNECTIONS,
    begin_migration,
    open_connections,
)
from headwater.warehouse import EventQuery, open_warehouse
from tests.postgresql import PostgresqlServer

MAX_CONNECTIONS = 10
"""The documented maximum of a process."""
MAX_IDLE_CONNECTIONS = 6
"""The documented maximum of an idle process."""
POOLS = {"state": STORE_CONNECTIONS, "warehouse": WAREHOUSE_CONNECTIONS}
NAMES = """
SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename) FROM pg_tables
WHERE schemaname NOT LIKE 'pg_%' AND schemaname <> 'information_schema' AND tableowner <> 'postgres'
"""
COUNTS = """
SELECT string_agg(name || '=' || connections, ' ' ORDER BY name) FROM (
    SELECT application_name AS name, count(*) AS connections FROM pg_stat_activity
    WHERE application_name LIKE 'headwater %' AND datname = current_database() GROUP BY 1
) AS counted
"""

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

Read = Callable[[], Coroutine[Any, Any, object]]


@asynccontextmanager
async def opened(location: Location) -> AsyncIterator[list[Read]]:
    """Open every store, and yield a read of each."""
    clock, identifiers = SystemClock(), Identifiers()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(open_catalog(location, clock=clock, identifiers=identifiers))
        state = await enter(open_state(location, writes=True, clock=clock))
        lanes = await enter(open_lane_store(location))
        deliveries = await enter(open_delivery_store(location))
        operations = await enter(open_operations(location, clock=clock, identifiers=identifiers))
        runs = await enter(open_runs(location, clock=clock, identifiers=identifiers))
        warehouse = await enter(open_warehouse(location, writes=True, clock=clock))
        query = EventQuery(workspace=1, order="receivedAt")
        yield [
            lambda: state.position("events"),
            lambda: state.pipeline_counts([1], start=0, end=1, unit_seconds=60),
            lambda: lanes.pipeline_counts([1], start=0, end=1, unit_seconds=60),
            lanes.progress,
            deliveries.summaries,
            lambda: operations.page(None, limit=1),
            lambda: runs.page(limit=1),
            lambda: warehouse.events(query, ascending=True, after=None, offset=0, limit=10),
        ]


@pytest.fixture
async def url(postgresql_server: PostgresqlServer) -> AsyncIterator[str]:
    url = postgresql_server.create(empty=True)
    yield url
    postgresql_server.drop(url)


async def test_the_stores_of_a_process_have_a_bound_on_connections(
    postgresql_server: PostgresqlServer, url: str
) -> None:
    assert STORE_CONNECTIONS + WAREHOUSE_CONNECTIONS == MAX_CONNECTIONS
    database = url.rpartition("/")[2]
    async with open_connections(url, "backend") as location, opened(location) as reads:
        async with AsyncExitStack() as stack:
            engines = [location.engine(schema) for schema, count in POOLS.items() for _ in range(count)]
            for engine in engines:
                await stack.enter_async_context(engine.connect())
            counts = await asyncio.to_thread(postgresql_server.administer, COUNTS, database)
            assert counts == f"headwater backend={MAX_CONNECTIONS}"
        await asyncio.gather(*(read() for read in reads * 30))
        # Those of the peak are closed, and the server needs a moment.
        kept = f"headwater backend={MAX_IDLE_CONNECTIONS}"
        assert await _becomes(lambda: postgresql_server.administer(COUNTS, database), kept)
    assert await _becomes(lambda: postgresql_server.administer(COUNTS, database), None)


async def test_shared_connections_create_the_same_tables(postgresql_server: PostgresqlServer, url: str) -> None:
    other = postgresql_server.create(empty=True)
    async with open_connections(url, "backend") as location, opened(location):
        pass
    async with opened(other):
        pass
    shared, separate = [
        str(await asyncio.to_thread(postgresql_server.administer, NAMES, each.rpartition("/")[2]))
        for each in (url, other)
    ]
    assert shared == separate
    tables = [name.partition(".")[2] for name in shared.split() if name.partition(".")[0] in STORE_SCHEMAS]
    assert len(tables) == len(set(tables)), "two stores have a table of the same name"
    postgresql_server.drop(other)


async def test_two_processes_create_a_schema_once(postgresql_server: PostgresqlServer, url: str) -> None:
    """The second one waits. Its connection has created another schema, and remembers that this one is missing."""
    async with (
        open_connections(url, "worker") as location,
        location.engine("courier").connect() as first,
        location.engine("courier").connect() as second,
    ):
        await begin_migration(second, "state", 30)
        await second.commit()
        await begin_migration(first, "courier", 30)
        waiting = asyncio.create_task(begin_migration(second, "courier", 30))
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(postgresql_server.administer, WAITING):
                await asyncio.sleep(0.01)
        await first.commit()
        await waiting


async def _becomes(count: Callable[[], object], expected: str | None) -> bool:
    """Return whether the connections become these: the server needs a moment."""
    async with asyncio.timeout(30):
        while await asyncio.to_thread(count) != expected:
            await asyncio.sleep(0.01)
    return True
