"""What was looked for in the database a moment ago, and was not there: a flood of unknown keys costs few queries.

It bounds what it remembers and what it lets through; it does not look for anything itself.
"""

from collections.abc import Hashable
from typing import Final

from headwater.base.clock import Clock, microseconds

WINDOW_SECONDS: Final = 0.25
"""How long a miss counts at most: half of the time within which a backend sees the changes of others anyway."""
MOST: Final = 20
"""So many misses in one window are a flood; whatever else is unknown then waits for the next one."""

_WINDOW_US: Final = round(WINDOW_SECONDS * 1_000_000)


class NegativeCache:
    """The misses of the present window, which begins with the first of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = 0
        self._hashes: set[int] = set()
        """Not the keys: strangers decide how long those are."""

    def should_query(self, sought: Hashable) -> bool:
        """Whether the database may be asked for it, since it was not found missing lately, and few things were."""
        if not 0 <= microseconds(self._clock.now()) - self._began < _WINDOW_US:
            self._hashes.clear()
        return len(self._hashes) < MOST and hash(sought) not in self._hashes

    def add(self, sought: Hashable) -> None:
        """It was looked for, and is not there."""
        if not self._hashes:
            self._began = microseconds(self._clock.now())
        if len(self._hashes) < MOST:  # calls that were let through at the same time may be many more
            self._hashes.add(hash(sought))
