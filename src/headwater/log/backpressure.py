"""Back-pressure: rejects calls for a while if the slowest consumer that may not lag is too far behind.

The backlog is measured about once a second, so a check costs nothing; a burst may exceed the limit by the arrivals
until the next measurement. A backlog that cannot be measured keeps its last value.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import structlog

from headwater.base.errors import TooManyRequests, Unavailable

MEASURE_SECONDS: Final = 1.0
MIN_RETRY_SECONDS: Final = 5
"""Minimum retry delay for callers, also used while the speed of the consumer is unknown."""
MAX_RETRY_SECONDS: Final = 60

_log = structlog.get_logger(__name__)


class HasBacklog(Protocol):
    """The part of a log that back-pressure needs."""

    async def backlog_bytes(self) -> int:
        """See `EventLog.backlog_bytes`."""
        ...


class BackPressure:
    """Rejects appends while the backlog, as last measured by `track`, exceeds `max_backlog_bytes`."""

    def __init__(self, max_backlog_bytes: int) -> None:
        self._max = max_backlog_bytes
        self._backlog = 0
        self._at = 0.0
        self._bytes_per_second = 0.0

    def check(self) -> None:
        """Raise TooManyRequests with the seconds after which the consumer has probably caught up."""
        if self._backlog > self._max:
            raise TooManyRequests("too many events wait to be processed", retry_after=self._seconds())

    @asynccontextmanager
    async def track(self, log: HasBacklog) -> AsyncIterator[None]:
        """Measure the backlog of `log` until the end of the block."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(self._measure(log, stop), name="back-pressure")
            try:
                yield
            finally:
                stop.set()
                measuring.cancel()

    def observe(self, backlog: int, at: float) -> None:
        """Set the backlog in bytes at a time, in seconds of any monotonic clock."""
        was_rejecting, rejecting = self._backlog > self._max, backlog > self._max
        if was_rejecting and at > self._at and backlog < self._backlog:
            self._bytes_per_second = (self._backlog - backlog) / (at - self._at)
        if rejecting != was_rejecting:
            _log.warning("events are rejected" if rejecting else "events are accepted again", backlog_bytes=backlog)
        self._backlog, self._at = backlog, at

    def _seconds(self) -> int:
        if not self._bytes_per_second:
            return MIN_RETRY_SECONDS
        return min(max(1, math.ceil((self._backlog - self._max) / self._bytes_per_second)), MAX_RETRY_SECONDS)

    async def _measure(self, log: HasBacklog, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(Unavailable):
                self.observe(await log.backlog_bytes(), time.monotonic())
            await asyncio.sleep(MEASURE_SECONDS)
