"""A process that consumes the event log until it is killed: `main(FOLDER, DATABASE_URL)`. It prints "ready"."""

import asyncio
from pathlib import Path

from tests.harness import open_harness


async def consume(folder: Path, database_url: str | None) -> None:
    async with open_harness(folder, database_url=database_url) as harness:
        print("ready", flush=True)
        await harness.consumer.run(asyncio.Event())


def main(folder: str, database_url: str | None = None) -> None:
    asyncio.run(consume(Path(folder), database_url))
