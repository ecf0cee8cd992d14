"""Files: a storage, a compression and a format together."""

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from msgspec.structs import replace

from headwater.base.errors import Unavailable
from headwater.connectors.catalogue.file_formats import CsvSourceSettings, JsonProperty, JsonSourceSettings
from headwater.connectors.contract import Column, FileFormat, FileMissing, InvalidFile, RowWriter, StoredFile
from headwater.connectors.formats.csv import CsvFormat
from headwater.connectors.formats.excel import ExcelFormat
from headwater.connectors.formats.json import JsonFormat
from headwater.connectors.formats.parquet import ParquetFormat
from headwater.connectors.formats.values import text_writer
from headwater.runs import files
from headwater.runs.compression import Compression, InflationLimits
from headwater.runs.files import list_sheets, open_file, upload, write_table
from headwater.schemas import IntType, Json, StringType, Type
from tests.connectors.conformance.context import NOW
from tests.connectors.conformance.file_format import Forward
from tests.connectors.formats.typed import EVERY_TYPE, FULL_ROW
from tests.connectors.reference.files import MemoryStorage

COMPRESSIONS: list[Compression] = ["", "Zip", "Gzip", "Snappy"]
COLUMNS = [Column(name="id", type=IntType(32)), Column(name="name", type=StringType())]
CSV = CsvFormat(CsvSourceSettings(separator=",", has_column_names=True))


class ForwardStorage(MemoryStorage):
    """A storage whose files can be read only in order."""

    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        with super().open(name) as stored:
            yield replace(stored, stream=io.BufferedReader(Forward(stored.stream.read())), size=None)


@contextmanager
def create_file(
    storage: MemoryStorage,
    format: FileFormat,
    path: str,
    columns: Sequence[Column],
    *,
    extension: str,
    sheet: str = "",
    compression: Compression = "",
    created_at: datetime | None = None,
) -> Iterator[RowWriter]:
    """Write a table as an export does."""
    content = io.BytesIO()
    with write_table(
        content,
        format,
        path,
        columns,
        extension=extension,
        sheet=sheet,
        compression=compression,
        created_at=created_at,
    ) as writer:
        yield writer
    with upload(storage, path, content, format=format, compression=compression):
        pass


@pytest.mark.parametrize("storage", [MemoryStorage(), ForwardStorage()], ids=["seeks", "forward"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_rows_are_read_as_they_were_written(storage: MemoryStorage, compression: Compression, tmp_path: Path) -> None:
    with create_file(storage, CSV, "people", COLUMNS, extension="csv", compression=compression) as writer:
        for number in range(3_000):
            writer.write([(number, f"name {number}")])
    with open_file(storage, CSV, "people", compression=compression, scratch=tmp_path) as file:
        assert [column.name for column in file.columns] == ["id", "name"]
        rows = [row.values for row in file.rows()]
        size = len(storage.files["people"])
        assert file.bytes_read() == size and file.total_bytes in (size, None)
        assert file.updated_at == NOW
    assert rows == [(str(number), f"name {number}") for number in range(3_000)]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_file_without_rows_is_complete(compression: Compression, tmp_path: Path) -> None:
    storage = MemoryStorage()
    with create_file(storage, CSV, "people", COLUMNS, extension="csv", compression=compression):
        pass
    with open_file(storage, CSV, "people", compression=compression, scratch=tmp_path) as file:
        assert list(file.rows()) == []


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_file_that_fails_does_not_appear(compression: Compression) -> None:
    storage = MemoryStorage()
    storage.files["people"] = b"before"
    with (
        pytest.raises(Unavailable),
        create_file(storage, CSV, "people", COLUMNS, extension="csv", compression=compression) as writer,
    ):
        writer.write([(1, "one")])
        raise Unavailable("the source fails")
    assert storage.files == {"people": b"before"}


FORMATS: dict[str, tuple[FileFormat, str]] = {
    "csv": (CSV, ""),
    "xlsx": (ExcelFormat(None), "People"),
    "json": (
        JsonFormat(JsonSourceSettings(properties=tuple(JsonProperty(key=c.name, value="f") for c in EVERY_TYPE))),
        "",
    ),
    "parquet": (ParquetFormat(), ""),
}


@pytest.mark.parametrize("storage", [MemoryStorage(), ForwardStorage()], ids=["seeks", "forward"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("extension", FORMATS)
def test_every_type_survives(storage: MemoryStorage, extension: str, compression: Compression, tmp_path: Path) -> None:
    """The text of each value is that of CSV, whatever the format and the compression."""
    format, sheet = FORMATS[extension]
    with create_file(
        storage, format, "out/all", EVERY_TYPE, extension=extension, sheet=sheet, compression=compression
    ) as writer:
        for _ in range(100):
            writer.write([FULL_ROW])
    with open_file(storage, format, "out/all", sheet=sheet, compression=compression, scratch=tmp_path) as file:
        rows = [dict(zip([column.name for column in file.columns], row.values, strict=True)) for row in file.rows()]
        types = {column.name: column.type for column in file.columns}
        assert file.total_rows in (100, None)
        assert file.total_bytes is None or 0 < file.bytes_read() <= file.total_bytes
    expected = {
        column.name: text_writer(column.type)(value) for column, value in zip(EVERY_TYPE, FULL_ROW, strict=True)
    }
    if extension == "json":
        expected["special"] = "null"
    assert [{name: as_text(types[name], value) for name, value in row.items()} for row in rows] == [expected] * 100
    assert list_sheets(storage, format, "out/all", compression=compression, scratch=tmp_path) == (
        (sheet,) if sheet else ()
    )
    assert not list(tmp_path.iterdir())


def as_text(type: Type | None, value: Any) -> str:
    """Return the text of a value that was read. JSON of a text or a number has the text of its value."""
    if isinstance(value, Json) and value.text[0] not in "[{":
        return str(json.loads(value.text, parse_int=str, parse_float=str)) if value.text[0] not in "tn" else value.text
    return text_writer(type)(value)


def test_a_file_that_cannot_be_copied_in_full_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "MAX_SPOOLED_BYTES", 100)
    storage = ForwardStorage()
    with create_file(storage, ParquetFormat(), "a", COLUMNS, extension="parquet") as writer:
        writer.write([(1, "one")])
    with (
        pytest.raises(InvalidFile, match="larger than 100 bytes"),
        open_file(storage, ParquetFormat(), "a", scratch=tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: Full())
    storage = ForwardStorage()
    with create_file(storage, ParquetFormat(), "a", COLUMNS, extension="parquet"):
        pass
    with (
        pytest.raises(Unavailable, match="No space left on device"),
        open_file(storage, ParquetFormat(), "a", scratch=tmp_path),
    ):
        pass


def test_errors_of_a_storage_are_not_those_of_the_file(tmp_path: Path) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            raise Unavailable("the storage does not respond")

    class BrokenStorage(MemoryStorage):
        @contextmanager
        def open(self, name: str) -> Iterator[StoredFile]:
            yield StoredFile(stream=io.BufferedReader(Broken()))

    for format, sheet in FORMATS.values():
        for compression in COMPRESSIONS:
            with (
                pytest.raises(Unavailable, match="does not respond"),
                open_file(BrokenStorage(), format, "a", sheet=sheet, compression=compression, scratch=tmp_path),
            ):
                pass


def test_limits_of_decompression_can_be_set(tmp_path: Path) -> None:
    storage = MemoryStorage()
    with create_file(storage, CSV, "a", COLUMNS, extension="csv", compression="Gzip") as writer:
        writer.write([(1, "one")] * 100)
    limits = InflationLimits(max_bytes=100)
    with (
        pytest.raises(InvalidFile, match="larger than 100 bytes"),
        open_file(storage, CSV, "a", compression="Gzip", scratch=tmp_path, limits=limits),
    ):
        pass


def test_the_file_in_an_archive_has_the_name_and_the_time_of_the_run() -> None:
    storage = MemoryStorage()
    with create_file(
        storage,
        CSV,
        "out/users.zip",
        COLUMNS,
        extension="csv",
        compression="Zip",
        created_at=datetime(2026, 3, 1, 8, 30, tzinfo=UTC),
    ):
        pass
    with zipfile.ZipFile(io.BytesIO(storage.files["out/users.zip"])) as archive:
        (entry,) = archive.infolist()
    assert (entry.filename, entry.date_time) == ("users.csv", (2026, 3, 1, 8, 30, 0))


def test_the_media_type_is_that_of_the_compression() -> None:
    class Storage(MemoryStorage):
        @contextmanager
        def create(self, name: str, content_type: str) -> Iterator[BinaryIO]:
            self.files[name] = content_type.encode()
            yield io.BytesIO()

    storage = Storage()
    for compression in COMPRESSIONS:
        with create_file(storage, CSV, f"a{compression}", COLUMNS, extension="csv", compression=compression):
            pass
    assert list(storage.files.values()) == [
        b"text/csv; charset=UTF-8",
        b"application/zip",
        b"application/gzip",
        b"application/x-snappy-framed",
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing), open_file(MemoryStorage(), CSV, "absent", scratch=tmp_path):
        pass


def test_a_format_without_sheets_lists_none(tmp_path: Path) -> None:
    storage = MemoryStorage()
    storage.files["people"] = b"id\n1\n"
    assert list_sheets(storage, CSV, "people", scratch=tmp_path) == ()
