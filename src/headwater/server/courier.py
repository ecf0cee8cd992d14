"""The courier process: processes the entries of lanes. Start it with `python -m headwater.server.courier`.

It can be killed at any time: results and progress are committed together, and the worker applies each result once.
"""

import asyncio
import os
from contextlib import AsyncExitStack

import uvloop

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import open_catalog
from headwater.courier import DEFAULT_SLOTS, Courier
from headwater.server import child
from headwater.server.settings import Settings
from headwater.server.tracing import traced
from headwater.state import open_state
from headwater.state.lanestore import open_lane_store
from headwater.storage.database import sqlite_url
from headwater.transforms.functions import Runner

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
        catalog = await stack.enter_async_context(
            open_catalog(
                settings.database_url or sqlite_url(settings.catalog_path), clock=clock, identifiers=identifiers
            )
        )
        state = await stack.enter_async_context(
            open_state(settings.database_url or sqlite_url(settings.state_path), writes=False, clock=clock)
        )
        store = await stack.enter_async_context(
            open_lane_store(settings.database_url or sqlite_url(settings.courier_path))
        )
        slots = DEFAULT_SLOTS
        functions = await stack.enter_async_context(
            Runner(
                javascript=slots["JavaScript"],
                python=slots["Python"],
                require_confinement=settings.sandbox == "require",
            )
        )
        await stack.enter_async_context(child.heartbeat())
        await Courier(catalog, state, store, functions, clock, metrics, slots=slots).run(stop)


if __name__ == "__main__":
    os.nice(NICENESS)
    child.run("courier", run, loop_factory=uvloop.new_event_loop)
