"""Blocks: some thousand events of one workspace, as compressed columns and compressed documents.

A column is decompressed when it is first needed. Documents are compressed in chunks, so that reading one of them does
not require the others.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from operator import floordiv
from typing import Final

import msgspec
from msgspec import Struct

from headwater.base.compression import compress, decompress
from headwater.warehouse.contract import EventOrder, StoredEvent
from headwater.warehouse.drivers.sqlite.columns import (
    Distinct,
    Integers,
    pack_documents,
    pack_integers,
    pack_people,
    pack_values,
    split_into_chunks,
    unpack_integers,
    unpack_values,
)

MIN_BLOCK_EVENTS: Final = 500
"""Minimum number of events in a block. Fewer are kept as rows."""
FULL_BLOCK_EVENTS: Final = 4_000
"""Number of events of a full block: a workspace's rows become a block at this number, and smaller blocks are merged up
to it."""
MAX_BLOCK_EVENTS: Final = 8_192
MAX_BLOCK_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of the documents of a block; a block with one event may be larger."""
CHUNK_EVENTS: Final = 128
CHUNK_BYTES: Final = 256 * 1024
"""Size at which a chunk of documents ends, unless it has `CHUNK_EVENTS` before."""
HOUR: Final = 3_600_000_000
"""One hour in microseconds."""

CountRow = tuple[int, int, str, str | None, int, int]
"""Hour of the timestamp, hour of the arrival, type, event, connection, number of events. Hours are since the epoch."""

_count_rows: Final = msgspec.msgpack.Decoder(list[CountRow])
_encode = msgspec.msgpack.Encoder().encode


class Columns(Struct, frozen=True, array_like=True):
    """The packed columns of a block, in the order of positions. Stored as MessagePack: add fields at the end only."""

    positions: bytes
    timestamps: bytes
    received_at: bytes
    connections: bytes
    pipelines: bytes
    types: bytes
    events: bytes
    user_ids: bytes
    anonymous_ids: bytes
    chunks: list[int]
    """The index of the first event of each chunk of documents."""


_columns: Final = msgspec.msgpack.Decoder(Columns)


class NewBlock(Struct, frozen=True):
    """A block to write."""

    workspace: int
    events: int
    document_bytes: int
    first_position: int
    last_position: int
    min_timestamp: int
    max_timestamp: int
    min_received_at: int
    max_received_at: int
    counts: bytes
    people: bytes
    columns: bytes
    chunks: list[tuple[int, bytes]]
    """Chunks of documents, each with the index of its first event."""


def make_block(events: Sequence[StoredEvent]) -> NewBlock:
    """Make a block of at most MAX_BLOCK_EVENTS events of one workspace, which are in the order of their positions.

    Raises OverflowError for times and positions beyond 64 bits, and UnicodeEncodeError for texts with surrogates.
    """
    positions = [event.position for event in events]
    timestamps = [event.timestamp for event in events]
    received = [event.received_at for event in events]
    connections = [event.connection for event in events]
    types = [event.type for event in events]
    names = [event.event for event in events]
    user_ids = [event.user_id for event in events]
    anonymous_ids = [event.anonymous_id for event in events]
    documents = [event.document for event in events]
    chunks = [
        (start, pack_documents(some))
        for start, some in split_into_chunks(documents, maximum=CHUNK_EVENTS, size=CHUNK_BYTES)
    ]
    columns = Columns(
        pack_integers(positions),
        pack_integers(timestamps),
        pack_integers(received),
        pack_values(connections),
        pack_values([event.pipeline for event in events]),
        pack_values(types),
        pack_values(names),
        pack_values(user_ids),
        pack_values(anonymous_ids),
        [start for start, _ in chunks],
    )
    hours = map(floordiv, timestamps, repeat(HOUR))
    arrivals = map(floordiv, received, repeat(HOUR))
    counts = Counter(zip(hours, arrivals, types, names, connections, strict=False))
    return NewBlock(
        events[0].workspace,
        len(events),
        sum(map(len, documents)),
        positions[0],
        positions[-1],
        min(timestamps),
        max(timestamps),
        min(received),
        max(received),
        compress(_encode([(*key, count) for key, count in counts.items()])),
        pack_people(user_ids, anonymous_ids),
        _encode(columns),
        chunks,
    )


def unpack_counts(packed: bytes) -> list[CountRow]:
    """Return the counts of a block."""
    return _count_rows.decode(decompress(packed))


class Block:
    """An open block. Events are named by their index, which follows the order of positions."""

    def __init__(self, id: int, columns: bytes) -> None:
        self.id = id
        self._columns = _columns.decode(columns)

    @property
    def chunks(self) -> list[int]:
        """The index of the first event of each chunk of documents."""
        return self._columns.chunks

    @cached_property
    def positions(self) -> Integers:
        return unpack_integers(self._columns.positions)

    @cached_property
    def timestamps(self) -> Integers:
        return unpack_integers(self._columns.timestamps)

    @cached_property
    def received_at(self) -> Integers:
        return unpack_integers(self._columns.received_at)

    @cached_property
    def connections(self) -> Distinct[int]:
        return unpack_values(self._columns.connections)

    @cached_property
    def pipelines(self) -> Distinct[int]:
        return unpack_values(self._columns.pipelines)

    @cached_property
    def types(self) -> Distinct[str]:
        return unpack_values(self._columns.types)

    @cached_property
    def events(self) -> Distinct[str | None]:
        return unpack_values(self._columns.events)

    @cached_property
    def user_ids(self) -> Distinct[str | None]:
        return unpack_values(self._columns.user_ids)

    @cached_property
    def anonymous_ids(self) -> Distinct[str | None]:
        return unpack_values(self._columns.anonymous_ids)

    def __len__(self) -> int:
        return len(self.positions)

    def times(self, order: EventOrder) -> Integers:
        """Return the times of all events."""
        return self.timestamps if order == "timestamp" else self.received_at

    @cached_property
    def _by_timestamp(self) -> list[int]:
        return sorted(range(len(self)), key=self.timestamps.offsets.__getitem__)

    @cached_property
    def _by_received_at(self) -> list[int]:
        return sorted(range(len(self)), key=self.received_at.offsets.__getitem__)

    def sorted(self, order: EventOrder) -> list[int]:
        """Return all events by time and position."""
        return self._by_timestamp if order == "timestamp" else self._by_received_at

    def find_chunk(self, index: int) -> int:
        """Return the index of the first event of the chunk that has this event's document."""
        return self.chunks[bisect_right(self.chunks, index) - 1]

    def stored_events(self, workspace: int, documents: Sequence[bytes]) -> list[StoredEvent]:
        """Return all events, given all documents."""
        distinct = (self.connections, self.pipelines, self.types, self.events, self.user_ids, self.anonymous_ids)
        values = [map(each.values.__getitem__, each.indexes) for each in distinct]
        connections, pipelines, *others = values
        rows = zip(
            self.positions,
            repeat(workspace),
            connections,
            pipelines,
            self.timestamps,
            self.received_at,
            *others,
            documents,
            strict=False,
        )
        return [StoredEvent(*row) for row in rows]
