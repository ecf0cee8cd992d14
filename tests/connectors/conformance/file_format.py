"""The conformance suite of `FileFormat`."""

import io
from abc import ABC, abstractmethod
from typing import Any

import pytest

from headwater.connectors.contract import Column, FileFormat, FileRow, InvalidFile, Row
from headwater.schemas import StringType

TEXTS = ("plain", "", "a,b", 'quo"te', "line\nbreak", "é\N{GRINNING FACE}", " spaces ", "=1+1", "'", "\t")


class Forward(io.RawIOBase):
    """Bytes that can be read only once and in order."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.readinto(buffer)


class FileFormatConformance(ABC):
    """`make` returns the format with settings that read what they write. `INVALID` are contents of another format."""

    SHEET = ""
    """The name of a sheet, if the format has sheets."""
    INVALID: tuple[bytes, ...] = ()

    @abstractmethod
    def make(self) -> FileFormat: ...

    def columns(self) -> list[Column]:
        return [Column(name=name, type=StringType()) for name in ("name", "text")]

    def rows(self) -> list[Row]:
        return [(f"n{number}", text) for number, text in enumerate(TEXTS)]

    def written(self, rows: list[Row], piece: int = 3) -> bytes:
        stream = io.BytesIO()
        with self.make().write(stream, self.columns(), self.SHEET) as writer:
            for start in range(0, len(rows), piece):
                writer.write(rows[start : start + piece])
        assert not stream.closed
        return stream.getvalue()

    def read(self, content: bytes) -> list[FileRow]:
        with self.make().read(io.BytesIO(content), self.SHEET) as reader:
            rows = list(reader.rows())
        assert not any(row.error for row in rows)
        return [row.values for row in rows]

    def test_rows_are_read_as_they_were_written(self) -> None:
        assert self.read(self.written(self.rows())) == self.rows()

    def test_the_columns_are_read(self) -> None:
        with self.make().read(io.BytesIO(self.written(self.rows())), self.SHEET) as reader:
            assert [column.name for column in reader.columns] == ["name", "text"]

    def test_a_file_without_rows_is_read(self) -> None:
        assert self.read(self.written([])) == []

    def test_rows_are_numbered(self) -> None:
        with self.make().read(io.BytesIO(self.written(self.rows())), self.SHEET) as reader:
            numbers = [row.number for row in reader.rows()]
        assert len(numbers) == len(TEXTS) and numbers == sorted(set(numbers)) and numbers[0] >= 1

    def test_a_stream_may_return_any_pieces(self) -> None:
        assert self.read(self.written(self.rows(), 1)) == self.read(self.written(self.rows(), 100))

    def test_sheets_are_read_by_name(self) -> None:
        sheets = self.make().sheets(io.BytesIO(self.written(self.rows())))
        assert sheets == ((self.SHEET,) if self.SHEET else ())
        if self.SHEET:
            content = io.BytesIO(self.written(self.rows()))
            with pytest.raises(InvalidFile), self.make().read(content, "missing"):
                pass

    def test_other_content_is_rejected(self) -> None:
        assert self.INVALID
        for content in self.INVALID:
            with pytest.raises(InvalidFile):
                self.read(content)

    def test_a_stream_need_not_seek_unless_the_format_says_so(self) -> None:
        content = self.written(self.rows())
        stream = io.BytesIO(content) if self.make().needs_seeking else io.BufferedReader(Forward(content))
        with self.make().read(stream, self.SHEET) as reader:
            assert len(list(reader.rows())) == len(TEXTS)

    def test_the_media_type_is_stated(self) -> None:
        kind, _, subtype = self.make().content_type.partition("/")
        assert kind and subtype
