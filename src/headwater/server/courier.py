"""The courier process: runs functions of User pipelines, delivers events to destinations, and executes operations.

Start it with `python -m headwater.server.courier`. It can be killed at any time: results and progress are committed
together, the worker applies each result once, and a delivery whose outcome is not committed is sent again with the same
idempotency key.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

import uvloop

from headwater.base.clock import Clock, SystemClock
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.outcomes import Outcomes
from headwater.catalog import Catalog, open_catalog
from headwater.courier import DEFAULT_SLOTS, Courier
from headwater.delivery.dispatcher import Dispatcher, RecordCounts
from headwater.delivery.operations import OperationRunner
from headwater.observe.outcomes import open_outcomes
from headwater.server import child
from headwater.server.connectors import connector_environment
from headwater.server.locations import Locations, open_locations
from headwater.server.secrets import check_shared_database, keyring
from headwater.server.settings import Settings
from headwater.server.tracing import traced
from headwater.state import open_state
from headwater.state.deliveries import DeliveryStore, open_delivery_store
from headwater.state.lanestore import open_lane_store
from headwater.state.operations import open_operations
from headwater.state.rateshares import RateShares
from headwater.transforms.functions import Runner
from headwater.warehouse import open_warehouse

DELIVERY_SANDBOXES = 2
"""Sandboxes of each language for the functions of destinations."""

REPLAY_CONNECTIONS = 2
"""Maximum number of connections to PostgreSQL that read stored events, for replays."""
NICENESS = 10
"""Above the niceness of the worker, because storing events has priority. The sandboxes inherit it."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set."""
    clock, identifiers = SystemClock(), Identifiers()
    async with AsyncExitStack() as stack:
        metrics: Metrics = NO_METRICS
        if settings.metrics_port is not None:
            from headwater.server.metrics import (
                CourierMetrics,
                serve_metrics,
            )  # importing its library takes time and memory

            metrics = await stack.enter_async_context(
                serve_metrics(CourierMetrics(), settings.metrics_socket("courier"))
            )
        metrics = await stack.enter_async_context(traced(metrics, settings, "courier"))
        opening = partial(open_catalog, clock=clock, identifiers=identifiers)
        await check_shared_database(settings, opening)
        locations = await stack.enter_async_context(
            open_locations(settings, "courier", warehouse_connections=REPLAY_CONNECTIONS)
        )
        catalog = await stack.enter_async_context(opening(locations.catalog, keyring=keyring(settings)))
        state = await stack.enter_async_context(open_state(locations.state, writes=False, clock=clock))
        store = await stack.enter_async_context(open_lane_store(locations.courier))
        deliveries = await stack.enter_async_context(
            open_delivery_store(locations.delivery, max_bytes=settings.delivery_max_bytes)
        )
        slots = DEFAULT_SLOTS
        functions = await stack.enter_async_context(
            Runner(
                javascript=slots["JavaScript"],
                python=slots["Python"],
                require_confinement=settings.sandbox == "require",
            )
        )
        outcomes = await stack.enter_async_context(open_outcomes(settings.outcomes_dir, settings.nats_url))
        dispatcher = await stack.enter_async_context(
            _open_dispatcher(settings, catalog, deliveries, clock, metrics, outcomes, store.record, state.rate_shares)
        )
        operations = await stack.enter_async_context(
            _open_operations(locations, catalog, deliveries, clock, identifiers)
        )
        courier = Courier(catalog, state, store, functions, clock, metrics, slots=slots, companions=[dispatcher.run])
        await stack.enter_async_context(child.heartbeat())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(operations.run(stop))
            tasks.create_task(courier.run(stop))


@asynccontextmanager
async def _open_dispatcher(
    settings: Settings,
    catalog: Catalog,
    deliveries: DeliveryStore,
    clock: Clock,
    metrics: Metrics,
    outcomes: Outcomes,
    record_counts: RecordCounts,
    rate_shares: RateShares,
) -> AsyncIterator[Dispatcher]:
    """Open the sandboxes of destinations, and yield what delivers to them.

    The sandboxes are other ones than those of users, so that neither wait for the other.
    """
    async with Runner(
        javascript=DELIVERY_SANDBOXES,
        python=DELIVERY_SANDBOXES,
        per_owner=1,
        require_confinement=settings.sandbox == "require",
    ) as functions:
        yield Dispatcher(
            catalog,
            deliveries,
            functions,
            connector_environment(settings, clock),
            clock,
            expiry=timedelta(hours=settings.delivery_hours),
            metrics=metrics,
            outcomes=outcomes,
            record_counts=record_counts,
            rate_shares=rate_shares,
        )


@asynccontextmanager
async def _open_operations(
    locations: Locations, catalog: Catalog, deliveries: DeliveryStore, clock: Clock, identifiers: Identifiers
) -> AsyncIterator[OperationRunner]:
    """Open the stores that operations need, and yield their runner."""
    async with (
        open_warehouse(locations.warehouse, writes=False, clock=clock) as warehouse,
        open_operations(locations.operations, clock=clock, identifiers=identifiers) as operations,
    ):
        yield OperationRunner(catalog, operations, deliveries, warehouse, clock)


def main() -> None:
    """Run the process."""
    os.nice(NICENESS)
    child.run("courier", run, loop_factory=uvloop.new_event_loop)


if __name__ == "__main__":
    main()
