"""The chunks of the delivery queue: some events, and the pipelines of a destination that want them.

Times are microseconds since the epoch, UTC.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

MAX_CHUNK_EVENTS: Final = 1_000
"""Maximum number of events in one body, and so in one chunk."""
MAX_CHUNK_BYTES: Final = 1 << 20
"""Approximate maximum size of the documents of one body, uncompressed."""
ITEM_BITS: Final = 20
"""Number of bits of an item's number that are its index in the chunk; the others are the chunk's id."""


class QueuedEvent(Struct, frozen=True, array_like=True):
    """One event in a body. It is stored as MessagePack: add fields at the end only, with a default."""

    position: int
    source: int
    """The source connection."""
    message_id: str
    received_at: int
    user_id: str | None
    anonymous_id: str | None
    document: bytes
    """The whole event as canonical JSON."""


class ChunkItem(Struct, frozen=True):
    """One delivery of a chunk."""

    number: int
    """The chunk's id << `ITEM_BITS` | its index in the chunk. Numbers of a destination ascend in the order of
    sending."""
    event: QueuedEvent
    pipeline: int


Wanted = Mapping[int, list[int] | None]
"""The events that each pipeline wants, as ascending indexes in the body; None stands for all of them."""


def wanted_pairs(wanted: Wanted, events: int) -> list[tuple[int, int]]:
    """Return the items of a chunk as pairs of event index and pipeline, in their order: by event, then by pipeline.

    `events` is the number of events in the body.
    """
    if len(wanted) == 1:
        ((pipeline, indexes),) = wanted.items()
        return [(index, pipeline) for index in (range(events) if indexes is None else indexes)]
    return sorted(
        (index, pipeline)
        for pipeline, indexes in wanted.items()
        for index in (range(events) if indexes is None else indexes)
    )


class QueuedChunk(Struct, frozen=True):
    """A chunk of one destination, with the events of its body. Chunks of several destinations share these objects."""

    id: int
    destination: int
    workspace: int
    first_position: int
    last_position: int
    item_count: int
    enqueued_at: int
    origin: str
    """The operation that appended it; empty if it was the worker."""
    events: list[QueuedEvent]
    wanted: Wanted
    done: bytes
    """A bit for each finished item, as `ChunkProgress.done`; empty if none is finished."""

    def unfinished(self) -> Iterator[ChunkItem]:
        """Yield the unfinished items in their order."""
        first = self.id << ITEM_BITS
        for index, (event, pipeline) in enumerate(wanted_pairs(self.wanted, len(self.events))):
            if not is_done(self.done, index):
                yield ChunkItem(first | index, self.events[event], pipeline)


def is_done(done: bytes, index: int) -> bool:
    """Return whether the bit of an item is set."""
    return index >> 3 < len(done) and bool(done[index >> 3] & 1 << (index & 7))


class ChunkHead(Struct, frozen=True):
    """A chunk without its events."""

    id: int
    destination: int
    workspace: int
    item_count: int
    bytes: int
    """Size of the compressed body, which other destinations may share."""
    enqueued_at: int


class NewChunk(Struct, frozen=True):
    """Deliveries to one destination: some of the events that are appended with it."""

    destination: int
    workspace: int
    wanted: Wanted
    """Indexes in the events of `NewDeliveries`. No list is empty."""


class NewDeliveries(Struct, frozen=True):
    """The events of one workspace that some destinations want, and the deliveries of each destination.

    The store cuts them into bodies of limited size, and gives a destination that wants less than half of a body a body
    of its own.
    """

    workspace: int
    events: Sequence[QueuedEvent]
    """In the order of their positions."""
    chunks: Sequence[NewChunk]
