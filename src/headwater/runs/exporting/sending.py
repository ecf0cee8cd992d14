"""Writes users to an application: within its limits and rates, again after failures, and in halves if a batch is
refused as a whole.

A call is repeated with the same idempotency keys, so a user whose first response was lost is not created twice by an
application that knows them.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from headwater.base.errors import HeadwaterError, Unavailable
from headwater.connectors.contract import NOT_ATTEMPTED, ItemResult, Outcome, UserSink, UserWrite, rejected
from headwater.runs.exporting.pausing import Pauses
from headwater.runs.exporting.selecting import STEP
from headwater.runs.job import Job, RunFailed
from headwater.runs.rates import RunRates

MAX_BATCH_USERS: Final = 1_000


def find_batch_users(sink: UserSink) -> int:
    """Return the number of users of a batch."""
    return max(1, min(sink.write_limits.max_events, MAX_BATCH_USERS))


class UserSender:
    """Writes the users of one run, one batch after another."""

    def __init__(self, job: Job, sink: UserSink, rates: RunRates, check: Callable[[], Awaitable[None]]) -> None:
        """`rates` are those of the sink. `check` is awaited before each call, and raises RunCancelled if the process
        must not send."""
        self._job = job
        self._sink = sink
        self._check = check
        self._rates = rates
        limits = sink.write_limits
        self.max_users = find_batch_users(sink)
        """The number of users of a batch."""
        self.max_bytes = limits.max_bytes
        self.max_user_bytes = limits.max_event_bytes

    async def write(self, users: Sequence[UserWrite]) -> list[ItemResult]:
        """Write users, all to create or all to update. Return a result of each: delivered or rejected.

        Raises RunFailed if the application does not respond, or lets users wait, for long; RunCancelled.
        """
        results = [NOT_ATTEMPTED] * len(users)
        waiting = list(range(len(users)))
        limit = len(users)
        pauses = Pauses(self._job)
        while waiting:
            some = waiting[:limit]
            try:
                found = await self._call([users[index] for index in some])
            except Unavailable as error:
                await pauses.wait(f"users cannot be written to {self._job.connector.label}: {error.message}", error)
                continue
            except HeadwaterError as error:
                raise RunFailed(STEP, f"{self._job.connector.label} cannot be written: {error.message}") from error
            for index, result in zip(some, found, strict=True):
                results[index] = result
            if all(result.outcome is Outcome.NOT_ATTEMPTED for result in found):
                # The application refused the batch without a reason for a single user.
                if len(some) == 1:
                    results[some[0]] = rejected("Rejected", "the application rejects the user")
                else:
                    limit = (len(some) + 1) // 2
            settled = [index for index in some if results[index].outcome in _FINAL]
            if settled:
                pauses.progress()
            waiting = [index for index in waiting if results[index].outcome not in _FINAL]
            throttled = [index for index in some if results[index].outcome is Outcome.RETRY]
            if throttled and len(waiting) < len(users) and pauses.is_last:
                # The application takes other users, so these are at fault.
                for index in throttled:
                    results[index] = rejected(results[index].reason, results[index].message)
                waiting = [index for index in waiting if results[index].outcome not in _FINAL]
            elif throttled:
                await self._wait(pauses, [results[index] for index in throttled])
        return results

    async def _call(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        """Make one call when the rates allow it."""
        await self._rates.wait(len(users))
        await self._check()
        return await self._sink.write_users(users)

    async def _wait(self, pauses: Pauses, throttled: Sequence[ItemResult]) -> None:
        """Wait as long as the users that can be sent again ask for."""
        first = throttled[0]
        reason = f"{self._job.connector.label} lets users wait: {first.message or first.reason}"
        asked = max((result.retry_after_seconds or 0.0 for result in throttled), default=0.0)
        await pauses.wait(reason, requested=asked)


_FINAL: Final = frozenset({Outcome.DELIVERED, Outcome.REJECTED})
