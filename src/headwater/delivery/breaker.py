"""Pauses requests after failures of the destination, and probes it with one request before others follow.

| state | requests |
| --- | --- |
| closed | sent; each failure pauses them for a while |
| open | none until the pause ends: `MAX_FAILURES` in a row failed, or half of those of ten seconds |
| half open | one, the probe: its success closes, its failure opens for longer |
| refusing | as open, with a probe once an hour |

Requests that were sent before a pause began do not extend it, so that one outage counts once, however many requests
were in flight.
"""

from random import Random
from typing import Final

import msgspec

from headwater.connectors.contract import Failure, FailureScope
from headwater.delivery import backoff
from headwater.delivery.items import HEALTHY, Health, HealthState

MAX_FAILURES: Final = 5
MIN_REQUESTS: Final = 10
"""Requests from which on the share of failed ones counts."""
MAX_FAILED_SHARE: Final = 0.5
WINDOW_SECONDS: Final = 10
REFUSING_SECONDS: Final = 3_600.0


class Breaker:
    """The breaker of one destination. `era` counts its pauses: the caller keeps that of each request it sends."""

    def __init__(self, random: Random, health: Health = HEALTHY) -> None:
        self._random = random
        if health.state is HealthState.HALF_OPEN:  # the probe was lost in a crash
            health = msgspec.structs.replace(health, state=HealthState.OPEN)
        self.health = health
        self.era = 0
        self._resumed_era = 0
        self._delay = backoff.delay_after(health.failures)
        self._recent = _Recent()

    @property
    def is_closed(self) -> bool:
        return self.health.state is HealthState.CLOSED

    def opens_at(self, now: float) -> float | None:
        """Return the time from which a request can be sent; None if only the end of the probe decides."""
        if self.health.state is HealthState.HALF_OPEN:
            return None
        return now if self.health.paused_until is None else self.health.paused_until

    def start(self, now: float) -> None:
        """Shorten a pause of the last run that is too long, because the clock was set back since."""
        if self.health.paused_until is not None:
            self._change(paused_until=min(self.health.paused_until, now + backoff.MAX_REQUESTED_SECONDS))

    def send(self) -> None:
        """Count a request that is sent. If the breaker is not closed it is the probe."""
        if not self.is_closed:
            self.era += 1
            self._change(state=HealthState.HALF_OPEN)

    def succeed(self, era: int, now: float) -> bool:
        """Take a response which shows that the destination works. Returns whether it was the probe's."""
        if era < self._resumed_era:
            return False
        self._recent.count(now, failed=False)
        is_probe = era == self.era and self.health.state is HealthState.HALF_OPEN
        if not is_probe and not self.is_closed:
            return False
        if era == self.era:
            self._delay = 0.0
        if is_probe:
            self._recent = _Recent()
        until = self.health.paused_until
        if until is not None and until > now:
            self.health = msgspec.structs.replace(HEALTHY, paused_until=until)
        elif self.health is not HEALTHY:
            self.health = HEALTHY
        return is_probe

    def fail(self, failure: Failure, status: int | None, era: int, now: float) -> None:
        """Take the failure of a request."""
        if era < self._resumed_era:
            return
        self._recent.count(now, failed=True)
        until = now + backoff.wait(0.0, failure.retry_after_seconds)
        if era == self.era:
            self._pause(failure, status, until, now)
        elif self.is_closed:
            self._count(failure, status, until, now)
        else:
            self._change(paused_until=max(until, self.health.paused_until or 0.0))

    def resume(self, now: float) -> None:
        """End the pause. Results of requests that were sent before count no more."""
        self.era += 1
        self._resumed_era = self.era
        if not self.is_closed:
            self._change(state=HealthState.OPEN, paused_until=now)
        elif self.health.paused_until is not None:
            self._change(paused_until=None)

    def _pause(self, failure: Failure, status: int | None, until: float, now: float) -> None:
        """Pause for longer than the last time."""
        self.era += 1
        self._delay = backoff.next_delay(self._delay, self._random)
        if failure.scope is FailureScope.CLOSED:
            until = now + REFUSING_SECONDS
        self._count(failure, status, max(until, now + self._delay), now)

    def _count(self, failure: Failure, status: int | None, until: float, now: float) -> None:
        failures = self.health.failures + 1
        if failure.scope is FailureScope.CLOSED:
            state = HealthState.REFUSING
        elif not self.is_closed or failures >= MAX_FAILURES or self._recent.has_failed():
            state = HealthState.OPEN
        else:
            state = HealthState.CLOSED
        self._change(
            state=state,
            failures=failures,
            failing_since=now if self.health.failing_since is None else self.health.failing_since,
            paused_until=max(until, self.health.paused_until or 0.0),
            reason=failure.reason,
            message=failure.message,
            status=status,
        )

    def _change(self, **changes: object) -> None:
        self.health = msgspec.structs.replace(self.health, **changes)


class _Recent:
    """The requests of the last ten seconds, counted by second."""

    def __init__(self) -> None:
        self._counts = [[0, 0] for _ in range(WINDOW_SECONDS)]
        self._second = 0

    def count(self, now: float, *, failed: bool) -> None:
        second = int(now)
        for each in range(max(self._second + 1, second + 1 - WINDOW_SECONDS), second + 1):
            self._counts[each % WINDOW_SECONDS] = [0, 0]
        self._second = second
        self._counts[second % WINDOW_SECONDS][failed] += 1

    def has_failed(self) -> bool:
        """Whether enough requests were sent, and too many of them failed."""
        failed = sum(counts[1] for counts in self._counts)
        requests = failed + sum(counts[0] for counts in self._counts)
        return requests >= MIN_REQUESTS and failed >= MAX_FAILED_SHARE * requests
