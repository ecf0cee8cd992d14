"""Compression: files of other programs, damaged files, and files that are made to fill a disk."""

import contextlib
import gzip
import io
import itertools
import random
import zipfile
import zlib
from datetime import UTC, datetime
from typing import Final

import pytest
import snappy
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.connectors.contract import InvalidFile
from headwater.runs.compression import Compression, InflationLimits, compress, decompress, entry_name
from tests.connectors.conformance.file_format import Forward
from tests.connectors.formats.growth import memory_growth

COMPRESSIONS: Final[tuple[Compression, ...]] = ("", "Zip", "Gzip", "Snappy")
CONTENT: Final = random.Random(1).randbytes(200_000) + b"text " * 100_000


class Strict(io.BytesIO):
    """A stream that refuses positions before its beginning, as those of storages do."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_END and offset < -len(self.getbuffer()):
            raise ValueError("the position is negative")
        return super().seek(offset, whence)


def compressed(content: bytes, compression: Compression, piece: int = 1 << 16) -> bytes:
    stream = io.BytesIO()
    with compress(stream, compression, name="data.csv") as writer:
        for start in range(0, len(content), piece):
            writer.write(content[start : start + piece])
    assert not stream.closed
    return stream.getvalue()


def decompressed(
    content: bytes, compression: Compression, *, forward: bool = False, limits: InflationLimits | None = None
) -> bytes:
    stream = io.BufferedReader(Forward(content)) if forward else Strict(content)
    with decompress(stream, compression, limits or InflationLimits()) as reader:
        pieces = []
        while piece := reader.read(10_000):
            pieces.append(piece)
    assert not stream.closed
    return b"".join(pieces)


@settings(deadline=None)
@given(st.binary(), st.integers(1, 200_000), st.sampled_from(COMPRESSIONS))
def test_content_survives(content: bytes, size: int, compression: Compression) -> None:
    repeated = (content * (size // max(len(content), 1) + 1))[:size]
    assert decompressed(compressed(repeated, compression, 7_777), compression) == repeated


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_nothing_is_content_too(compression: Compression) -> None:
    assert decompressed(compressed(b"", compression), compression) == b""


@pytest.mark.parametrize("compression", ["", "Gzip", "Snappy"])
def test_these_need_no_seeking(compression: Compression) -> None:
    assert decompressed(compressed(CONTENT, compression), compression, forward=True) == CONTENT


def archive(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as opened:
        for name, content in files:
            opened.writestr(name, content)
    return stream.getvalue()


def framed(content: bytes) -> bytes:
    return bytes(snappy.StreamCompressor().compress(content))


def test_other_programs_read_what_is_written() -> None:
    assert gzip.decompress(compressed(CONTENT, "Gzip")) == CONTENT
    assert snappy.StreamDecompressor().decompress(compressed(CONTENT, "Snappy")) == CONTENT
    with zipfile.ZipFile(io.BytesIO(compressed(CONTENT, "Zip"))) as opened:
        assert opened.namelist() == ["data.csv"] and opened.read("data.csv") == CONTENT
        assert opened.testzip() is None


def test_the_time_of_a_file_is_in_the_archive() -> None:
    for moment, expected in (
        (datetime(2026, 3, 1, 8, 30, 2, tzinfo=UTC), 2026),
        (datetime(1970, 1, 1, tzinfo=UTC), 1980),
    ):
        stream = io.BytesIO()
        with compress(stream, "Zip", name="a.csv", updated_at=moment):
            pass
        with zipfile.ZipFile(stream) as opened:
            assert opened.getinfo("a.csv").date_time[0] == expected


@pytest.mark.parametrize(
    ("content", "compression", "expected"),
    [
        (gzip.compress(b"a") + gzip.compress(b"") + gzip.compress(b"b"), "Gzip", b"ab"),
        (gzip.compress(b"a") + bytes(1_000), "Gzip", b"a"),
        (archive(("a.csv", b"x"), method=zipfile.ZIP_STORED), "Zip", b"x"),
        (archive(("folder/", b""), ("folder/a.csv", b"x")), "Zip", b"x"),
        (archive(("../../etc/passwd", b"x")), "Zip", b"x"),
        (archive(("/etc/passwd", b"x")), "Zip", b"x"),
        (b"#!/bin/sh\n" + archive(("a.csv", b"x")), "Zip", b"x"),
        (framed(b"a") + framed(b"b"), "Snappy", b"ab"),
        (framed(b"a") + b"\xfe\x03\x00\x00abc" + b"\x80\x01\x00\x00x", "Snappy", b"a"),
    ],
    ids=itertools.count(),
)
def test_files_of_other_programs_are_read(content: bytes, compression: Compression, expected: bytes) -> None:
    assert decompressed(content, compression) == expected


def changed(content: bytes, position: int, by: bytes = b"\xff") -> bytes:
    position %= len(content)
    return content[:position] + by + content[position + len(by) :]


def with_flag(content: bytes, flag: int) -> bytes:
    """Set a flag of the only file of an archive, in both of its headers."""
    directory = content.index(b"PK\x01\x02")
    return changed(changed(content, 6, bytes([flag])), directory + 8, bytes([flag]))


def _read_checksum(content: bytes) -> bytes:
    directory = content.index(b"PK\x01\x02")
    return changed(changed(content, 14, b"\0\0\0\0"), directory + 16, b"\0\0\0\0")


GZIP: Final = gzip.compress(CONTENT)
ZIP: Final = archive(("a.csv", CONTENT))
SNAPPY: Final = framed(CONTENT)


@pytest.mark.parametrize(
    ("content", "compression", "message"),
    [
        (b"", "Gzip", "the file is empty, and not a Gzip file"),
        (b"id,name\n", "Gzip", "the file is not a Gzip file"),
        (b"\x1f", "Gzip", "the file is not a Gzip file"),
        (GZIP[:-1], "Gzip", "the Gzip file is truncated"),
        (GZIP[:1_000], "Gzip", "the Gzip file is truncated"),
        (GZIP[:5], "Gzip", "the Gzip file is truncated"),
        (GZIP + b"x", "Gzip", "the Gzip file has other data after its end"),
        (GZIP + bytes(10) + GZIP, "Gzip", "the Gzip file has other data after its end"),
        (GZIP + b"\x1f", "Gzip", "the Gzip file has other data after its end"),
        (changed(GZIP, -8), "Gzip", "the Gzip file is damaged"),
        (changed(GZIP, 3, b"\x80"), "Gzip", "the Gzip file is damaged"),
        (zlib.compress(b"x"), "Gzip", "the file is not a Gzip file"),
        (b"", "Zip", "the file is not a Zip archive, or it is truncated"),
        (b"id,name\n", "Zip", "the file is not a Zip archive, or it is truncated"),
        (ZIP[:-1], "Zip", "the file is not a Zip archive, or it is truncated"),
        (ZIP[: len(ZIP) // 2], "Zip", "the file is not a Zip archive, or it is truncated"),
        (archive(), "Zip", "the Zip archive has no file"),
        (ZIP[-22:], "Zip", "the Zip archive is truncated"),
        (archive(("folder/", b"")), "Zip", "the Zip archive has no file, and must have exactly one"),
        (archive(("a", b""), ("b", b"")), "Zip", "the Zip archive has 2 files, and must have exactly one"),
        (archive(*[(f"{n:0100}", b"") for n in range(9_000)]), "Zip", "the Zip archive has too many files"),
        (with_flag(ZIP, 1), "Zip", "the Zip archive is encrypted"),
        (archive(("a", CONTENT), method=zipfile.ZIP_LZMA), "Zip", "the Zip archive is compressed with another method"),
        (archive(("a", CONTENT), method=zipfile.ZIP_BZIP2), "Zip", "the Zip archive is compressed with another method"),
        (_read_checksum(ZIP), "Zip", "the Zip archive is damaged: Bad CRC-32"),
        (changed(ZIP, 0), "Zip", "the Zip archive is damaged"),
        (changed(ZIP, 100, bytes(100)), "Zip", "the Zip archive is damaged"),
        (b"", "Snappy", "the file is not a framed Snappy file"),
        (bytes(snappy.compress(CONTENT)), "Snappy", "the file is not a framed Snappy file"),
        (SNAPPY[:-1], "Snappy", "the Snappy file is truncated"),
        (SNAPPY[:12], "Snappy", "the Snappy file is damaged"),
        (changed(SNAPPY, 15), "Snappy", "the Snappy file is damaged"),
        (SNAPPY[:10] + b"\x02\x01\x00\x00x", "Snappy", "the Snappy file is damaged"),
        (SNAPPY[:10] + b"\x00\xff\xff\xff" + bytes(1 << 24), "Snappy", "the Snappy file is damaged"),
        (SNAPPY + b"xxxxx", "Snappy", "the Snappy file is"),
    ],
    ids=itertools.count(),
)
def test_damaged_files_are_explained(content: bytes, compression: Compression, message: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        decompressed(content, compression)
    assert caught.value.message.startswith(message)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["Zip", "Gzip", "Snappy"]),
    st.integers(0, 3_000),
    st.binary(min_size=1, max_size=4),
    st.integers(0, 3_000),
)
def test_a_changed_file_is_read_or_explained(compression: Compression, at: int, by: bytes, cut: int) -> None:
    content = b"some text\n" * 300
    damaged = changed(compressed(content, compression), at, by)
    damaged = damaged[: len(damaged) - cut % 7]
    with contextlib.suppress(InvalidFile):
        decompressed(damaged, compression)


def bomb(compression: Compression, size: int) -> bytes:
    stream = io.BytesIO()
    with compress(stream, compression, name="a") as writer:
        for _ in range(size >> 20):
            writer.write(bytes(1 << 20))
    return stream.getvalue()


SMALL: Final = InflationLimits(max_bytes=10 << 20, free_bytes=1 << 20)


@pytest.mark.parametrize("compression", ["Zip", "Gzip"])
def test_a_file_that_grows_too_much_is_refused(compression: Compression) -> None:
    assert len(decompressed(bomb(compression, 1 << 20), compression, limits=SMALL)) == 1 << 20
    with pytest.raises(InvalidFile, match="more than 200 times as large"):
        decompressed(bomb(compression, 4 << 20), compression, limits=SMALL)


@pytest.mark.parametrize("compression", ["Zip", "Gzip", "Snappy"])
def test_a_file_that_is_too_large_is_refused(compression: Compression) -> None:
    content = compressed(random.Random(1).randbytes(11 << 20), compression)
    with pytest.raises(InvalidFile, match="larger than 10,485,760 bytes"):
        decompressed(content, compression, limits=SMALL)


BOMB: Final = """
import zipfile, zlib
from headwater.connectors.contract import InvalidFile
from headwater.runs.compression import InflationLimits, compress, decompress

def bomb(compression):
    stream = io.BytesIO()
    with compress(stream, compression, name="a") as writer:
        for _ in range(500):
            writer.write(bytes(1 << 20))
    return stream

def drain(stream, compression, limits=InflationLimits(max_ratio=10**6)):
    stream.seek(0)
    with decompress(stream, compression, limits) as reader:
        while reader.read(1 << 18):
            pass
"""


@pytest.mark.process
@pytest.mark.parametrize("compression", ["Zip", "Gzip", "Snappy"])
def test_memory_does_not_depend_on_the_content(compression: str) -> None:
    imports = f"{BOMB}\nstream = bomb({compression!r})"
    assert memory_growth(imports, f"drain(stream, {compression!r})") < 30


@pytest.mark.process
def test_many_files_are_refused_before_they_are_listed() -> None:
    imports = f"""{BOMB}
stream = io.BytesIO()
with zipfile.ZipFile(stream, "w") as archive:
    for number in range(60_000):
        archive.writestr(f"{{number:0200}}", b"")
del archive
"""
    code = """
try:
    drain(stream, "Zip")
except InvalidFile as error:
    assert "too many files" in error.message
else:
    raise AssertionError
"""
    assert memory_growth(imports, code) < 10


@pytest.mark.parametrize(
    ("path", "extension", "name"),
    [
        ("users.csv.zip", "csv", "users.csv"),
        ("out/users.zip", "csv", "users.csv"),
        ("out/users.ZIP", "json", "users.json"),
        ("users", "parquet", "users.parquet"),
        ("users.csv", "csv", "users.csv"),
        ("a/b\\users.zip", "csv", "users.csv"),
        (".zip", "csv", "data.csv"),
        ("../..", "csv", "...csv"),
    ],
)
def test_the_file_in_an_archive_is_named_by_the_path(path: str, extension: str, name: str) -> None:
    assert entry_name(path, extension) == name
