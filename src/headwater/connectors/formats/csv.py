"""CSV: reads rows at nearly the speed of Python's `csv` module, in constant memory for any content.

The stream is read in blocks. A block is split into lines, which the `csv` module reads. Values, lines and rows have
maximum lengths. `csv` accepts quotes inside fields that are not quoted. So rows with quotes in their values are read a
second time by `csv_rows`, which also reads all rows of files with other rules for quotes and spaces.
"""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO, Final, NamedTuple

from headwater.connectors.catalogue.file_formats import CsvDestinationSettings, CsvSourceSettings
from headwater.connectors.contract import (
    Column,
    FileReader,
    FileRow,
    InvalidFile,
    NoColumns,
    RowRead,
    RowWriter,
)
from headwater.connectors.formats.columns import check_text, text_columns
from headwater.connectors.formats.csv_rows import MAX_VALUE_CHARACTERS, Rules, read_rows
from headwater.connectors.formats.values import text_writer

_BLOCK_BYTES: Final = 1 << 18
MAX_LINE_BYTES: Final = 4 << 20
"""Maximum length of a line. A file with a longer one is invalid, so that one line cannot fill the memory."""
MAX_ROW_BYTES: Final = 4 << 20
"""Maximum length of the lines of one row, whose quoted values may have line breaks."""
_BOM: Final = b"\xef\xbb\xbf"

csv.field_size_limit(MAX_VALUE_CHARACTERS)


class _Block(NamedTuple):
    """Some lines. `line` is the number of the first one, and `position` its offset in the file."""

    lines: list[bytes]
    line: int
    position: int
    size: int
    has_quotes: bool
    has_nul: bool


class _Lines:
    """The lines of a stream. It keeps those of the row that is being read, for messages and a second reading."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._blocks: deque[_Block] = deque()
        self.row_line = 1
        """The line at which the current row begins. The reader of rows sets it."""
        self.has_quotes = False
        """Whether the current row may have quotes."""
        self.has_nul = False

    def __iter__(self) -> Iterator[str]:
        return map(bytes.decode, chain.from_iterable(self._read()))

    def text(self, first: int, last: int) -> list[str]:
        """Return the lines with these numbers, which must belong to the current row."""
        return [
            line.decode()
            for block in self._blocks
            for line in block.lines[max(first - block.line, 0) : max(last + 1 - block.line, 0)]
        ]

    def undecodable(self) -> InvalidFile:
        """Return the error for the first line that is not UTF-8."""
        for block in self._blocks:
            position = block.position
            for number, line in enumerate(block.lines, start=block.line):
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    byte = position + error.start
                    found = f"byte {byte + 1:,} of the file is 0x{line[error.start]:02X}"
                    return InvalidFile(f"line {number:,} is not text in UTF-8: {found}")
                position += len(line)
        raise AssertionError("all lines are UTF-8")

    def _read(self) -> Iterator[list[bytes]]:
        line, position, rest = 1, 0, b""
        data = self._first()
        if data.startswith(_BOM):
            data, position = data[len(_BOM) :], len(_BOM)
        is_last = not data
        while not is_last:
            more = self._stream.read(_BLOCK_BYTES)
            is_last = not more
            text = rest + data
            lines = text.splitlines(keepends=True)
            # The last line may go on in the next block, and a CR at its end may be the first half of a line end.
            rest = b"" if is_last or text.endswith(b"\n") else lines.pop()
            if len(rest) > MAX_LINE_BYTES or (lines and len(lines[0]) > MAX_LINE_BYTES):
                number = line if lines and len(lines[0]) > MAX_LINE_BYTES else line + len(lines)
                raise InvalidFile(f"line {number:,} is longer than {MAX_LINE_BYTES:,} bytes")
            if lines:
                size = len(text) - len(rest)
                self._begin(_Block(lines, line, position, size, b'"' in text, b"\0" in text))
                yield lines
                line += len(lines)
                position += size
            data = more

    def _first(self) -> bytes:
        """Return the beginning of the file, with enough bytes to recognise it."""
        data = b""
        while len(data) < 16 and (more := self._stream.read(_BLOCK_BYTES)):
            data += more
        check_text(data, "CSV")
        return data

    def _begin(self, block: _Block) -> None:
        """Forget the blocks of earlier rows. Raises InvalidFile if the current row is too long."""
        blocks = self._blocks
        while blocks and blocks[0].line + len(blocks[0].lines) <= self.row_line:
            blocks.popleft()
        if sum(waiting.size for waiting in blocks) > MAX_ROW_BYTES:
            raise InvalidFile(
                f"the row that begins in line {self.row_line:,} is longer than {MAX_ROW_BYTES:,} bytes; "
                "a quote may not be closed"
            )
        blocks.append(block)
        self.has_quotes = any(waiting.has_quotes for waiting in blocks)
        self.has_nul = any(waiting.has_nul for waiting in blocks)


class _CsvReader:
    """Implements `FileReader`."""

    total_rows = None

    def __init__(self, stream: BinaryIO, settings: CsvSourceSettings) -> None:
        self._settings = settings
        self._rules = Rules(settings.separator, settings.lazy_quotes, settings.trim_leading_space)
        self._lines = _Lines(stream)
        self._rows = self._read() if self._rules.are_usual else self._read_slowly()
        first = next(self._rows, None)
        if first is None:
            raise NoColumns("the file is empty")
        number, headings = first
        self._fields = settings.number_of_columns or len(headings)
        self._check(number, headings)
        self.columns = text_columns(headings, has_names=settings.has_column_names)
        if not settings.has_column_names:
            self._rows = chain([first], self._rows)

    def rows(self) -> Iterator[RowRead]:
        lines, fields = self._lines, self._fields
        for number, values in self._rows:
            if len(values) != fields:
                self._check(number, values)
            if lines.has_nul and "\0" in "".join(values):
                yield RowRead(number=number, error="the row contains the NUL character")
                continue
            yield RowRead(number=number, values=tuple(values))

    def _check(self, number: int, values: Sequence[str]) -> None:
        if len(values) == self._fields:
            return
        expected = "numberOfColumns is" if self._settings.number_of_columns else "the first row has"
        raise InvalidFile(f"line {number:,} has {_fields(len(values))}, and {expected} {self._fields:,}")

    def _read(self) -> Iterator[tuple[int, list[str]]]:
        """Return the rows that are not empty, each with the number of its first line."""
        lines = self._lines
        reader = csv.reader(iter(lines), delimiter=self._settings.separator, strict=True)
        first = 1
        try:
            for values in reader:
                last = reader.line_num
                if lines.has_quotes and '"' in "".join(values):
                    self._check_quotes(first, last)
                if values:
                    yield first, values
                first = lines.row_line = last + 1
        except UnicodeDecodeError:
            raise lines.undecodable() from None
        except csv.Error as error:
            self._check_quotes(first, reader.line_num)
            raise InvalidFile(f"line {first:,} is not CSV: {error}") from None

    def _check_quotes(self, first: int, last: int) -> None:
        """Read the current row, which is in these lines, by the exact rules. Raises InvalidFile."""
        for _ in read_rows(iter(self._lines.text(first, last)), self._rules, first):
            pass

    def _read_slowly(self) -> Iterator[tuple[int, list[str]]]:
        lines = self._lines
        try:
            for first, last, values in read_rows(iter(lines), self._rules, 1):
                if values:
                    yield first, values
                lines.row_line = last + 1
        except UnicodeDecodeError:
            raise lines.undecodable() from None


class _CsvWriter:
    """Implements `RowWriter`."""

    def __init__(self, stream: BinaryIO, columns: Sequence[Column], settings: CsvDestinationSettings) -> None:
        self._stream = stream
        self._end = "\r\n" if settings.use_crlf else "\n"
        self._writers = [text_writer(column.type) for column in columns]
        self._pieces: list[str] = []
        # With CR and LF as its line end, `csv` quotes values with either of them.
        self._csv = csv.writer(_Pieces(self._pieces), delimiter=settings.separator, lineterminator="\r\n")
        self._csv.writerow([column.name for column in columns])
        self._flush()

    def write(self, rows: Sequence[FileRow]) -> None:
        writers = self._writers
        self._csv.writerows([[write(value) for write, value in zip(writers, row, strict=True)] for row in rows])
        self._flush()

    def _flush(self) -> None:
        end = self._end
        self._stream.write("".join([piece[:-2] + end for piece in self._pieces]).encode())
        self._pieces.clear()


class _Pieces:
    """A file for `csv.writer` that keeps the rows as they are written."""

    def __init__(self, pieces: list[str]) -> None:
        self.write = pieces.append


class CsvFormat:
    """Implements `FileFormat`. It reads what it writes; the settings of one role imply those of the other."""

    content_type = "text/csv; charset=UTF-8"
    needs_seeking = False

    def __init__(self, settings: CsvSourceSettings | CsvDestinationSettings) -> None:
        if isinstance(settings, CsvSourceSettings):
            self._source = settings
            self._destination = CsvDestinationSettings(separator=settings.separator)
        else:
            self._source = CsvSourceSettings(separator=settings.separator, has_column_names=True)
            self._destination = settings

    def sheets(self, stream: BinaryIO) -> tuple[str, ...]:
        return ()

    @contextmanager
    def read(self, stream: BinaryIO, sheet: str) -> Iterator[FileReader]:
        yield _CsvReader(stream, self._source)

    @contextmanager
    def write(self, stream: BinaryIO, columns: Sequence[Column], sheet: str) -> Iterator[RowWriter]:
        yield _CsvWriter(stream, columns, self._destination)


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count:,} fields"
