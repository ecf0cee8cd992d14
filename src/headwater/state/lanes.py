"""Lanes: one durable queue per pipeline that does not run in the worker's transaction.

The worker appends what a batch of the log has for a lane in the transaction of that batch, so an entry exists exactly
once. The courier reads entries in the order of their positions and transforms them. The worker applies the results and
removes finished entries in one transaction. So the worker is the only process that writes these tables.

A lane also carries entries without a document: claims and aliases that another pipeline of the source has seen. They
change the identities of the lane's pipeline, and have to do so in the order of the events.
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
"""How many chunks of one lane `remove_except` removes at a time."""
_COMPRESSION: Final = 1
"""The level of zlib: 140 bytes and 5 µs for a document of 900 bytes."""


class LaneEntry(Struct, frozen=True, array_like=True):
    """One event, as one lane has it. Stored as MessagePack: add fields at the end only, with a default."""

    position: int
    message_id: str
    at: int
    """When the event happened, in microseconds since the epoch."""
    user_id: str | None
    anonymous_id: str | None
    previous_id: str | None = None
    """The id that the user had before. Only an alias has one."""
    is_once: bool = False
    """Whether it is an alias of the client API, which applies only to an anonymous id that nobody has claimed."""
    is_seen: bool = False
    """Whether the lane's pipeline sees the person without a transformation, as it does in an alias."""
    document: int = NO_DOCUMENT
    """The index of the event's document in the body, or `NO_DOCUMENT` when there is nothing to transform."""
    claims: bool = True
    """Whether the user owns the anonymous id from now on."""


class NewChunk(Struct, frozen=True):
    """What one batch of the log has for one lane."""

    pipeline: int
    workspace: int
    connection: int
    entries: list[LaneEntry]
    """In the order of their positions; at least one."""


class Lane(Struct, frozen=True):
    """A lane that has entries."""

    pipeline: int
    workspace: int
    connection: int
    last_position: int
    """The position of its newest entry."""
    entries: int
    """How many have not been finished."""
    bytes: int
    """Their size, compressed, without chunks that have no document. Lanes that share documents share their size."""


class Chunk(Struct, frozen=True):
    """Entries of a lane, with the documents that they refer to."""

    first_position: int
    last_position: int
    enqueued_at: int
    """When the entries were appended, in microseconds since the epoch."""
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
    """Append chunks; `documents` are those of each source connection, `now` is in microseconds since the epoch."""
    if not chunks:
        return
    # In a thread: 5 ms for each megabyte.
    bodies = {source: await asyncio.to_thread(_packed, texts) for source, texts in documents.items() if texts}
    # A position belongs to one event, so the first position of a source in a batch is unique among bodies.
    ids: dict[int, int] = {}
    sharing: dict[int, int] = {}
    with_documents = {
        chunk.pipeline for chunk in chunks if any(entry.document != NO_DOCUMENT for entry in chunk.entries)
    }
    for chunk in chunks:
        if chunk.pipeline in with_documents:  # one with claims alone must not keep the documents of others
            first = chunk.entries[0].position
            ids[chunk.connection] = min(first, ids.get(chunk.connection, first))
            sharing[chunk.connection] = sharing.get(chunk.connection, 0) + 1
    await bulk.insert(connection, list(tables.lane_bodies.c), [(ids[source], body) for source, body in bodies.items()])
    rows, totals = [], []
    for chunk in chunks:
        entries = _encode(chunk.entries)
        body = bodies[chunk.connection] if chunk.pipeline in with_documents else b""
        # Claims alone count nothing. They cannot be refused, and what they have of the lane of a pipeline that is
        # disabled would leave the workspace's other lanes no room.
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
    """Return the first chunk of a lane that has entries after position `after`; None when there is none."""
    table = tables.lane_chunks.c
    # A chunk may begin before `after` and end behind it: the newest that begins there comes first.
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
    """Return when the first chunk of a lane was appended, in microseconds since the epoch; None for an empty lane."""
    table = tables.lane_chunks.c
    query = select(table.enqueued_at).where(table.pipeline == pipeline).order_by(table.first_position).limit(1)
    found: int | None = (await connection.execute(query)).scalar_one_or_none()
    return found


async def finish(connection: AsyncConnection, positions: Mapping[int, int]) -> None:
    """Remove the chunks that are finished; `positions` are the last finished position of each lane."""
    table = tables.lane_chunks.c
    for pipeline, position in positions.items():
        # The first condition is for the index: a lane may have a million chunks.
        await _remove(connection, pipeline, (table.first_position <= position) & (table.last_position <= position))


async def remove_except(connection: AsyncConnection, pipelines: Iterable[int]) -> None:
    """Remove the lanes of pipelines that are not in `pipelines`; of a long one only the first part, so that this does
    not take long. To be called again later."""
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
