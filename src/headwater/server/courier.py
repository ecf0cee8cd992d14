"""The courier process: runs functions of User pipelines, and delivers events to destinations.

Start it with `python -m headwater.server.courier`. It can be killed at any time: results and progress are committed
together, the worker applies each result once, and a delivery whose outcome is not committed is sent again with the same
idempotency key.
"""

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import uvloop

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS
from headwater.catalog import open_catalog
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.environment import ConnectorEnvironment
from headwater.courier import DEFAULT_SLOTS, Courier
from headwater.delivery.dispatcher import Dispatcher
from headwater.server import child
from headwater.server.secrets import check_shared_database, keyring
from headwater.server.settings import Settings
from headwater.state import open_state
from headwater.state.deliveries import open_delivery_store
from headwater.state.lanestore import open_lane_store
from headwater.storage.database import sqlite_url
from headwater.transforms.functions import Runner

DELIVERY_SANDBOXES = 2
"""Sandboxes of each language for the functions of destinations."""

NICENESS = 10
"""Above the niceness of the worker, because storing events has priority. The sandboxes inherit it."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set."""
    clock, identifiers = SystemClock(), Identifiers()
    async with AsyncExitStack() as stack:
        metrics = NO_METRICS
        if settings.metrics_port is not None:
            from headwater.server.metrics import (
                CourierMetrics,
                serve_metrics,
            )  # importing its library takes time and memory

            metrics = await stack.enter_async_context(
                serve_metrics(CourierMetrics(), settings.metrics_socket("courier"))
            )
        open_the_catalog = partial(
            open_catalog,
            settings.database_url or sqlite_url(settings.catalog_path),
            clock=clock,
            identifiers=identifiers,
        )
        await check_shared_database(settings, open_the_catalog)
        catalog = await stack.enter_async_context(open_the_catalog(keyring=keyring(settings)))
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
        deliveries = await stack.enter_async_context(
            open_delivery_store(
                settings.database_url or sqlite_url(settings.delivery_path), max_bytes=settings.delivery_max_bytes
            )
        )
        # Of its own, so that functions of destinations and those of users do not wait for each other.
        delivery_functions = await stack.enter_async_context(
            Runner(
                javascript=DELIVERY_SANDBOXES,
                python=DELIVERY_SANDBOXES,
                per_owner=1,
                require_confinement=settings.sandbox == "require",
            )
        )
        environment = ConnectorEnvironment(
            addresses=AddressPolicy.parse(settings.allow_private_destinations), clock=clock
        )
        dispatcher = Dispatcher(
            catalog,
            deliveries,
            delivery_functions,
            environment,
            clock,
            expiry=timedelta(hours=settings.delivery_hours),
        )
        await stack.enter_async_context(child.heartbeat())
        courier = Courier(catalog, state, store, functions, clock, metrics, slots=slots, companions=[dispatcher.run])
        await courier.run(stop)


if __name__ == "__main__":
    os.nice(NICENESS)
    child.run("courier", run, loop_factory=uvloop.new_event_loop)
