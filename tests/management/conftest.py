"""A workspace of a catalog with some test connectors in addition to the documented ones, so that every rule can be
tested."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headwater.base.clock import SystemClock
from headwater.base.encryption import Keyring
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, open_catalog
from headwater.connectors.connector import Capabilities, Connector
from headwater.connectors.registry import CONNECTORS
from headwater.management.bootstrap import bootstrap
from headwater.management.connections import CreateConnection, create_connection
from tests.sqlite import migrated_url

USERS = Capabilities(targets=("User",))
EVENTS = Capabilities(targets=("User", "Event"))
SECRET = "a secret key for tests, of 32 characters"
KEYRING = Keyring(SECRET)
PLANNED = (
    Connector(
        code="crm",
        label="CRM",
        type="Application",
        available=True,
        source=USERS,
        destination=Capabilities(targets=("User", "Event"), sending_modes=("Server",)),
    ),
    Connector(
        code="ads",
        label="Ads",
        type="Application",
        available=True,
        destination=Capabilities(targets=("Event",), sending_modes=("Client", "Server")),
    ),
    Connector(code="db", label="DB", type="Database", available=True, source=USERS, destination=USERS),
    Connector(code="webhook", label="Webhook", type="Webhook", available=True, source=EVENTS),
)


@pytest.fixture
def url(database_url: str | None, tmp_path: Path) -> str:
    return database_url or migrated_url(tmp_path / "catalog.db")


def opened(url: str) -> Any:
    connectors = {**CONNECTORS, **{connector.code: connector for connector in PLANNED}}
    return open_catalog(url, clock=SystemClock(), identifiers=Identifiers(), connectors=connectors, keyring=KEYRING)


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
async def workspace(catalog: Catalog) -> int:
    return (await bootstrap(catalog)).workspace.id


@pytest.fixture
async def stranger(catalog: Catalog, workspace: int) -> int:
    """Another workspace."""
    from headwater.catalog import Workspace

    async with catalog.change() as change:
        made = Workspace(id=change.new_id(), name="Stranger", created_at=change.now)
        change.add_workspace(made)
    return made.id


@pytest.fixture
async def website(catalog: Catalog, workspace: int) -> Connection:
    request = CreateConnection(name="Website", role="Source", connector="javascript", strategy="Fusion")
    return await create_connection(catalog, workspace, request)


@pytest.fixture
async def crm(catalog: Catalog, workspace: int) -> Connection:
    return await create_connection(
        catalog, workspace, CreateConnection(name="CRM", role="Destination", connector="crm")
    )
