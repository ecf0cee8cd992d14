"""A dispatcher on the real queue, with destinations that are local HTTP servers."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater.base.clock import SystemClock, microseconds
from headwater.base.encryption import Keyring
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, open_catalog
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.environment import ConnectorEnvironment
from headwater.delivery.dispatcher import Dispatcher
from headwater.events.event import Event, encode_event
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.pipelines import CreatePipeline, create_pipeline
from headwater.state.deliveries import DeliveryStore, NewChunk, NewDeliveries, QueuedEvent, open_delivery_store
from headwater.transforms.functions import Runner
from tests.harness import add_source, add_workspace
from tests.sqlite import migrated_url

ENVIRONMENT = ConnectorEnvironment(addresses=AddressPolicy.parse("1"))
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()


@dataclass
class Deliveries:
    """The parts of an installation that deliver."""

    catalog: Catalog
    store: DeliveryStore
    functions: Runner
    workspace: int
    source: Connection
    expiry: timedelta = timedelta(hours=24)
    positions: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def add_destination(
        self, url: str, *, batch_size: int = 1, source: Connection | None = None, **pipeline: Any
    ) -> Connection:
        """Add a webhook with one Event pipeline."""
        source = source or self.source
        request = CreateConnection(
            name="Hook",
            role="Destination",
            connector="http-webhook",
            sending_mode="Server",
            linked_connections=(source.id,),
            settings={"url": url, "secret": SECRET, "batchSize": batch_size},
        )
        made = await create_connection(self.catalog, source.workspace, request)
        await add_pipeline(self.catalog, made, **pipeline)
        found = self.catalog.connection(source.workspace, made.id)
        assert found is not None
        return found

    async def append(self, *destinations: Connection, users: Iterable[str], source: Connection | None = None) -> None:
        """Append an event of each of the users for each of the destinations."""
        source = source or self.source
        events = []
        for user in users:
            self.positions += 1
            events.append(queued_event(self.positions, source.id, user))
        chunks = [
            NewChunk(each.id, source.workspace, {pipeline.id: None for pipeline in each.pipelines})
            for each in destinations
        ]
        now = microseconds(datetime.now(UTC))
        await self.store.append([NewDeliveries(source.workspace, events, chunks)], through=self.positions, now=now)

    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.catalog, self.store, self.functions, ENVIRONMENT, SystemClock(), expiry=self.expiry)

    @asynccontextmanager
    async def dispatching(self) -> AsyncIterator[Dispatcher]:
        """Run a dispatcher during the block."""
        dispatcher = self.dispatcher()
        stop = asyncio.Event()
        running = asyncio.create_task(dispatcher.run(stop))
        try:
            yield dispatcher
        finally:
            stop.set()
            await running

    async def wait_until_empty(self, destination: int, seconds: float = 20) -> None:
        """Wait until a destination has no unfinished deliveries."""
        async with asyncio.timeout(seconds):
            while any(each.destination == destination and each.open_items for each in await self.store.summaries()):
                await asyncio.sleep(0.02)


async def add_pipeline(catalog: Catalog, destination: Connection, **given: Any) -> None:
    """Add a pipeline that sends events as they are."""
    members: dict[str, Any] = {"name": "Events", "enabled": True, "event_type": "send_event"} | given
    await create_pipeline(
        catalog, destination.workspace, CreatePipeline(connection=destination.id, target="Event", **members)
    )


def queued_event(position: int, source: int, user: str) -> QueuedEvent:
    """Return a track event of a user, as the worker appends it."""
    now = datetime.now(UTC)
    event = Event(
        connection_id=source,
        message_id=f"m{position}",
        type="track",
        event="Ordered",
        user_id=user,
        properties=msgspec.Raw(b'{"n":%d}' % position),
        traits=msgspec.Raw(b"{}"),
        timestamp=now,
        original_timestamp=now,
        sent_at=now,
        received_at=now,
    )
    return QueuedEvent(position, source, event.message_id, microseconds(now), user, None, encode_event(event))


def open_keyed_catalog(folder: Path) -> AbstractAsyncContextManager[Catalog]:
    """Open the catalog in a folder, as each process of an installation does."""
    url, keyring = migrated_url(folder / "catalog.db"), Keyring("s" * 32)
    return open_catalog(url, clock=SystemClock(), identifiers=Identifiers(), keyring=keyring)


@asynccontextmanager
async def open_deliveries(folder: Path, **values: Any) -> AsyncIterator[Deliveries]:
    """Open the stores in a folder. Opening them again is a restart."""
    async with (
        open_keyed_catalog(folder) as catalog,
        open_delivery_store(migrated_url(folder / "delivery.db")) as store,
        Runner(javascript=1, python=1) as functions,
    ):
        workspaces = catalog.workspaces() or [await add_workspace(catalog)]
        sources = [each for each in catalog.connections(workspaces[0].id) if each.role == "Source"]
        source = sources[0] if sources else await add_source(catalog, workspaces[0].id)
        yield Deliveries(catalog, store, functions, workspaces[0].id, source, **values)


@pytest.fixture
async def deliveries(tmp_path: Path) -> AsyncIterator[Deliveries]:
    async with open_deliveries(tmp_path) as opened:
        yield opened


def delivered(bodies: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of the events in webhook bodies, in their order."""
    events = [event for body in bodies for event in body.get("events", [body])]
    return [event["data"]["properties"]["n"] for event in events]
