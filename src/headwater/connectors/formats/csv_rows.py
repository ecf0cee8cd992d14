"""Reads the rows of CSV with exact rules for quotes, slower than the `csv` module.

A field is quoted if it begins with a quote. In a quoted field a quote is written twice. With lazy quotes, a quote may
be anywhere: in a field that is not quoted, and in a quoted one if neither a quote nor the end of the field follows.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from headwater.connectors.contract import InvalidFile

MAX_VALUE_CHARACTERS: Final = 1 << 20
"""Maximum length of a value."""


class Rules(NamedTuple):
    separator: str
    lazy: bool
    """Quotes may be anywhere."""
    trim: bool
    """Spaces before a field do not belong to it."""

    @property
    def are_usual(self) -> bool:
        """Return whether these are the rules of the `csv` module in its strict mode."""
        return not self.lazy and not self.trim


def read_rows(lines: Iterator[str], rules: Rules, number: int) -> Iterator[tuple[int, int, list[str]]]:
    """Return the first and the last line of each row, and its fields; an empty line is a row without fields.

    `lines` have their line ends, and `number` is the number of the first one. Raises InvalidFile.
    """
    for line in lines:
        first = number
        row = _Row(line, lines, rules, number)
        fields = row.read()
        yield first, row.number, fields
        number = row.number + 1


class _Row:
    """Reads one row, which takes more lines if a line ends inside quotes."""

    def __init__(self, line: str, lines: Iterator[str], rules: Rules, number: int) -> None:
        self._text = line
        self._lines = lines
        self._rules = rules
        self._first = number
        self.number = number
        """The number of the line that is being read."""
        self._position = 0
        self._end = _end(line)

    def read(self) -> list[str]:
        separator, lazy, trim = self._rules
        if self._end == 0:
            return []
        if not trim and '"' not in self._text:
            return self._checked(self._text[: self._end].split(separator))
        fields = []
        while True:
            if trim:
                self._skip_spaces()
            if self._text.startswith('"', self._position):
                fields.append(self._quoted())
            else:
                stop = self._text.find(separator, self._position, self._end)
                field = self._text[self._position : self._end if stop < 0 else stop]
                if '"' in field and not lazy:
                    raise InvalidFile(_broken_quote(self.number))
                fields.append(field)
                self._position += len(field)
            if self._position >= self._end:
                return self._checked(fields)
            self._position += len(separator)

    def _skip_spaces(self) -> None:
        while self._position < self._end and self._text[self._position].isspace():
            self._position += 1

    def _quoted(self) -> str:
        """Return the field whose opening quote is next, and move to the separator behind it."""
        pieces: list[str] = []
        size = 0
        self._position += 1
        while True:
            quote = self._text.find('"', self._position)
            piece = self._text[self._position :] if quote < 0 else self._text[self._position : quote]
            pieces.append(piece)
            size += len(piece)
            if size > MAX_VALUE_CHARACTERS:
                raise InvalidFile(_too_long(self._first))
            if quote < 0:
                if not self._next_line():
                    return self._unclosed(pieces)
                continue
            self._position = quote + 1
            if self._position >= self._end or self._text.startswith(self._rules.separator, self._position):
                return "".join(pieces)
            if self._text.startswith('"', self._position):
                self._position += 1
            elif not self._rules.lazy:
                raise InvalidFile(_broken_quote(self.number))
            pieces.append('"')
            size += 1

    def _next_line(self) -> bool:
        line = next(self._lines, None)
        if line is None:
            return False
        self._text, self._position, self._end = line, 0, _end(line)
        self.number += 1
        return True

    def _unclosed(self, pieces: list[str]) -> str:
        """Return the last field of a file that ends in a quoted field."""
        if not self._rules.lazy:
            raise InvalidFile(_not_closed(self._first))
        self._position = self._end = len(self._text)
        text = "".join(pieces)
        return text[: _end(text)]

    def _checked(self, fields: list[str]) -> list[str]:
        if len(self._text) > MAX_VALUE_CHARACTERS and any(len(field) > MAX_VALUE_CHARACTERS for field in fields):
            raise InvalidFile(_too_long(self._first))
        return fields


def _too_long(line: int) -> str:
    """Return the message for a value that is too long."""
    return (
        f"the row that begins in line {line:,} has a value of more than {MAX_VALUE_CHARACTERS:,} characters; "
        "a quote may not be closed"
    )


def _not_closed(line: int) -> str:
    """Return the message for a quoted value without an end."""
    return f"the row that begins in line {line:,} has a quote that is not closed"


def _broken_quote(line: int) -> str:
    """Return the message for a quote that is neither around a value nor written twice."""
    return f"line {line:,} has a quote in a value; put the value in quotes and write the quote twice, or set lazyQuotes"


def _end(line: str) -> int:
    """Return the length of the line without its line end."""
    return len(line.rstrip("\r\n"))
