"""Keeps the rates of an application in a run, together with the courier and other runs of the account."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from headwater.base.errors import Unavailable
from headwater.connectors.contract import RateLimit
from headwater.delivery.rates import AccountRates, Rates, find_largest
from headwater.delivery.shares import SharedLimit, find_key, identify_account
from headwater.runs.job import Job
from headwater.state.rateshares import LEASE_SECONDS

RENEW_SECONDS: Final = 1.0
"""Interval at which a share is renewed and adapted to its use."""
START_SECONDS: Final = 0.2
"""The same interval while the run has no share."""
CHECK_SECONDS: Final = 0.5
"""Maximum time between two looks at the rates, which change, and at a cancel."""
_log = structlog.get_logger(__name__)


class RunRates:
    """The rates of the calls of a run."""

    def __init__(self, job: Job, rates: Rates, now: Callable[[], float], renewing: "asyncio.Task[None] | None") -> None:
        """`now` is the time of the rates, and `renewing` renews the shares; None if there are none."""
        self._job = job
        self._rates = rates
        self._now = now
        self._renewing = renewing

    async def wait(self, users: int = 1) -> None:
        """Wait until the rates allow a call with so many users, and count it. Raises RunCancelled."""
        while (left := self._rates.fits_at(users, now := self._now()) - now) > 0:
            self._job.report.check()
            if self._renewing is not None and self._renewing.done():
                self._renewing.result()  # without it, the run would wait for ever
            await asyncio.sleep(min(left, CHECK_SECONDS))
        self._rates.spend(users, now)


@asynccontextmanager
async def open_rates(job: Job, limits: Iterable[RateLimit], *, max_users: int = 1) -> AsyncIterator[RunRates]:
    """Share the limits of the account during the block, for calls with at most `max_users`."""
    limits = tuple(limits)
    shares = _RunShares(job, limits, max_users)
    rates = shares.account.rates(limits, max_events=max_users)
    if not shares.is_needed:
        yield RunRates(job, rates, shares.now, None)
        return
    renewing = asyncio.create_task(shares.renew_regularly())
    try:
        yield RunRates(job, rates, shares.now, renewing)
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await shares.release()


class _RunShares:
    """The limits of an application, of which the run has shares."""

    def __init__(self, job: Job, limits: tuple[RateLimit, ...], max_users: int) -> None:
        self.account = AccountRates(self._is_valid)
        self._store = job.state.rate_shares
        self._holder = f"run {job.run.id} {job.run.fence}"
        self._loop = asyncio.get_running_loop()
        self._epoch_offset = job.clock.now().timestamp() - self._loop.time()
        self._valid_until = -math.inf
        self._registered_at: dict[str, float] = {}
        identity = identify_account(job.connection, job.catalog.decrypt_settings(job.connection))
        self._limits = [
            SharedLimit(
                find_key(identity, limit),
                self._holder,
                limit,
                self.account.meter(limit, max_users),
                max(find_largest(limit, max_users), (limit.burst + 1) // 2),
            )
            for limit in limits
            if limit.per == "Account"
        ]
        for limit in self._limits:
            limit.stop()

    @property
    def is_needed(self) -> bool:
        return bool(self._limits)

    def now(self) -> float:
        """Return the seconds since the epoch, by a clock that is never set."""
        return self._epoch_offset + self._loop.time()

    async def renew_regularly(self) -> None:
        """Renew the shares until it is cancelled. An outage lets the run wait when its lease has ended."""
        while True:
            began = self.now()
            try:
                for limit in self._limits:
                    await self._renew(limit)
                self._valid_until = began + LEASE_SECONDS
            except Unavailable as error:
                _log.warning("a run cannot renew its share of a rate", holder=self._holder, reason=error.message)
            has_all = all(limit.amount > 0 for limit in self._limits)
            await asyncio.sleep(RENEW_SECONDS if has_all else START_SECONDS)

    async def release(self) -> None:
        """Give the shares back, if the store responds; otherwise their leases end."""
        with suppress(Unavailable):
            await self._store.release(self._holder, [limit.key for limit in self._limits])

    async def _renew(self, limit: SharedLimit) -> None:
        began = self.now()
        shares = await self._store.read(limit.key)
        own = next((share for share in shares if share.holder == self._holder), None)
        others = [share for share in shares if share.holder != self._holder]
        if own is None:
            self._registered_at[limit.key] = math.inf
        waited = began - self._registered_at.setdefault(limit.key, began)  # there is one of an earlier part of the run
        is_allowed = own is not None and (own.is_seen or waited > LEASE_SECONDS)
        await limit.renew(self._store, others, began, is_allowed=is_allowed, can_wait=True)
        if own is None:
            self._registered_at[limit.key] = self.now()

    def _is_valid(self) -> bool:
        return self.now() < self._valid_until
