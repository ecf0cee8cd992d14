"""Virtual time: a heap of calls, and processes that crash and stand still."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

EPOCH: Final = 1_790_000_000.0
"""The wall clock at the start of a run."""


class Violation(AssertionError):
    """An invariant does not hold."""


class Crashed(Exception):
    """The process that runs has crashed. Nothing after this point has happened."""


class Process:
    """A process. Its calls are not made any more after it has crashed, and late after it stood still."""

    def __init__(self) -> None:
        self.is_alive = True
        self.frozen_until = 0.0


class World:
    """The clock and the calls to come."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wall_offset = EPOCH
        self._calls: list[tuple[float, int, Callable[[], None], Process | None]] = []
        self._made = 0

    @property
    def wall(self) -> float:
        return self.now + self.wall_offset

    def after(self, seconds: float, call: Callable[[], None], process: Process | None = None) -> None:
        self._made += 1
        heappush(self._calls, (self.now + max(seconds, 0.0), self._made, call, process))

    def run(self, until: float, is_done: Callable[[], bool]) -> None:
        """Make all calls until that time, or until nothing is to be done."""
        calls = self._calls
        while calls and calls[0][0] <= until:
            at, number, call, process = heappop(calls)
            self.now = max(self.now, at)
            if process is not None:
                if not process.is_alive:
                    continue
                if process.frozen_until > self.now:
                    heappush(calls, (process.frozen_until, number, call, process))
                    continue
            try:
                call()
            except Crashed:
                continue
            if is_done():
                return
