"""Limits how many events a workspace, or a key, may send; and how many calls a key may make.

Each is a bucket that holds `burst` of them and is filled with so many a second (the generic cell rate algorithm: what
is kept of a bucket is the one moment at which it will be full). The arithmetic is that of integers, so that no rounding
lets more through. Every backend process has buckets of its own, and its share of the limit.
"""

from typing import Final

from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import PayloadTooLarge, TooManyRequests

_SECOND: Final = 1_000_000
_FEW: Final = 1024
"""So many buckets are not worth being swept."""


class RateLimit(Struct, frozen=True):
    """How many events may come."""

    per_second: int
    """In the long run."""
    burst: int
    """At once, after a time of silence; and so the largest call."""


class Quota(Struct, frozen=True):
    """What is left of a limit, after a call."""

    burst: int
    remaining: int
    full_in: int
    """Seconds until all of the burst is left again, rounded up."""

    @property
    def headers(self) -> dict[str, str]:
        """As callers know it: the names are those of the IETF's draft on rate limit headers."""
        return {
            "ratelimit-limit": str(self.burst),
            "ratelimit-remaining": str(self.remaining),
            "ratelimit-reset": str(self.full_in),
        }


class RateLimiter:
    """The buckets of all workspaces and keys."""

    def __init__(
        self,
        clock: Clock,
        *,
        workspace: RateLimit | None = None,
        key: RateLimit | None = None,
        processes: int = 1,
        unit: str = "events",
    ) -> None:
        """None is no limit. `processes` share the limits evenly. `unit` names in messages what is counted."""
        self._clock = clock
        self._workspaces = None if workspace is None else _Buckets(workspace, processes, "the workspace", unit)
        self._keys = None if key is None else _Buckets(key, processes, "the key", unit)
        self._is_limited = workspace is not None or key is not None

    def take(self, workspace: int, key: str, events: int) -> Quota | None:
        """What is left, of the tighter limit, when so many events are taken; None without a limit.

        Raises TooManyRequests when they are too many now, and PayloadTooLarge when they always will be. Then none are
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
    """The buckets under one limit, by the name of what has them.

    Time is counted in such parts of a microsecond that an event takes a whole number of them to be filled in.
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
        self._sweep_at = _FEW

    def full_at(self, name: int | str, events: int, now: int) -> int:
        """When the bucket will be full again, if so many events are taken. Raises as `RateLimiter.take` does."""
        if events > self._burst:
            raise PayloadTooLarge(f"the call has more {self._unit} than {self._whose} may send at once, {self._burst}")
        moment = now * self._microsecond
        before = max(self._full_at.get(name, moment), moment)
        if before > moment + self._capacity:  # the clock was set back; no bucket is more than empty
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
        """Take what `full_at` was asked for; what is left."""
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
        """Forget full buckets: there are as many as there ever were keys."""
        self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > moment}
        self._sweep_at = max(_FEW, 2 * len(self._full_at))
