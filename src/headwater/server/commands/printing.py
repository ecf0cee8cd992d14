"""How commands print: tables for people, and names that cannot take over a terminal."""

from collections.abc import Sequence

from headwater.server.errors import StartupError


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be. What people have typed is made printable."""
    lines = [list(heads), *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def identifier(text: str) -> int:
    """The number that an argument is. Raises StartupError; the rules say whether it can be an identifier."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise StartupError(f"{_printable(text)!r} is not an identifier: identifiers are numbers")
    return int(text)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
