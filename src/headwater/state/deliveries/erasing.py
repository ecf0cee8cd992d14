"""Removes persons from the delivery queue: from bodies, dead letters, and messages and responses that mention them.

Bodies have no index by person, so each is unpacked: 5 ms for one of 1,000 events. All work runs under the lock
"finish".
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, Table, or_, select, update

from headwater.base.compression import compress
from headwater.state.deliveries.chunks import QueuedEvent, is_done, wanted_pairs
from headwater.state.deliveries.counts import Changes
from headwater.state.deliveries.finishing import close, free_bodies, set_dead_done
from headwater.state.deliveries.packing import (
    count_done,
    join_done,
    pack_logged,
    unpack_body,
    unpack_logged,
    unpack_wanted,
)
from headwater.state.deliveries.records import DeliveryErasure, ErasedDeliveries
from headwater.state.deliveries.rows import StoredRow
from headwater.state.deliveries.space import remove_letters
from headwater.state.deliveries.tables import (
    dead_chunks,
    dead_letters,
    delivery_bodies,
    delivery_chunks,
    delivery_lanes,
    delivery_locks,
    delivery_log,
)

MAX_STEP_BODIES: Final = 10
MAX_STEP_LETTERS: Final = 1_000
MAX_STEP_LOGGED: Final = 100
"""Maximum numbers of rows that one call examines."""

_BODIES: Final = 0
_LETTERS: Final = 1
_LOG: Final = 2
_HEALTH: Final = 3


def erase(
    connection: Connection, erasure: DeliveryErasure, cursor: tuple[int, int], changes: Changes, *, dry: bool
) -> ErasedDeliveries:
    """Do one step; with `dry`, count only."""
    stage, after = cursor
    steps = {_BODIES: _erase_bodies, _LETTERS: _erase_letters, _LOG: _erase_log, _HEALTH: _erase_health}
    result, last = steps[stage](connection, erasure, after, changes, dry)
    if last is not None:
        return replace(result, cursor=(stage, last))
    return replace(result, cursor=None if stage == _HEALTH else (stage + 1, 0))


def _erase_bodies(
    connection: Connection, erasure: DeliveryErasure, after: int, changes: Changes, dry: bool
) -> tuple[ErasedDeliveries, int | None]:
    table = delivery_bodies.c
    query = select(delivery_bodies).where(table.id > after).order_by(table.id).limit(MAX_STEP_BODIES)
    rows = connection.execute(query).all()
    deliveries = letters = 0
    messages: set[tuple[int, str]] = set()
    for row in rows:
        if row.workspace != erasure.workspace:
            continue
        events = unpack_body(row.documents)
        own = {
            index
            for index, event in enumerate(events)
            if event.document and erasure.is_person(event.source, event.user_id, event.anonymous_id)
        }
        if not own:
            continue
        messages |= {(events[index].source, events[index].message_id) for index in own}
        if not dry:
            _replace_body(connection, row, events, own, changes)
        deliveries += _finish_items(connection, row.id, len(events), own, changes, dry)
        letters += _finish_dead_items(connection, row.id, len(events), own, changes, dry)
    last = rows[-1].id if len(rows) == MAX_STEP_BODIES else None
    return ErasedDeliveries(deliveries, letters, messages=tuple(sorted(messages))), last


def _replace_body(
    connection: Connection, row: StoredRow, events: Sequence[QueuedEvent], own: Collection[int], changes: Changes
) -> None:
    """Empty the person's events of a body. They keep their places and positions."""
    empty = [
        QueuedEvent(event.position, event.source, "", 0, None, None, b"") if index in own else event
        for index, event in enumerate(events)
    ]
    packed = compress(_encode(empty))
    size = row.bytes - len(row.documents) + len(packed)
    changes.add_size(size - row.bytes)
    connection.execute(
        update(delivery_bodies).where(delivery_bodies.c.id == row.id).values(documents=packed, bytes=size)
    )


def _finish_items(
    connection: Connection, body: int, events: int, own: Collection[int], changes: Changes, dry: bool
) -> int:
    """Finish the unfinished deliveries of the person's events; return their number.

    The active courier may hold them in memory: it has to read its chunks again.
    """
    removed = 0
    finished = []
    for row, bits, items in _find_bits(connection, delivery_chunks, body, events, own):
        removed += items
        if dry or not items:
            continue
        done = join_done(row.done, bits)
        if count_done(done) >= row.item_count:
            finished.append(row)
        else:
            connection.execute(update(delivery_chunks).where(delivery_chunks.c.id == row.id).values(done=done))
    if not dry and removed:
        close(connection, finished, changes)
        free_bodies(connection, {row.body for row in finished}, changes)
        locks = delivery_locks
        connection.execute(update(locks).where(locks.c.name == "finish").values(epoch=locks.c.epoch + 1))
    return removed


def _finish_dead_items(
    connection: Connection, body: int, events: int, own: Collection[int], changes: Changes, dry: bool
) -> int:
    removed = 0
    emptied = []
    for row, bits, items in _find_bits(connection, dead_chunks, body, events, own):
        removed += items
        if items and not dry and set_dead_done(connection, row, join_done(row.done, bits), changes):
            emptied.append(row.body)
    if emptied:
        free_bodies(connection, emptied, changes)
    return removed


def _find_bits(
    connection: Connection, table: Table, body: int, events: int, own: Collection[int]
) -> list[tuple[StoredRow, bytes, int]]:
    """Return each chunk of a body with the bits of the person's items, and the number of unfinished ones."""
    found = []
    for row in connection.execute(select(table).where(table.c.body == body)).all():
        items = [
            index for index, (event, _) in enumerate(wanted_pairs(unpack_wanted(row.wanted), events)) if event in own
        ]
        bits = bytearray(-(-row.item_count // 8))
        for index in items:
            bits[index >> 3] |= 1 << (index & 7)
        found.append((row, bytes(bits), sum(not is_done(row.done, index) for index in items)))
    return found


def _erase_letters(
    connection: Connection, erasure: DeliveryErasure, after: int, changes: Changes, dry: bool
) -> tuple[ErasedDeliveries, int | None]:
    table = dead_letters.c
    columns = [column for column in dead_letters.c if column.name != "document"]
    query = select(*columns).where(table.id > after).order_by(table.id).limit(MAX_STEP_LETTERS)
    rows = connection.execute(query).all()
    own = [
        row
        for row in rows
        if row.workspace == erasure.workspace
        and (erasure.is_person(row.source, row.user_id, row.anonymous_id) or erasure.mentions.are_in_text(row.message))
    ]
    if not dry:
        remove_letters(connection, changes, own)
    messages = tuple(sorted({(row.source, row.message_id) for row in own}))
    last = rows[-1].id if len(rows) == MAX_STEP_LETTERS else None
    return ErasedDeliveries(dead_letters=len(own), messages=messages), last


def _erase_log(
    connection: Connection, erasure: DeliveryErasure, after: int, changes: Changes, dry: bool
) -> tuple[ErasedDeliveries, int | None]:
    """Remove the messages of attempts that mention the person."""
    table = delivery_log
    query = select(table.c.chunk, table.c.destination, table.c.bytes, table.c.attempts).where(table.c.chunk > after)
    rows = connection.execute(query.order_by(table.c.chunk).limit(MAX_STEP_LOGGED)).all()
    texts = 0
    for row in rows:
        if row.destination not in erasure.destinations:
            continue
        logged = unpack_logged(row.attempts)
        if not any(erasure.mentions.are_in_text(attempt.message) for attempt in logged.attempts):
            continue
        texts += 1
        if dry:
            continue
        attempts = [
            replace(attempt, message="") if erasure.mentions.are_in_text(attempt.message) else attempt
            for attempt in logged.attempts
        ]
        packed = pack_logged(replace(logged, attempts=attempts))
        size = row.bytes - len(row.attempts) + len(packed)
        changes.add_log(size - row.bytes)
        connection.execute(update(table).where(table.c.chunk == row.chunk).values(attempts=packed, bytes=size))
    return ErasedDeliveries(texts=texts), rows[-1].chunk if len(rows) == MAX_STEP_LOGGED else None


def _erase_health(
    connection: Connection, erasure: DeliveryErasure, after: int, changes: Changes, dry: bool
) -> tuple[ErasedDeliveries, int | None]:
    """Remove the last responses and errors of destinations that mention the person."""
    table = delivery_lanes
    rows = connection.execute(
        select(table.c.destination, table.c.last_error, table.c.last_response).where(
            table.c.workspace == erasure.workspace, or_(table.c.last_error != "", table.c.last_response != b"")
        )
    ).all()
    own = [
        (row.destination)
        for row in rows
        if erasure.mentions.are_in(row.last_response) or erasure.mentions.are_in_text(row.last_error)
    ]
    if not dry:
        for destination in own:
            empty: dict[str, Any] = {"last_error": "", "last_response": b""}
            connection.execute(update(table).where(table.c.destination == destination).values(**empty))
    return ErasedDeliveries(texts=len(own)), None


_encode: Final = msgspec.msgpack.Encoder().encode
