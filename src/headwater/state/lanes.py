"""Lanes: one durable queue per pipeline that does not run in the worker's transaction.

The worker appends the entries of a batch of the log in the transaction of that batch, so each entry exists exactly
once. The courier reads entries in the order of their positions and transforms them. The worker applies the results and
deletes finished entries in one transaction, so only the worker writes these tables.

A lane also has entries without a document: claims and aliases that another pipeline of the source has processed. They
change the identities of the lane's pipeline, and must do so in the order of the events.
"""

import asyncio
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

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


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_entries: Final = msgspec.msgpack.Decoder(list[LaneEntry]).decode
_decode_documents: Final = msgspec.msgpack.Decoder(list[bytes]).decode


async def lanes(connection: AsyncConnection) -> list[Lane]:
    """Return all lanes that have entries."""
    return [Lane(*row) for row in await connection.execute(select(tables.lanes))]


async def append(
    connection: AsyncConnection, chunks: Sequence[NewChunk], documents: Mapping[int, Sequence[bytes]], *, now: int
) -> None:
    """Append chunks. `documents` are those of each source connection, `now` is in microseconds since the epoch."""
    # In a thread: 5 ms for each megabyte.
    bodies = {source: await asyncio.to_thread(_packed, texts) for source, texts in documents.items() if texts}
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
    await bulk.insert(connection, list(tables.lane_bodies.c), [(ids[source], body) for source, body in bodies.items()])
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
    await bulk.insert(connection, list(tables.lane_chunks.c), rows)
    await bulk.upsert(
        connection, list(tables.lanes.c), totals, key=("pipeline",), adding=("entries", "bytes"),
        keeping=("workspace", "connection"),
    )  # fmt: skip


async def next_chunk(connection: AsyncConnection, pipeline: int, after: int) -> Chunk | None:
    """Return the first chunk of a lane that has entries after position `after`; None if there is none."""
    table = tables.lane_chunks.c
    # A chunk may begin before `after` and end behind it, so the newest one that begins there comes first.
    begun = select(func.max(table.first_position)).where(table.pipeline == pipeline, table.first_position <= after)
    begun_first = (await connection.execute(begun)).scalar_one_or_none() or 0
    query = (
        select(
            table.first_position, table.last_position, table.enqueued_at, table.entries, tables.lane_bodies.c.documents
        )
        .select_from(tables.lane_chunks.outerjoin(tables.lane_bodies, table.body == tables.lane_bodies.c.id))
        .where(table.pipeline == pipeline, table.first_position >= begun_first, table.last_position > after)
        .order_by(table.first_position)
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    documents = [] if row.documents is None else await asyncio.to_thread(_unpacked, row.documents)
    return Chunk(row.first_position, row.last_position, row.enqueued_at, _decode_entries(row.entries), documents)


def _packed(documents: Sequence[bytes]) -> bytes:
    return zlib.compress(_encode(documents), _COMPRESSION)


def _unpacked(body: bytes) -> list[bytes]:
    return _decode_documents(zlib.decompress(body))


async def oldest(connection: AsyncConnection, pipeline: int) -> int | None:
    """Return the time at which the first chunk of a lane was appended, in microseconds since the epoch; None if it is
    empty."""
    table = tables.lane_chunks.c
    query = select(table.enqueued_at).where(table.pipeline == pipeline).order_by(table.first_position).limit(1)
    found: int | None = (await connection.execute(query)).scalar_one_or_none()
    return found


async def finish(connection: AsyncConnection, positions: Mapping[int, int]) -> None:
    """Delete the finished chunks. `positions` are the last finished position of each lane."""
    table = tables.lane_chunks.c
    for pipeline, position in positions.items():
        # The first condition uses the index: a lane may have a million chunks.
        await _remove(connection, pipeline, (table.first_position <= position) & (table.last_position <= position))


async def remove_except(connection: AsyncConnection, pipelines: Iterable[int]) -> None:
    """Delete the lanes of pipelines that are not in `pipelines`.

    A call deletes a limited part of a long lane, to be fast. Call it again later.
    """
    table = tables.lane_chunks.c
    known = set(await connection.scalars(select(tables.lanes.c.pipeline)))
    for pipeline in known - set(pipelines):
        last = select(table.first_position).where(table.pipeline == pipeline).order_by(table.first_position)
        end = (await connection.execute(last.offset(MAX_REMOVED_CHUNKS).limit(1))).scalar_one_or_none()
        await _remove(connection, pipeline, table.first_position >= 0 if end is None else table.first_position < end)


async def _remove(connection: AsyncConnection, pipeline: int, condition: ColumnElement[bool]) -> None:
    table = tables.lane_chunks.c
    mine = (table.pipeline == pipeline, condition)
    query = select(table.first_position, table.entry_count, table.bytes, table.body).where(*mine)
    found = (await connection.execute(query)).all()
    if not found:
        return
    await connection.execute(delete(tables.lane_chunks).where(*mine))
    bodies = {row.body for row in found if row.body}
    used = await bulk.lookup(connection, (table.body,), (table.body,), ((body,) for body in bodies))
    unused = bodies - {body for (body,) in used}
    await bulk.remove(connection, (tables.lane_bodies.c.id,), ((body,) for body in unused))
    lane = tables.lanes.c
    await connection.execute(
        update(tables.lanes)
        .where(lane.pipeline == pipeline)
        .values(
            entries=lane.entries - sum(row.entry_count for row in found),
            bytes=lane.bytes - sum(row.bytes for row in found),
        )
    )
    await connection.execute(delete(tables.lanes).where(lane.pipeline == pipeline, lane.entries <= 0))
