"""The worker process: stores the events of the log. Start it with `python -m headwater.server.worker`.

It can be killed at any time: stored data and the position in the log are committed together.
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import uvloop

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import open_catalog
from headwater.log import EventLog
from headwater.processing import make_consumer
from headwater.server import child
from headwater.server.eventlog import open_configured_locator, open_event_log
from headwater.server.locations import open_locations
from headwater.server.settings import Settings
from headwater.server.tracing import traced
from headwater.state import open_state
from headwater.state.deliveries import open_delivery_store
from headwater.state.lanestore import open_lane_store
from headwater.state.operations import open_operations
from headwater.state.runs import open_runs
from headwater.warehouse import open_warehouse

NICENESS = 5
"""Gives accepting events priority. If both need the processor, the backend gets about three times as much of it.

Entries in the log are safe, but calls wait for their response.
"""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set, then complete the present batch."""
    clock, identifiers = SystemClock(), Identifiers()
    async with (
        open_locations(settings, "worker") as locations,
        open_catalog(locations.catalog, clock=clock, identifiers=identifiers) as catalog,
        open_state(locations.state, writes=True, clock=clock) as state,
        open_warehouse(locations.warehouse, writes=True, clock=clock) as warehouse,
        open_lane_store(locations.courier) as store,
        open_delivery_store(locations.delivery, max_bytes=settings.delivery_max_bytes) as deliveries,
        open_operations(locations.operations, clock=clock, identifiers=identifiers) as operations,
        open_runs(locations.runs, clock=clock, identifiers=identifiers) as runs,
        open_event_log(settings, state, clock, identifiers) as log,
        child.heartbeat(),
        AsyncExitStack() as stack,
    ):
        metrics: Metrics = NO_METRICS
        if settings.metrics_port is not None:
            from headwater.server.metrics import (
                WorkerMetrics,
                serve_metrics,
            )  # importing its library takes time and memory

            metrics = await stack.enter_async_context(
                serve_metrics(WorkerMetrics(), settings.metrics_socket("worker"), partial(_measure_backlogs, log))
            )
        metrics = await stack.enter_async_context(traced(metrics, settings, "worker"))
        consumer = make_consumer(
            log,
            catalog,
            state,
            warehouse,
            clock,
            keep=timedelta(seconds=settings.log_keep),
            metrics=metrics,
            locate=open_configured_locator(settings),
            lane_bytes=settings.lane_max_bytes,
            store=store,
            deliveries=deliveries,
            operations=operations,
            runs=runs,
        )
        await consumer.run(stop)


async def _measure_backlogs(log: EventLog) -> dict[str, int]:
    return {consumer: backlog.bytes for consumer, backlog in (await log.backlogs()).items()}


SWITCH_SECONDS = 0.0005
"""Time after which a waiting thread gets the interpreter lock.

Threads of databases need it for microseconds at a time, while the event loop decodes events for a millisecond at a
time.
"""


def main() -> None:
    """Run the process."""
    os.nice(NICENESS)
    sys.setswitchinterval(SWITCH_SECONDS)
    child.run("worker", run, loop_factory=uvloop.new_event_loop)


if __name__ == "__main__":
    main()
