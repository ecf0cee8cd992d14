"""A fixed number of sandboxes, lent to one task at a time, to each function the one that knows it where possible."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from headwater.base.errors import Unavailable
from headwater.transforms.functions.contract import Sandbox

WAIT: Final = 60.0
"""Seconds that a batch waits for a sandbox."""


class Slots:
    """Sandboxes of one language. Those that wait are served in their order."""

    def __init__(self, sandboxes: Sequence[Sandbox]) -> None:
        self._idle = list(sandboxes)  # the least recently used first
        self._all = tuple(sandboxes)
        self._free = asyncio.Semaphore(len(sandboxes))

    @asynccontextmanager
    async def lend(self, key: object) -> AsyncIterator[Sandbox]:
        """A sandbox for the program with this key. Raises Unavailable when none became free in time."""
        try:
            async with asyncio.timeout(WAIT):
                await self._free.acquire()
        except TimeoutError:
            raise Unavailable("all sandboxes are busy") from None
        sandbox = next((sandbox for sandbox in reversed(self._idle) if sandbox.holds(key)), self._idle[0])
        self._idle.remove(sandbox)
        try:
            yield sandbox
        finally:
            self._idle.append(sandbox)
            self._free.release()

    async def stop(self) -> None:
        """End all sandboxes, also those that are lent."""
        await asyncio.gather(*(sandbox.stop() for sandbox in self._all))
