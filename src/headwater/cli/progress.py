"""Shows progress: a bar that is drawn again and again on a terminal, or a line every few seconds elsewhere."""

import time
from typing import Final, TextIO

LINE_SECONDS: Final = 5.0
"""Minimum interval of lines where the output is not a terminal."""
BAR_CHARACTERS: Final = 30


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


def draw_bar(share: float) -> str:
    """Return a bar for a share from 0 to 1, with its percentage."""
    full = int(share * BAR_CHARACTERS)
    return f"[{'#' * full}{'.' * (BAR_CHARACTERS - full)}] {int(share * 100):3d} %"
