"""Runs blocking work in threads, off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from headwater.base.errors import Unavailable

MAX_WAITING: Final = 1_000
"""Pieces of work that may wait in one executor."""

_Result = TypeVar("_Result")


class SerialExecutor:
    """Runs functions one after another, in the order of the calls, all in one thread that lives until `close`.

    For what belongs to one thread, such as a connection of SQLite.
    """

    def __init__(self, name: str) -> None:
        """`name` is the beginning of the thread's name."""
        self._name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting = 0

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Run `work` in the thread; return its result, or raise its exception.

        When the caller is cancelled, work that has begun still runs to its end, and work that waits does not run.
        Raises Unavailable if `MAX_WAITING` pieces of work wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise Unavailable(f"too much work waits for the thread {self._name!r}")
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._thread.submit(work))
        finally:
            self._waiting -= 1

    async def close(self, last: Callable[[], object] | None = None) -> None:
        """Wait for all work, run `last` after it, and end the thread."""
        try:
            if last is not None:
                await asyncio.shield(self.run(last))
        finally:
            self._thread.shutdown(wait=False)

    def abandon(self, last: Callable[[], object]) -> None:
        """Run `last` after the work that waits, then end the thread. Does not wait for any of it."""
        self._thread.submit(last)
        self._thread.shutdown(wait=False)
