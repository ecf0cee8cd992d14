"""Queries the stores of a running system, which is fast with any number of events."""

import asyncio
import uuid

from headwater.base.clock import SystemClock
from headwater.storage.database import sqlite_url
from headwater.warehouse import EventQuery, open_warehouse
from tests.e2e.source import Source, get
from tests.system import wait_until

TIMEOUT_SECONDS = 60


def stored(source: Source) -> int:
    """Return the number of stored events of the source."""
    return asyncio.run(_count(source, None))


def wait_until_processed(source: Source) -> None:
    """Send one more event and wait until it is stored: then everything sent before it has been processed."""
    marker = f"marker {uuid.uuid4()}"
    response = source.send("track", {"userId": "u", "event": marker, "messageId": marker}, **{"X-Strict-Mode": "1"})
    assert response.status_code == 200, response.text
    wait_until(lambda: asyncio.run(_count(source, marker)) > 0, TIMEOUT_SECONDS)


async def _count(source: Source, event: str | None) -> int:
    workspace = get(source.system, "/v1/workspaces/current")["id"]
    url = sqlite_url(source.system.data_dir / "warehouse.db")
    query = EventQuery(workspace=workspace, connections=(source.id,), event=event)
    async with open_warehouse(url, writes=False, clock=SystemClock()) as warehouse:
        return sum(each.count for each in await warehouse.counts(query, by=(), interval=None, limit=1))
