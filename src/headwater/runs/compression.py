"""Zip, Gzip and Snappy: the content of a compressed file, and compressed files, both as streams.

The names in archives are never used as paths. Nothing is held in memory but buffers of fixed size. A file that grows
without limit when it is decompressed ends with an error.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final, Literal, cast

import msgspec
import snappy

from headwater.connectors.contract import InvalidFile
from headwater.connectors.formats.archives import ENCRYPTED, METHODS, check_directory

Compression = Literal["", "Zip", "Gzip", "Snappy"]

_BUFFER_BYTES: Final = 1 << 18
_MAX_DIRECTORY_BYTES: Final = 1 << 20
"""Maximum size of the list of files in an archive. That of one file has less, and a list is read as a whole."""
_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31
_SNAPPY: Final = b"\xff\x06\x00\x00sNaPpY"
_SNAPPY_BLOCK_BYTES: Final = 65_536
_SNAPPY_HEADER_BYTES: Final = 4
_MIN_DATE: Final = datetime(1980, 1, 1, tzinfo=UTC)
"""The first date that archives can have."""

CONTENT_TYPES: Final[dict[Compression, str]] = {
    "Zip": "application/zip",
    "Gzip": "application/gzip",
    "Snappy": "application/x-snappy-framed",
}
"""The media types of compressed files."""


class InflationLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of decompressed content, against files that are made to fill a disk or to keep a run busy."""

    max_bytes: int = 64 << 30
    max_ratio: int = 200
    """Maximum ratio of decompressed to compressed bytes, from `free_bytes` on."""
    free_bytes: int = 64 << 20


LIMITS: Final = InflationLimits()


def needs_seeking(compression: Compression) -> bool:
    """Return whether `decompress` needs a stream that can seek."""
    return compression == "Zip"


@contextmanager
def decompress(stream: BinaryIO, compression: Compression, limits: InflationLimits = LIMITS) -> Iterator[BinaryIO]:
    """Yield the content of a file as a stream that cannot seek. `stream` remains open.

    Zip must have exactly one file, and `stream` must then be able to seek. Gzip may have several members; their
    contents are one. Snappy must be framed. Raises InvalidFile, also when the content is read.
    """
    if compression == "":
        yield stream
    elif compression == "Zip":
        with _open_archive(stream, limits) as content:
            yield content
    else:
        read = _inflate_gzip if compression == "Gzip" else _inflate_snappy
        with io.BufferedReader(_Inflated(read(_Input(stream)), limits), _BUFFER_BYTES) as content:
            yield content


class _Input:
    """A compressed stream; `position` is the number of bytes read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.position = 0

    def read(self, size: int = _BUFFER_BYTES) -> bytes:
        data = self._stream.read(size)
        self.position += len(data)
        return data


_Pieces = Iterator[tuple[bytes, int]]
"""Decompressed bytes, each with the number of compressed bytes that have been read."""


class _Inflated(io.RawIOBase):
    """Decompressed pieces as a stream. Raises InvalidFile beyond the limits."""

    def __init__(self, pieces: _Pieces, limits: InflationLimits) -> None:
        self._pieces = pieces
        self._limits = limits
        self._rest = memoryview(b"")
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._count(*piece)
            self._rest = memoryview(piece[0])
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _count(self, data: bytes, compressed: int) -> None:
        self._size += len(data)
        limits = self._limits
        if self._size > limits.max_bytes:
            raise InvalidFile(f"the decompressed file is larger than {limits.max_bytes:,} bytes")
        if self._size > limits.free_bytes and self._size > limits.max_ratio * compressed:
            raise InvalidFile(
                f"the decompressed file is more than {limits.max_ratio} times as large as the compressed one"
            )


def _inflate_gzip(source: _Input) -> _Pieces:
    data = source.read()
    if not data:
        raise InvalidFile("the file is empty, and not a Gzip file")
    while data:
        if not data.startswith(_GZIP) and (data + source.read(1))[:2] != _GZIP:
            raise InvalidFile("the file is not a Gzip file")
        member = zlib.decompressobj(_GZIP_WINDOW)
        while not member.eof:
            if not data:
                raise InvalidFile("the Gzip file is truncated")
            try:
                piece = member.decompress(data, _BUFFER_BYTES)
            except zlib.error as error:
                raise InvalidFile(f"the Gzip file is damaged: {_reason(error)}") from None
            if piece:
                yield piece, source.position
            data = member.unconsumed_tail or (b"" if member.eof else source.read())
        data = _skip_padding(member.unused_data, source)


def _skip_padding(data: bytes, source: _Input) -> bytes:
    """Return the beginning of the next member, or nothing. Zeros may follow the last one."""
    while True:
        if not data:
            data = source.read()
            if not data:
                return b""
        padded = data.lstrip(b"\0")
        if not padded:
            data = b""
            continue
        if len(padded) == 1:
            padded += source.read()
        if len(padded) < len(data) or not padded.startswith(_GZIP):
            raise InvalidFile("the Gzip file has other data after its end")
        return padded


def _inflate_snappy(source: _Input) -> _Pieces:
    stream = snappy.StreamDecompressor()
    if _read_exactly(source, len(_SNAPPY)) != _SNAPPY:
        raise InvalidFile("the file is not a framed Snappy file; raw Snappy is not supported")
    while header := source.read(_SNAPPY_HEADER_BYTES):
        header += _read_exactly(source, _SNAPPY_HEADER_BYTES - len(header))
        size = int.from_bytes(header[1:], "little")
        if len(header) < _SNAPPY_HEADER_BYTES or (header[0] <= 1 and size > 2 * _SNAPPY_BLOCK_BYTES):
            raise InvalidFile("the Snappy file is damaged")
        chunk = header + _read_exactly(source, size)
        if len(chunk) < len(header) + size:
            raise InvalidFile("the Snappy file is truncated")
        try:
            piece = stream.decompress(chunk)
        except Exception as error:
            raise InvalidFile(f"the Snappy file is damaged: {_reason(error)}") from None
        if piece:
            yield piece, source.position


def _read_exactly(source: _Input, size: int) -> bytes:
    """Return `size` bytes, or less at the end of the stream."""
    pieces = []
    while size > 0 and (data := source.read(min(size, _BUFFER_BYTES))):
        pieces.append(data)
        size -= len(data)
    return b"".join(pieces)


@contextmanager
def _open_archive(stream: BinaryIO, limits: InflationLimits) -> Iterator[BinaryIO]:
    check_directory(stream, _MAX_DIRECTORY_BYTES)
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(stream))
            content = stack.enter_context(archive.open(_single_file(archive)))
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
            raise InvalidFile(f"the Zip archive is damaged: {_reason(error)}") from None
        except ValueError:
            raise InvalidFile("the Zip archive is damaged: it names a position before its beginning") from None
        pieces = _archived(cast(BinaryIO, content), stream)
        yield stack.enter_context(io.BufferedReader(_Inflated(pieces, limits), _BUFFER_BYTES))


def _archived(content: BinaryIO, archive: BinaryIO) -> _Pieces:
    while True:
        try:
            piece = content.read(_BUFFER_BYTES)
        except EOFError:
            raise InvalidFile("the Zip archive is truncated") from None
        except (zipfile.BadZipFile, zlib.error) as error:
            raise InvalidFile(f"the Zip archive is damaged: {_reason(error)}") from None
        if not piece:
            return
        yield piece, archive.tell()


def _single_file(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(files) != 1:
        count = "no file" if not files else f"{len(files):,} files"
        raise InvalidFile(f"the Zip archive has {count}, and must have exactly one")
    if files[0].flag_bits & ENCRYPTED:
        raise InvalidFile("the Zip archive is encrypted")
    if files[0].compress_type not in METHODS:
        raise InvalidFile("the Zip archive is compressed with another method than Deflate")
    return files[0]


class _Deflated(io.RawIOBase):
    """A stream that writes what is written to it compressed."""

    def __init__(self, stream: BinaryIO, compress: Callable[[bytes], bytes]) -> None:
        self._stream = stream
        self._compress = compress

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        compressed = self._compress(piece)
        if compressed:
            self._stream.write(compressed)
        return len(piece)


@contextmanager
def compress(
    stream: BinaryIO, compression: Compression, *, name: str = "", updated_at: datetime | None = None
) -> Iterator[BinaryIO]:
    """Yield a stream whose content is written compressed. The file is complete when the context is left.

    `name` is that of the file in a Zip archive, and `updated_at` its time. `stream` remains open and need not seek.
    """
    if compression == "":
        yield stream
    elif compression == "Zip":
        with _new_archive(stream, name, updated_at or _MIN_DATE) as content:
            yield content
    elif compression == "Gzip":
        gzip = zlib.compressobj(wbits=_GZIP_WINDOW)
        with io.BufferedWriter(_Deflated(stream, gzip.compress), _BUFFER_BYTES) as content:
            yield content
        stream.write(gzip.flush())
    else:
        stream.write(_SNAPPY)
        with io.BufferedWriter(_Deflated(stream, _snappy_frames()), _SNAPPY_BLOCK_BYTES) as content:
            yield content


def _snappy_frames() -> Callable[[bytes], bytes]:
    frames = snappy.StreamCompressor()
    is_first = True

    def compress(data: bytes) -> bytes:
        nonlocal is_first
        framed = bytes(frames.add_chunk(data))
        if is_first:  # the header is written with the file, which may be empty
            is_first = False
            framed = framed.removeprefix(_SNAPPY)
        return framed

    return compress


@contextmanager
def _new_archive(stream: BinaryIO, name: str, updated_at: datetime) -> Iterator[BinaryIO]:
    moment = max(updated_at, _MIN_DATE)
    entry = zipfile.ZipInfo(name, moment.timetuple()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    with (
        zipfile.ZipFile(cast(Any, ForwardStream(stream)), "w") as archive,
        archive.open(entry, "w", force_zip64=True) as content,
    ):
        yield cast(BinaryIO, content)


class ForwardStream(io.RawIOBase):
    """Writes to a stream, and hides that it can seek. Closing it leaves the stream open."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(data)
        return len(data)


def entry_name(path: str, extension: str) -> str:
    """Return the name of the file in the archive `path`: its last part without `.zip`, with the format's extension."""
    name = PurePosixPath(path.replace("\\", "/")).name
    if name.lower().endswith(".zip"):
        name = name[: -len(".zip")]
    name = name or "data"
    return name if name.lower().endswith(f".{extension}") else f"{name}.{extension}"


def _reason(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__
