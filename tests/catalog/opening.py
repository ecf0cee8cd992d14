"""A process that opens a catalog: `main(DATABASE_URL)`."""

import asyncio

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog


async def open_once(url: str) -> None:
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers()) as catalog:
        assert catalog.workspaces() == []


def main(url: str) -> None:
    asyncio.run(open_once(url))
