"""The worker process: follows the log and fills the warehouse. `python -m headwater.server.worker` starts it.

It may die at any moment: what it has stored and how far it has read are committed together.
"""

import asyncio
import os
from datetime import timedelta

import uvloop

from headwater.base.clock import SystemClock
from headwater.base.database import sqlite_url
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.eventlog import SqliteEventLog
from headwater.events.context import Locate
from headwater.pipelines import CONSUMER, StreamConsumer
from headwater.server import child
from headwater.server.settings import Settings
from headwater.transforms.functions import Runner
from headwater.warehouse import open_warehouse

KEEP = timedelta(hours=24)
"""How long the log keeps what everyone has finished."""


NICENESS = 5
"""Accepting comes first: where both want the processor, the backend gets about three times as much of it. What waits
in the log is safe, a call that waits is not."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set, then finish the group of events that was begun."""
    clock = SystemClock()
    async with (
        open_catalog(
            settings.database_url or sqlite_url(settings.catalog_path), clock=clock, identifiers=Identifiers()
        ) as catalog,
        open_warehouse(settings.database_url or sqlite_url(settings.warehouse_path), writes=True) as warehouse,
        Runner(javascript=1, python=2) as functions,
    ):
        log = SqliteEventLog(settings.log_path, clock)
        locate = _locator(settings)
        try:
            if settings.metrics_port is None:
                await StreamConsumer(log, catalog, warehouse, functions, keep=KEEP, locate=locate).run(stop)
                return

            async def backlog() -> int:
                return await log.last_position() - await warehouse.finished(CONSUMER)

            from headwater.server.metrics import CountedBatches, shown  # its library takes time and memory

            async with shown(CountedBatches(), settings.metrics_socket("worker"), backlog) as metrics:
                await StreamConsumer(log, catalog, warehouse, functions, keep=KEEP, locate=locate, metrics=metrics).run(stop)
        finally:
            await log.close()


def _locator(settings: Settings) -> Locate | None:
    if settings.maxmind_db is None:
        return None
    from headwater.server.geolocation import open_locator  # its library takes time and memory

    return open_locator(settings.maxmind_db)


if __name__ == "__main__":
    os.nice(NICENESS)
    child.run("worker", run, loop_factory=uvloop.new_event_loop)
