"""Reads the rows of a file. It is read as a whole in every run; rows that are older than the cursor are left out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final

from headwater.base.errors import HeadwaterError
from headwater.runs.files import OpenFile
from headwater.runs.importing.alignment import check_columns
from headwater.runs.importing.records import (
    MAX_READ_BYTES,
    MAX_READ_ROWS,
    START,
    FailedRecord,
    Place,
    RawBatch,
)
from headwater.runs.job import Report, RunFailed
from headwater.schemas import Json, Schema, StringType


class FileSource:
    """Implements `Source`."""

    has_filter = True
    skips_repeats = False

    def __init__(self, opened: Callable[[], AbstractContextManager[OpenFile]], report: Report) -> None:
        """`opened` opens the file."""
        self._opened = opened
        self._report = report
        self._open = ExitStack()
        self.columns: tuple[str, ...] | None = None

    def open(self, stored: Schema, since: int | None) -> None:
        """Open the file, and check its columns. Raises RunFailed."""
        try:
            self._file = self._open.enter_context(self._opened())
        except HeadwaterError as error:
            raise RunFailed("Receive", error.message) from error
        check_columns(stored, self._file.columns)
        self.columns = tuple(column.name for column in self._file.columns)
        self._report.expect(rows=self._file.total_rows, bytes=self._file.total_bytes)
        self._report.read(bytes=0)

    @property
    def _version(self) -> str:
        """The version of the file; without one, its size and the time of its last change."""
        file = self._file
        return file.version or f"{file.total_bytes} {file.updated_at}"

    def restarts(self, place: Place) -> bool:
        """Return whether the file has changed since the place was stored."""
        return place != START and place.version != self._version

    def batches(self, since: int | None, place: Place) -> Iterator[RawBatch]:
        """Read the rows after a place. Raises RunFailed."""
        version, file = self._version, self._file
        rows: list[Any] = []
        numbers: list[int] = []
        failed: list[FailedRecord] = []
        size = 0
        last = place.row
        measure = _measure_texts if all(column.type == _TEXT for column in file.columns) else _measure
        try:
            for row in file.rows():
                last = row.number
                if last <= place.row:
                    if not last % MAX_READ_ROWS:
                        self._report.check()
                        self._report.read(bytes=file.bytes_read())
                    continue
                if row.error:
                    failed.append(FailedRecord("Receive", row.error, last))
                else:
                    rows.append(row.values)
                    numbers.append(last)
                    size += measure(row.values)
                if len(numbers) >= MAX_READ_ROWS or size >= MAX_READ_BYTES or len(failed) >= MAX_READ_ROWS:
                    self._report.check()
                    yield RawBatch(Place(version, last), rows, numbers, failed, file.bytes_read())
                    rows, numbers, failed, size = [], [], [], 0
        except HeadwaterError as error:
            raise RunFailed("Receive", error.message) from error
        if rows or failed:
            yield RawBatch(Place(version, last), rows, numbers, failed, file.bytes_read())

    def close(self) -> None:
        """Close the file."""
        self._open.close()


_TEXT: Final = StringType()


def _measure_texts(values: Sequence[Any]) -> int:
    return len("".join(values))


def _measure(values: Sequence[Any]) -> int:
    """Return the size of the large values of a row."""
    size = 0
    for value in values:
        if isinstance(value, str | bytes):
            size += len(value)
        elif isinstance(value, Json):
            size += len(value.text)
        elif isinstance(value, list | dict):
            size += len(str(value))
    return size
