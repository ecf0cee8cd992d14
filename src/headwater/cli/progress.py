"""Shows progress: a bar that is drawn again and again on a terminal, or a line every few seconds elsewhere."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Protocol, TextIO, TypeVar

from headwater.base.clock import SystemClock

WATCH_SECONDS: Final = 0.5
"""Interval at which `watch` reads the progress."""

LINE_SECONDS: Final = 5.0
"""Minimum interval of lines where the output is not a terminal."""
BAR_CHARACTERS: Final = 30


class Watched(Protocol):
    """A run or an operation."""

    @property
    def ended_at(self) -> int | None:
        """The time of its end; None before that."""


_Watched = TypeVar("_Watched", bound=Watched)


class ProgressView:
    """Shows lines of progress, each in the place of the one before on a terminal."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._is_terminal = output.isatty()
        self._next_line = 0.0
        self._width = 0

    def show(self, line: str, *, is_last: bool) -> None:
        """Show the present progress. The last line is always shown."""
        if self._is_terminal:
            self._output.write(f"\r{line.ljust(self._width)}")
            self._width = len(line)
        elif time.monotonic() >= self._next_line or is_last:
            self._output.write(f"{line}\n")
            self._next_line = time.monotonic() + LINE_SECONDS
        self._output.flush()

    def close(self) -> None:
        """End the line of the bar."""
        if self._is_terminal:
            self._output.write("\n")


async def watch(read: Callable[[], Awaitable[_Watched]], line: Callable[[_Watched, datetime], str]) -> _Watched:
    """Show the progress of a run or an operation until it ends, and return it. `line` makes one line of it."""
    view, clock = ProgressView(sys.stderr), SystemClock()
    while True:
        found = await read()
        view.show(line(found, clock.now()), is_last=found.ended_at is not None)
        if found.ended_at is not None:
            view.close()
            return found
        await asyncio.sleep(WATCH_SECONDS)


def draw_bar(share: float) -> str:
    """Return a bar for a share from 0 to 1, with its percentage."""
    full = int(share * BAR_CHARACTERS)
    return f"[{'#' * full}{'.' * (BAR_CHARACTERS - full)}] {int(share * 100):3d} %"
