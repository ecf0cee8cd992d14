"""Slots that the workspaces of a process share, so that none takes all of them."""

import asyncio
import contextlib
import threading
from collections import Counter


class SharedSlots:
    """A limited number of slots, for threads and event loops.

    A workspace gets a slot only while more slots are free than it has. One alone gets half of them, two get a third
    each, and there is always a free slot for another one, until there are as many as slots.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._taken = Counter[int | None]()
        self._changed = threading.Condition()
        self._waiting = set[asyncio.Future[None]]()

    def acquire(self, workspace: int | None, timeout_seconds: float) -> bool:
        """Take a slot, and return whether there was one in time. None is for calls that belong to no workspace."""
        with self._changed:
            return self._changed.wait_for(lambda: self._take(workspace), timeout_seconds)

    async def acquire_on_loop(self, workspace: int | None, timeout_seconds: float) -> bool:
        """Take a slot as `acquire` does, without blocking the event loop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while (changed := self._take_or_wait(workspace)) is not None:
                    try:
                        await changed
                    finally:
                        with self._changed:
                            self._waiting.discard(changed)
                return True
        return False

    def release(self, workspace: int | None) -> None:
        """Give a slot back."""
        with self._changed:
            self._free += 1
            self._taken[workspace] -= 1
            if not self._taken[workspace]:
                del self._taken[workspace]
            self._changed.notify_all()
            waiting, self._waiting = self._waiting, set()
        for changed in waiting:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                changed.get_loop().call_soon_threadsafe(_complete, changed)

    def _take(self, workspace: int | None) -> bool:
        if self._free <= self._taken[workspace]:
            return False
        self._free -= 1
        self._taken[workspace] += 1
        return True

    def _take_or_wait(self, workspace: int | None) -> asyncio.Future[None] | None:
        """Take a slot and return None, or return a future that is complete after the next change."""
        with self._changed:
            if self._take(workspace):
                return None
            changed = asyncio.get_running_loop().create_future()
            self._waiting.add(changed)
            return changed


def _complete(changed: asyncio.Future[None]) -> None:
    if not changed.done():
        changed.set_result(None)
