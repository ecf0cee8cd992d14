"""The worker process: follows the log and fills the warehouse. `python -m headwater.server.worker` starts it.

It may die at any moment: what it has stored and how far it has read are committed together.
"""

import asyncio

from headwater.server import child
from headwater.server.settings import Settings


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set, then finish the group of events that was begun."""
    await stop.wait()


if __name__ == "__main__":
    child.run("worker", run)
