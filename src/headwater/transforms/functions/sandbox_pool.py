"""A fixed number of sandboxes. Each is used by one task at a time, preferably one that has the function loaded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from headwater.base.errors import Unavailable
from headwater.base.fairness import FairSlots
from headwater.transforms.functions.contract import Sandbox

DEFAULT_WAIT_SECONDS: Final = 60.0
"""Default time that a batch waits for a sandbox."""


class SandboxPool:
    """Sandboxes of one language, shared fairly: waiting owners are served in turn."""

    def __init__(
        self, sandboxes: Sequence[Sandbox], per_owner: int | None = None, max_waiting: int | None = None
    ) -> None:
        """One owner gets at most `per_owner` sandboxes at a time, and at most `max_waiting` of its calls wait; None is
        no limit."""
        self._idle = list(sandboxes)  # the least recently used first
        self._all = tuple(sandboxes)
        count = len(sandboxes)
        self._free = FairSlots(count, per_owner=per_owner or count, max_waiting=max_waiting, what="functions")

    @asynccontextmanager
    async def acquire(self, key: object, owner: str = "", wait: float = DEFAULT_WAIT_SECONDS) -> AsyncIterator[Sandbox]:
        """Acquire a sandbox for the program with this key until the block ends.

        Raises Unavailable if none became free within `wait` seconds, and TooManyRequests if too many calls of the owner
        wait.
        """
        granted = False
        try:
            async with self._free.slot(owner, seconds=wait):
                granted = True
                sandbox = next((one for one in reversed(self._idle) if one.holds(key)), self._idle[0])
                self._idle.remove(sandbox)
                try:
                    yield sandbox
                finally:
                    self._idle.append(sandbox)
        except Unavailable:
            if granted:
                raise
            raise Unavailable("all sandboxes are busy") from None

    async def stop(self) -> None:
        """Stop all sandboxes, also those in use."""
        await asyncio.gather(*(sandbox.stop() for sandbox in self._all))
