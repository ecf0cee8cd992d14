"""Rates of a run that allow every call, and count it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from headwater.connectors.contract import RateLimit
from headwater.runs.job import Job


class CountedRates:
    """Replaces `open_rates`: the limits that it was opened with, and the users of each call."""

    def __init__(self) -> None:
        self.limits: tuple[RateLimit, ...] = ()
        self.max_users = 0
        self.calls: list[int] = []

    @asynccontextmanager
    async def __call__(
        self, job: Job, limits: Iterable[RateLimit], *, max_users: int = 1
    ) -> AsyncIterator["CountedRates"]:
        self.limits, self.max_users = tuple(limits), max_users
        yield self

    async def wait(self, users: int = 1) -> None:
        """Count a call."""
        self.calls.append(users)
