"""Opens and creates the files of pipelines: a storage, a compression and a format together.

Calls are synchronous and do I/O: make them in a thread or in the process of a run.
"""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    Column,
    FileFormat,
    FileStorage,
    InvalidFile,
    RowRead,
    RowWriter,
    StoredFile,
)
from headwater.runs.compression import (
    CONTENT_TYPES,
    LIMITS,
    Compression,
    ForwardStream,
    InflationLimits,
    compress,
    decompress,
    entry_name,
    needs_seeking,
)

MAX_SPOOLED_BYTES: Final = 8 << 30
"""Maximum size of a file that has to be copied to the disk before it can be read."""
_BUFFER_BYTES: Final = 1 << 18


class OpenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A table in a file.

    `bytes_read` returns the position in the stored file, and `total_bytes` is its size, None if it is not known. A file
    that was copied to the disk first is counted there. `updated_at` and `version` are those of the stored file.
    """

    columns: tuple[Column, ...]
    rows: Callable[[], Iterator[RowRead]]
    """Returns the rows in their order, once. The iterator raises InvalidFile when reading cannot continue."""
    bytes_read: Callable[[], int]
    total_rows: int | None
    total_bytes: int | None
    updated_at: datetime | None
    version: str


@contextmanager
def open_file(
    storage: FileStorage,
    format: FileFormat,
    path: str,
    *,
    sheet: str = "",
    compression: Compression = "",
    scratch: Path,
    limits: InflationLimits = LIMITS,
    copied: Callable[[int], None] | None = None,
) -> Iterator[OpenFile]:
    """Open a table for reading.

    A file that must be read at any position is copied into `scratch` if its storage or its compression cannot do so;
    the copy has no name and disappears with the context. `copied` is called with the number of bytes after each part of
    the copy, and may raise an exception to end it. Raises InvalidFileName, FileMissing, InvalidFile, Unavailable.
    """
    with (
        storage.open(path) as stored,
        _content(stored, compression, scratch, limits, copied, seeks=format.needs_seeking) as (content, position),
        format.read(content, sheet) as reader,
    ):
        yield OpenFile(
            columns=reader.columns,
            rows=reader.rows,
            bytes_read=lambda: position.value,
            total_rows=reader.total_rows,
            total_bytes=position.total,
            updated_at=stored.updated_at,
            version=stored.version,
        )


def list_sheets(
    storage: FileStorage,
    format: FileFormat,
    path: str,
    *,
    compression: Compression = "",
    scratch: Path,
    limits: InflationLimits = LIMITS,
) -> tuple[str, ...]:
    """Return the names of the sheets of a file; empty if its format has none. Raises what `open_file` raises."""
    with (
        storage.open(path) as stored,
        _content(stored, compression, scratch, limits, None, seeks=format.needs_seeking) as (content, _),
    ):
        return format.sheets(content)


@contextmanager
def write_table(
    stream: BinaryIO,
    format: FileFormat,
    path: str,
    columns: Sequence[Column],
    *,
    extension: str,
    sheet: str = "",
    compression: Compression = "",
    created_at: datetime | None = None,
) -> Iterator[RowWriter]:
    """Write a table to a stream, which remains open. Its content is complete when the context is left.

    `path` names the file in a Zip archive, `extension` is that of the format, and `created_at` the time of the file in
    the archive. The writer raises InvalidRow.
    """
    with (
        io.BufferedWriter(ForwardStream(stream), _BUFFER_BYTES) as buffered,
        compress(
            cast(BinaryIO, buffered), compression, name=entry_name(path, extension), updated_at=created_at
        ) as content,
        format.write(content, columns, sheet) as writer,
    ):
        yield writer


@contextmanager
def upload(
    storage: FileStorage,
    path: str,
    content: BinaryIO,
    *,
    format: FileFormat,
    compression: Compression = "",
    check: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Copy the content of a file to a storage. It appears when the context is left; by an exception, the storage is as
    before.

    `check` is called before each part of the copy, and may raise an exception to end it. Raises InvalidFileName,
    Unavailable.
    """
    with storage.create(path, CONTENT_TYPES.get(compression, format.content_type)) as stored:
        content.seek(0)
        while data := content.read(_BUFFER_BYTES):
            check()
            stored.write(data)
        yield


class _Position:
    """The position in a stream that is being read."""

    def __init__(self, total: int | None) -> None:
        self.value = 0
        self.total = total


class _Counted(io.RawIOBase):
    """A stream whose position is known to others. Closing it leaves the stream open."""

    def __init__(self, stream: BinaryIO, position: _Position) -> None:
        self._stream = stream
        self._position = position

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._position.value += len(data)
        return len(data)

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position.value = self._stream.seek(offset, whence)
        return self._position.value

    def tell(self) -> int:
        return self._position.value


@contextmanager
def _content(
    stored: StoredFile,
    compression: Compression,
    scratch: Path,
    limits: InflationLimits,
    copied: Callable[[int], None] | None,
    *,
    seeks: bool,
) -> Iterator[tuple[BinaryIO, _Position]]:
    """Yield the decompressed content, and the position in the stream that is read while rows are read."""
    with ExitStack() as stack:
        stream, position = stack.enter_context(_buffered(stored.stream, stored.size))
        if needs_seeking(compression) and not stream.seekable():
            stream, position = stack.enter_context(_spooled(stream, scratch, copied))
        if compression:
            stream = stack.enter_context(decompress(stream, compression, limits))
        if seeks and not stream.seekable():
            stream, position = stack.enter_context(_spooled(stream, scratch, copied))
        yield stream, position


@contextmanager
def _buffered(stream: BinaryIO, size: int | None) -> Iterator[tuple[BinaryIO, _Position]]:
    position = _Position(size)
    with io.BufferedReader(_Counted(stream, position), _BUFFER_BYTES) as buffered:
        yield cast(BinaryIO, buffered), position


@contextmanager
def _spooled(
    stream: BinaryIO, scratch: Path, copied: Callable[[int], None] | None
) -> Iterator[tuple[BinaryIO, _Position]]:
    """Yield a copy of a stream that can seek."""
    with tempfile.TemporaryFile(dir=scratch) as copy:
        size = _copy(stream, cast(BinaryIO, copy), copied)
        copy.seek(0)
        with _buffered(cast(BinaryIO, copy), size) as opened:
            yield opened


def _copy(stream: BinaryIO, copy: BinaryIO, copied: Callable[[int], None] | None) -> int:
    size = 0
    while data := stream.read(_BUFFER_BYTES):
        size += len(data)
        if size > MAX_SPOOLED_BYTES:
            raise InvalidFile(f"the file is larger than {MAX_SPOOLED_BYTES:,} bytes, and it must be copied to be read")
        try:
            copy.write(data)
        except OSError as error:
            raise Unavailable(f"the file cannot be copied to the disk: {error.strerror}") from None
        if copied is not None:
            copied(size)
    return size
