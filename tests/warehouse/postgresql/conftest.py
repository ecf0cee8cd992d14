"""A warehouse in a real PostgreSQL."""

from collections.abc import AsyncIterator, Iterator

import pytest

from headwater.base.clock import SystemClock
from headwater.warehouse.drivers.postgresql import PostgresqlWarehouse, open_postgresql_warehouse
from tests.postgresql import PostgresqlServer


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """A database without tables."""
    url = postgresql_server.create(empty=True)
    yield url
    postgresql_server.drop(url)


@pytest.fixture
async def warehouse(url: str) -> AsyncIterator[PostgresqlWarehouse]:
    async with open_postgresql_warehouse(url, writes=True, clock=SystemClock()) as warehouse:
        yield warehouse
