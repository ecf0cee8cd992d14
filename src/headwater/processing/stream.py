"""The consumer of the log: takes it batch by batch, and survives what goes away under it."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final

import structlog

from headwater.base.clock import Clock
from headwater.base.errors import Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog
from headwater.events.context import Locate
from headwater.log import EventLog, Lease, LeaseLost, LeaseTaken
from headwater.processing.evaluate import DEFAULT_LANE_BYTES
from headwater.processing.lanes import ResultApplier
from headwater.processing.processor import BatchProcessor
from headwater.processing.reading import Reading
from headwater.state import StateStore
from headwater.state.lanestore import LaneStore
from headwater.warehouse import Warehouse

CONSUMER: Final = "warehouse"
MAX_BATCH_BYTES: Final = 3 * 1024 * 1024
"""How much of the log one transaction carries: enough to be quick, little enough to be seen soon."""
WAIT: Final = timedelta(milliseconds=500)
"""How long one look for new frames may take, and so how long a stop waits for an idle consumer."""
GATHER_SECONDS: Final = 0.1
"""How long frames gather after a batch that took all there was: even a small transaction costs milliseconds."""
LEASE_SECONDS: Final = 0.2
"""How often a taken lease is asked for again."""
INITIAL_PAUSE_SECONDS: Final = 0.1
MAX_PAUSE_SECONDS: Final = 2.0
"""How long a database that is away is left alone before it is tried again; each pause is twice the one before."""
ADVANCE_SECONDS: Final = 1.0
"""How often the log is told how far the consumer has come: by that, too, it tells how far it is behind."""
HOUSEKEEPING_SECONDS: Final = 5.0
"""How often what is old enough is removed."""

_log = structlog.get_logger(__name__)


class StreamConsumer:
    """Carries events from the log into the warehouse."""

    def __init__(
        self,
        log: EventLog,
        catalog: Catalog,
        state: StateStore,
        warehouse: Warehouse,
        clock: Clock,
        *,
        keep: timedelta,
        metrics: Metrics = NO_METRICS,
        locate: Locate | None = None,
        lane_bytes: int = DEFAULT_LANE_BYTES,
        store: LaneStore | None = None,
    ) -> None:
        """`keep` is how long frames stay in the log after everyone has finished them; `locate` finds the places of
        events that say none; `lane_bytes` is how much may wait in the lanes of one workspace. Results
        of lanes in `store` are applied, too."""
        self._events = log
        self._catalog = catalog
        self._state = state
        self._warehouse = warehouse
        self._keep = keep
        self._locate = locate
        self._swept: tuple[frozenset[int], ...] | None = None
        self._metrics = metrics
        self._applier = None if store is None else ResultApplier(catalog, state, store, metrics)
        self._processor = BatchProcessor(CONSUMER, catalog, state, warehouse, clock, metrics, lane_bytes=lane_bytes)

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, and finish the batch at hand."""
        reached, pause = 0, INITIAL_PAUSE_SECONDS
        lease: Lease | None = None
        try:
            while not stop.is_set():
                try:
                    if lease is None:
                        lease = await self._events.lease(CONSUMER)
                    # Asked again after each outage: one that came during a commit does not tell whether it happened.
                    position = await self._state.position(CONSUMER)
                    if position > reached:
                        reached, pause = position, INITIAL_PAUSE_SECONDS
                    # Only the holder of the lease applies results: both write what is known of a message.
                    async with _beside(self._applier.run(stop)) if self._applier else nullcontext():
                        await self._follow(lease, position, stop)
                except LeaseTaken:
                    await _until(stop, LEASE_SECONDS)
                except LeaseLost:
                    _log.warning("another worker may have taken over: this one asks again")
                    if lease is not None:
                        await lease.release()
                    lease = None
                except Unavailable as error:
                    _log.warning("the worker waits, and will go on", reason=error.message, seconds=pause)
                    await _until(stop, pause)
                    pause = min(2 * pause, MAX_PAUSE_SECONDS)
                except Exception as error:
                    self._metrics.batch_failed(type(error).__name__)
                    _log.exception("a batch cannot be processed, and is tried again", seconds=pause)
                    await _until(stop, pause)
                    pause = min(2 * pause, MAX_PAUSE_SECONDS)
        finally:
            if lease is not None:
                await lease.release()

    async def _follow(self, lease: Lease, position: int, stop: asyncio.Event) -> None:
        """Consume what comes after `position`. Raises Unavailable when a database is away, and LeaseLost."""
        next_advance = next_housekeeping = 0.0
        reading = self._reading(position, WAIT)
        try:
            while not stop.is_set():
                if not lease.held:
                    raise LeaseLost(CONSUMER)
                batch = await reading.finish()
                # What is there already is read while this batch is written; what comes bit by bit gathers meanwhile.
                is_all = not reading.entries or batch.last == reading.entries[-1].last
                has_more = not is_all or sum(stored.entry.size for stored in reading.entries) >= MAX_BATCH_BYTES
                if batch.last:
                    reading = self._reading(batch.last, timedelta())
                    async with _beside(reading.go_on(self._processor.io_bound)) if has_more else nullcontext():
                        position = await self._processor.process(batch, after=position)
                if time.monotonic() >= next_advance:
                    await lease.advance(position)
                    next_advance = time.monotonic() + ADVANCE_SECONDS
                if time.monotonic() >= next_housekeeping:
                    await self._housekeeping()
                    next_housekeeping = time.monotonic() + HOUSEKEEPING_SECONDS
                if not has_more:
                    await _until(stop, GATHER_SECONDS)
                    reading = self._reading(position, WAIT)
        finally:
            await reading.close()
        await lease.advance(position)

    def _reading(self, after: int, wait: timedelta) -> Reading:
        """The frames after a position, up to a batch of them."""
        return Reading(partial(self._events.read, after, max_bytes=MAX_BATCH_BYTES, wait=wait), self._locate)

    async def _housekeeping(self) -> None:
        await self._events.trim(older_than=self._keep)
        await self._catalog.refresh()
        workspaces = frozenset(workspace.id for workspace in self._catalog.workspaces())
        connections = [connection for workspace in workspaces for connection in self._catalog.connections(workspace)]
        sources = frozenset(connection.id for connection in connections)
        pipelines = frozenset(pipeline.id for connection in connections for pipeline in connection.pipelines)
        present = workspaces, sources, pipelines
        async with self._state.transaction() as transaction:
            await transaction.trim_messages()
            await transaction.shorten_rejected()
            await transaction.remove_lanes_except(pipelines)
        await self._warehouse.maintain()
        if present != self._swept:
            async with self._state.transaction() as transaction:
                removed = await transaction.remove_identities_except(pipelines)
                removed += await transaction.remove_sources_except(sources, workspaces=workspaces)
            if not removed:  # each call removes some
                self._swept = present


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do this work, too, and end it with the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _until(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but no longer than until `stop` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
