"""The sizes of the pages of a Parquet file, from their headers.

pyarrow reads and decompresses a page as a whole, however large its header says it is, so the sizes are checked before.
A header is a struct of Thrift's compact protocol.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO, Final, NamedTuple

from headwater.connectors.contract import InvalidFile

MAX_PAGES_BYTES: Final = 128 << 20
"""Maximum size of the decompressed pages that are in memory together: of each column that is read, the largest page and
the dictionary. Usual pages have 1 MiB, and those of some writers up to 100 MB."""
_MAX_HEADER_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 10
_MAX_VARINT_BYTES: Final = 10
_DICTIONARY: Final = 2
"""The type of a page with the dictionary of its column."""
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS: Final = frozenset({4, 5, 6})
_TYPE, _SIZE, _STORED_SIZE = 1, 2, 3
"""The fields of a header: the type, and the size of the page decompressed and as it is stored."""


def check_pages(stream: BinaryIO, group: Any, names: Collection[str]) -> None:
    """Check the pages of the columns of a row group. Raises InvalidFile if they are too large, or if their sizes are
    unknown: pyarrow accepts headers that are larger or deeper than those of any writer."""
    total = 0
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.path_in_schema in names:
            total += _largest(stream, chunk)
            if total > MAX_PAGES_BYTES:
                raise InvalidFile(
                    f"the pages of column {chunk.path_in_schema} are too large: those of all columns that are read may "
                    f"have {MAX_PAGES_BYTES:,} bytes together"
                )


class PageSizes(NamedTuple):
    """The bytes of a page."""

    header: int
    size: int
    """After it was decompressed."""
    stored: int
    is_dictionary: bool


def read_pages(stream: BinaryIO, chunk: Any) -> Iterator[PageSizes]:
    """Yield the sizes of the pages of a column in a row group. Raises InvalidFile for a header that cannot be read."""
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    end = start + chunk.total_compressed_size
    while 0 <= start < end:
        header = _Header(stream, start)
        try:
            fields = header.read()
        except _Unreadable:
            raise InvalidFile(
                f"the Parquet file cannot be read: a page of column {chunk.path_in_schema} has no valid header"
            ) from None
        size, stored = fields.get(_SIZE, 0), max(fields.get(_STORED_SIZE, 0), 0)
        yield PageSizes(header.bytes, size, stored, fields.get(_TYPE) == _DICTIONARY)
        start += header.bytes + stored


def _largest(stream: BinaryIO, chunk: Any) -> int:
    """Return the bytes of the dictionary and of the largest other page of a column."""
    dictionary = largest = 0
    for page in read_pages(stream, chunk):
        size = max(page.size, page.stored)
        if page.is_dictionary:
            dictionary = max(dictionary, size)
        else:
            largest = max(largest, size)
    return dictionary + largest


class _Unreadable(Exception):
    """The bytes are no header."""


class _Header:
    """A header in a stream."""

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self._read = stream.read
        stream.seek(start)
        self.bytes = 0
        """Number of bytes that were read."""

    def read(self) -> dict[int, int]:
        """Return the integers of the header by field. Raises _Unreadable."""
        found: dict[int, int] = {}
        self._struct(found.__setitem__, 0)
        return found

    def _take(self, count: int) -> bytes:
        self.bytes += count
        if self.bytes > _MAX_HEADER_BYTES or len(data := self._read(count)) != count:
            raise _Unreadable
        return data

    def _varint(self) -> int:
        value = 0
        for index in range(_MAX_VARINT_BYTES):
            (byte,) = self._take(1)
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value
        raise _Unreadable

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _struct(self, keep: Callable[[int, int], None], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _Unreadable
        field = 0
        while (byte := self._take(1)[0]) != _STOP:
            delta, kind = byte >> 4, byte & 0x0F
            field = field + delta if delta else self._integer()
            if kind in _INTEGERS:
                keep(field, self._integer())
            elif kind not in (_TRUE, _FALSE):
                self._skip(kind, depth)

    def _skip(self, kind: int, depth: int) -> None:
        """Skip a value; a boolean of a list has a byte."""
        if kind in _INTEGERS:
            self._varint()
        elif kind in (_TRUE, _FALSE, _BYTE):
            self._take(1)
        elif kind == _DOUBLE:
            self._take(8)
        elif kind == _BINARY:
            self._take(self._varint())
        elif kind == _STRUCT:
            self._struct(lambda field, value: None, depth + 1)
        elif kind in (_LIST, _SET):
            (byte,) = self._take(1)
            count = byte >> 4
            for _ in range(self._varint() if count == 15 else count):
                self._skip(byte & 0x0F, depth + 1)
        elif kind == _MAP and not self._varint():
            return
        else:
            raise _Unreadable
