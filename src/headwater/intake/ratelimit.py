"""Limits the events per second of a workspace or a key, and the calls per second of a key.

Each limit is a bucket of `burst` units that refills at a constant rate (the generic cell rate algorithm; the only state
of a bucket is the moment at which it is full again). Arithmetic uses integers, so that rounding lets nothing extra
through. Every backend process has its own buckets and its share of the limit.
"""

from typing import Final

from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import PayloadTooLarge, TooManyRequests

_SECOND: Final = 1_000_000
_SWEEP_THRESHOLD: Final = 1024
"""Do not sweep below this number of buckets."""


class RateLimit(Struct, frozen=True):
    """A limit of events or calls."""

    per_second: int
    """Sustained rate."""
    burst: int
    """Maximum after a pause, and so the largest call."""


class Quota(Struct, frozen=True):
    """The remaining quota after a call."""

    burst: int
    remaining: int
    full_in: int
    """Seconds until the whole burst is available again, rounded up."""

    @property
    def headers(self) -> dict[str, str]:
        """Return the quota as the headers of the IETF draft on rate limits."""
        return {
            "ratelimit-limit": str(self.burst),
            "ratelimit-remaining": str(self.remaining),
            "ratelimit-reset": str(self.full_in),
        }


class RateLimiter:
    """The limits of all workspaces and keys."""

    def __init__(
        self,
        clock: Clock,
        *,
        workspace: RateLimit | None = None,
        key: RateLimit | None = None,
        processes: int = 1,
        unit: str = "events",
    ) -> None:
        """None means no limit. `processes` share the limits evenly. `unit` names the counted thing in messages."""
        self._clock = clock
        self._workspaces = None if workspace is None else _Buckets(workspace, processes, "the workspace", unit)
        self._keys = None if key is None else _Buckets(key, processes, "the key", unit)
        self._is_limited = workspace is not None or key is not None

    def take(self, workspace: int, key: str, events: int) -> Quota | None:
        """Take this number of events and return the remaining quota of the tighter limit; None without a limit.

        Raises TooManyRequests if they exceed the quota now, and PayloadTooLarge if they exceed the burst. Then none are
        taken.
        """
        if not self._is_limited:
            return None
        now = microseconds(self._clock.now())
        asked = [
            (buckets, name, buckets.full_at(name, events, now))
            for buckets, name in ((self._workspaces, workspace), (self._keys, key))
            if buckets is not None
        ]
        left = [buckets.fill(name, full_at, now) for buckets, name, full_at in asked]
        return left[0] if len(left) == 1 or left[0].remaining < left[1].remaining else left[1]


class _Buckets:
    """The buckets under one limit, by owner.

    Time is counted in fractions of a microsecond for which the refill time of one event is an integer.
    """

    def __init__(self, limit: RateLimit, processes: int, whose: str, unit: str) -> None:
        self._limit = limit
        self._unit = unit
        self._whose = whose
        self._burst = max(1, limit.burst // processes)
        self._microsecond = limit.per_second
        self._event = _SECOND * processes
        self._capacity = self._burst * self._event
        self._full_at: dict[int | str, int] = {}
        self._sweep_at = _SWEEP_THRESHOLD

    def full_at(self, name: int | str, events: int, now: int) -> int:
        """Return the moment at which the bucket is full again if these events are taken. Raises as
        `RateLimiter.take`."""
        if events > self._burst:
            raise PayloadTooLarge(f"the call has more {self._unit} than {self._whose} may send at once, {self._burst}")
        moment = now * self._microsecond
        before = max(self._full_at.get(name, moment), moment)
        if before > moment + self._capacity:  # the clock was set back; a bucket cannot be more than empty
            before = self._full_at[name] = moment + self._capacity
        after = before + events * self._event
        excess = after - moment - self._capacity
        if excess > 0:
            error = TooManyRequests(
                f"{self._whose} sends more than {self._limit.per_second} {self._unit} a second",
                retry_after=self._seconds(excess),
            )
            error.headers |= self._quota(before - moment).headers
            raise error
        return after

    def fill(self, name: int | str, full_at: int, now: int) -> Quota:
        """Take the events for which `full_at` was returned, and return the remaining quota."""
        moment = now * self._microsecond
        if len(self._full_at) >= self._sweep_at:
            self._sweep(moment)
        self._full_at[name] = full_at
        return self._quota(full_at - moment)

    def _quota(self, missing: int) -> Quota:
        return Quota(self._burst, (self._capacity - missing) // self._event, self._seconds(missing))

    def _seconds(self, time: int) -> int:
        return -(-time // (self._microsecond * _SECOND))

    def _sweep(self, moment: int) -> None:
        """Forget full buckets, which would otherwise accumulate for every key ever used."""
        self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > moment}
        self._sweep_at = max(_SWEEP_THRESHOLD, 2 * len(self._full_at))
