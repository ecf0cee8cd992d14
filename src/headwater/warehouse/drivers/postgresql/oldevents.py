"""The events of an earlier version, in a table that is not partitioned and has no columns for names and users.

They are read with the others and moved, a few thousand in a transaction, from the oldest on. `event_loading` has the
position through which they are moved; the rows stay until all are moved, and then the table is dropped.
"""

import time
from collections.abc import Callable
from typing import Final

import asyncpg
import msgspec
from msgspec import Struct

from headwater.warehouse.contract import EventQuery, StoredEvent
from headwater.warehouse.drivers.postgresql.database import Database
from headwater.warehouse.drivers.postgresql.loading import insert
from headwater.warehouse.drivers.postgresql.partitions import DAY_MICROSECONDS, Partitions
from headwater.warehouse.persons import PersonSet

DocumentTest = Callable[[bytes], bool]
"""Whether an event passes, by its document."""

TABLE: Final = "old_events"
MAX_MOVED: Final = 2_000
"""Maximum number of events that one transaction moves."""
MOVING_SECONDS: Final = 0.7
"""Approximate duration of one call of `move`."""


class _Columns(Struct, rename="camel"):
    connection_id: int = 0
    type: str = ""
    event: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None


_NEXT: Final = f"SELECT * FROM warehouse.{TABLE} WHERE position > $1 ORDER BY position LIMIT $2"
_decode: Final = msgspec.json.Decoder(_Columns).decode


def equalities(query: EventQuery) -> list[DocumentTest]:
    """Return the query's conditions on properties without a column of the table, as tests of documents."""
    wanted = {
        "type": query.type,
        "event": query.event,
        "user_id": query.user_id,
        "anonymous_id": query.anonymous_id,
    }
    given = [(name, value) for name, value in wanted.items() if value is not None]
    if not given:
        return []

    def is_equal(document: bytes) -> bool:
        columns = _read_columns(document)
        return all(getattr(columns, name) == value for name, value in given)

    return [is_equal]


def person_test(persons: PersonSet) -> DocumentTest:
    """Return a test for documents of events of these persons."""

    def is_of_person(document: bytes) -> bool:
        columns = _read_columns(document)
        return persons.has(columns.connection_id, columns.user_id, columns.anonymous_id)

    return is_of_person


async def move(database: Database, partitions: Partitions) -> bool:
    """Move old events for a while. Return whether none are left."""
    end = time.monotonic() + MOVING_SECONDS
    while time.monotonic() < end:
        if await _move_some(database, partitions):
            return True
    return False


async def _move_some(database: Database, partitions: Partitions) -> bool:
    async with database.connect() as driver:
        position: int | None = await driver.fetchval("SELECT old_position FROM warehouse.event_loading")
        if position is None:
            return True
        try:
            rows = await driver.fetch(_NEXT, position, MAX_MOVED)
        except asyncpg.UndefinedTableError:
            return True  # another process has finished
        events = [_stored(row) for row in rows]
        await partitions.create(driver, {event.received_at // DAY_MICROSECONDS for event in events})
        async with driver.transaction():
            if await driver.fetchval("SELECT old_position FROM warehouse.event_loading FOR UPDATE") != position:
                return False  # another process has moved them
            if events:
                await insert(driver, events, partitions.partition_name)
                await driver.execute("UPDATE warehouse.event_loading SET old_position = $1", events[-1].position)
            else:
                await driver.execute("UPDATE warehouse.event_loading SET old_position = NULL")
                await driver.execute(f"DROP TABLE warehouse.{TABLE}")
            return not events


def _stored(row: asyncpg.Record) -> StoredEvent:
    document: str = row["document"]
    columns = _read_columns(document.encode())
    return StoredEvent(
        position=row["position"],
        workspace=row["workspace"],
        connection=row["connection"],
        pipeline=row["pipeline"],
        timestamp=row["timestamp"],
        received_at=row["received_at"],
        type=columns.type,
        event=columns.event,
        user_id=columns.user_id,
        anonymous_id=columns.anonymous_id,
        document=document.encode(),
    )


def _read_columns(document: bytes) -> _Columns:
    """Return the values of the columns. They are valid for PostgreSQL, whatever an earlier version accepted."""
    try:
        columns = _decode(document)
    except msgspec.MsgspecError:
        return _Columns()
    has_nul = any(isinstance(text, str) and "\0" in text for text in msgspec.structs.astuple(columns))
    return _Columns() if has_nul else columns
