"""Files in memory and CSV: the reference implementations of `FileStorage` and `FileFormat` for their suites."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO

from headwater.connectors.contract import (
    Column,
    FileMissing,
    InvalidFile,
    InvalidFileName,
    Row,
    RowRead,
    StoredFile,
)
from headwater.schemas import StringType
from tests.connectors.conformance.context import NOW

MAX_NAME_CHARACTERS = 1_024


class MemoryStorage:
    """Implements `FileStorage`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def absolute_path(self, name: str) -> str:
        if not 0 < len(name) <= MAX_NAME_CHARACTERS or "\0" in name or ".." in PurePosixPath(name).parts:
            raise InvalidFileName(f"{name[:100]!r} is not the name of a file")
        return f"/memory/{name}"

    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        self.absolute_path(name)
        if name not in self.files:
            raise FileMissing(f"{name} does not exist")
        content = self.files[name]
        yield StoredFile(stream=io.BytesIO(content), size=len(content), updated_at=NOW)

    @contextmanager
    def create(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        self.absolute_path(name)
        stream = io.BytesIO()
        yield stream
        self.files[name] = stream.getvalue()


class CsvReader:
    total_rows = None

    def __init__(self, stream: BinaryIO) -> None:
        self._rows = csv.reader(io.TextIOWrapper(stream, "utf-8", newline=""), strict=True)
        header = self._next()
        if not header:
            raise InvalidFile("the file has no columns")
        self.columns = tuple(Column(name=name, type=StringType()) for name in header)

    def rows(self) -> Iterator[RowRead]:
        number = 0
        while (values := self._next()) is not None:
            number += 1
            if len(values) != len(self.columns):
                raise InvalidFile(f"row {number} has {len(values)} fields, and there are {len(self.columns)} columns")
            yield RowRead(number=number, values=tuple(values))

    def _next(self) -> list[str] | None:
        try:
            return next(self._rows, None)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidFile(f"the file is not CSV: {error}") from error


class CsvWriter:
    def __init__(self, text: io.TextIOWrapper) -> None:
        self._rows = csv.writer(text, quoting=csv.QUOTE_ALL)

    def write(self, rows: Sequence[Row]) -> None:
        self._rows.writerows(rows)


class CsvFormat:
    """Implements `FileFormat`."""

    content_type = "text/csv"
    needs_seeking = False

    def sheets(self, stream: BinaryIO) -> tuple[str, ...]:
        return ()

    @contextmanager
    def read(self, stream: BinaryIO, sheet: str) -> Iterator[CsvReader]:
        yield CsvReader(stream)

    @contextmanager
    def write(self, stream: BinaryIO, columns: Sequence[Column], sheet: str) -> Iterator[CsvWriter]:
        text = io.TextIOWrapper(stream, "utf-8", newline="", write_through=True)
        writer = CsvWriter(text)
        writer.write([tuple(column.name for column in columns)])
        yield writer
        text.detach()
