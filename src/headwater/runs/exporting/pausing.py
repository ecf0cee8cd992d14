"""Waits of an export for its destination: bounded, and ended by a cancel."""

import asyncio
import random
from typing import Final

from headwater.base.errors import Unavailable
from headwater.base.steps import ProcessingStep
from headwater.connectors.contract import TransportError, TransportFailure
from headwater.delivery.backoff import next_delay
from headwater.runs.exporting.selecting import STEP
from headwater.runs.job import Job, RunFailed

MAX_ATTEMPTS: Final = 8
"""Number of times in a row that a call is tried without any progress."""
MAX_PAUSE_SECONDS: Final = 300.0
"""Longest wait that a destination can ask for. A run that has to wait longer ends, and the next one continues."""
CHECK_SECONDS: Final = 0.5
_DEFAULT_RETRY_SECONDS: Final = 1
"""The wait that an error asks for if the destination asks for none."""
_PERMANENT: Final = frozenset({TransportFailure.ADDRESS_FORBIDDEN, TransportFailure.AUTHORIZATION_REVOKED})
"""Failures that no further attempt changes."""


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
    def is_last(self) -> bool:
        """Whether the latest attempt was the last one."""
        return self.failures >= MAX_ATTEMPTS - 1

    async def wait(
        self, reason: str, error: Unavailable | None = None, step: ProcessingStep = STEP, requested: float | None = None
    ) -> None:
        """Wait before the next attempt, as long as the destination asks for. Raises RunFailed if no attempt is left, if
        the wait would be too long, or if a user has to change something first; RunCancelled."""
        self.failures += 1
        if isinstance(error, TransportError) and error.failure in _PERMANENT:
            raise RunFailed(step, reason) from error
        if self.failures >= MAX_ATTEMPTS:
            raise RunFailed(step, f"{reason}; it was tried {self.failures} times") from error
        asked = error.retry_after if error is not None else 0.0
        asked = max(asked, requested or 0.0)
        if asked > MAX_PAUSE_SECONDS:
            raise RunFailed(step, f"{reason}; it asks to wait {asked:.0f} seconds") from error
        self._delay = min(next_delay(self._delay, self._random), MAX_PAUSE_SECONDS)
        await pause(self._job, max(self._delay, asked if asked > _DEFAULT_RETRY_SECONDS else 0.0))
