"""The number of requests in flight, adapted to the destination: additive increase, multiplicative decrease.

The limit grows by one per round of requests while it is used fully and responses are as quick as usual. It shrinks
by a tenth if they become slower, and by half if the destination fails. One round shrinks it once.
"""

from typing import Final

INITIAL_LIMIT: Final = 4
SLOW_FACTOR: Final = 0.9
FAILURE_FACTOR: Final = 0.5
SMOOTHING: Final = 0.4
"""Weight of the latest response in the moving averages."""
DEVIATIONS: Final = 2.5
MIN_TOLERANCE_SECONDS: Final = 0.010
"""Responses that are later than usual by less than this are not slow."""


class Concurrency:
    """The limit of requests in flight, from one to `maximum`."""

    def __init__(self, maximum: int) -> None:
        self._maximum = max(maximum, 1)
        self._limit = float(min(INITIAL_LIMIT, self._maximum))
        self._round = 0
        """Counts the decreases. A request of an earlier round says nothing about the limit of this one."""
        self._usual: float | None = None
        self._deviation = 0.0

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def round(self) -> int:
        """The round of a request that is sent now."""
        return self._round

    def succeeded(self, seconds: float, round_: int, *, was_full: bool) -> None:
        """Take the duration of a request. `was_full` states that the limit was reached when it was sent."""
        if self._usual is None:
            self._usual, self._deviation = seconds, seconds / 2
        is_slow = seconds > self._usual + max(DEVIATIONS * self._deviation, MIN_TOLERANCE_SECONDS)
        error = seconds - self._usual
        self._usual += SMOOTHING * error
        self._deviation += SMOOTHING * (abs(error) - self._deviation)
        if is_slow:
            self._decrease(SLOW_FACTOR, round_)
        elif was_full and round_ == self._round:
            self._limit = min(self._limit + 1 / self._limit, self._maximum)

    def failed(self, round_: int) -> None:
        """Take the failure of a request by overload, or without a response."""
        self._decrease(FAILURE_FACTOR, round_)

    def restart(self) -> None:
        """Begin with one request, after an outage."""
        self._limit = 1.0
        self._round += 1

    def _decrease(self, factor: float, round_: int) -> None:
        if round_ == self._round:
            self._limit = max(self._limit * factor, 1.0)
            self._round += 1
