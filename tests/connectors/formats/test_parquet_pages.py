"""The sizes of the pages of Parquet files, and files whose pages are too large."""

import io
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.connectors.contract import InvalidFile
from headwater.connectors.formats import parquet_pages
from headwater.connectors.formats.parquet import ParquetFormat
from headwater.connectors.formats.parquet_pages import check_pages, read_pages

TABLE = pa.table(
    {
        "number": list(range(30_000)),
        "text": [f"text {number % 700} {'x' * (number % 50)}" for number in range(30_000)],
        "empty": pa.nulls(30_000, pa.string()),
        "flag": [number % 3 == 0 for number in range(30_000)],
    }
)


def written(table: pa.Table, **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    stream.seek(0)
    return stream


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_the_headers_lead_from_page_to_page(version: str, compression: str, use_dictionary: bool) -> None:
    stream = written(
        TABLE,
        data_page_version=version,
        compression=compression,
        use_dictionary=use_dictionary,
        write_page_checksum=True,
        data_page_size=10_000,
        row_group_size=20_000,
    )
    metadata = pq.ParquetFile(stream).metadata
    for index in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(index).column(column)
            pages = list(read_pages(stream, chunk))
            assert sum(page.header + page.stored for page in pages) == chunk.total_compressed_size
            assert sum(page.header + page.size for page in pages) == chunk.total_uncompressed_size
            assert [page.is_dictionary for page in pages].count(True) == int(chunk.has_dictionary_page)


def test_a_large_page_ends_the_reading_before_it_is_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "MAX_PAGES_BYTES", 1 << 20)
    texts = ["x" * 100_000] * 20
    stream = written(pa.table({"id": range(20), "text": texts}), use_dictionary=False, compression="zstd")
    assert len(stream.getvalue()) < 10_000
    with ParquetFormat().read(stream, "") as file, pytest.raises(InvalidFile, match="the pages of column text are too"):
        list(file.rows())


def test_the_pages_of_all_columns_count_together_if_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = written(pa.table({name: ["x" * 1_000] * 600 for name in "abc"}), use_dictionary=False)
    group = pq.ParquetFile(stream).metadata.row_group(0)
    monkeypatch.setattr(parquet_pages, "MAX_PAGES_BYTES", 1_300_000)
    check_pages(stream, group, {"a", "b"})
    with pytest.raises(InvalidFile):
        check_pages(stream, group, {"a", "b", "c"})


LARGE = b"\xa8" + b"\x80\x80\x20" + b"x" * (512 << 10)
"""A text of half a megabyte as the last field of a header."""


@pytest.mark.parametrize(
    "fields",
    [LARGE + b"\x18" + LARGE[1:], b"\xab\x01\x55\x02\x02", b"\xac" + b"\x1c" * 20 + b"\0" * 21],
    ids=["large", "map", "deep"],
)
def test_a_header_that_only_pyarrow_can_read_hides_no_page(fields: bytes) -> None:
    texts = [f"{number:010}" * 110 for number in range(1_000)]
    host = written(pa.table({"text": texts}), use_dictionary=False, compression="none")
    small = written(pa.table({"text": [text[:10] for text in texts]}), use_dictionary=False, compression="none")
    at, start = (pq.ParquetFile(file).metadata.row_group(0).column(0).data_page_offset for file in (host, small))
    [page] = read_pages(small, pq.ParquetFile(small).metadata.row_group(0).column(0))
    head, body = small.getvalue()[start:][: page.header], small.getvalue()[start + page.header :][: page.stored]
    host.seek(at)
    host.write(head[:-1] + fields + head[-1:] + body)
    assert pq.ParquetFile(host).read().column(0).to_pylist() == [text[:10] for text in texts]
    host.seek(0)
    with ParquetFormat().read(host, "") as file, pytest.raises(InvalidFile, match="column text has no valid header"):
        list(file.rows())


@given(st.binary(max_size=200), st.integers(0, 3_000))
def test_bytes_that_are_no_header_end_the_search(noise: bytes, at: int) -> None:
    stream = written(TABLE.slice(0, 300))
    metadata = pq.ParquetFile(stream).metadata
    stream.seek(at)
    stream.write(noise)
    for column in range(metadata.num_columns):
        with suppress(InvalidFile):
            assert len(list(read_pages(stream, metadata.row_group(0).column(column)))) < 10_000
