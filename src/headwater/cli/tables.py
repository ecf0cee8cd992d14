"""Tables for people: aligned, as wide as the terminal, without characters that could control it.

Colours appear on a terminal only, and never if NO_COLOR is set.
"""

import os
import shutil
import unicodedata
from collections.abc import Sequence
from typing import Final, TextIO

from headwater.cli.errors import UsageError

MIN_COLUMN_CHARACTERS: Final = 6
"""Width below which a column is not cut."""
GAP: Final = "  "
_STYLES: Final = {"bold": "1", "red": "31", "green": "32", "yellow": "33"}


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]], max_width: int | None = None) -> str:
    """Return a table with aligned columns. With `max_width` the widest cells are cut, and end with an ellipsis."""
    lines = [list(heads), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(measure, column)) for column in zip(*lines, strict=True)]
    if max_width is not None:
        widths = _narrow(widths, max_width - len(GAP) * (len(widths) - 1))
    return "\n".join(
        GAP.join(_fit(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def measure(text: str) -> int:
    """Return the number of columns that a text takes on a terminal."""
    return sum(_columns(character) for character in text)


def printable(text: str) -> str:
    """Return a text in which characters that could control a terminal are replaced."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def terminal_width(stream: TextIO) -> int | None:
    """Return the columns of the terminal that a stream writes to; None if it is no terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def style(text: str, name: str, stream: TextIO) -> str:
    """Return a text in a colour, or bold, if the stream is a terminal and NO_COLOR is not set."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_STYLES[name]}m{text}\x1b[0m"


def parse_identifier(text: str) -> int:
    """Return the number in an argument. Raises UsageError; the rules of the resource check the number itself."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise UsageError(f"{printable(text)!r} is not an identifier: identifiers are numbers")
    return int(text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _narrow(widths: list[int], available: int) -> list[int]:
    """Return widths whose sum fits, taken from the widest columns first."""
    narrowed = list(widths)
    while sum(narrowed) > available and max(narrowed) > MIN_COLUMN_CHARACTERS:
        widest = max(narrowed)
        next_width = max([width for width in narrowed if width < widest], default=0)
        columns = [index for index, width in enumerate(narrowed) if width == widest]
        excess = sum(narrowed) - available
        target = max(next_width, widest - -(-excess // len(columns)), MIN_COLUMN_CHARACTERS)
        for index in columns:
            narrowed[index] = target
    return narrowed


def _fit(cell: str, width: int) -> str:
    if measure(cell) > width:
        kept, used = [], 1
        for character in cell:
            if used + _columns(character) > width:
                break
            kept.append(character)
            used += _columns(character)
        cell = "".join(kept) + "…"
    return cell + " " * (width - measure(cell))
