"""Cuts deliveries into bodies and chunks, and packs them. It computes only, about 1 µs for an event."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

import msgspec
from msgspec import Struct

from headwater.base.compression import compress, decompress
from headwater.state.deliveries.chunks import (
    ITEM_BITS,
    MAX_CHUNK_BYTES,
    MAX_CHUNK_EVENTS,
    ChunkItem,
    NewChunk,
    NewDeliveries,
    QueuedChunk,
    QueuedEvent,
    Wanted,
    is_done,
    wanted_pairs,
)
from headwater.state.deliveries.records import AttemptRecord

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_events: Final = msgspec.msgpack.Decoder(list[QueuedEvent]).decode
_decode_wanted: Final = msgspec.msgpack.Decoder(dict[int, list[int] | None]).decode
_decode_numbers: Final = msgspec.msgpack.Decoder(list[int]).decode


class PackedBody(Struct, frozen=True):
    """Events in their stored form."""

    workspace: int
    events: int
    raw_bytes: int
    positions: bytes
    documents: bytes


class PackedChunk(Struct, frozen=True):
    """A chunk in its stored form. `body` is an index in the bodies that are stored with it."""

    destination: int
    workspace: int
    body: int
    first_position: int
    last_position: int
    item_count: int
    wanted: bytes


class Packed(Struct):
    """Bodies and chunks that are appended together."""

    bodies: list[PackedBody] = []
    chunks: list[PackedChunk] = []


def pack(deliveries: Sequence[NewDeliveries], *, after: int = -1) -> Packed:
    """Pack the deliveries of events at positions above `after`."""
    packed = Packed([], [])
    for each in deliveries:
        start = 0 if after < 0 else _first_above(each.events, after)
        for begin, end in _slices(each.events, start):
            _pack_slice(packed, each, begin, end)
    return packed


def _first_above(events: Sequence[QueuedEvent], position: int) -> int:
    return bisect_left(events, position + 1, key=lambda event: event.position)


def _slices(events: Sequence[QueuedEvent], start: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of slices within the limits of a body."""
    begin, size = start, 0
    for index in range(start, len(events)):
        length = len(events[index].document)
        if index > begin and (size + length > MAX_CHUNK_BYTES or index - begin >= MAX_CHUNK_EVENTS):
            yield begin, index
            begin, size = index, 0
        size += length
    if begin < len(events):
        yield begin, len(events)


def _pack_slice(packed: Packed, deliveries: NewDeliveries, begin: int, end: int) -> None:
    """Append the chunks of the events from `begin` to `end`. Destinations that want most of them share a body."""
    events = deliveries.events[begin:end]
    bodies: dict[tuple[int, ...] | None, int] = {}

    def body(indexes: tuple[int, ...] | None) -> int:
        if indexes not in bodies:
            bodies[indexes] = len(packed.bodies)
            chosen = events if indexes is None else [events[index] for index in indexes]
            packed.bodies.append(_pack_body(deliveries.workspace, chosen))
        return bodies[indexes]

    for chunk in deliveries.chunks:
        wanted = _restricted(chunk, begin, end)
        if not wanted:
            continue
        indexes = None if None in wanted.values() else _union(wanted)
        if indexes is not None and 2 * len(indexes) < len(events):
            number = {index: own for own, index in enumerate(indexes)}
            own = {pipeline: [number[index] for index in some or ()] for pipeline, some in wanted.items()}
            number_of_body, wanted = body(indexes), _normalised(own, len(indexes))
        else:
            number_of_body = body(None)
        first, last = (0, len(events) - 1) if indexes is None else (indexes[0], indexes[-1])
        packed.chunks.append(
            PackedChunk(
                chunk.destination,
                chunk.workspace,
                number_of_body,
                events[first].position,
                events[last].position,
                _count(wanted, packed.bodies[number_of_body].events),
                _encode(wanted),
            )
        )


def _restricted(chunk: NewChunk, begin: int, end: int) -> dict[int, list[int] | None]:
    """Return the events from `begin` to `end` that the chunk's pipelines want, counted from `begin`."""
    found: dict[int, list[int] | None] = {}
    for pipeline, indexes in chunk.wanted.items():
        if indexes is None:
            found[pipeline] = None
        elif some := indexes[bisect_left(indexes, begin) : bisect_left(indexes, end)]:
            found[pipeline] = [index - begin for index in some] if begin else some
    return _normalised(found, end - begin)


def _normalised(wanted: Mapping[int, list[int] | None], events: int) -> dict[int, list[int] | None]:
    return {
        pipeline: None if indexes is None or len(indexes) == events else indexes for pipeline, indexes in wanted.items()
    }


def _union(wanted: Wanted) -> tuple[int, ...]:
    lists = [indexes for indexes in wanted.values() if indexes is not None]
    return tuple(lists[0]) if len(lists) == 1 else tuple(sorted(set().union(*lists)))


def _count(wanted: Wanted, events: int) -> int:
    return sum(events if indexes is None else len(indexes) for indexes in wanted.values())


def _pack_body(workspace: int, events: Sequence[QueuedEvent]) -> PackedBody:
    size = sum(len(event.document) for event in events)
    positions = pack_positions([event.position for event in events])
    return PackedBody(workspace, len(events), size, positions, compress(_encode(events)))


def unpack_body(documents: bytes) -> list[QueuedEvent]:
    """Return the events of a body."""
    return _decode_events(decompress(documents))


def pack_positions(positions: Sequence[int]) -> bytes:
    """Return ascending positions in 1 byte each or less."""
    return compress(_encode([positions[0], *(b - a for a, b in pairwise(positions))]))


def unpack_positions(packed: bytes) -> list[int]:
    """Return the positions that `pack_positions` has packed."""
    return list(accumulate(_decode_numbers(decompress(packed))))


def pack_wanted(wanted: Wanted) -> bytes:
    """Return the stored form of `Wanted`."""
    return _encode(wanted)


def unpack_wanted(packed: bytes) -> dict[int, list[int] | None]:
    """Return the wanted events in a stored chunk."""
    return _decode_wanted(packed)


def event_count(wanted: Wanted, item_count: int) -> int:
    """Return the number of events of a chunk's body, or a lower bound if no pipeline wants all of them."""
    lists = [indexes for indexes in wanted.values() if indexes is not None]
    complete = len(wanted) - len(lists)
    if complete:
        return (item_count - sum(map(len, lists))) // complete
    return max((indexes[-1] + 1 for indexes in lists), default=0)


def unfinished_by_pipeline(wanted: Wanted, item_count: int, done: bytes) -> dict[int, int]:
    """Return the number of unfinished items of each pipeline in a chunk."""
    events = event_count(wanted, item_count)
    if not any(done):
        return {pipeline: events if indexes is None else len(indexes) for pipeline, indexes in wanted.items()}
    counts: dict[int, int] = {}
    for index, (_, pipeline) in enumerate(wanted_pairs(wanted, events)):
        if not is_done(done, index):
            counts[pipeline] = counts.get(pipeline, 0) + 1
    return counts


def count_done(done: bytes) -> int:
    """Return the number of set bits."""
    return int.from_bytes(done).bit_count()


def join_done(one: bytes, other: bytes) -> bytes:
    """Return the bits that are set in either."""
    size = max(len(one), len(other))
    return (int.from_bytes(one, "little") | int.from_bytes(other, "little")).to_bytes(size, "little")


class LoggedChunk(Struct, frozen=True, array_like=True):
    """A finished chunk in the log of attempts. It is stored as MessagePack: add fields at the end only, with a
    default."""

    positions: list[int]
    wanted: dict[int, list[int] | None]
    attempts: list[AttemptRecord]


_decode_logged: Final = msgspec.msgpack.Decoder(LoggedChunk).decode


def pack_logged(logged: LoggedChunk) -> bytes:
    """Return the stored form of a finished chunk."""
    return compress(_encode(logged))


def unpack_logged(packed: bytes) -> LoggedChunk:
    """Return a finished chunk of the log of attempts."""
    return _decode_logged(decompress(packed))


def find_items(chunk: QueuedChunk, position: int) -> Iterator[tuple[int, ChunkItem]]:
    """Yield the items of the event at a position, each with its index in the chunk."""
    event = _first_above(chunk.events, position - 1)
    if event == len(chunk.events) or chunk.events[event].position != position:
        return
    for index, (number, pipeline) in enumerate(wanted_pairs(chunk.wanted, len(chunk.events))):
        if number == event:
            yield index, ChunkItem(chunk.id << ITEM_BITS | index, chunk.events[number], pipeline)
