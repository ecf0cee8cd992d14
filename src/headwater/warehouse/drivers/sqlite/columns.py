"""Columns of a block: lists of integers, and lists of values with many repetitions, as compressed bytes.

Integers are stored as differences from the minimum, in as few bytes as they need, and values as a list of distinct ones
with an index for each event. So both can be read without looking at the others. Everything is little-endian.
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice, repeat
from operator import add, gt, sub
from typing import Any, Final, Generic, TypeVar
from zlib import crc32

import msgspec

from headwater.base.compression import compress, decompress

Value = TypeVar("Value")

_MAX_INDEX: Final = 0xFFFF
_OFFSETS: Final = {"H": 16, "I": 32, "Q": 64}
"""Types of arrays, and the bits of their items."""
_USER: Final = 0
_ANONYMOUS: Final = 1
"""Prefixes of hashed ids, so that a user id and an equal anonymous id have different hashes."""

_SEARCH_ITEMS: Final = 10
"""Number of items of an array that can be looked up in a set in the time of one binary search."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Integers:
    """A column of integers: their minimum, and the difference from it for each event."""

    def __init__(self, minimum: int, offsets: Sequence[int]) -> None:
        self.minimum = minimum
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, event: int) -> int:
        return self.minimum + self.offsets[event]

    def __iter__(self) -> Iterator[int]:
        return map(add, repeat(self.minimum), self.offsets)


def pack_integers(values: Sequence[int]) -> bytes:
    """Compress 64-bit integers. Raises OverflowError for others."""
    array("q", values)  # an offset may fit although the value does not
    minimum, maximum = min(values), max(values)
    if maximum - minimum == len(values) - 1 and values[0] == minimum and all(map(gt, islice(values, 1, None), values)):
        return compress(_encode((minimum, len(values), b"")))
    kind = next(kind for kind, bits in _OFFSETS.items() if (maximum - minimum) >> bits == 0)
    return compress(_encode((minimum, kind, _to_bytes(array(kind, map(sub, values, repeat(minimum)))))))


def unpack_integers(packed: bytes) -> Integers:
    """Return the column of `pack_integers`."""
    minimum, kind, offsets = _decode(decompress(packed))
    return Integers(minimum, range(kind) if isinstance(kind, int) else _to_array(kind, offsets))


class Distinct(Generic[Value]):
    """The distinct values of a column, and for each event the index of its value among them."""

    def __init__(self, values: list[Value], indexes: "array[int]") -> None:
        self.values = values
        self.indexes = indexes

    def __getitem__(self, event: int) -> Value:
        return self.values[self.indexes[event]]

    def where(self, value: Value) -> Iterator[int]:
        """Yield the events that have this value."""
        try:
            wanted = self.values.index(value)
        except ValueError:
            return
        # Finding two bytes is far quicker than comparing the items of an array. A match at an odd place is two halves.
        data, item = _to_bytes(self.indexes[:]), wanted.to_bytes(2, "little")
        place = data.find(item)
        while place >= 0:
            if place % 2 == 0:
                yield place // 2
            place = data.find(item, place + 2 - place % 2)

    def among(self, wanted: Iterable[Value]) -> frozenset[int]:
        """Return the indexes of the wanted values that the column has."""
        wanted = frozenset(wanted)
        return frozenset(index for index, value in enumerate(self.values) if value in wanted)


def pack_values(values: Sequence[Any]) -> bytes:
    """Compress a column of texts, integers and None, at most 65,536 of them."""
    distinct = dict(zip(dict.fromkeys(values), count(), strict=False))
    assert len(distinct) - 1 <= _MAX_INDEX
    indexes = array("H", map(distinct.__getitem__, values))
    return compress(_encode((list(distinct), _to_bytes(indexes))))


def unpack_values(packed: bytes) -> Distinct[Any]:
    """Return the column of `pack_values`."""
    values, indexes = _decode(decompress(packed))
    return Distinct(values, _to_array("H", indexes))


def pack_documents(documents: Sequence[bytes]) -> bytes:
    """Compress documents together."""
    return compress(_encode(documents))


def unpack_documents(packed: bytes) -> list[bytes]:
    """Return the documents of `pack_documents`."""
    documents: list[bytes] = _decode(decompress(packed))
    return documents


def pack_people(user_ids: Iterable[str | None], anonymous_ids: Iterable[str | None]) -> bytes:
    """Return the index for `may_have`: the sorted 32-bit hashes of all ids, 4 bytes each.

    With 5,000 ids one lookup in 850,000 is a false positive. A Bloom filter of 8 KB takes as long to make and has one
    false positive in 50 lookups. A false positive opens a block for nothing, which takes longer than 300 lookups.
    """
    users = map(str.encode, {each for each in user_ids if each is not None})
    anonymous = map(str.encode, {each for each in anonymous_ids if each is not None})
    hashes = {*map(crc32, users, repeat(_USER)), *map(crc32, anonymous, repeat(_ANONYMOUS))}
    return _to_bytes(array("I", sorted(hashes)))


def may_have(people: bytes, *, user_id: str | None = None, anonymous_id: str | None = None) -> bool:
    """Return False if no event of the block has the given user id, or the given anonymous id."""
    hashes = _to_array("I", people)
    return (user_id is None or _is_in(hashes, crc32(user_id.encode(), _USER))) and (
        anonymous_id is None or _is_in(hashes, crc32(anonymous_id.encode(), _ANONYMOUS))
    )


def hash_ids(user_ids: Iterable[str], anonymous_ids: Iterable[str]) -> frozenset[int]:
    """Return the hashes of ids for `may_have_any`."""
    users, anonymous = map(str.encode, user_ids), map(str.encode, anonymous_ids)
    return frozenset((*map(crc32, users, repeat(_USER)), *map(crc32, anonymous, repeat(_ANONYMOUS))))


def may_have_any(people: bytes, wanted: frozenset[int]) -> bool:
    """Return False if no event of the block has an id with one of these hashes."""
    hashes = _to_array("I", people)
    if len(wanted) * _SEARCH_ITEMS < len(hashes):
        return any(_is_in(hashes, each) for each in wanted)
    return not wanted.isdisjoint(hashes)


def split_into_chunks(documents: Sequence[bytes], *, maximum: int, size: int) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yield the documents in pieces of at most `maximum` and about `size` bytes, each with the index of its first."""
    start = bytes_ = 0
    for index, document in enumerate(documents):
        if index - start == maximum or (bytes_ >= size and index > start):
            yield start, documents[start:index]
            start, bytes_ = index, 0
        bytes_ += len(document)
    yield start, list(islice(documents, start, None))


def _is_in(hashes: "array[int]", wanted: int) -> bool:
    place = bisect_left(hashes, wanted)
    return place < len(hashes) and hashes[place] == wanted


def _to_bytes(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _to_array(kind: str, data: bytes) -> "array[int]":
    values = array(kind, data)
    if sys.byteorder == "big":
        values.byteswap()
    return values
