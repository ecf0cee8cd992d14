"""The warehouse in a SQL database: one transaction per batch of the log, and the pages that people read."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headwater.base.clock import from_microseconds, microseconds
from headwater.base.database import answering_unavailable, opened
from headwater.warehouse import bulk, tables
from headwater.warehouse.identities import Identities, Identity, IdentityKey, IdentityState, Sighting, keys_of, merge
from headwater.warehouse.rows import (
    MAX_REJECTED_BYTES,
    MAX_UNKNOWN_REJECTED,
    LatestCall,
    Message,
    RejectedEvent,
    StoredEvent,
)

EventOrder = Literal["timestamp", "receivedAt"]
"""What events can be listed by."""

_ORDER: Final = {"timestamp": tables.events.c.timestamp, "receivedAt": tables.events.c.received_at}
_IDENTITY_KEY: Final = ("connection", "identity_id", "is_anonymous", "pipeline")
_IDS_PER_QUERY: Final = 200
_WHAT: Final = "the warehouse's database"


class Warehouse:
    """Reads the warehouse, and opens transactions for the one process that writes it.

    All of it raises Unavailable while the database is away.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        async with answering_unavailable(_WHAT), self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """What is done inside happens as a whole, or, after an exception or a crash, not at all.

        Raises Unavailable when the database is away. Then it is not known whether what was done has happened, if it
        went away during the commit: `finished` tells.
        """
        async with answering_unavailable(_WHAT), self._engine.begin() as connection:
            yield Transaction(connection)

    async def finished(self, consumer: str) -> int:
        """The position up to which `consumer` has finished the log; 0 at first."""
        query = select(tables.progress.c.position).where(tables.progress.c.consumer == consumer)
        async with self._connect() as connection:
            return (await connection.execute(query)).scalar_one_or_none() or 0

    async def events(
        self, workspace: int, *, order: EventOrder, ascending: bool, first: int, limit: int
    ) -> list[bytes]:
        """The documents of a workspace's events; of equal ones the later accepted counts as the greater."""
        keys = (_ORDER[order], tables.events.c.position)
        query = (
            select(tables.events.c.document)
            .where(tables.events.c.workspace == workspace)
            .order_by(*(key.asc() if ascending else key.desc() for key in keys))
            .offset(first)
            .limit(limit)
        )
        async with self._connect() as connection:
            return [document.encode() for document in await connection.scalars(query)]

    async def identities(self, connection_id: int, *, first: int, limit: int) -> tuple[list[Identity], int]:
        """The identities of a connection, the most recently updated first, and how many there are in all."""
        table = tables.identities.c
        query = (
            select(tables.identities)
            .where(table.connection == connection_id)
            .order_by(table.updated_at.desc(), table.id.desc())
            .offset(first)
            .limit(limit)
        )
        count = select(func.count()).select_from(tables.identities).where(table.connection == connection_id)
        async with self._connect() as connection:
            rows = (await connection.execute(query)).all()
            total = (await connection.execute(count)).scalar_one()
        return [
            Identity(
                user_id=None if row.is_anonymous else row.identity_id,
                anonymous_ids=msgspec.json.decode(row.anonymous_ids, type=list[str]),
                connection=row.connection,
                pipeline=row.pipeline,
                updated_at=from_microseconds(row.updated_at),
            )
            for row in rows
        ], total

    async def latest_call(self, connection_id: int) -> LatestCall | None:
        """The latest call that came with a key of the connection; None before the first."""
        query = select(tables.calls).where(tables.calls.c.connection == connection_id)
        async with self._connect() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else LatestCall(**{**row, "received_at": from_microseconds(row["received_at"])})

    async def rejected(
        self, workspace: int, *, connection_id: int | None, dialect: str | None, first: int, limit: int
    ) -> tuple[list[RejectedEvent], int]:
        """The refused events of a workspace, the newest first, and how many there are in all."""
        if dialect is not None and "\0" in dialect:
            return [], 0  # PostgreSQL has no NUL in texts, and would call it an error
        table = tables.rejected_events.c
        chosen = [table.workspace == workspace]
        if connection_id is not None:
            chosen.append(table.connection == connection_id)
        if dialect is not None:
            chosen.append(table.dialect == dialect)
        query = select(tables.rejected_events).where(*chosen).order_by(table.position.desc()).offset(first).limit(limit)
        count = select(func.count()).select_from(tables.rejected_events).where(*chosen)
        async with self._connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
            total = (await connection.execute(count)).scalar_one()
        return [RejectedEvent(**{**row, "received_at": from_microseconds(row["received_at"])}) for row in rows], total


class Transaction:
    """Everything that one batch of the log leads to."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def claim(self, messages: Sequence[Message]) -> set[int]:
        """The positions, of those given, whose message was not there before. The others are duplicates.

        `messages` are in the order of their positions, and after every position that was ever claimed.
        """
        if not messages:
            return set()
        await bulk.insert_new(self._connection, tables.messages, [msgspec.structs.asdict(row) for row in messages])
        new = select(tables.messages.c.position).where(
            tables.messages.c.position.between(messages[0].position, messages[-1].position)
        )
        return set(await self._connection.scalars(new))

    async def add_events(self, events: Sequence[StoredEvent]) -> None:
        """Store events."""
        rows = [
            {
                "position": event.position,
                "workspace": event.workspace,
                "connection": event.connection,
                "pipeline": event.pipeline,
                "timestamp": microseconds(event.timestamp),
                "received_at": microseconds(event.received_at),
                "document": event.document.decode(),
            }
            for event in events
        ]
        await bulk.insert(self._connection, tables.events, rows)

    async def merge_identities(self, sightings: Sequence[Sighting]) -> int:
        """Bring the identities up to date with what was seen, in its order. Returns how many were written."""
        known = await self._identities(keys_of(sightings))
        claimed = merge(sightings, known)
        table = tables.identities.c
        for some in bulk.among(self._connection, (table.connection, table.identity_id), claimed):
            await self._connection.execute(delete(tables.identities).where(table.is_anonymous, some))
        rows = [
            {
                "workspace": state.workspace,
                **msgspec.structs.asdict(key),
                "anonymous_ids": msgspec.json.encode(state.anonymous_ids).decode(),
                "updated_at": state.updated_at,
                "attributes": state.attributes,
            }
            for key, state in known.items()
            if state is not None
        ]
        await bulk.upsert(self._connection, tables.identities, rows, key=_IDENTITY_KEY)
        return len(rows)

    async def note_calls(self, calls: Sequence[LatestCall]) -> None:
        """Remember the latest call of each connection; at most one of each is given."""
        rows = [{**msgspec.structs.asdict(call), "received_at": microseconds(call.received_at)} for call in calls]
        await bulk.upsert(self._connection, tables.calls, rows, key=("connection",))

    async def add_rejected(self, rejected: Sequence[RejectedEvent]) -> None:
        """Keep refused events; of those whose key is unknown only the newest `MAX_UNKNOWN_REJECTED`."""
        if not rejected:
            return
        rows = [
            {
                **msgspec.structs.asdict(row),
                "received_at": microseconds(row.received_at),
                # They may repeat what the caller sent, and PostgreSQL has no NUL in texts.
                "path": row.path.replace("\0", "\ufffd"),
                "message": row.message.replace("\0", "\ufffd"),
                "body": row.body[:MAX_REJECTED_BYTES],
            }
            for row in rejected
        ]
        await bulk.insert(self._connection, tables.rejected_events, rows)
        if any(row.workspace == 0 for row in rejected):
            table = tables.rejected_events.c
            kept = (
                select(table.position)
                .where(table.workspace == 0)
                .order_by(table.position.desc())
                .limit(MAX_UNKNOWN_REJECTED)
            )
            await self._connection.execute(
                delete(tables.rejected_events).where(table.workspace == 0, table.position.not_in(kept))
            )

    async def remove_identities_except(self, pipelines: Iterable[int]) -> int:
        """Remove the identities of pipelines that are no more; `pipelines` are those that are. Returns how many."""
        table = tables.identities.c.pipeline
        present = set(await self._connection.scalars(select(table).distinct()))
        removed = 0
        for some in bulk.chunks(present - set(pipelines), _IDS_PER_QUERY):
            removed += (await self._connection.execute(delete(tables.identities).where(table.in_(some)))).rowcount
        return removed

    async def finish(self, consumer: str, position: int) -> None:
        """The log is finished up to `position`, as far as `consumer` is concerned."""
        row = {"consumer": consumer, "position": position}
        await bulk.upsert(self._connection, tables.progress, [row], key=["consumer"])

    async def _identities(self, keys: list[IdentityKey]) -> Identities:
        known: Identities = dict.fromkeys(keys)
        table = tables.identities.c
        columns = (table.connection, table.identity_id, table.is_anonymous, table.pipeline)
        for some in bulk.among(self._connection, columns, map(_values, keys)):
            for row in await self._connection.execute(select(tables.identities).where(some)):
                key = IdentityKey(row.connection, row.identity_id, row.is_anonymous, row.pipeline)
                ids = msgspec.json.decode(row.anonymous_ids, type=list[str])
                known[key] = IdentityState(row.workspace, ids, row.updated_at, row.attributes)
        return known


def _values(key: IdentityKey) -> tuple[int, str, bool, int]:
    return key.connection, key.identity_id, key.is_anonymous, key.pipeline


@asynccontextmanager
async def open_warehouse(url: str) -> AsyncIterator[Warehouse]:
    """The warehouse at `url`, its tables up to date; closed at the end of the block."""
    async with opened(url, "headwater.warehouse.migrations", cache_mib=64) as engine:
        yield Warehouse(engine)
