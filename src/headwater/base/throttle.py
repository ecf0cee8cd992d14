"""Limits how often the same message is logged."""

import time
from collections.abc import Callable, Hashable
from typing import Final

MAX_KEYS: Final = 1_000
"""Maximum number of keys in memory. Above it all keys are forgotten, so each may pass once more."""


class Throttle:
    """Lets one occurrence of a key pass in each period and counts the others."""

    def __init__(self, seconds: float = 60.0, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def passes(self, key: Hashable) -> int:
        """Count an occurrence. Return the number of occurrences since the last that passed, or 0 if this one does not
        pass."""
        now = self._now()
        until, held = self._seen.get(key, (now, 0))
        if now < until:
            self._seen[key] = until, held + 1
            return 0
        if len(self._seen) >= MAX_KEYS:
            self._seen.clear()
        self._seen[key] = now + self._seconds, 0
        return held + 1
