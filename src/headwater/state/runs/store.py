"""The runs in a SQL database.

Transactions begin with their write: on SQLite a transaction that has read before cannot write once another process has
written.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Delete, Select, Update, and_, case, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.base.mentions import Mentions
from headwater.base.steps import ProcessingStep
from headwater.state.runs.errors import add_errors, clean, decode_samples, encode_samples, read_error
from headwater.state.runs.model import (
    Run,
    RunCursor,
    RunError,
    RunErrorCursor,
    RunProgress,
    RunRequest,
    RunStatus,
    Schedule,
    WaitingRuns,
)
from headwater.state.runs.removing import MAX_REMOVED, remove_runs, shorten
from headwater.state.runs.tables import run_errors, runs, schedules
from headwater.storage.changes import Changes
from headwater.storage.database import Location, as_unavailable, open_database
from headwater.storage.leases import lease_time
from headwater.storage.scrubbing import make_scrubber

LEASE_SECONDS: Final = 15.0
"""Time after the last heartbeat of a run process at which another one may take its run."""
START_LEASE_SECONDS: Final = 60.0
"""Time that a run process has to start, until its first heartbeat."""
MAX_ATTEMPTS: Final = 3
"""Maximum number of run processes of a run that end unexpectedly one after another, without getting further."""
MAX_KEPT: Final = 1_000
"""Number of runs of a pipeline that are kept."""
MAX_EXAMINED: Final = 50
"""Maximum number of runs that one call of `remove_mentions` examines."""
RUNNING: Final = "the run before has not ended"
"""The reason of a tick that is skipped because the pipeline is running."""
_ENDED_TOO: Final = "its machine or its scheduler ended, too"
"""The reason of a process whose end nobody has seen."""
_PIPELINES_PER_QUERY: Final = 1_000
_MAX_IDENTIFIERS: Final = 10
"""Maximum number of random identifiers that are tried for one run."""
_WHAT: Final = "the runs' database"
_c: Final = runs.c
_encode_progress: Final = msgspec.json.Encoder().encode
_decode_progress: Final = msgspec.json.Decoder(RunProgress).decode
_NO_PROGRESS: Final = _encode_progress(RunProgress())

_first: Final = select(func.min(_c.pipeline).label("pipeline")).cte("pipelines", recursive=True)
_next: Final = select(func.min(_c.pipeline)).where(_c.pipeline > _first.c.pipeline).scalar_subquery()
_all: Final = _first.union_all(select(_next).where(_first.c.pipeline.is_not(None)))
_PIPELINES: Final = select(_all.c.pipeline).where(_all.c.pipeline.is_not(None))
"""Searches the index once for each pipeline, because a pipeline has many runs."""


class RunLost(Unavailable):
    """The run has ended, or another process has taken it."""


class RunStore:
    """The runs. Every method raises Unavailable while the database is unavailable.

    Backends create runs and request their cancel. Schedulers create those that are due, and claim runs for the run
    processes, which hold a lease. A write of a run process has no effect once another process has claimed the run.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock, identifiers: Identifiers) -> None:
        self._engine = engine
        self._changes = Changes(engine)
        self._scrubber = make_scrubber(engine)
        self._clock = clock
        self._identifiers = identifiers

    # People

    async def create(self, request: RunRequest) -> Run:
        """Create a queued run by request. Raises Unprocessable with RunInProgress if the pipeline has one that has not
        ended."""
        async with self._begin() as connection:
            created = await self._insert(connection, self._new(request))
            if created is None:
                raise Unprocessable("RunInProgress", f"pipeline {request.pipeline} is running")
            await shorten(connection, request.pipeline, MAX_KEPT)
        return created

    async def find(self, id_: int, workspace: int | None = None) -> Run | None:
        """Return a run, if it exists in this workspace; None stands for any workspace."""
        query = select(runs).where(_c.id == id_)
        if workspace is not None:
            query = query.where(_c.workspace == workspace)
        found = await self._read(query)
        return found[0] if found else None

    async def page(
        self,
        workspace: int | None = None,
        *,
        pipeline: int | None = None,
        after: RunCursor | None = None,
        limit: int,
    ) -> list[Run]:
        """Return the runs of a workspace and of a pipeline, the newest first; None stands for any."""
        query = select(runs)
        if workspace is not None:
            query = query.where(_c.workspace == workspace)
        if pipeline is not None:
            query = query.where(_c.pipeline == pipeline)
        if after is not None:
            query = query.where(tuple_(_c.created_at, _c.id) < tuple_(after.created_at, after.id))
        return await self._read(query.order_by(_c.created_at.desc(), _c.id.desc()).limit(limit))

    async def errors(self, run: int, *, after: RunErrorCursor | None = None, limit: int) -> list[RunError]:
        """Return the errors of a run, the most frequent first."""
        table = run_errors.c
        query = select(run_errors).where(table.run == run)
        if after is not None:
            later = tuple_(table.step, table.digest) > tuple_(after.step, after.digest)
            query = query.where(or_(table.count < after.count, and_(table.count == after.count, later)))
        query = query.order_by(table.count.desc(), table.step, table.digest).limit(limit)
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return [read_error(row) for row in await connection.execute(query)]

    async def running(self, pipelines: Iterable[int]) -> frozenset[int]:
        """Return those pipelines that have a run that has not ended."""
        wanted, found = list(pipelines), set[int]()
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            for start in range(0, len(wanted), _PIPELINES_PER_QUERY):
                some = wanted[start : start + _PIPELINES_PER_QUERY]
                query = select(_c.pipeline).where(_c.pipeline.in_(some), _c.ended_at.is_(None))
                found.update(await connection.scalars(query))
        return frozenset(found)

    async def cancel(self, id_: int, workspace: int | None = None) -> Run | None:
        """Request that a run ends, and return it; None if it does not exist in this workspace.

        A queued run is Cancelled. A running one becomes so within some seconds. One that has ended stays as it is.
        """
        conditions = [_c.id == id_, _c.ended_at.is_(None)]
        if workspace is not None:
            conditions.append(_c.workspace == workspace)
        async with self._begin() as connection:
            ended = update(runs).where(*conditions, _c.status == "Queued")
            await connection.execute(ended.values(is_cancelled=True, status="Cancelled", ended_at=self._now()))
            await connection.execute(update(runs).where(*conditions).values(is_cancelled=True))
        return await self.find(id_, workspace)

    # The scheduler

    async def create_due(self, request: RunRequest, due_at: int) -> Run | None:
        """Create the run of a tick of the schedule, and return it. Return None if the tick has a run already.

        If the pipeline has a run that has not ended, the new one is Skipped. Each tick has one run, whichever processes
        call this.
        """
        async with self._begin() as connection:
            created = await self._insert(connection, self._new(request, "Schedule", due_at))
            if created is None:
                created = await self._insert(connection, self._skipped(request, due_at, RUNNING))
            if created is not None:
                await shorten(connection, request.pipeline, MAX_KEPT)
        return created

    async def skip(self, request: RunRequest, due_at: int, reason: str) -> Run | None:
        """Create a Skipped run of a tick, and return it. Return None if the tick has a run already."""
        async with self._begin() as connection:
            return await self._insert(connection, self._skipped(request, due_at, reason))

    async def schedules(self) -> dict[int, Schedule]:
        """Return the followed schedules by pipeline."""
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            rows = (await connection.execute(select(schedules))).all()
        return {row.pipeline: Schedule(row.period_minutes, row.start_minute, row.since) for row in rows}

    async def follow(self, pipeline: int, period_minutes: int, start_minute: int) -> Schedule:
        """Follow the schedule of a pipeline from now on, unless it is followed, and return it."""
        table, values = schedules.c, {"period_minutes": period_minutes, "start_minute": start_minute}
        async with self._begin() as connection:
            row = self._upsert(connection, schedules).values(pipeline=pipeline, since=self._now(), **values)
            changed = or_(table.period_minutes != period_minutes, table.start_minute != start_minute)
            row = row.on_conflict_do_update(
                index_elements=["pipeline"],
                set_={name: row.excluded[name] for name in (*values, "since")},
                where=changed,
            )
            await connection.execute(row)
            since = (await connection.execute(select(table.since).where(table.pipeline == pipeline))).scalar_one()
        return Schedule(period_minutes, start_minute, since)

    async def forget(self, pipelines: Collection[int]) -> None:
        """Stop following the schedules of pipelines."""
        async with self._begin() as connection:
            for pipeline in pipelines:
                await connection.execute(delete(schedules).where(schedules.c.pipeline == pipeline))

    async def waiting(self) -> list[WaitingRuns]:
        """Return the workspaces with runs that no process executes, and the number of running ones of each."""
        if self._changes.are_known and not any((await self._changes.once("live", self.count_live)).values()):
            return []
        is_free = _c.lease_until < self._lease_time()
        oldest = func.min(case((is_free, _c.created_at)))
        running = func.count() - func.sum(case((is_free, 1), else_=0))
        query = select(_c.workspace, oldest.label("oldest"), running.label("running"))
        query = query.where(_c.ended_at.is_(None)).group_by(_c.workspace)
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        return [WaitingRuns(row.workspace, row.oldest, int(row.running)) for row in rows if row.oldest is not None]

    async def count_live(self) -> dict[str, int]:
        """Return the number of queued and of running runs, by status."""
        query = select(_c.status, func.count().label("runs")).where(_c.ended_at.is_(None)).group_by(_c.status)
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        return {"Queued": 0, "Running": 0} | {row.status: row.runs for row in rows}

    async def claim(self, workspace: int) -> Run | None:
        """Take the oldest run of a workspace that no process executes, and return it; None if there is none.

        The run is Running, with a new fence, unless it was to be cancelled, or its processes ended unexpectedly
        `MAX_ATTEMPTS` times: then it has ended.
        """
        now, lease_now = self._now(), self._lease_time()
        is_free = [_c.workspace == workspace, _c.ended_at.is_(None), _c.lease_until < lease_now]
        oldest = select(runs).where(*is_free).order_by(_c.created_at, _c.id).limit(1)
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            row = (await connection.execute(oldest)).one_or_none()
        if row is None:
            return None
        values: dict[str, Any] = {
            "fence": row.fence + 1,
            "status": "Running",
            "attempts": row.attempts + 1,
            "best_rows": max(row.best_rows, _decode_progress(row.progress).rows),
            "lease_until": lease_now + _seconds(START_LEASE_SECONDS),
            "started_at": now if row.started_at is None else row.started_at,
            "ending": "",
        }
        if row.is_cancelled:
            values |= {"status": "Cancelled", "ended_at": now, "lease_until": 0}
        elif row.attempts >= MAX_ATTEMPTS:
            error = (
                f"the run process ended unexpectedly {row.attempts} times; the last time: {row.ending or _ENDED_TOO}"
            )
            values |= {"status": "Failed", "ended_at": now, "lease_until": 0, "error": error}
        # Another process may have taken it in the meantime; the next call finds another one.
        taken = update(runs).where(_c.id == row.id, _c.fence == row.fence, *is_free).values(**values).returning(runs)
        async with self._begin() as connection:
            claimed = (await connection.execute(taken)).one_or_none()
        return None if claimed is None else _run(claimed)

    async def to_cancel(self, ids: Collection[int]) -> frozenset[int]:
        """Return those runs whose cancel was requested and that have not ended."""
        query = select(_c.id).where(_c.id.in_(ids), _c.is_cancelled, _c.ended_at.is_(None))
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return frozenset(await connection.scalars(query))

    async def release(self, id_: int, fence: int, *, expected: bool, ending: str = "") -> None:
        """Let another process continue a run immediately. `expected` says that the process did not fail, and `ending`,
        for people, how it ended otherwise."""
        values: dict[str, Any] = {"lease_until": 0, "ending": ending}
        if expected:
            values["attempts"] = _c.attempts - 1
        async with self._begin() as connection:
            await connection.execute(_owned(id_, fence).values(**values))

    async def pipelines(self) -> set[int]:
        """Return the pipelines that have runs."""
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return set(await connection.scalars(_PIPELINES))

    async def remove_pipeline(self, pipeline: int) -> bool:
        """Delete runs of a pipeline that was deleted, a limited number; request the cancel of the running one.

        Return whether all are deleted. Call it again until they are.
        """
        own = _c.pipeline == pipeline
        async with self._begin() as connection:
            queued = update(runs).where(own, _c.ended_at.is_(None), _c.status == "Queued")
            await connection.execute(queued.values(status="Cancelled", is_cancelled=True, ended_at=self._now()))
            await connection.execute(update(runs).where(own, _c.ended_at.is_(None)).values(is_cancelled=True))
            await connection.execute(delete(schedules).where(schedules.c.pipeline == pipeline))
            ended = select(_c.id).where(own, _c.ended_at.is_not(None)).limit(MAX_REMOVED)
            await remove_runs(connection, list(await connection.scalars(ended)))
            left = await connection.execute(select(_c.id).where(own).limit(1))
            return left.first() is None

    async def trim(self, created_before: int) -> bool:
        """Delete ended runs that were created before a time, a limited number; return whether all are deleted."""
        old = select(_c.id).where(_c.created_at < created_before, _c.ended_at.is_not(None))
        old = old.order_by(_c.created_at, _c.id).limit(MAX_REMOVED)
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            ids = list(await connection.scalars(old))
        if ids:
            async with self._begin() as connection:
                await remove_runs(connection, ids)
        return len(ids) < MAX_REMOVED

    # Erasures

    async def remove_mentions(
        self, workspace: int, mentions: Mentions, *, after: int, dry: bool
    ) -> tuple[int, int | None]:
        """Delete the errors that mention a person, and the records of errors with an id of the person, of the next
        `MAX_EXAMINED` runs of a workspace with ids above `after`.

        Return the number of errors and records, and the last examined run; None at the end. With `dry` none is deleted.
        """
        table = run_errors.c
        query = select(_c.id).where(_c.workspace == workspace, _c.id > after).order_by(_c.id).limit(MAX_EXAMINED)
        columns = (table.run, table.step, table.digest, table.message, table.samples)
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            ids = list(await connection.scalars(query))
            rows = (await connection.execute(select(*columns).where(table.run.in_(ids)))).all()
        removed, changes = 0, list[Update | Delete]()
        for run, step, digest, message, samples in rows:
            same = and_(table.run == run, table.step == step, table.digest == digest)
            stored = decode_samples(samples)
            kept = tuple(each for each in stored if not mentions.are_in(encode_samples(each.id)))
            if mentions.are_in_text(message):
                removed += 1
                changes.append(delete(run_errors).where(same))
            elif len(kept) < len(stored):
                removed += len(stored) - len(kept)
                changes.append(update(run_errors).where(same).values(samples=encode_samples(kept)))
        if changes and not dry:
            async with self._begin() as connection:
                for change in changes:
                    await connection.execute(change)
        return removed, ids[-1] if len(ids) == MAX_EXAMINED else None

    async def overwrite_removed(self) -> bool:
        """Overwrite what was deleted from the file. Return whether everything was done."""
        return await self._scrubber.step()

    # The run process

    async def renew(self, id_: int, fence: int) -> bool:
        """Prolong the lease of a run; return whether a cancel was requested. Raises RunLost."""
        async with self._begin() as connection:
            return await self._renew(connection, id_, fence, {})

    async def save(self, id_: int, fence: int, progress: RunProgress, errors: Sequence[RunError] = ()) -> bool:
        """Store the progress of a run, add errors, and prolong the lease; return whether a cancel was requested.

        The counts of errors are added to those with the same step and message. Raises RunLost.
        """
        attempts = case((_c.best_rows < progress.rows, 1), else_=_c.attempts)
        values = {"progress": _encode_progress(progress), "attempts": attempts}
        async with self._begin() as connection:
            is_cancelled = await self._renew(connection, id_, fence, values)
            if errors:
                await add_errors(connection, id_, errors)
        return is_cancelled

    async def finish(
        self,
        id_: int,
        fence: int,
        status: RunStatus,
        *,
        error: str = "",
        step: ProcessingStep | None = None,
        progress: RunProgress | None = None,
        errors: Sequence[RunError] = (),
    ) -> None:
        """End a run, with its last progress and errors. None keeps the stored progress. Raises RunLost."""
        values: dict[str, Any] = {
            "status": status,
            "error": clean(error),
            "error_step": step,
            "ended_at": self._now(),
            "lease_until": 0,
        }
        if progress is not None:
            values["progress"] = _encode_progress(progress)
        async with self._begin() as connection:
            if (await connection.execute(_owned(id_, fence).values(**values))).rowcount != 1:
                raise _lost(id_)
            if errors:
                await add_errors(connection, id_, errors)

    async def clear_errors(self, id_: int, fence: int) -> None:
        """Delete the errors of a run that begins again. Raises RunLost."""
        async with self._begin() as connection:
            await self._renew(connection, id_, fence, {})
            await connection.execute(delete(run_errors).where(run_errors.c.run == id_))

    # Parts

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            yield connection

    async def _renew(self, connection: AsyncConnection, id_: int, fence: int, values: dict[str, Any]) -> bool:
        until = self._lease_time() + _seconds(LEASE_SECONDS)
        renewed = _owned(id_, fence).values(lease_until=until, **values).returning(_c.is_cancelled)
        is_cancelled: bool | None = (await connection.execute(renewed)).scalar_one_or_none()
        if is_cancelled is None:
            raise _lost(id_)
        return is_cancelled

    def _new(self, request: RunRequest, trigger: Any = "Request", due_at: int | None = None) -> Run:
        return Run(
            id=self._identifiers.identifier(),
            workspace=request.workspace,
            pipeline=request.pipeline,
            connection=request.connection,
            trigger=trigger,
            is_incremental=request.is_incremental,
            is_full=request.is_full,
            due_at=due_at,
            created_at=self._now(),
        )

    def _skipped(self, request: RunRequest, due_at: int, reason: str) -> Run:
        run = self._new(request, "Schedule", due_at)
        return msgspec.structs.replace(run, status="Skipped", error=reason, ended_at=run.created_at)

    async def _insert(self, connection: AsyncConnection, run: Run) -> Run | None:
        """Insert a run and return it. Return None if the pipeline has a run of this tick, or one that has not ended.

        It is later than all runs of the pipeline, also if a clock was set back, or machines have different times.
        """
        latest = select(func.max(_c.created_at)).where(_c.pipeline == run.pipeline).scalar_subquery()
        created_at = case((latest >= run.created_at, latest + 1), else_=run.created_at)
        for _ in range(_MAX_IDENTIFIERS):
            values = {**_row(run), "created_at": created_at}
            row = self._upsert(connection, runs).values(values).on_conflict_do_nothing().returning(_c.created_at)
            found: int | None = (await connection.execute(row)).scalar_one_or_none()
            if found is not None:
                return msgspec.structs.replace(run, created_at=found)
            same = [and_(_c.pipeline == run.pipeline, _c.due_at == run.due_at)]
            if run.ended_at is None:
                same.append(and_(_c.pipeline == run.pipeline, _c.ended_at.is_(None)))
            for condition in same:
                if (await connection.execute(select(_c.id).where(condition))).first() is not None:
                    return None
            run = msgspec.structs.replace(run, id=self._identifiers.identifier())
        raise Unavailable("no free identifier of a run was found")

    @staticmethod
    def _upsert(connection: AsyncConnection, table: Any) -> Any:
        return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)

    async def _read(self, query: Select[Any]) -> list[Run]:
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return [_run(row) for row in await connection.execute(query)]

    def _now(self) -> int:
        return microseconds(self._clock.now())

    def _lease_time(self) -> ColumnElement[int]:
        return lease_time(self._engine, self._clock)


def _owned(id_: int, fence: int) -> Update:
    return update(runs).where(_c.id == id_, _c.fence == fence, _c.ended_at.is_(None))


def _lost(id_: int) -> RunLost:
    return RunLost(f"run {id_} has ended, or is executed by another process")


def _seconds(seconds: float) -> int:
    return int(seconds * 1e6)


def _row(run: Run) -> dict[str, Any]:
    names = [field for field in Run.__struct_fields__ if field != "progress"]
    row = {name: getattr(run, name) for name in names}
    return row | {"progress": _NO_PROGRESS, "attempts": 0, "best_rows": 0, "lease_until": 0, "ending": ""}


def _run(row: Any) -> Run:
    values = {name: getattr(row, name) for name in Run.__struct_fields__}
    return Run(**{**values, "progress": _decode_progress(row.progress)})


@asynccontextmanager
async def open_runs(location: Location, *, clock: Clock, identifiers: Identifiers) -> AsyncIterator[RunStore]:
    """Open the runs at `location`, migrate their tables, and close them at the end of the block."""
    async with open_database(location, "headwater.state.runs.migrations", cache_mib=1) as engine:
        yield RunStore(engine, clock, identifiers)
