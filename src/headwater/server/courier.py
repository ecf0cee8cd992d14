"""The courier process: works through the lanes. `python -m headwater.server.courier` starts it.

It may die at any moment: results and progress are committed together, and the worker applies each result once.
"""

import asyncio
import os
from contextlib import AsyncExitStack

import uvloop

from headwater.base.clock import SystemClock
from headwater.storage.database import sqlite_url
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS
from headwater.catalog import open_catalog
from headwater.courier import DEFAULT_SLOTS, Courier
from headwater.state.lanestore import open_lane_store
from headwater.server import child
from headwater.server.settings import Settings
from headwater.transforms.functions import Runner
from headwater.state import open_warehouse

NICENESS = 10
"""Above the worker's: what waits in lanes is late, but storing events comes first. The sandboxes inherit it."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set."""
    clock, identifiers = SystemClock(), Identifiers()
    async with AsyncExitStack() as stack:
        metrics = NO_METRICS
        if settings.metrics_port is not None:
            from headwater.server.metrics import CountedLanes, shown  # its library takes time and memory

            metrics = await stack.enter_async_context(shown(CountedLanes(), settings.metrics_socket("courier")))
        catalog = await stack.enter_async_context(
            open_catalog(
                settings.database_url or sqlite_url(settings.catalog_path), clock=clock, identifiers=identifiers
            )
        )
        warehouse = await stack.enter_async_context(
            open_warehouse(settings.database_url or sqlite_url(settings.warehouse_path), writes=False, clock=clock)
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
        await Courier(catalog, warehouse, store, functions, clock, metrics, slots=slots).run(stop)


if __name__ == "__main__":
    os.nice(NICENESS)
    child.run("courier", run, loop_factory=uvloop.new_event_loop)
