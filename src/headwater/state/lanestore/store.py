"""The courier's state in a SQL database."""

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headwater.base.errors import Unavailable
from headwater.base.mentions import Mentions
from headwater.base.steps import ProcessingStep
from headwater.state.counts import PipelineCounts, PipelineError
from headwater.state.erasure import remove_errors
from headwater.state.lanestore.tables import counts, lane_counter, lane_progress, lane_results
from headwater.storage.changes import Changes
from headwater.storage.database import Location, as_unavailable, open_database
from headwater.storage.scrubbing import make_scrubber

_WHAT: Final = "the courier's database"


class LaneProgress(Struct, frozen=True):
    """The courier's progress in one lane."""

    position: int = 0
    """The position up to which every entry has a result."""
    failures: int = 0
    """Number of pauses since the last success."""
    paused_until: int = 0
    """Time of the next attempt, in microseconds since the epoch; 0 if the lane is not paused."""
    reason: str = ""
    """The reason for the pause, for people."""
    definition: str = ""
    """A digest of the definition of the paused pipeline. The pause ends when the definition changes."""


class StoredResult(Struct, frozen=True):
    """Results of consecutive entries of one lane."""

    sequence: int
    pipeline: int
    position: int
    """The position of the last of these entries."""
    payload: bytes


class AnotherCourier(Unavailable):
    """Another courier of the installation is active."""


class LaneStore:
    """Reads and writes the courier's state. Every method raises Unavailable while the database is unavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._changes = Changes(engine)
        self._scrubber = make_scrubber(engine)
        self._insert: Any = (sqlite if engine.dialect.name == "sqlite" else postgresql).insert

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Be the only courier during the block. The block gets a function that raises Unavailable if that is uncertain.

        Raises AnotherCourier while another one is active. On SQLite the data directory has one owner. On PostgreSQL an
        advisory lock decides; `complete` stops a courier that has lost the lock unnoticed.
        """
        if self._engine.dialect.name == "sqlite":
            yield _nothing
            return
        async with as_unavailable(_WHAT), self._engine.connect() as raw:
            connection = await raw.execution_options(isolation_level="AUTOCOMMIT")
            if not (await connection.execute(select(func.pg_try_advisory_lock(_LOCK)))).scalar_one():
                raise AnotherCourier("another courier is active")

            async def check() -> None:
                with_lock = await connection.execute(select(1))
                with_lock.close()

            try:
                yield check
            finally:
                with suppress(Exception):  # the connection may be lost, and the lock with it
                    await connection.execute(select(func.pg_advisory_unlock(_LOCK)))

    async def progress(self, pipeline: int | None = None) -> dict[int, LaneProgress]:
        """Return the courier's progress by pipeline: in every lane that it has processed, or in one of them."""
        query = select(lane_progress)
        if pipeline is not None:
            query = query.where(lane_progress.c.pipeline == pipeline)
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            rows = await connection.execute(query)
            return {row.pipeline: LaneProgress(*row[1:]) for row in rows}

    async def complete(
        self, pipeline: int, before: LaneProgress, after: LaneProgress, results: Sequence[tuple[int, bytes]]
    ) -> None:
        """Store results, each with the position of its last entry, and advance the lane, in one transaction.

        Raises Unavailable if the lane is not at `before`, because another courier has advanced it.
        """
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            await self._move(connection, pipeline, before, after)
            if results:
                count = (
                    update(lane_counter).values(last=lane_counter.c.last + len(results)).returning(lane_counter.c.last)
                )
                first = (await connection.execute(count)).scalar_one() - len(results) + 1
                rows = [
                    {"sequence": sequence, "pipeline": pipeline, "position": position, "payload": payload}
                    for sequence, (position, payload) in enumerate(results, first)
                ]
                await connection.execute(insert(lane_results), rows)

    async def results(self, after: int, *, max_bytes: int) -> list[StoredResult]:
        """Return the results after a sequence number in their order: about `max_bytes` at most, and one at least."""
        return await self._changes.once(("results", after, max_bytes), lambda: self._read_results(after, max_bytes))

    async def _read_results(self, after: int, max_bytes: int) -> list[StoredResult]:
        query = select(lane_results).where(lane_results.c.sequence > after).order_by(lane_results.c.sequence)
        found: list[StoredResult] = []
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            while max_bytes > 0:
                last = found[-1].sequence if found else after
                page = (await connection.execute(query.where(lane_results.c.sequence > last).limit(_PAGE))).all()
                for row in page:
                    found.append(StoredResult(row.sequence, row.pipeline, row.position, row.payload))
                    max_bytes -= len(row.payload)
                    if max_bytes <= 0:
                        break
                if len(page) < _PAGE:
                    break
        return found

    async def last_sequence(self) -> int:
        """Return the sequence number of the newest result; 0 before the first."""
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return int((await connection.execute(select(lane_counter.c.last))).scalar_one())

    async def unapplied_bytes(self, after: int) -> int:
        """Return the size of the results after a sequence number."""
        query = select(func.coalesce(func.sum(func.length(lane_results.c.payload)), 0))
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            found = await connection.execute(query.where(lane_results.c.sequence > after))
            return int(found.scalar_one())

    async def begin_after(self, sequence: int) -> None:
        """Make all following sequence numbers greater than this one.

        Otherwise a store that was lost and created again would repeat numbers that the worker has applied.
        """
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            higher = update(lane_counter).where(lane_counter.c.last < sequence).values(last=sequence)
            await connection.execute(higher)

    async def trim(self, applied: int) -> None:
        """Delete the results up to this sequence number, because the worker has applied them."""
        await self._changes.once(("trim", applied), lambda: self._trim(applied))

    async def _trim(self, applied: int) -> None:
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            await connection.execute(delete(lane_results).where(lane_results.c.sequence <= applied))

    async def pipeline_counts(
        self, pipelines: Sequence[int], *, start: int, end: int, unit_seconds: int
    ) -> dict[int, list[int]]:
        """Return the counts of pipelines that the courier has recorded, as `CountTables.read_counts` does."""
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return await counts.read_counts(connection, pipelines, start=start, end=end, unit_seconds=unit_seconds)

    async def pipeline_errors(
        self, pipelines: Sequence[int], *, start: int, end: int, step: ProcessingStep | None, limit: int
    ) -> list[PipelineError]:
        """Return the errors of pipelines that the courier has recorded, as `CountTables.read_errors` does."""
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return await counts.read_errors(connection, pipelines, start=start, end=end, step=step, limit=limit)

    async def record(self, recorded: PipelineCounts, *, now: int) -> None:
        """Add counts of the records of pipelines that the courier has finished, in a transaction of their own.

        `now` is in microseconds since the epoch.
        """
        if recorded:
            async with as_unavailable(_WHAT), self._engine.begin() as connection:
                await connection.run_sync(counts.record, recorded, now=now)

    async def compact_counts(self, *, now: int) -> None:
        """Move old counts of pipelines into larger periods, and delete old ones, a limited number."""
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            await connection.run_sync(counts.compact, now=now)

    async def counted(self) -> set[int]:
        """Return the pipelines that have counts or errors."""
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return await connection.run_sync(counts.counted)

    async def remove_counts(self, pipelines: Collection[int]) -> int:
        """Delete counts and errors of pipelines that were deleted, a limited number. Return their number."""
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            return await connection.run_sync(counts.remove, sorted(pipelines))

    async def remove_errors(self, pipelines: Collection[int], mentions: Mentions, *, dry: bool = False) -> int:
        """Delete the errors of pipelines whose messages mention a person; with `dry`, count them. Return their
        number."""
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            return await connection.run_sync(remove_errors, counts.errors, pipelines, mentions, dry=dry)

    async def overwrite_removed(self) -> bool:
        """Overwrite what was deleted from the file. Return whether everything was done."""
        return await self._scrubber.step()

    async def remove_progress(self, pipelines: Collection[int]) -> None:
        """Delete the progress of lanes whose pipelines were deleted."""
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            for pipeline in pipelines:
                await connection.execute(delete(lane_progress).where(lane_progress.c.pipeline == pipeline))

    async def _move(
        self, connection: AsyncConnection, pipeline: int, before: LaneProgress, after: LaneProgress
    ) -> None:
        empty = {"pipeline": pipeline} | msgspec.structs.asdict(LaneProgress())
        first = self._insert(lane_progress).values(**empty)
        await connection.execute(first.on_conflict_do_nothing())
        moved = await connection.execute(
            update(lane_progress)
            .where(lane_progress.c.pipeline == pipeline, lane_progress.c.position == before.position)
            .values(**msgspec.structs.asdict(after))
        )
        if moved.rowcount != 1:
            raise Unavailable("another courier works on this lane")


async def _nothing() -> None:
    """Succeed: there is nothing to check."""


_LOCK: Final = zlib.crc32(b"headwater courier")
"""The number of the advisory lock."""
_PAGE: Final = 16
"""Number of results read at a time."""


@asynccontextmanager
async def open_lane_store(location: Location) -> AsyncIterator[LaneStore]:
    """Open the courier's state at `location`, migrate its tables, and close it at the end of the block."""
    async with open_database(location, "headwater.state.lanestore.migrations", cache_mib=4) as engine:
        yield LaneStore(engine)
