"""Connects the consumer of the log to the processing of its batches."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Final

from headwater.base.clock import Clock
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog
from headwater.events.context import Locate
from headwater.log import Consumer, EventLog, Limits
from headwater.log.consumer import DEFAULT_LIMITS, Companion
from headwater.processing.batch import Batch, BatchReader
from headwater.processing.evaluate import DEFAULT_LANE_BYTES
from headwater.processing.janitor import Janitor
from headwater.processing.lanes import ResultApplier
from headwater.processing.processor import BatchProcessor
from headwater.state import StateStore
from headwater.state.lanestore import LaneStore
from headwater.warehouse import Warehouse

CONSUMER: Final = "warehouse"
"""The consumer that stores events: the name of its lease and cursor in the log, and of its position in the state store.

Existing installations have all three under this name. With another name, an earlier version that still runs would
process the same events, and its cursor would hold back trimming for ever.
"""


class BatchHandler:
    """Processes the batches of the log. Its position is stored in the transaction of each batch."""

    def __init__(self, processor: BatchProcessor, state: StateStore) -> None:
        self._processor = processor
        self._state = state

    @property
    def io_bound(self) -> asyncio.Event:
        """See `Handler.io_bound`."""
        return self._processor.io_bound

    async def position(self) -> int:
        """Return the position up to which events are stored."""
        return await self._state.position(CONSUMER)

    async def handle(self, batch: Batch, *, after: int) -> int:
        """Process the batch; see `BatchProcessor.process`."""
        return await self._processor.process(batch, after=after)


def make_consumer(
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
    limits: Limits = DEFAULT_LIMITS,
) -> Consumer[Batch]:
    """Return the consumer that stores events, applies the results of lanes in `store`, and deletes outdated data.

    `keep` is the time that entries stay in the log after every consumer has processed them. `locate` looks up the
    location of events that do not include one. `lane_bytes` is the maximum compressed size of the lanes of one
    workspace.
    """
    processor = BatchProcessor(CONSUMER, catalog, state, warehouse, clock, metrics, lane_bytes=lane_bytes)
    # Both write what batches write, so only the holder of the lease runs them.
    companions: list[Companion] = [Janitor(log, catalog, state, warehouse, keep=keep, metrics=metrics).run]
    if store is not None:
        companions.append(ResultApplier(catalog, state, store, metrics).run)
    return Consumer(
        log,
        CONSUMER,
        BatchHandler(processor, state),
        decode=partial(BatchReader, locate),
        companions=companions,
        limits=limits,
        metrics=metrics,
    )
