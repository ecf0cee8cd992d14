"""Files: a storage, a compression and a format together."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from headwater.base.errors import Unavailable
from headwater.connectors.catalogue.file_formats import CsvSourceSettings
from headwater.connectors.contract import Column, FileMissing, StoredFile
from headwater.connectors.formats.csv import CsvFormat
from headwater.runs.compression import Compression
from headwater.runs.files import create_file, list_sheets, open_file
from headwater.schemas import IntType, StringType
from tests.connectors.conformance.context import NOW
from tests.connectors.conformance.file_format import Forward
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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing), open_file(MemoryStorage(), CSV, "absent", scratch=tmp_path):
        pass


def test_a_format_without_sheets_lists_none(tmp_path: Path) -> None:
    storage = MemoryStorage()
    storage.files["people"] = b"id\n1\n"
    assert list_sheets(storage, CSV, "people", scratch=tmp_path) == ()
