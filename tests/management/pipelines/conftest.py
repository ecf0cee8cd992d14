"""A catalog in which every documented connector is available, so that there are connections of every type."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, open_catalog
from headwater.connectors.connector import Connector
from headwater.connectors.registry import CONNECTORS
from headwater.management.connections import CreateConnection, create_connection
from tests.management.conftest import KEYRING
from tests.management.pipelines.examples import Example

AVAILABLE: dict[str, Connector] = {
    code: msgspec.structs.replace(connector, available=True) for code, connector in CONNECTORS.items()
}
Connect = Callable[[Example], Awaitable[Connection]]


def opened(url: str) -> Any:
    return open_catalog(url, clock=SystemClock(), identifiers=Identifiers(), connectors=AVAILABLE, keyring=KEYRING)


@pytest.fixture
async def catalog(url: str) -> AsyncIterator[Catalog]:
    async with opened(url) as catalog:
        yield catalog


@pytest.fixture
async def other(catalog: Catalog, url: str) -> AsyncIterator[Catalog]:
    """The same catalog as another process has it."""
    async with opened(url) as other:
        yield other


@pytest.fixture
def connect(catalog: Catalog, workspace: int) -> Connect:
    """Makes a connection for an example."""

    async def make(example: Example) -> Connection:
        request = CreateConnection(
            name=example.connector,
            role=example.role,
            connector=example.connector,
            strategy="Fusion" if AVAILABLE[example.connector].strategies else None,
            settings=example.settings,
        )
        return await create_connection(catalog, workspace, request)

    return make
