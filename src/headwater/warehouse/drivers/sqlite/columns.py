"""Columns of a block: lists of integers, and lists of values of which many are equal, as compressed bytes.

Integers are stored as the differences of neighbours, values as a list of distinct ones and an index for each event.
Everything is little-endian.
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from operator import sub
from typing import Any, Final, Generic, TypeVar
from zlib import crc32

import msgspec

from headwater.warehouse.compression import compress, decompress

Value = TypeVar("Value")

_LARGEST_INDEX: Final = 0xFFFF

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def pack_integers(values: Sequence[int]) -> bytes:
    """Compress 64-bit integers. Raises OverflowError for others."""
    array("q", values)  # a difference may fit although the value does not
    return compress(_bytes_of(array("q", map(sub, values, chain((0,), values)))))


def unpack_integers(packed: bytes) -> list[int]:
    """Return the integers of `pack_integers`."""
    return list(accumulate(_array_of("q", decompress(packed))))


class Distinct(Generic[Value]):
    """The distinct values of a column, and for each event the index of its value among them."""

    def __init__(self, values: list[Value], indexes: Sequence[int]) -> None:
        self.values = values
        self.indexes = indexes

    def __getitem__(self, event: int) -> Value:
        return self.values[self.indexes[event]]

    def where(self, wanted: Iterable[Value], among: Iterable[int]) -> list[int]:
        """Return the events of `among` that have one of these values."""
        wanted = set(wanted)
        found = {index for index, value in enumerate(self.values) if value in wanted}
        if not found:
            return []
        indexes = self.indexes
        if len(found) == 1:
            (only,) = found
            return [event for event in among if indexes[event] == only]
        return [event for event in among if indexes[event] in found]


def pack_values(values: Sequence[Any]) -> bytes:
    """Compress a column of texts, integers and None, at most 65,536 of them."""
    distinct = {value: index for index, value in enumerate(dict.fromkeys(values))}
    assert len(distinct) - 1 <= _LARGEST_INDEX
    indexes = array("H", map(distinct.__getitem__, values))
    return compress(_encode((list(distinct), _bytes_of(indexes))))


def unpack_values(packed: bytes) -> Distinct[Any]:
    """Return the column of `pack_values`."""
    values, indexes = _decode(decompress(packed))
    return Distinct(values, _array_of("H", indexes))


def pack_documents(documents: Sequence[bytes]) -> bytes:
    """Compress documents together."""
    return compress(_encode(documents))


def unpack_documents(packed: bytes) -> list[bytes]:
    """Return the documents of `pack_documents`."""
    documents: list[bytes] = _decode(decompress(packed))
    return documents


def pack_people(user_ids: Iterable[str | None], anonymous_ids: Iterable[str | None]) -> bytes:
    """Return what `may_have` looks ids up in: the sorted 32-bit hashes of all ids, 4 bytes each.

    With 5,000 ids one lookup in 850,000 finds an id that is not there. A Bloom filter of half the size would do so in
    one lookup of 50, and takes four times as long to make.
    """
    users = {_user_hash(each) for each in user_ids if each is not None}
    anonymous = {_anonymous_hash(each) for each in anonymous_ids if each is not None}
    return _bytes_of(array("I", sorted(users | anonymous)))


def may_have(people: bytes, *, user_id: str | None = None, anonymous_id: str | None = None) -> bool:
    """Return False when no event of the block has this user id, or this anonymous id, of those that are given."""
    hashes = _array_of("I", people)
    return (user_id is None or _is_in(hashes, _user_hash(user_id))) and (
        anonymous_id is None or _is_in(hashes, _anonymous_hash(anonymous_id))
    )


def chunks_of(documents: Sequence[bytes], *, most: int, size: int) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yield the documents in pieces of at most `most` and about `size` bytes, each with the index of its first."""
    start = bytes_ = 0
    for index, document in enumerate(documents):
        if index - start == most or (bytes_ >= size and index > start):
            yield start, documents[start:index]
            start, bytes_ = index, 0
        bytes_ += len(document)
    yield start, list(islice(documents, start, None))


def _user_hash(user_id: str) -> int:
    return crc32(user_id.encode())


def _anonymous_hash(anonymous_id: str) -> int:
    return crc32(anonymous_id.encode(), 1)


def _is_in(hashes: "array[int]", wanted: int) -> bool:
    place = bisect_left(hashes, wanted)
    return place < len(hashes) and hashes[place] == wanted


def _bytes_of(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _array_of(kind: str, data: bytes) -> "array[int]":
    values = array(kind, data)
    if sys.byteorder == "big":
        values.byteswap()
    return values
