"""Appends packed bodies and chunks."""

from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, select

from headwater.state.deliveries.counts import ROW_BYTES, Changes, measure_body
from headwater.state.deliveries.packing import Packed
from headwater.state.deliveries.rows import delete_ids, insert_rows
from headwater.state.deliveries.tables import delivery_appends, delivery_bodies, delivery_chunks


class End(Struct, frozen=True):
    """The end of the queue."""

    chunk: int
    """The id of the newest chunk that was ever appended."""
    position: int
    """The position through which the worker has appended."""


_APPENDS: Final = delivery_appends.c
_END: Final = select(_APPENDS.chunk, _APPENDS.position).order_by(_APPENDS.chunk.desc()).limit(1)


def read_end(connection: Connection) -> End:
    """Return the end of the queue."""
    row = connection.execute(_END).one()
    return End(row.chunk, row.position)


def append(
    connection: Connection, packed: Packed, end: End, changes: Changes, *, position: int, now: int, origin: str = ""
) -> End:
    """Append after `end`, which must be the end of the queue under the lock "append". Return the new end."""
    bodies: dict[int, int] = {}
    chunk_rows: list[dict[str, Any]] = []
    body_rows: list[dict[str, Any]] = []
    id_ = end.chunk
    for chunk in packed.chunks:
        id_ += 1
        body = packed.bodies[chunk.body]
        size = measure_body(len(body.documents))
        if chunk.body not in bodies:
            bodies[chunk.body] = id_
            body_rows.append(
                {
                    "id": id_,
                    "workspace": body.workspace,
                    "created_at": now,
                    "events": body.events,
                    "bytes": size,
                    "positions": body.positions,
                    "documents": body.documents,
                }
            )
            changes.add_size(size)
        chunk_rows.append(
            {
                "id": id_,
                "destination": chunk.destination,
                "workspace": chunk.workspace,
                "body": bodies[chunk.body],
                "first_position": chunk.first_position,
                "last_position": chunk.last_position,
                "item_count": chunk.item_count,
                "bytes": size,
                "raw_bytes": body.raw_bytes,
                "enqueued_at": now,
                "origin": origin,
                "wanted": chunk.wanted,
                "done": b"",
            }
        )
        changes.add_open(chunk.destination, chunk.item_count, size)
        changes.add_size(ROW_BYTES)
    insert_rows(connection, delivery_bodies, body_rows)
    insert_rows(connection, delivery_chunks, chunk_rows)
    return move_end(connection, end, End(id_, position))


def move_end(connection: Connection, end: End, new: End) -> End:
    """Store the new end of the queue; it must have a new chunk."""
    if new.chunk == end.chunk:
        return end
    insert_rows(connection, delivery_appends, [{"chunk": new.chunk, "position": new.position}])
    delete_ids(connection, _APPENDS.chunk, [end.chunk])
    return new
