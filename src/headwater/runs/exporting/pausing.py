"""Waits of an export for its destination: bounded, and ended by a cancel."""

import asyncio
import random
from typing import Final

from headwater.delivery.backoff import next_delay
from headwater.runs.job import Job, RunFailed

MAX_ATTEMPTS: Final = 8
"""Number of times in a row that a call is tried without any progress."""
MAX_PAUSE_SECONDS: Final = 300.0
"""Longest wait that a destination can ask for. A run that has to wait longer ends, and the next one continues."""
CHECK_SECONDS: Final = 0.5


async def pause(job: Job, seconds: float) -> None:
    """Wait. Raises RunCancelled within `CHECK_SECONDS` of a cancel."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        job.report.check()
        await asyncio.sleep(min(left, CHECK_SECONDS))
    job.report.check()


class Pauses:
    """The pauses between attempts of one call."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._random = random.Random()
        self._delay = 0.0
        self.failures = 0

    def progress(self) -> None:
        """Begin again: the destination accepted a part."""
        self._delay = 0.0
        self.failures = 0

    @property
    def is_used_up(self) -> bool:
        """Whether no further attempt is allowed."""
        return self.failures >= MAX_ATTEMPTS

    async def wait(self, reason: str, requested: float | None = None) -> None:
        """Wait before the next attempt. Raises RunFailed if none is allowed, or the wait would be too long."""
        self.failures += 1
        if self.is_used_up:
            raise RunFailed("Finalize", f"{reason}; it was tried {self.failures} times")
        self._delay = min(next_delay(self._delay, self._random), MAX_PAUSE_SECONDS)
        if requested is not None and requested > MAX_PAUSE_SECONDS:
            raise RunFailed("Finalize", f"{reason}; it asks to wait {requested:.0f} seconds")
        await pause(self._job, max(self._delay, requested or 0.0))
