"""The durations of pauses: exponential with jitter, and never shorter than the destination requested.

Each pause is between the previous one and three times that, so it doubles on average, and the lanes of an outage do not
return together. Pauses that begin at the base each time grow too slowly: after 30 failures they were 10 s.
"""

from random import Random
from typing import Final

MIN_DELAY_SECONDS: Final = 0.5
MAX_DELAY_SECONDS: Final = 300.0
MAX_REQUESTED_SECONDS: Final = 3_600.0
"""Maximum wait that a destination can request; longer ones are shortened to it."""


def next_delay(previous: float, random: Random) -> float:
    """Return the delay after one of `previous` seconds; 0 if there was none."""
    return min(MAX_DELAY_SECONDS, random.uniform(1.0, 3.0) * max(previous, MIN_DELAY_SECONDS))


def delay_after(failures: int) -> float:
    """Return a typical delay after so many failures, for a restart that does not know the previous one."""
    return min(MAX_DELAY_SECONDS, MIN_DELAY_SECONDS * 2.0 ** min(failures, 16)) if failures else 0.0


def wait(delay: float, requested: float | None) -> float:
    """Return the time to wait: `delay`, or the requested time if that is longer."""
    return delay if requested is None else max(delay, min(requested, MAX_REQUESTED_SECONDS))
