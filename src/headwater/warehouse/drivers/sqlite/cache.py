"""Caches the most recently opened blocks and documents."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Final, TypeVar, cast

from headwater.warehouse.drivers.sqlite.block import Block
from headwater.warehouse.drivers.sqlite.columns import unpack_documents

MAX_CACHE_BYTES: Final = 24 * 1024 * 1024
_EVENT_BYTES: Final = 250
"""The memory of an event in an open block: lists of integers, and texts that most events share."""
_OBJECT_BYTES: Final = 60

_Value = TypeVar("_Value")


class Cache:
    """Open blocks and documents, shared by threads. Blocks never change, and ids are not reused."""

    def __init__(self, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._lock = Lock()

    def block(self, id: int, columns: Callable[[], bytes], events: int) -> Block:
        """Return the block with this id, built from its columns if it is not cached."""
        return self._get(("block", id), lambda: Block(id, columns()), lambda _: events * _EVENT_BYTES)

    def documents(self, id: int, packed: Callable[[], bytes]) -> list[bytes]:
        """Return the documents of a chunk, unpacked if they are not cached."""
        return self._get(
            ("documents", id),
            lambda: unpack_documents(packed()),
            lambda documents: sum(len(document) + _OBJECT_BYTES for document in documents),
        )

    def _get(self, key: Hashable, make: Callable[[], _Value], size: Callable[[_Value], int]) -> _Value:
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
                return cast(_Value, found[0])
        value = make()
        bytes_ = size(value)
        with self._lock:
            if key not in self._entries:
                self._entries[key] = value, bytes_
                self._bytes += bytes_
            while self._bytes > self._max_bytes:
                _, (_, dropped) = self._entries.popitem(last=False)
                self._bytes -= dropped
        return value
