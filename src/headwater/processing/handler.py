"""Connects the consumer of the log to the processing of its batches."""

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
from headwater.processing.erasing import Eraser
from headwater.processing.evaluate import DEFAULT_LANE_BYTES
from headwater.processing.janitor import Janitor
from headwater.processing.lanes import ResultApplier
from headwater.processing.processor import BatchProcessor
from headwater.processing.retention import Retention
from headwater.profiles.operations import ProfileCompanion
from headwater.profiles.updating import ProfileResolver
from headwater.state import StateStore
from headwater.state.deliveries import DeliveryStore
from headwater.state.lanestore import LaneStore
from headwater.state.operations import OperationStore
from headwater.state.runs import RunStore
from headwater.warehouse import Warehouse

CONSUMER: Final = "warehouse"
"""The consumer that stores events: the name of its lease and cursor in the log, and of its position in the state store.

Existing installations have all three under this name. With another name, an earlier version that still runs would
process the same events, and its cursor would hold back trimming for ever.
"""


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
    deliveries: DeliveryStore | None = None,
    operations: OperationStore | None = None,
    runs: RunStore | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Consumer[Batch]:
    """Return the consumer that stores events, updates profiles, applies the results of lanes in `store`, and deletes
    outdated data.

    `keep` is the time that entries stay in the log after every consumer has processed them. `locate` looks up the
    location of events that do not include one. `lane_bytes` is the maximum compressed size of the lanes of one
    workspace. Events for destinations are appended to `deliveries`; without it none is sent. While there are some, less
    time passes between batches. It executes the erasures and the operations on profiles that are in `operations`;
    without it no profile follows a change of settings. Erasures remove persons from `runs`, too.
    """
    resolver = ProfileResolver(catalog, clock, metrics)
    processor = BatchProcessor(
        CONSUMER,
        catalog,
        state,
        warehouse,
        clock,
        metrics,
        lane_bytes=lane_bytes,
        deliveries=deliveries,
        profiles=resolver,
    )
    # They write what batches write, so only the holder of the lease runs them.
    janitor = Janitor(
        log,
        catalog,
        state,
        warehouse,
        clock,
        keep=keep,
        metrics=metrics,
        deliveries=deliveries,
        retention=Retention(catalog, state, warehouse, clock, resolver),
    )
    companions: list[Companion] = [janitor.run]
    if store is not None:
        companions.append(ResultApplier(catalog, state, store, clock, metrics, profiles=resolver).run)
    if operations is not None:
        companions.append(ProfileCompanion(catalog, state, operations, resolver, clock).run)
        eraser = Eraser(
            log,
            catalog,
            state,
            warehouse,
            operations,
            clock,
            keep=keep,
            deliveries=deliveries,
            store=store,
            runs=runs,
            updater=resolver,
        )
        companions.append(eraser.run)
    return Consumer(
        log,
        CONSUMER,
        processor,
        decode=partial(BatchReader, locate),
        companions=companions,
        limits=limits,
        is_urgent=processor.is_urgent,
        metrics=metrics,
    )
