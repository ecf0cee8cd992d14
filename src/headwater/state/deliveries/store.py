"""The delivery queue in a SQL database."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, bindparam, select, update

from headwater.state.deliveries import appending, counts, dead, erasing, finishing, resending, space, tracing
from headwater.state.deliveries.appending import read_end
from headwater.state.deliveries.bodies import BodyCache, read_documents
from headwater.state.deliveries.chunks import ChunkHead, NewDeliveries, QueuedChunk, QueuedEvent
from headwater.state.deliveries.contract import CourierReplaced, DeliveryStore
from headwater.state.deliveries.counts import EVERYTHING, MAX_ROWS, PAGE_BYTES, Changes
from headwater.state.deliveries.finishing import head
from headwater.state.deliveries.packing import pack, unpack_body, unpack_wanted
from headwater.state.deliveries.records import (
    ChunkProgress,
    DeadCount,
    DeadCursor,
    DeadLetter,
    DeadPage,
    DeadRange,
    DeadSelection,
    DeliveryErasure,
    ErasedDeliveries,
    Expired,
    LaneHealth,
    LaneSummary,
    OperationProgress,
    Owners,
    TracedDelivery,
)
from headwater.state.deliveries.rows import StoredRow, begin, lock
from headwater.state.deliveries.tables import (
    dead_ranges,
    delivery_chunks,
    delivery_lanes,
    delivery_locks,
)
from headwater.storage.changes import Changes as DatabaseChanges
from headwater.storage.database import Location, as_unavailable, open_database
from headwater.storage.sessions import Sessions, sessions

CACHE_MIB: Final = 4
"""Cache of each connection to the SQLite file."""
POLL_SECONDS: Final = 0.01
"""Interval at which `wait_for_chunk` looks for chunks."""
IDLE_POLL_SECONDS: Final = 0.04
"""The same interval while there has been no chunk for `IDLE_SECONDS`."""
IDLE_SECONDS: Final = 5.0
REFRESH_SECONDS: Final = 5.0
"""Interval at which a process that appends reads the size of the queue, which other processes change as well."""
MAX_READ_CHUNKS: Final = 64
"""Maximum number of chunks that are read together."""
_WHAT: Final = "the delivery queue's database"
_REPLACED: Final = "another courier has taken over, or deliveries were erased"
_Result = TypeVar("_Result")


_CHUNKS: Final = delivery_chunks.c
_NEXT: Final = (
    select(delivery_chunks)
    .where(_CHUNKS.destination == bindparam("destination"), _CHUNKS.id > bindparam("after"))
    .order_by(_CHUNKS.id)
    .limit(MAX_READ_CHUNKS)
)
_HEADS: Final = (
    select(_CHUNKS.id, _CHUNKS.destination, _CHUNKS.workspace, _CHUNKS.item_count, _CHUNKS.bytes, _CHUNKS.enqueued_at)
    .where(_CHUNKS.id > bindparam("after"))
    .order_by(_CHUNKS.id)
    .limit(bindparam("limit"))
)


class SqlDeliveryStore(DeliveryStore):
    """The delivery queue in SQLite or PostgreSQL."""

    def __init__(self, sessions: Sessions, database: DatabaseChanges, *, max_bytes: int) -> None:
        self._sessions = sessions
        self._database = database
        self._max_bytes = max_bytes
        self._writing = asyncio.Lock()
        self._bodies = BodyCache()
        self._position: int | None = None
        """The position through which the worker has appended, as far as this process knows."""
        self._rows = 0
        """Number of changes that this process has written since it added them up."""
        self._size = 0
        self._size_until = 0.0
        self._active_at = 0.0
        """Time at which `wait_for_chunk` last found a chunk, by the clock of the event loop."""
        self._first = 0
        """An id below which this process has found no unfinished chunk."""

    async def append(self, deliveries: Sequence[NewDeliveries], *, through: int, now: int) -> None:
        if not deliveries:
            return
        after = self._position if self._position is not None else await self.appended()
        while after < through:
            packed = await asyncio.to_thread(pack, deliveries, after=after)
            changes = Changes()

            def work(
                connection: Connection, after: int = after, packed: Any = packed, changes: Changes = changes
            ) -> int:
                lock(connection, "append")
                end = read_end(connection)
                if end.position == after:
                    appending.append(connection, packed, end, changes, position=through, now=now)
                    return through
                return end.position

            reached = await self._write(work, changes)
            self._position = after = reached
        await self._keep_within_bound(now)

    async def appended(self) -> int:
        self._position = (await self._read(read_end)).position
        return self._position

    async def append_again(
        self,
        operation: str,
        deliveries: Sequence[NewDeliveries],
        *,
        expected: bytes,
        cursor: bytes,
        now: int,
        is_complete: bool = False,
    ) -> OperationProgress:
        packed = await asyncio.to_thread(pack, deliveries)
        changes = Changes()

        def work(connection: Connection) -> OperationProgress:
            lock(connection, "append")
            progress = resending.read_progress(connection, operation)
            if progress.cursor != expected or progress.is_complete:
                return progress
            end = read_end(connection)
            appending.append(connection, packed, end, changes, position=end.position, now=now, origin=operation)
            moved = sum(chunk.item_count for chunk in packed.chunks)
            progress = OperationProgress(progress.items + moved, cursor, is_complete)
            resending.save_progress(connection, operation, progress)
            return progress

        progress = await self._write(work, changes)
        await self._keep_within_bound(now)
        return progress

    async def resend(self, operation: str, selection: DeadSelection, *, now: int) -> OperationProgress:
        changes = Changes()

        def work(connection: Connection) -> OperationProgress:
            lock(connection, "append")
            lock(connection, "finish")
            return resending.resend(connection, operation, selection, read_end(connection), changes, now=now)

        return await self._write(work, changes)

    async def operation_progress(self, operation: str) -> OperationProgress:
        return await self._read(lambda connection: resending.read_progress(connection, operation))

    async def forget_operation(self, operation: str) -> None:
        await self._write(lambda connection: resending.forget(connection, operation))

    async def newest_chunk(self) -> int:
        return (await self._read(read_end)).chunk

    async def wait_for_chunk(self, after: int, *, timeout_seconds: float) -> int:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        while True:
            newest = await self._database.once("newest", self.newest_chunk)
            now = loop.time()
            if newest > after:
                self._active_at = now
            if newest > after or now >= end:
                return newest
            pause = POLL_SECONDS if now < self._active_at + IDLE_SECONDS else IDLE_POLL_SECONDS
            await asyncio.sleep(min(end - now, pause))

    async def heads(self, after: int, *, limit: int = 1_000) -> list[ChunkHead]:
        parameters = {"after": after, "limit": limit}
        return await self._read(lambda connection: [head(row) for row in connection.execute(_HEADS, parameters)])

    async def summaries(self) -> list[LaneSummary]:
        return await self._read(counts.read_summaries)

    async def read(self, destination: int, after: int, *, max_bytes: int) -> list[QueuedChunk]:
        while True:
            chunks, last = await self._read_chunks(destination, after, max_bytes)
            if chunks or last is None:
                return chunks
            after = last

    async def _read_chunks(self, destination: int, after: int, max_bytes: int) -> tuple[list[QueuedChunk], int | None]:
        """Return the next chunks, and the id of the last one; None if there is none.

        Chunks that are deleted in the meantime are missing, so the list can be empty although others follow.
        """
        parameters = {"destination": destination, "after": after}

        def work(connection: Connection) -> tuple[list[StoredRow], dict[int, bytes]]:
            rows: list[StoredRow] = []
            left = max_bytes
            for row in connection.execute(_NEXT, parameters):
                if rows and row.raw_bytes > left:
                    break
                rows.append(row)
                left -= row.raw_bytes
            missing = {row.body for row in rows if self._bodies.get(row.body) is None}
            return rows, read_documents(connection, missing)

        rows, packed = await self._read(work)
        bodies = {row.body: events for row in rows if (events := self._bodies.get(row.body)) is not None}
        if packed:
            bodies |= await asyncio.to_thread(lambda: {id_: unpack_body(body) for id_, body in packed.items()})
        for id_, events in bodies.items():
            self._bodies.put(id_, events)
        # A body that is missing was deleted with its chunks between the two statements.
        chunks = [_chunk(row, bodies[row.body]) for row in rows if row.body in bodies]
        return chunks, rows[-1].id if rows else None

    async def health(self) -> dict[int, LaneHealth]:
        rows = await self._read(lambda connection: connection.execute(select(delivery_lanes)).all())
        return {row.destination: LaneHealth(**row._mapping) for row in rows}

    async def claim(self) -> int:
        def work(connection: Connection) -> int:
            epoch = lock(connection, "finish") + 1
            table = delivery_locks
            connection.execute(update(table).where(table.c.name == "finish").values(epoch=epoch))
            return epoch

        return await self._write(work)

    async def check(self, epoch: int) -> None:
        if await self._database.once("epoch", self._read_epoch) != epoch:
            raise CourierReplaced(_REPLACED)

    async def _read_epoch(self) -> int | None:
        query = select(delivery_locks.c.epoch).where(delivery_locks.c.name == "finish")
        return await self._read(lambda connection: connection.scalar(query))

    async def commit(
        self,
        epoch: int,
        progress: Sequence[ChunkProgress],
        *,
        dead: Sequence[DeadLetter] = (),
        health: Sequence[LaneHealth] = (),
        now: int,
    ) -> None:
        changes = Changes()

        def work(connection: Connection) -> None:
            _lock_for(connection, epoch)
            finishing.add_dead(connection, dead, changes)
            finishing.store_progress(connection, progress, changes, now=now)
            finishing.save_health(connection, health)

        await self._write(work, changes)

    async def expire(self, epoch: int, *, before: int, now: int, limit: int = 100) -> Expired:
        changes = Changes()

        def work(connection: Connection) -> Expired:
            _lock_for(connection, epoch)
            return finishing.expire(connection, changes, after=self._first, before=before, now=now, limit=limit)

        parameters = {"after": self._first, "limit": 1}
        row = await self._read(lambda connection: connection.execute(_HEADS, parameters).one_or_none())
        if row is None:
            return Expired([], {})
        self._first = row.id - 1
        if row.enqueued_at >= before:  # no lock is needed to find that out
            return Expired([], {})
        return await self._write(work, changes)

    async def make_space(self, *, now: int) -> Expired:
        changes = Changes()

        def work(connection: Connection) -> Expired:
            lock(connection, "finish")
            freed = space.make_space(connection, changes, max_bytes=self._max_bytes, now=now)
            return Expired(freed.chunks, freed.items)

        expired = await self._write(work, changes)
        self._size_until = 0.0
        return expired

    async def trim(self, *, dead_before: int, attempts_before: int) -> int:
        changes = Changes()

        def work(connection: Connection) -> int:
            lock(connection, "finish")
            return space.trim(connection, changes, dead_before=dead_before, attempts_before=attempts_before)

        return await self._write(work, changes)

    async def owners(self) -> Owners:
        return await self._read(space.read_owners)

    async def remove(self, deleted: Owners) -> int:
        if not deleted.destinations and not deleted.pipelines:
            return 0
        changes = Changes()

        def work(connection: Connection) -> int:
            lock(connection, "finish")
            removed = space.remove_letters_of_pipelines(connection, changes, deleted.pipelines)
            for destination in deleted.destinations:
                removed += space.remove_destination(connection, changes, destination)
            return removed

        return await self._write(work, changes)

    async def erase(
        self, erasure: DeliveryErasure, cursor: tuple[int, int] = (0, 0), *, dry: bool = False
    ) -> ErasedDeliveries:
        changes = Changes()

        def work(connection: Connection) -> ErasedDeliveries:
            lock(connection, "finish")
            return erasing.erase(connection, erasure, cursor, changes, dry=dry)

        return await self._write(work, changes)

    async def overwrite_removed(self) -> bool:
        return await self._sessions.scrub()

    async def dead_letters(self, selection: DeadSelection, *, limit: int, after: DeadCursor | None = None) -> DeadPage:
        return await self._read(lambda connection: dead.list_dead(connection, selection, limit=limit, after=after))

    async def dead_counts(self, workspace: int, *, destination: int | None = None) -> list[DeadCount]:
        return await self._read(lambda connection: counts.read_dead_counts(connection, workspace, destination))

    async def count_dead(self, selection: DeadSelection) -> int:
        return await self._read(lambda connection: dead.count_dead(connection, selection))

    async def dead_ranges(self, selection: DeadSelection, *, limit: int, after: int = 0) -> list[DeadRange]:
        return await self._read(lambda connection: dead.list_ranges(connection, selection, limit=limit, after=after))

    async def remove_dead_range(self, id_: int) -> None:
        changes = Changes()

        def work(connection: Connection) -> None:
            lock(connection, "finish")
            row = connection.execute(select(dead_ranges).where(dead_ranges.c.id == id_)).one_or_none()
            if row is not None:
                space.remove_range(connection, changes, row)

        await self._write(work, changes)

    async def trace(self, destinations: Collection[int], position: int) -> list[TracedDelivery]:
        return await self._read(lambda connection: tracing.trace(connection, destinations, position))

    async def _keep_within_bound(self, now: int) -> None:
        """Make space if the queue is too large. Its size is read now and then, and estimated in between."""
        time = asyncio.get_running_loop().time()
        if time >= self._size_until:
            sizes = await self._read(counts.read_sizes)
            self._size = sizes[EVERYTHING].open_bytes if EVERYTHING in sizes else 0
            self._size_until = time + REFRESH_SECONDS
        if self._size > self._max_bytes:
            await self.make_space(now=now)

    async def _read(self, work: Callable[[Connection], _Result]) -> _Result:
        def run(connection: Connection) -> _Result:
            result = work(connection)
            connection.rollback()
            return result

        async with as_unavailable(_WHAT), self._sessions.open() as session:
            return await session.run(run)

    async def _write(self, work: Callable[[Connection], _Result], changes: Changes | None = None) -> _Result:
        """Run `work` in a transaction, and write the changes that it collects."""

        def run(connection: Connection) -> tuple[_Result, int]:
            begin(connection)
            result = work(connection)
            rows = 0 if changes is None else changes.write(connection)
            if self._rows + rows > MAX_ROWS:
                counts.compact(connection)
            connection.commit()
            return result, rows

        async with self._writing, as_unavailable(_WHAT), self._sessions.open() as session:
            result, rows = await session.run(run)
        self._rows = 0 if self._rows + rows > MAX_ROWS else self._rows + rows
        if changes is not None:
            self._size += changes.size
        return result


def _lock_for(connection: Connection, epoch: int) -> None:
    if lock(connection, "finish") != epoch:
        raise CourierReplaced(_REPLACED)


def _chunk(row: StoredRow, events: list[QueuedEvent]) -> QueuedChunk:
    return QueuedChunk(
        row.id,
        row.destination,
        row.workspace,
        row.first_position,
        row.last_position,
        row.item_count,
        row.enqueued_at,
        row.origin,
        events,
        unpack_wanted(row.wanted),
        row.done,
    )


@asynccontextmanager
async def open_delivery_store(
    location: Location, *, max_bytes: int = space.DEFAULT_MAX_BYTES
) -> AsyncIterator[SqlDeliveryStore]:
    """Open the delivery queue at `location`, migrate its tables, and close it at the end of the block.

    `max_bytes` is the maximum size of all deliveries, dead letters and attempts together.
    """
    async with (
        open_database(
            location, "headwater.state.deliveries.migrations", cache_mib=CACHE_MIB, page_bytes=PAGE_BYTES
        ) as engine,
        sessions(engine, cache_mib=CACHE_MIB) as opened,
    ):
        yield SqlDeliveryStore(opened, DatabaseChanges(engine), max_bytes=max_bytes)
