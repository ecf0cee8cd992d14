"""The events of chunks, read and unpacked once for all destinations that share them."""

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection, select

from headwater.state.deliveries.chunks import QueuedEvent
from headwater.state.deliveries.packing import unpack_body
from headwater.state.deliveries.rows import with_ids
from headwater.state.deliveries.tables import delivery_bodies

MAX_CACHED_BYTES: Final = 16 << 20
"""Maximum size of the documents of cached bodies."""


class BodyCache:
    """The bodies that were read last. Bodies never change, and their ids are never used again."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[int, list[QueuedEvent]] = OrderedDict()
        self._bytes = 0

    def get(self, body: int) -> list[QueuedEvent] | None:
        """Return the events of a body; None if it is not cached."""
        events = self._bodies.get(body)
        if events is not None:
            self._bodies.move_to_end(body)
        return events

    def put(self, body: int, events: list[QueuedEvent]) -> None:
        """Cache a body."""
        if body in self._bodies:
            return
        self._bodies[body] = events
        self._bytes += _size(events)
        while self._bytes > MAX_CACHED_BYTES and len(self._bodies) > 1:
            _, oldest = self._bodies.popitem(last=False)
            self._bytes -= _size(oldest)


_DOCUMENTS: Final = select(delivery_bodies.c.id, delivery_bodies.c.documents).where(with_ids(delivery_bodies.c.id))


def read_documents(connection: Connection, ids: Collection[int]) -> dict[int, bytes]:
    """Return packed bodies by id. Those that were deleted meanwhile are missing."""
    if not ids:
        return {}
    return {row.id: row.documents for row in connection.execute(_DOCUMENTS, {"ids": sorted(ids)})}


def read_bodies(connection: Connection, ids: Collection[int]) -> dict[int, list[QueuedEvent]]:
    """Return the events of some bodies."""
    return {id_: unpack_body(documents) for id_, documents in read_documents(connection, ids).items()}


def _size(events: list[QueuedEvent]) -> int:
    return sum(len(event.document) for event in events)
