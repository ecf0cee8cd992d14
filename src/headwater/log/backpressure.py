"""Back-pressure: who brings events is told to come back later, when the slowest consumer is too far behind.

The lag is looked up about once a second, so deciding costs nothing; a burst may exceed the bound by what arrives until
the next look. A lag that cannot be looked up stays what it was.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import structlog

from headwater.base.errors import TooManyRequests, Unavailable

LOOK_SECONDS: Final = 1.0
MIN_RETRY_SECONDS: Final = 5
"""What callers are told to wait before it is known how fast the consumer catches up."""
MAX_RETRY_SECONDS: Final = 60

_log = structlog.get_logger(__name__)


class Lagging(Protocol):
    """The one thing that is asked of a log here."""

    async def backlog_bytes(self) -> int:
        """See `EventLog.unfinished_bytes`."""
        ...


class BackPressure:
    """Refuses appends while more than `max_lag_bytes` are unfinished. It knows while it follows a log."""

    def __init__(self, max_lag_bytes: int) -> None:
        self._max = max_lag_bytes
        self._lag = 0
        self._at = 0.0
        self._bytes_per_second = 0.0

    def check(self) -> None:
        """Raise TooManyRequests, with the seconds after which the consumer is likely to have caught up."""
        if self._lag > self._max:
            raise TooManyRequests("too many events wait to be processed", retry_after=self._seconds())

    @asynccontextmanager
    async def following(self, log: Lagging) -> AsyncIterator[None]:
        """Know the lag of `log` until the end of the block."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._look(log, stop), name="back-pressure")
            try:
                yield
            finally:
                stop.set()
                looking.cancel()

    def note(self, lag: int, at: float) -> None:
        """The lag in bytes at a moment, in seconds of any clock that only goes forward."""
        was_refusing, refusing = self._lag > self._max, lag > self._max
        if was_refusing and at > self._at and lag < self._lag:
            self._bytes_per_second = (self._lag - lag) / (at - self._at)
        if refusing != was_refusing:
            _log.warning("events are refused" if refusing else "events are accepted again", backlog_bytes=lag)
        self._lag, self._at = lag, at

    def _seconds(self) -> int:
        if not self._bytes_per_second:
            return MIN_RETRY_SECONDS
        return min(max(1, math.ceil((self._lag - self._max) / self._bytes_per_second)), MAX_RETRY_SECONDS)

    async def _look(self, log: Lagging, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(Unavailable):
                self.note(await log.backlog_bytes(), time.monotonic())
            await asyncio.sleep(LOOK_SECONDS)
