"""Lanes: one durable queue per pipeline that does not run in the worker's transaction.

The worker appends the entries of a batch of the log in the transaction of that batch, so each entry exists exactly
once. The courier reads entries in the order of their positions and transforms them. The worker applies the results and
deletes finished entries in one transaction, so only the worker writes these tables.

A lane also has entries without a document: claims and aliases that another pipeline of the source has processed. They
change the identities of the lane's pipeline, and must do so in the order of the events.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from headwater.state import bulk, tables

NO_DOCUMENT: Final = -1
MAX_REMOVED_CHUNKS: Final = 5_000
"""Maximum number of chunks of one lane that `remove_except` deletes per call."""
_COMPRESSION: Final = 1
"""The level of zlib: 140 bytes and 5 µs for a document of 900 bytes."""


class LaneEntry(Struct, frozen=True, array_like=True):
    """One event in one lane. It is stored as MessagePack: add fields at the end only, with a default."""

    position: int
    message_id: str
    at: int
    """Time of the event, in microseconds since the epoch."""
    user_id: str | None
    anonymous_id: str | None
    previous_id: str | None = None
    """The previous id of the user. Only an alias has one."""
    only_if_unclaimed: bool = False
    """True for an alias of the client API, which applies only to an anonymous id that belongs to no user."""
    is_observed: bool = False
    """True if the lane's pipeline observes the person without a transformation, as in an alias."""
    document: int = NO_DOCUMENT
    """Index of the event's document in the body, or `NO_DOCUMENT` if there is nothing to transform."""
    claims: bool = True
    """True if the anonymous id belongs to the user from this event on."""


class NewChunk(Struct, frozen=True):
    """The entries of one batch of the log for one lane."""

    pipeline: int
    workspace: int
    connection: int
    entries: list[LaneEntry]
    """The entries in the order of their positions; at least one."""


class Lane(Struct, frozen=True):
    """A lane that has entries."""

    pipeline: int
    workspace: int
    connection: int
    last_position: int
    """The position of the newest entry."""
    entries: int
    """Number of unfinished entries."""
    bytes: int
    """Compressed size of the chunks with documents. Lanes that share documents share their size."""


class Chunk(Struct, frozen=True):
    """Entries of a lane, with their documents."""

    first_position: int
    last_position: int
    enqueued_at: int
    """Time at which the entries were appended, in microseconds since the epoch."""
    entries: list[LaneEntry]
    documents: list[bytes]


class PackedChunk(Struct, frozen=True):
    """A chunk as it is stored."""

    first_position: int
    last_position: int
    enqueued_at: int
    entries: bytes
    documents: bytes | None
    """None if no entry has a document."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_entries: Final = msgspec.msgpack.Decoder(list[LaneEntry]).decode
_decode_documents: Final = msgspec.msgpack.Decoder(list[bytes]).decode


def lanes(connection: Connection) -> list[Lane]:
    """Return all lanes that have entries."""
    return [Lane(*row) for row in connection.execute(select(tables.lanes))]


def append(connection: Connection, chunks: Sequence[NewChunk], bodies: Mapping[int, bytes], *, now: int) -> None:
    """Append chunks. `bodies` are the packed documents of source connections, `now` is in microseconds since the
    epoch."""
    # A position belongs to one event, so the first position of a source in a batch is unique among bodies.
    ids: dict[int, int] = {}
    sharing: dict[int, int] = {}
    with_documents = {
        chunk.pipeline for chunk in chunks if any(entry.document != NO_DOCUMENT for entry in chunk.entries)
    }
    for chunk in chunks:
        if chunk.pipeline in with_documents:  # a chunk with claims alone must not keep the documents of others
            first = chunk.entries[0].position
            ids[chunk.connection] = min(first, ids.get(chunk.connection, first))
            sharing[chunk.connection] = sharing.get(chunk.connection, 0) + 1
    bulk.insert(connection, list(tables.lane_bodies.c), [(ids[source], body) for source, body in bodies.items()])
    rows, totals = [], []
    for chunk in chunks:
        entries = _encode(chunk.entries)
        body = bodies[chunk.connection] if chunk.pipeline in with_documents else b""
        # Claims count nothing: they cannot be rejected, and those of a disabled pipeline must not fill the quota of the
        # workspace's other lanes.
        size = len(entries) + len(body) // sharing[chunk.connection] if body else 0
        first, last, count = chunk.entries[0].position, chunk.entries[-1].position, len(chunk.entries)
        body_id = ids[chunk.connection] if body else 0
        rows.append((chunk.pipeline, first, last, now, count, size, body_id, entries))
        totals.append((chunk.pipeline, chunk.workspace, chunk.connection, last, count, size))
    bulk.insert(connection, list(tables.lane_chunks.c), rows)
    bulk.upsert(
        connection, list(tables.lanes.c), totals, key=("pipeline",), adding=("entries", "bytes"),
        keeping=("workspace", "connection"),
    )  # fmt: skip


def find_chunk(connection: Connection, pipeline: int, after: int) -> PackedChunk | None:
    """Return the first chunk of a lane that has entries after position `after`; None if there is none."""
    table = tables.lane_chunks.c
    # A chunk may begin before `after` and end behind it, so the newest one that begins there comes first.
    begun = select(func.max(table.first_position)).where(table.pipeline == pipeline, table.first_position <= after)
    begun_first = connection.execute(begun).scalar_one_or_none() or 0
    query = (
        select(
            table.first_position, table.last_position, table.enqueued_at, table.entries, tables.lane_bodies.c.documents
        )
        .select_from(tables.lane_chunks.outerjoin(tables.lane_bodies, table.body == tables.lane_bodies.c.id))
        .where(table.pipeline == pipeline, table.first_position >= begun_first, table.last_position > after)
        .order_by(table.first_position)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else PackedChunk(*row)


def unpack_chunk(packed: PackedChunk) -> Chunk:
    """Return the content of a chunk. It takes a millisecond for each megabyte."""
    documents = [] if packed.documents is None else _decode_documents(zlib.decompress(packed.documents))
    entries = _decode_entries(packed.entries)
    return Chunk(packed.first_position, packed.last_position, packed.enqueued_at, entries, documents)


def pack_documents(documents: Mapping[int, Sequence[bytes]]) -> dict[int, bytes]:
    """Return the packed documents of each source connection that has any. It takes 5 ms for each megabyte."""
    return {source: zlib.compress(_encode(texts), _COMPRESSION) for source, texts in documents.items() if texts}


def oldest(connection: Connection, pipeline: int) -> int | None:
    """Return the time at which the first chunk of a lane was appended, in microseconds since the epoch; None if it is
    empty."""
    table = tables.lane_chunks.c
    query = select(table.enqueued_at).where(table.pipeline == pipeline).order_by(table.first_position).limit(1)
    found: int | None = connection.execute(query).scalar_one_or_none()
    return found


def finish(connection: Connection, positions: Mapping[int, int]) -> None:
    """Delete the finished chunks. `positions` are the last finished position of each lane."""
    table = tables.lane_chunks.c
    for pipeline, position in positions.items():
        # The first condition uses the index: a lane may have a million chunks.
        _remove(connection, pipeline, (table.first_position <= position) & (table.last_position <= position))


def remove_except(connection: Connection, pipelines: Iterable[int]) -> None:
    """Delete the lanes of pipelines that are not in `pipelines`.

    A call deletes a limited part of a long lane, to be fast. Call it again later.
    """
    table = tables.lane_chunks.c
    known = set(connection.scalars(select(tables.lanes.c.pipeline)))
    for pipeline in known - set(pipelines):
        last = select(table.first_position).where(table.pipeline == pipeline).order_by(table.first_position)
        end = connection.execute(last.offset(MAX_REMOVED_CHUNKS).limit(1)).scalar_one_or_none()
        _remove(connection, pipeline, table.first_position >= 0 if end is None else table.first_position < end)


def _remove(connection: Connection, pipeline: int, condition: ColumnElement[bool]) -> None:
    table = tables.lane_chunks.c
    mine = (table.pipeline == pipeline, condition)
    query = select(table.first_position, table.entry_count, table.bytes, table.body).where(*mine)
    found = connection.execute(query).all()
    if not found:
        return
    connection.execute(delete(tables.lane_chunks).where(*mine))
    bodies = {row.body for row in found if row.body}
    used = bulk.lookup(connection, (table.body,), (table.body,), ((body,) for body in bodies))
    unused = bodies - {body for (body,) in used}
    bulk.remove(connection, (tables.lane_bodies.c.id,), ((body,) for body in unused))
    lane = tables.lanes.c
    connection.execute(
        update(tables.lanes)
        .where(lane.pipeline == pipeline)
        .values(
            entries=lane.entries - sum(row.entry_count for row in found),
            bytes=lane.bytes - sum(row.bytes for row in found),
        )
    )
    connection.execute(delete(tables.lanes).where(lane.pipeline == pipeline, lane.entries <= 0))
