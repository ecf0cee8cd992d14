"""Excel: reads the values of a sheet as they are stored, and writes a workbook with one sheet.

All values are text. A number is as it is stored, so a date is the number of a day.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import chain
from typing import Any, BinaryIO, Final

import xlsxwriter
from xlsxwriter.exceptions import XlsxWriterException
from xlsxwriter.worksheet import Worksheet

from headwater.connectors.catalogue.file_formats import ExcelSourceSettings
from headwater.connectors.contract import (
    Column,
    FileReader,
    FileRow,
    InvalidFile,
    InvalidRow,
    NoColumns,
    RowRead,
    RowWriter,
    SheetMissing,
)
from headwater.connectors.formats.columns import letters, recognise, text_columns
from headwater.connectors.formats.values import ToText, text_writer
from headwater.connectors.formats.workbooks import Sheet, Workbook
from headwater.schemas import MISSING, BooleanType, DecimalType, FloatType, IntType, Type, YearType

MAX_ROWS: Final = 1_048_576
MAX_CELL_CHARACTERS: Final = 32_767
DEFAULT_SHEET: Final = "Sheet1"
_MAX_DIGITS: Final = 15
"""Excel keeps this many digits of a number; numbers with more are written as text."""
_OPTIONS: Final = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_numbers": False,
    "strings_to_urls": False,
}

WriteCell = Callable[[Worksheet, int, int, Any], None]


class _ExcelReader:
    """Implements `FileReader`."""

    total_rows = None

    def __init__(self, workbook: Workbook, sheet: Sheet, *, has_names: bool) -> None:
        self._rows = workbook.rows(sheet)
        first = next(self._rows, None)
        if first is None:
            raise NoColumns("the sheet is empty")
        self.columns = text_columns(first[1], has_names=has_names)
        if not has_names:
            self._rows = chain([first], self._rows)

    def rows(self) -> Iterator[RowRead]:
        count = len(self.columns)
        for number, values in self._rows:
            if len(values) > count:
                raise InvalidFile(
                    f"row {number:,} has a value in column {letters(len(values) - 1)}, "
                    f"and the first row ends in column {letters(count - 1)}"
                )
            if "\0" in "".join(values):
                yield RowRead(number=number, error="the row contains the NUL character")
                continue
            values.extend([""] * (count - len(values)))
            yield RowRead(number=number, values=tuple(values))


class _ExcelWriter:
    """Implements `RowWriter`."""

    def __init__(self, sheet: Worksheet, columns: Sequence[Column]) -> None:
        self._sheet = sheet
        self._names = [column.name for column in columns]
        self._writers = [_cell_writer(column.type) for column in columns]
        self._row = 1
        for index, name in enumerate(self._names):
            sheet.write_string(0, index, name)

    def write(self, rows: Sequence[FileRow]) -> None:
        for row in rows:
            if self._row >= MAX_ROWS:
                raise InvalidRow(f"a sheet of Excel has at most {MAX_ROWS:,} rows")
            for index, (write, value) in enumerate(zip(self._writers, row, strict=True)):
                if value is None or value is MISSING or value == "":
                    continue
                try:
                    write(self._sheet, self._row, index, value)
                except _TooLong:
                    raise InvalidRow(
                        f"{self._names[index]} has more than {MAX_CELL_CHARACTERS:,} characters, the most of a cell"
                    ) from None
            self._row += 1


class _TooLong(Exception):
    """A text is too long for a cell."""


def _cell_writer(type: Type | None) -> WriteCell:
    text = text_writer(type)
    match type:
        case BooleanType():
            return lambda sheet, row, column, value: _write(sheet.write_boolean(row, column, value))
        case IntType() | YearType() | DecimalType() | FloatType():
            return _number_writer(text)
        case _:
            return lambda sheet, row, column, value: _write_text(sheet, row, column, text(value))


def _number_writer(text: ToText) -> WriteCell:
    def write(sheet: Worksheet, row: int, column: int, value: Any) -> None:
        if _is_exact(value):
            _write(sheet.write_number(row, column, value))
        else:
            _write_text(sheet, row, column, text(value))

    return write


def _is_exact(value: int | float | Decimal) -> bool:
    """Return whether Excel keeps all digits of the number."""
    if isinstance(value, int):
        return abs(value) < 10**_MAX_DIGITS
    if isinstance(value, float):
        return math.isfinite(value) and float(f"{value:.16G}") == value
    return len(value.as_tuple().digits) <= _MAX_DIGITS and abs(value.adjusted()) < 100


def _write_text(sheet: Worksheet, row: int, column: int, text: str) -> None:
    if len(text) > MAX_CELL_CHARACTERS:
        raise _TooLong
    _write(sheet.write_string(row, column, text))


def _write(result: int) -> None:
    """Check the result of writing a cell, which is negative if nothing was written."""
    assert result == 0, result


class ExcelFormat:
    """Implements `FileFormat`. Without settings for reading, the first row has the names of the columns."""

    content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    needs_seeking = True

    def __init__(self, settings: ExcelSourceSettings | None) -> None:
        self._has_names = settings is None or settings.has_column_names

    def sheets(self, stream: BinaryIO) -> tuple[str, ...]:
        with _open(stream) as workbook:
            return tuple(sheet.name for sheet in workbook.sheets)

    @contextmanager
    def read(self, stream: BinaryIO, sheet: str) -> Iterator[FileReader]:
        with _open(stream) as workbook:
            found = next((candidate for candidate in workbook.sheets if candidate.name == sheet), None)
            if found is None:
                raise SheetMissing(f"the workbook has no sheet {sheet[:31]!r}")
            yield _ExcelReader(workbook, found, has_names=self._has_names)

    @contextmanager
    def write(self, stream: BinaryIO, columns: Sequence[Column], sheet: str) -> Iterator[RowWriter]:
        try:
            with xlsxwriter.Workbook(stream, _OPTIONS) as workbook:
                yield _ExcelWriter(workbook.add_worksheet(sheet or DEFAULT_SHEET), columns)
        except XlsxWriterException as error:
            raise InvalidRow(f"the workbook cannot be written: {error}") from None


def _open(stream: BinaryIO) -> Workbook:
    start = stream.read(16)
    stream.seek(0)
    found = recognise(start)
    if found is None or "Zip" not in found:
        known = "" if found is None else f": it is {found}"
        raise InvalidFile(f"the file is not a workbook of Excel (.xlsx){known}")
    return Workbook(stream)
