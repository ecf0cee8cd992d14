"""The state store in a SQL database: lists for readers, and the transactions of the process that writes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headwater.base.clock import Clock, from_microseconds
from headwater.base.steps import ProcessingStep
from headwater.state import devices, imports, lanes, migrations, runprogress, tables
from headwater.state.counts import PipelineError
from headwater.state.deduplication import MessageKey, MessageStates, MessageStore, RocksMessageStore, SqlMessageStore
from headwater.state.devices import Device, DeviceCursor
from headwater.state.identities import Identity, IdentityCursor
from headwater.state.lanes import Chunk, Lane
from headwater.state.profiles.exporting import ProfileExports
from headwater.state.profiles.reading import ProfileReader
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.rateshares import RateShares
from headwater.state.rejections import RejectedEvent, RejectionCount, RejectionCountCursor, Rejections
from headwater.state.runprogress import StoredRunProgress
from headwater.state.suppressions import Suppressions
from headwater.state.transaction import LatestCall, Transaction, decode_position
from headwater.storage.changes import Changes
from headwater.storage.database import Location, as_unavailable, open_database
from headwater.storage.postgresql import end_hung_transactions
from headwater.storage.sessions import ConnectionSession, Sessions, sessions, snapshot

MAX_TRACED: Final = 100
"""Maximum number of rejections returned for one message id."""
MAX_COUNTS: Final = 1_000
"""Maximum number of rejection counts in one list."""
_CONNECTIONS_PER_QUERY: Final = 1_000
_SAMPLED_PAGES: Final = 10
"""Number of pages of the newest identities whose times bound those of a page."""
_MAX_SAMPLED: Final = 10**9
_EARLIEST: Final = -(2**63)
_WHAT: Final = "the state store's database"
_Result = TypeVar("_Result")


class StateStore:
    """Reads the state store, and opens transactions for the one process that writes it.

    Every method raises Unavailable while the database is unavailable.
    """

    def __init__(self, engine: AsyncEngine, sessions: Sessions, messages: MessageStore, clock: Clock) -> None:
        self._engine = engine
        self._sessions = sessions
        self._changes = Changes(engine)
        self._messages = messages
        self._rejections = Rejections()
        self._writing = asyncio.Lock()
        self.suppressions = Suppressions()
        """The erased persons, for the process that writes."""
        self.profiles = ProfileReader(engine)
        """Reads profiles."""
        self.exports = ProfileExports(sessions)
        """Reads the profiles of exports."""
        self.rate_shares = RateShares(sessions, clock)
        """The shares of rate limits, which every process may write."""

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            yield connection

    async def _page(self, query: Select[Any], count: Select[Any]) -> tuple[Sequence[RowMapping], int]:
        """Return the rows of a query, and a count that is consistent with them."""

        def read(connection: Connection) -> tuple[Sequence[RowMapping], int]:
            with snapshot(connection):
                return connection.execute(query).mappings().all(), int(connection.execute(count).scalar_one())

        async with self._connect() as connection:
            return await connection.run_sync(read)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run the block in a transaction, which an exception or a crash rolls back.

        Transactions of this process run one after another. Raises Unavailable if the database is unavailable. If that
        happened during the commit, the outcome is unknown: `position` shows it.
        """
        async with self._writing, as_unavailable(_WHAT), self._sessions.open() as session:
            transaction = Transaction(session, self._messages, self._rejections)
            yield transaction
            await transaction.commit()

    @asynccontextmanager
    async def trial(self) -> AsyncIterator[Transaction]:
        """Run the block in a transaction as `transaction` does, and roll it back at the end."""
        try:
            async with self.transaction() as transaction:
                yield transaction
                await transaction.flush()
                raise _Rollback
        except _Rollback:
            pass

    async def end_hung_writers(self) -> int:
        """End the transactions of hung processes that wrote this database before; return their number.

        Call it after taking over their work, and after each failure. On SQLite there is nothing to do, because a
        file has one owner.
        """
        if self._engine.dialect.name == "sqlite":
            return 0
        async with self._connect() as connection:
            return await end_hung_transactions(connection)

    async def read_profiles(self, work: Callable[[ResolutionRows], _Result], *, key: Hashable = None) -> _Result:
        """Run `work` with the rows of profiles, possibly in another thread. It must not write.

        With a `key`, the result can be that of an earlier call with this key, if the database is unchanged.
        """
        if key is not None:
            return await self._changes.once(key, lambda: self.read_profiles(work))
        async with as_unavailable(_WHAT), self._sessions.open() as session:
            return await session.run(lambda connection: work(ResolutionRows(connection)))

    async def overwrite_removed(self) -> bool:
        """Overwrite what was deleted from files. Return whether everything was done."""
        await self._messages.overwrite_removed()
        return await self._sessions.scrub()

    async def read(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run reading `work` on a connection."""
        async with self._connect() as connection:
            return await connection.run_sync(work)

    async def position(self, consumer: str) -> int:
        """Return the position up to which `consumer` has processed the log; initially 0."""
        return decode_position(await self._changes.once(("checkpoint", consumer), lambda: self.checkpoint(consumer)))

    async def checkpoint(self, owner: str) -> bytes | None:
        """Return the checkpoint of `owner`; None if it has none yet."""
        query = select(tables.checkpoints.c.value).where(tables.checkpoints.c.owner == owner)
        async with self._connect() as connection:
            found: bytes | None = (await connection.execute(query)).scalar_one_or_none()
        return found

    async def identities(
        self, connection_id: int, *, first: int, limit: int, after: IdentityCursor | None = None
    ) -> tuple[list[Identity], int]:
        """Return the identities of a connection, the most recently updated first, and their total number.

        `after` selects the identities after a place. The time is linear in the total number, see decision 0034.
        """
        table = tables.identities.c
        chosen: list[ColumnElement[bool]] = [table.connection == connection_id]
        if after is not None:
            same_time = and_(table.updated_at == after.updated_at, table.id < after.id)
            chosen.append(or_(table.updated_at < after.updated_at, same_time))
        order = (table.updated_at.desc(), table.id.desc())
        # No row of the page is older than a page of the newest ids, so most rows need not be sorted.
        end = min(first + limit, _MAX_SAMPLED)
        newest = select(table.updated_at).where(*chosen).order_by(table.id.desc())
        sample = newest.limit(_SAMPLED_PAGES * end).subquery().c.updated_at
        oldest = select(sample).order_by(sample.desc()).offset(end - 1).limit(1).scalar_subquery()
        chosen.append(table.updated_at >= func.coalesce(oldest, literal(_EARLIEST, BigInteger)))
        # The inner query reads the index alone.
        page = select(table.id).where(*chosen).order_by(*order).offset(first).limit(limit)
        query = select(tables.identities).where(table.id.in_(page)).order_by(*order)
        count = select(func.count()).select_from(tables.identities).where(table.connection == connection_id)
        rows, total = await self._page(query, count)
        return [
            Identity(
                user_id=None if row["is_anonymous"] else row["identity_id"],
                anonymous_ids=msgspec.json.decode(row["anonymous_ids"], type=list[str]),
                connection=row["connection"],
                pipeline=row["pipeline"],
                updated_at=from_microseconds(row["updated_at"]),
                id=row["id"],
            )
            for row in rows
        ], total

    async def has_identities(self, connections: Sequence[int]) -> bool:
        """Return whether one of the connections has an identity."""
        table = tables.identities.c
        async with self._connect() as database:
            for start in range(0, len(connections), _CONNECTIONS_PER_QUERY):
                some = connections[start : start + _CONNECTIONS_PER_QUERY]
                query = select(table.id).where(table.connection.in_(some)).limit(1)
                if (await database.execute(query)).first() is not None:
                    return True
        return False

    async def devices(
        self,
        connections: list[int],
        *,
        user_id: str | None,
        anonymous_id: str | None,
        first: int,
        limit: int,
        after: DeviceCursor | None = None,
    ) -> tuple[list[Device], int]:
        """Return the devices of these connections, the most recently changed first, and their total number.

        The devices of a user include those that were registered under one of the user's anonymous ids.
        """
        async with self._connect() as connection:
            return await connection.run_sync(
                devices.page,
                connections,
                user_id=user_id,
                anonymous_id=anonymous_id,
                first=first,
                limit=limit,
                after=after,
            )

    async def latest_call(self, connection_id: int) -> LatestCall | None:
        """Return the latest call with a key of the connection; None before the first."""
        query = select(tables.calls).where(tables.calls.c.connection == connection_id)
        async with self._connect() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else LatestCall(**{**row, "received_at": from_microseconds(row["received_at"])})

    async def rejected(
        self,
        workspace: int,
        *,
        connection_id: int | None,
        protocol: str | None,
        first: int,
        limit: int,
        after: int | None = None,
    ) -> tuple[list[RejectedEvent], int]:
        """Return the rejected events of a workspace, the newest first, and their total number."""
        if protocol is not None and "\0" in protocol:
            return [], 0  # PostgreSQL texts cannot contain NUL
        table = tables.rejected_events.c
        chosen = [table.workspace == workspace]
        if connection_id is not None:
            chosen.append(table.connection == connection_id)
        if protocol is not None:
            chosen.append(table.protocol == protocol)
        count = select(func.count()).select_from(tables.rejected_events).where(*chosen)
        if after is not None:
            chosen.append(table.position < after)
        query = select(tables.rejected_events).where(*chosen).order_by(table.position.desc()).offset(first).limit(limit)
        rows, total = await self._page(query, count)
        return [_rejected_event(row) for row in rows], total

    async def rejected_messages(self, workspace: int, message_id: str) -> list[RejectedEvent]:
        """Return the rejected events of a workspace with this message id, the oldest first, at most `MAX_TRACED`."""
        if "\0" in message_id:
            return []
        table = tables.rejected_events.c
        query = (
            select(tables.rejected_events)
            .where(table.workspace == workspace, table.message_id == message_id)
            .order_by(table.position)
            .limit(MAX_TRACED)
        )
        async with self._connect() as connection:
            return [_rejected_event(row) for row in (await connection.execute(query)).mappings()]

    async def rejection_counts(
        self,
        workspace: int,
        *,
        connection_id: int | None,
        limit: int = MAX_COUNTS,
        after: RejectionCountCursor | None = None,
    ) -> list[RejectionCount]:
        """Return the number of broken rules in a workspace, or in one of its sources, the most frequent first.

        `cursor` selects the counts after it.
        """
        table = tables.rejection_counts.c
        query = select(tables.rejection_counts).where(table.workspace == workspace)
        if connection_id is not None:
            query = query.where(table.connection == connection_id)
        key = (table.connection, table.protocol, table.code, table.path)
        if after is not None:
            later = tuple_(*key) > tuple_(after.connection, after.protocol, after.code, after.path)
            query = query.where(table.count <= after.count, or_(table.count < after.count, later))
        query = query.order_by(table.count.desc(), *key).limit(limit)
        async with self._connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        times = ("first_at", "last_at")
        return [RejectionCount(**{**row, **{name: from_microseconds(row[name]) for name in times}}) for row in rows]

    async def lanes(self) -> list[Lane]:
        """Return all lanes that have entries."""
        return await self._changes.once("lanes", self._read_lanes)

    async def _read_lanes(self) -> list[Lane]:
        async with self._connect() as connection:
            return await connection.run_sync(lanes.lanes)

    async def next_chunk(self, pipeline: int, *, after: int) -> Chunk | None:
        """Return the first chunk of a lane that has entries after position `after`; None if there is none."""
        async with self._connect() as connection:
            packed = await connection.run_sync(lanes.find_chunk, pipeline, after)
        return None if packed is None else await asyncio.to_thread(lanes.unpack_chunk, packed)

    async def oldest_in_lane(self, pipeline: int) -> int | None:
        """Return the time at which the first chunk of a lane was appended, in microseconds since the epoch; None if it
        is empty."""
        async with self._connect() as connection:
            return await connection.run_sync(lanes.oldest, pipeline)

    async def pipeline_counts(
        self, pipelines: Sequence[int], *, start: int, end: int, unit_seconds: int
    ) -> dict[int, list[int]]:
        """Return the counts of pipelines that the worker has recorded, as `CountTables.read_counts` does."""
        async with self._connect() as connection:
            return await tables.counts.read_counts(
                connection, pipelines, start=start, end=end, unit_seconds=unit_seconds
            )

    async def pipeline_errors(
        self, pipelines: Sequence[int], *, start: int, end: int, step: ProcessingStep | None, limit: int
    ) -> list[PipelineError]:
        """Return the errors of pipelines that the worker has recorded, as `CountTables.read_errors` does."""
        async with self._connect() as connection:
            return await tables.counts.read_errors(connection, pipelines, start=start, end=end, step=step, limit=limit)

    async def run_progress(self, run: int) -> StoredRunProgress | None:
        """Return the progress of a run with its effects; None if none was written, or the pipeline has a later run."""
        return await self.read(lambda connection: runprogress.read(connection, run))

    async def requested_resolutions(self) -> dict[int, int]:
        """Return the workspaces whose identities have to be resolved after an import, with the time of the request in
        microseconds since the epoch."""
        return await self._changes.once("requested", lambda: self.read(imports.requested_resolutions))

    async def messages(self, messages: Iterable[MessageKey]) -> MessageStates:
        """Return the states of those messages that are known."""
        keys = {key for key in messages if "\0" not in key[1]}
        async with self._connect() as connection:
            return await self._messages.lookup(ConnectionSession(connection), keys)


class _Rollback(Exception):
    """Ends a trial transaction."""


def _rejected_event(row: RowMapping) -> RejectedEvent:
    return RejectedEvent(**{**row, "received_at": from_microseconds(row["received_at"])})


@asynccontextmanager
async def open_state(
    location: Location, *, writes: bool, clock: Clock, scratch: Path | None = None
) -> AsyncIterator[StateStore]:
    """Open the state store at `location`, migrate its tables, and close it at the end of the block.

    One process at a time may open it for writing. With SQLite, the messages are in a folder next to the file. A reader
    of them needs a temporary folder: `scratch`, or a generated one.
    """
    async with (
        open_database(location, migrations.__name__, cache_mib=16, prepare=migrations.take_over) as engine,
        sessions(engine) as writers,
    ):
        messages: MessageStore
        if engine.dialect.name == "sqlite":
            messages = RocksMessageStore(
                Path(str(engine.url.database)).with_name("ledger"), writes=writes, clock=clock, scratch=scratch
            )
        else:
            messages = SqlMessageStore(clock)
        try:
            yield StateStore(engine, writers, messages, clock)
        finally:
            await messages.close()
