"""The parts of an installation that deliver, for tests with a vendor's server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from headwater.base.clock import Clock, microseconds
from headwater.catalog import Catalog, Connection
from headwater.delivery.dispatcher import Dispatcher
from headwater.events.event import Event, encode_event
from headwater.state.deliveries import (
    DeadLetter,
    DeadSelection,
    DeliveryStore,
    NewChunk,
    NewDeliveries,
    QueuedEvent,
)

MAX_SECONDS: Final = 4 * 3_600.0
"""Limit of one run, in virtual time."""


@dataclass
class Installation:
    """The parts of an installation that deliver, with one destination at the vendor's server."""

    catalog: Catalog
    store: DeliveryStore
    dispatcher: Dispatcher
    clock: Clock
    source: Connection
    destination: Connection
    events: dict[int, Event] = field(default_factory=dict)

    async def append(self, events: Sequence[Event]) -> None:
        """Append events to the queue of the destination."""
        queued = []
        for event in events:
            position = len(self.events) + 1
            self.events[position] = event
            at = microseconds(event.received_at)
            queued.append(
                QueuedEvent(position, self.source.id, event.message_id, at, event.user_id, None, encode_event(event))
            )
        chunk = NewChunk(
            self.destination.id, self.source.workspace, {each.id: None for each in self.destination.pipelines}
        )
        now = microseconds(self.clock.now())
        await self.store.append(
            [NewDeliveries(self.source.workspace, queued, [chunk])], through=len(self.events), now=now
        )

    async def open_items(self) -> int:
        return sum(each.open_items for each in await self.store.summaries())

    async def wait_until_empty(self, interval_seconds: float = 2.0) -> None:
        async with asyncio.timeout(MAX_SECONDS):
            while await self.open_items():
                await asyncio.sleep(interval_seconds)

    async def dead_letters(self) -> list[DeadLetter]:
        selection = DeadSelection(workspace=self.source.workspace)
        return (await self.store.dead_letters(selection, limit=10_000)).letters

    async def send_again(self) -> None:
        """Send all dead letters again."""
        selection = DeadSelection(workspace=self.source.workspace)
        while not (await self.store.resend("1", selection, now=microseconds(self.clock.now()))).is_complete:
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def dispatching(self) -> AsyncIterator[None]:
        """Run the dispatcher during the block."""
        stop = asyncio.Event()
        running = asyncio.create_task(self.dispatcher.run(stop))
        try:
            yield
        finally:
            stop.set()
            await running
