"""Waits for an event of asyncio, with a limit."""

import asyncio
from contextlib import suppress


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, for at most `seconds`.

    A cancellation always ends it. `asyncio.wait_for` of Python 3.11 loses one that arrives together with the event, so
    that a loop around it would go on forever.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
