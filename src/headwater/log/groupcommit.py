"""Group commit: one fsync for many callers.

Writing one row to the disk costs as much as writing a hundred. So callers queue their items, one commit writes all
queued items, and then every caller continues. There are two modes, chosen by the duration of an fsync on this disk:

- *on the event loop*, shortly after the first caller: no thread switches, which is fastest if fsync is fast;
- *in a thread*: the next group gathers while one is written, and the loop stays free, which is better if it is slow.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Generic, TypeVar

from headwater.base.errors import TooManyRequests, Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.threads import SerialExecutor

Item = TypeVar("Item")

SLOW_FSYNC_SECONDS = 0.001
"""Duration of an fsync above which a thread costs less than the event loop: see decision record 0004."""
GATHER_SECONDS = 0.0005
"""Delay of a commit on the event loop, in which other callers can join it: see decision record 0039."""


def measure_fsync(folder: Path, *, rounds: int = 9) -> float:
    """Return the median seconds of appending a page to a file in `folder` and syncing it; infinite on a full disk."""
    path = folder / f".fsync-{os.getpid()}"
    seconds = []
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(rounds):
                file.write(bytes(4096))
                start = time.perf_counter()
                os.fsync(file.fileno())
                seconds.append(time.perf_counter() - start)
    except OSError:
        return math.inf
    finally:
        path.unlink(missing_ok=True)
    return median(seconds)


class GroupCommit(Generic[Item]):
    """Collects items and passes them to `write`, a blocking function that makes them all durable or raises.

    `write` returns one position per item, in their order. `max_pending_bytes` limits the waiting items.
    """

    def __init__(
        self,
        write: Callable[[list[Item]], list[int]],
        *,
        size: Callable[[Item], int],
        in_thread: bool,
        max_pending_bytes: int,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self._write = write
        self._metrics = metrics
        self._size = size
        self._max_pending_bytes = max_pending_bytes
        self._pending: list[tuple[Item, asyncio.Future[int]]] = []
        self._pending_bytes = 0
        self._thread = SerialExecutor("log-commit") if in_thread else None
        self._commit: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, item: Item) -> int:
        """Queue the item; return its position when it is durable."""
        if self._closed:
            raise Unavailable("the event log is closed")
        size = self._pending_bytes + self._size(item)
        if size > self._max_pending_bytes and self._pending:
            raise TooManyRequests("too many events wait to be written")
        durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending.append((item, durable))
        self._pending_bytes = size
        if self._commit is None:
            self._commit = asyncio.create_task(self._commit_pending(), name="log-commit")
        # The write is a task of its own: a caller that is cancelled cancels only its own future.
        return await durable

    async def close(self) -> None:
        """Reject further items, and wait until the queued ones are durable."""
        self._closed = True
        if self._commit is not None:
            await self._commit
        if self._thread is not None:
            await self._thread.close()

    async def _commit_pending(self) -> None:
        """Write queued items until there are none."""
        try:
            while self._pending:
                if self._thread is None:
                    await asyncio.sleep(GATHER_SECONDS)
                group, self._pending, self._pending_bytes = self._pending, [], 0
                items = [item for item, _ in group]
                began = time.perf_counter()
                try:
                    if self._thread is None:
                        positions = self._write(items)
                    else:
                        positions = await self._thread.run(partial(self._write, items))
                except Exception as error:  # raised to every caller of the group; the next group may succeed
                    for _, durable in group:
                        if not durable.done():
                            durable.set_exception(error)
                            durable.exception()  # mark as retrieved, because its caller may have given up
                else:
                    self._metrics.log_committed(len(group), time.perf_counter() - began)
                    for (_, durable), position in zip(group, positions, strict=True):
                        if not durable.done():
                            durable.set_result(position)
        finally:
            self._commit = None
