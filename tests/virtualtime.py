"""Runs coroutines on an event loop whose time goes faster while the loop is idle.

Pauses, rates and timeouts of minutes pass in seconds, with real sockets, threads and databases: while something
happens, the time goes at its usual pace.
"""

import asyncio
import importlib
import select
import selectors
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import pytest

START: Final = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SPEED: Final = 500.0
"""Seconds that pass in one idle second."""
MIN_PAUSE_SECONDS: Final = 0.0002
"""Time for threads and sockets to make progress before a timer fires."""

_Result = TypeVar("_Result")

# Otherwise a thread imports the HTTP library for the first request, and an idle loop passes many seconds meanwhile.
importlib.import_module("headwater.connectors.http")


class _Selector(selectors.DefaultSelector):
    """Waits for a fraction of the given time, and counts the idle time that it has skipped."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        began = time.monotonic()
        # Epoll rounds a timeout up to milliseconds. A wait for its descriptor does not, and ends with an event, too.
        select.select([self], [], [], max(timeout / SPEED, MIN_PAUSE_SECONDS))
        events = super().select(0)
        if not events:
            self.skipped += min((time.monotonic() - began) * (SPEED - 1), timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with the time of its selector."""

    def __init__(self) -> None:
        self._skipping = _Selector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return time.monotonic() + self._skipping.skipped


class VirtualClock:
    """A clock that shows the time of the loop, from `START`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._began = loop.time()

    def now(self) -> datetime:
        return START + timedelta(seconds=self._loop.time() - self._began)


def run_in_virtual_time(
    patch: pytest.MonkeyPatch, modules: tuple[Any, ...], main: Callable[[VirtualClock], Coroutine[Any, Any, _Result]]
) -> _Result:
    """Run a coroutine in virtual time, which `time.monotonic` of the modules shows, too."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        for module in modules:
            patch.setattr(module, "time", SimpleNamespace(monotonic=loop.time, perf_counter=time.perf_counter))
        return runner.run(main(VirtualClock(loop)))
