"""Waits for an event of asyncio, with a limit."""

import asyncio
from contextlib import suppress


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, for at most `seconds`.

    It does not use `asyncio.wait_for`: before Python 3.12 that ignores a cancellation at the moment when the event is
    set, and a loop that waits again would never end.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
