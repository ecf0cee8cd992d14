"""Remembers recent lookups that found nothing, so that a flood of unknown keys costs few queries.

It bounds its memory and the number of queries that it permits. It does not query the database itself.
"""

from collections.abc import Hashable
from typing import Final

from headwater.base.clock import Clock, microseconds

WINDOW_SECONDS: Final = 0.25
"""Lifetime of an entry. It is half of the time within which a backend sees changes of other processes."""
MAX_MISSES: Final = 20
"""Above this many misses per window, other unknown keys wait for the next window."""

_WINDOW_US: Final = round(WINDOW_SECONDS * 1_000_000)


class NegativeCache:
    """The misses of the current window, which begins with the first of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = 0
        self._hashes: set[int] = set()
        """Hashes instead of keys, because clients decide the length of keys."""

    def should_query(self, sought: Hashable) -> bool:
        """Return whether to query the database: false if the key was missing recently, or if the window is full."""
        if not 0 <= microseconds(self._clock.now()) - self._began < _WINDOW_US:
            self._hashes.clear()
        return len(self._hashes) < MAX_MISSES and hash(sought) not in self._hashes

    def add(self, sought: Hashable) -> None:
        """Record that the database does not have the key."""
        if not self._hashes:
            self._began = microseconds(self._clock.now())
        if len(self._hashes) < MAX_MISSES:  # many more queries may run at the same time
            self._hashes.add(hash(sought))
