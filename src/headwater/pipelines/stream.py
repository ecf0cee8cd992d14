"""The consumer of the log: claims each message once, and carries it through the pipelines of its source.

One batch of frames is one transaction of the warehouse: the claims, the events, the identities, the refused ones, and
the position up to which the log is finished. A crash between any two lines leaves the batch undone, to be done again;
nothing is lost and nothing happens twice.

An event goes through the pipelines that its source has when it is carried, a moment after it was accepted; a duplicate
goes through none.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from headwater.base.clock import microseconds
from headwater.catalog import Catalog, Connection
from headwater.eventlog import EventLog, Lease, LeaseTaken
from headwater.events.track import email_of
from headwater.pipelines.batch import Arrival, Batch, read_batch
from headwater.warehouse import Sighting, StoredEvent, Warehouse

CONSUMER: Final = "warehouse"
MAX_BATCH_BYTES: Final = 2 * 1024 * 1024
"""How much of the log one transaction carries: enough to be quick, little enough to be seen soon."""
WAIT: Final = timedelta(milliseconds=500)
"""How long one look for new frames may take, and so how long a stop waits for an idle consumer."""
GATHER_SECONDS: Final = 0.05
"""How long frames gather after a batch that took all there was: even a small transaction costs milliseconds."""
LEASE_SECONDS: Final = 0.2
"""How often a taken lease is asked for again."""
HOUSEKEEPING_SECONDS: Final = 5.0
"""How often the log's cursor is moved, and what is old enough is removed."""

_log = structlog.get_logger(__name__)


class StreamConsumer:
    """Carries events from the log into the warehouse."""

    def __init__(self, log: EventLog, catalog: Catalog, warehouse: Warehouse, *, keep: timedelta) -> None:
        """`keep` is how long frames stay in the log after everyone has finished them."""
        self._events = log
        self._catalog = catalog
        self._warehouse = warehouse
        self._keep = keep

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, and finish the batch at hand."""
        lease = await self._lease(stop)
        if lease is None:
            return
        try:
            position = await self._warehouse.finished(CONSUMER)
            next_housekeeping = 0.0
            while not stop.is_set():
                frames = await self._events.read(position, max_bytes=MAX_BATCH_BYTES, wait=WAIT)
                if frames:
                    position = await self.carry(read_batch(frames))
                if time.monotonic() >= next_housekeeping:
                    await self._housekeeping(lease, position)
                    next_housekeeping = time.monotonic() + HOUSEKEEPING_SECONDS
                if sum(len(stored.frame.body) for stored in frames) < MAX_BATCH_BYTES:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), GATHER_SECONDS)
            await lease.advance(position)
        finally:
            await lease.release()

    async def carry(self, batch: Batch) -> int:
        """Do all that the batch leads to, once, and return the position up to which the log is finished."""
        await self._catalog.refresh()
        async with self._warehouse.transaction() as transaction:
            fresh = await transaction.claim([arrival.message for arrival in batch.arrivals])
            events: list[StoredEvent] = []
            sightings: list[Sighting] = []
            for arrival in batch.arrivals:
                if arrival.position not in fresh:
                    continue
                source = self._catalog.connection(arrival.workspace, arrival.event.connection_id)
                if source is not None:
                    events.extend(_stored(arrival, source))
                    sightings.extend(_sighted(arrival, source))
            await transaction.add_events(events)
            await transaction.merge_identities(sightings)
            await transaction.add_rejected(batch.rejected)
            await transaction.finish(CONSUMER, batch.last)
        duplicates = len(batch.arrivals) - len(fresh)
        if duplicates or batch.rejected:
            _log.info("batch carried", last=batch.last, duplicates=duplicates, rejected=len(batch.rejected))
        return batch.last

    async def _lease(self, stop: asyncio.Event) -> Lease | None:
        """The right to consume; None when `stop` came first. Whoever has it loses it at the latest when it ends."""
        while not stop.is_set():
            try:
                return await self._events.lease(CONSUMER)
            except LeaseTaken:
                await asyncio.sleep(LEASE_SECONDS)
        return None

    async def _housekeeping(self, lease: Lease, position: int) -> None:
        await lease.advance(position)
        await self._events.trim(older_than=self._keep)
        await self._catalog.refresh()
        present = [
            pipeline.id
            for workspace in self._catalog.workspaces()
            for connection in self._catalog.connections(workspace.id)
            for pipeline in connection.pipelines
        ]
        async with self._warehouse.transaction() as transaction:
            await transaction.remove_identities_except(present)


def _stored(arrival: Arrival, source: Connection) -> Iterator[StoredEvent]:
    for pipeline in source.pipelines:
        if pipeline.enabled and pipeline.target == "Event":
            yield StoredEvent(
                position=arrival.position,
                workspace=arrival.workspace,
                connection=source.id,
                pipeline=pipeline.id,
                timestamp=arrival.event.timestamp,
                received_at=arrival.event.received_at,
                document=arrival.document,
            )
            return  # a source has at most one Event pipeline, and an event is stored once


def _sighted(arrival: Arrival, source: Connection) -> Iterator[Sighting]:
    pipelines = tuple(pipeline.id for pipeline in source.pipelines if pipeline.enabled and pipeline.target == "User")
    event = arrival.event
    user_id = event.user_id
    if user_id is None and event.anonymous_id is None and event.type == "identify":
        user_id = email_of(event.traits)
    if pipelines and (user_id is not None or event.anonymous_id is not None):
        yield Sighting(
            workspace=arrival.workspace,
            connection=source.id,
            pipelines=pipelines,
            user_id=user_id,
            anonymous_id=event.anonymous_id,
            at=microseconds(event.timestamp),
        )
