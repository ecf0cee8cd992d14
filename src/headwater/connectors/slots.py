"""Slots that the workspaces of a process share, so that none takes all of them."""

import threading
from collections import Counter


class SharedSlots:
    """A limited number of slots, for threads.

    A workspace gets a slot only while more slots are free than it has. One alone gets half of them, two get a third
    each, and there is always a free slot for another one, until there are as many as slots.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._taken = Counter[int | None]()
        self._changed = threading.Condition()

    def acquire(self, workspace: int | None, timeout_seconds: float) -> bool:
        """Take a slot, and return whether there was one in time. None is for calls that belong to no workspace."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free > self._taken[workspace], timeout_seconds):
                return False
            self._free -= 1
            self._taken[workspace] += 1
            return True

    def release(self, workspace: int | None) -> None:
        """Give a slot back."""
        with self._changed:
            self._free += 1
            self._taken[workspace] -= 1
            if not self._taken[workspace]:
                del self._taken[workspace]
            self._changed.notify_all()
