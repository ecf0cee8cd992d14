"""The chunks that a session sends: their finished items, and the attempts for the trace. Pure."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from msgspec import Struct

from headwater.base.steps import ProcessingStep
from headwater.events.event import Event
from headwater.state.deliveries import ITEM_BITS, AttemptRecord, ChunkItem, ChunkProgress, QueuedChunk
from headwater.state.deliveries.chunks import wanted_pairs
from headwater.state.deliveries.records import AttemptOutcome

MAX_ATTEMPTS: Final = 200
"""Maximum number of attempts that are kept for a chunk: the first half and the newest half of them."""
_INDEX_MASK: Final = (1 << ITEM_BITS) - 1


def find_chunk(number: int) -> int:
    """Return the id of the chunk that has an item."""
    return number >> ITEM_BITS


def find_index(number: int) -> int:
    """Return the index of an item in its chunk."""
    return number & _INDEX_MASK


def item_numbers(chunk: int, indexes: Iterable[int]) -> Iterator[int]:
    """Yield the numbers of items of a chunk."""
    return (chunk << ITEM_BITS | index for index in indexes)


class ChunkCache:
    """The chunks whose documents were needed last."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` is the maximum size of their documents together; a larger chunk is kept alone."""
        self._max_bytes = max_bytes
        self._chunks: OrderedDict[int, tuple[QueuedChunk, int]] = OrderedDict()
        self._bytes = 0

    def get(self, id_: int) -> QueuedChunk | None:
        """Return a chunk; None if it is not in memory."""
        if (kept := self._chunks.get(id_)) is None:
            return None
        self._chunks.move_to_end(id_)
        return kept[0]

    def put(self, chunk: QueuedChunk) -> None:
        """Keep a chunk, and forget those that were not needed for the longest time."""
        self.drop(chunk.id)
        size = sum(len(event.document) for event in chunk.events)
        self._chunks[chunk.id] = chunk, size
        self._bytes += size
        while self._bytes > self._max_bytes and len(self._chunks) > 1:
            self.drop(next(iter(self._chunks)))

    def drop(self, id_: int) -> None:
        """Forget a chunk."""
        if (kept := self._chunks.pop(id_, None)) is not None:
            self._bytes -= kept[1]


class OpenChunk:
    """A chunk with unfinished items."""

    def __init__(self, chunk: QueuedChunk, *, waiting: int) -> None:
        """`waiting` is the number of items whose pipelines are disabled."""
        self.id: Final = chunk.id
        self.item_count: Final = chunk.item_count
        self._waiting = waiting
        self.enqueued_at: Final = chunk.enqueued_at
        self._destination = chunk.destination
        self._done = bytearray(chunk.done.ljust((chunk.item_count + 7) // 8, b"\0"))
        self._unfinished = chunk.item_count - sum(byte.bit_count() for byte in self._done)
        self._attempts: list[AttemptRecord] = []

    @property
    def is_complete(self) -> bool:
        """Return whether all items are finished."""
        return not self._unfinished

    @property
    def is_settled(self) -> bool:
        """Return whether all items are finished but those of disabled pipelines."""
        return self._unfinished == self._waiting

    def finish(self, index: int) -> bool:
        """Mark an item as finished; return False if it was finished before."""
        byte, bit = index >> 3, 1 << (index & 7)
        if self._done[byte] & bit:
            return False
        self._done[byte] |= bit
        self._unfinished -= 1
        return True

    def add_attempt(self, attempt: AttemptRecord) -> None:
        """Add an attempt to those that are stored when the chunk is complete."""
        if len(self._attempts) == MAX_ATTEMPTS:
            del self._attempts[MAX_ATTEMPTS // 2]
        self._attempts.append(attempt)

    def progress(self) -> ChunkProgress:
        """Return the present state. The attempts are included when the chunk is complete."""
        attempts = tuple(self._attempts) if self.is_complete else ()
        return ChunkProgress(self.id, self._destination, bytes(self._done), attempts)


class AttemptDetails(Struct, frozen=True):
    """The properties that all items of one request share, or that were given up together."""

    at: int
    """Time at which the request was sent or the items were given up, in microseconds since the epoch."""
    number: int
    """Number of the attempt, from 1; 0 without a request."""
    milliseconds: int
    status: int
    """The HTTP status; 0 if there was no response."""
    step: ProcessingStep = "Finalize"


def attempt_records(
    details: AttemptDetails, outcomes: Iterable[tuple[int, AttemptOutcome, str]]
) -> Iterator[tuple[int, AttemptRecord]]:
    """Yield the records of one request, each with the id of its chunk: one for each chunk, outcome and message.

    `outcomes` are the number, the outcome and the message of each item.
    """
    for (chunk, outcome, message), items in groupby(
        sorted((find_chunk(number), outcome, message, find_index(number)) for number, outcome, message in outcomes),
        key=lambda each: each[:3],
    ):
        indexes = [index for *_, index in items]
        is_range = indexes[-1] - indexes[0] + 1 == len(indexes)
        yield (
            chunk,
            AttemptRecord(
                details.at,
                outcome,
                indexes[0],
                indexes[-1],
                details.number,
                details.milliseconds,
                details.status,
                message,
                None if is_range else indexes,
                details.step,
            ),
        )


def item_at(chunk: QueuedChunk, index: int) -> ChunkItem:
    """Return one item of a chunk, finished or not. For several use `items_at`, which is quicker."""
    if len(chunk.wanted) > 1:
        return items_at(chunk, (index,))[0]
    ((pipeline, events),) = chunk.wanted.items()
    event = chunk.events[index if events is None else events[index]]
    return ChunkItem(chunk.id << ITEM_BITS | index, event, pipeline)


def items_at(chunk: QueuedChunk, indexes: Sequence[int]) -> list[ChunkItem]:
    """Return items of a chunk, finished or not."""
    pairs = wanted_pairs(chunk.wanted, len(chunk.events))
    return [
        ChunkItem(chunk.id << ITEM_BITS | index, chunk.events[pairs[index][0]], pairs[index][1]) for index in indexes
    ]


def order_keys(event: Event) -> tuple[int, ...]:
    """Return hashes of the users that an event is about: events that share one are sent in their order.

    They are for memory only: another process computes others. A group event without a user has the key of its group.
    """
    keys = []
    if event.user_id is not None:
        keys.append(hash(("user", event.user_id)))
    if event.anonymous_id is not None:
        keys.append(hash(("anonymous", event.anonymous_id)))
    if event.type == "alias" and event.previous_id is not None:
        # The previous id is a user id or an anonymous id: it has the keys of both.
        keys += (hash(("user", event.previous_id)), hash(("anonymous", event.previous_id)))
    if not keys and event.group_id is not None:
        keys.append(hash(("group", event.group_id)))
    return tuple(keys)
