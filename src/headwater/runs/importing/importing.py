"""Runs an import: reads and maps in a thread, stores in transactions, deletes what the source has no more, resolves.

A run has stages. Each transaction stores the stage and the place in it, so that a run that was interrupted continues
there, and repeats what it had not committed.
"""

import asyncio
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as NotReady
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Any, Final, Literal, TypeVar

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from headwater.base.clock import microseconds
from headwater.base.errors import HeadwaterError, Unavailable
from headwater.catalog import Definition, encode_definition
from headwater.profiles.alignment import find_misalignment, find_profile_schema
from headwater.runs.importing.mapping import RecordMapper
from headwater.runs.importing.records import START, MappedBatch, Place, Source
from headwater.runs.importing.sources import open_source
from headwater.runs.job import Job, RunCancelled, RunFailed
from headwater.schemas import Record, Schema, parse_schema
from headwater.state.importruns import ImportRun
from headwater.state.imports import MAX_TRACKED, Imported, ImportTarget, Written
from headwater.state.runprogress import RunTaken
from headwater.state.runs.model import STEPS, RunProgress
from headwater.transforms.functions import Function, Outcome

MAX_WAITING_BATCHES: Final = 2
"""Maximum number of batches that are mapped, with the one that is being stored."""
CHECK_SECONDS: Final = 0.2
"""Interval at which a cancel is looked for while something is waited for."""
MAX_STORE_SECONDS: Final = 120.0
"""Time for which a run waits for the state store."""
STORE_RETRY_SECONDS: Final = 0.5
ERASED: Final = "the person was erased"
NOT_DELETED: Final = (
    "identities that the source no longer has were not deleted, because records without a usable id failed"
)

_Stage = Literal["Read", "Delete", "Resolve", "Done"]
_Result = TypeVar("_Result")
_log = structlog.get_logger(__name__)


class _Position(Struct, frozen=True, array_like=True):
    """The stage of a run, and the place in it."""

    stage: _Stage = "Read"
    place: Place = START
    since: int | None = None
    """The cursor with which the run began; None for a full run."""
    has_unidentified: bool = False
    digest: bytes = b""
    """The digest of the definition with which the run began."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Position).decode


async def execute_import(job: Job) -> None:
    """Execute the run of a job, an import, to its end. Raises RunFailed, RunCancelled and Unavailable.

    It continues a run that was interrupted. Identities that it has stored before a failure or a cancel stay.
    """
    try:
        await _Import(job).run()
    except RunTaken as error:
        raise RunCancelled from error


class _Import:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._definition = job.pipeline.definition
        self._digest = _digest(job.pipeline.connection, self._definition)
        self._run = ImportRun(job.state, job.run.id, job.run.fence, job.run.pipeline)
        self._position = _Position()
        self._cursor: int | None = None
        self._changed = 0
        self._is_resumed = False
        self._checks = True
        """Whether a transaction is not begun after a cancel."""
        self._loop = asyncio.get_running_loop()

    # --- Stages ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        await self._take()
        try:
            if self._position.stage == "Read":
                await self._read()
            if self._position.stage == "Delete":
                await self._delete()
            if self._position.stage == "Resolve":
                await self._resolve()
                await self._complete()
        except RunFailed:
            await self._resolve()
            raise
        except RunCancelled:
            if not self._job.report.continues:
                self._checks = False
                with suppress(Unavailable):  # then the next run of the pipeline does it
                    await self._resolve()
            raise

    async def _take(self) -> None:
        """Take the run, and continue where it was interrupted."""
        job, run = self._job, self._job.run
        await job.catalog.refresh()
        if job.catalog.pipeline(run.workspace, run.pipeline) is None:
            raise RunCancelled
        stored, since = await self._stored(lambda: self._run.take(self._digest))
        if not run.is_incremental:
            since = None
        self._is_resumed = bool(stored.position)
        self._position = _decode(stored.position) if stored.position else _Position(since=since, digest=self._digest)
        self._cursor = self._position.since if stored.cursor is None else stored.cursor
        self._changed = stored.changed
        is_full = self._position.since is None
        self._target = ImportTarget(run.workspace, run.connection, run.pipeline, run.id, is_full, skips_repeats=False)
        job.report.commit(stored.progress)

    async def _read(self) -> None:
        job = self._job
        in_schema, out_schema = _schemas(self._definition)
        profiles = find_profile_schema(job.catalog, job.run.workspace)
        if difference := find_misalignment(self._definition, "Source", "User", profiles):
            raise RunFailed("OutputValidation", f"outSchema differs from the profile schema: {difference.cause}")
        async with open_source(job, self.wait_for) as source:
            self._target = replace(self._target, skips_repeats=source.skips_repeats)
            channel = _Channel(job.report.check)
            producer = partial(self._produce, source, in_schema, out_schema, channel)
            thread = threading.Thread(target=producer, name="import", daemon=True)
            thread.start()
            try:
                while (batch := await channel.get()) is not None:
                    await self._store(batch)
                    channel.release()
            finally:
                channel.close()
                await asyncio.to_thread(thread.join, CHECK_SECONDS)
        await self._enter("Delete" if self._target.is_full and not self._position.has_unidentified else "Resolve")

    async def _delete(self) -> None:
        """Delete the identities that a full run has not seen."""
        after: int | None = 0
        while after is not None:
            ids, after = await self._stored(partial(self._run.find_unseen, after=after))
            if ids:
                await self._stored(partial(self._run.remove, self._target, ids))
        await self._enter("Resolve")

    async def _resolve(self) -> None:
        """Let the changed identities be resolved, if the workspace resolves them after imports."""
        job, workspace = self._job, self._job.catalog.workspace(self._job.run.workspace)
        resolves = workspace is not None and workspace.resolution.run_on_batch_import
        has_many = self._changed > MAX_TRACKED
        pass_on = partial(self._run.pass_on, self._target, resolves=resolves and not has_many)
        while not await self._stored(pass_on):
            pass
        finish = partial(
            self._run.finish_changes,
            job.run.workspace,
            requests=resolves and has_many,
            now=microseconds(job.clock.now()),
        )
        await self._stored(finish)
        self._changed = 0

    async def _complete(self) -> None:
        """Move the cursor of the pipeline, and end the run.

        The cursor is that of the definition with which the run began. If it was changed before the run was continued,
        the next run reads all users again.
        """
        position = replace(self._position, stage="Done")
        complete = partial(
            self._run.complete,
            self._position.digest,
            cursor=self._cursor,
            position=_encode(position),
            progress=self._job.report.progress,
        )
        await self._stored(complete)
        self._position = position

    async def _enter(self, stage: _Stage) -> None:
        """Begin a stage."""
        report = self._job.report
        if self._position.has_unidentified and self._target.is_full and self._position.stage == "Read":
            report.note("Finalize", NOT_DELETED)
        position = replace(self._position, stage=stage)
        save = partial(self._run.save, cursor=self._cursor, position=_encode(position), progress=report.progress)
        await self._stored(save)
        self._position = position

    # --- Reading, in a thread -------------------------------------------------------------------------------------

    def _produce(self, source: Source, in_schema: Schema, out_schema: Schema, channel: "_Channel") -> None:
        """Read and map all records, and send them in batches, and at the end None or the error."""
        try:
            source.open(in_schema, self._position.since)
            if self._is_resumed and source.restarts(self._position.place):
                self._restart()
            mapper = self._compile(source, in_schema, out_schema)
            waiting: MappedBatch | None = None
            for raw in source.batches(self._position.since, self._position.place):
                mapped = mapper.map(raw)
                if waiting is None:
                    waiting = mapped
                else:
                    waiting.add(mapped, skips_repeats=source.skips_repeats)
                # While the store is busy, the batch grows: many sorted users take less time for each.
                # A user of an application is read once, so all of a batch are stored with its place.
                if waiting.is_full or (waiting.is_ready and source.skips_repeats):
                    channel.send(waiting)
                    waiting = None
                elif waiting.is_ready and channel.offer(waiting):
                    waiting = None
            if waiting is not None:
                channel.send(waiting)
            channel.end(None)
        except BaseException as error:
            channel.end(error)
        finally:
            source.close()

    def _restart(self) -> None:
        """Begin at the start of the source again. No batch was sent yet."""
        self._position = _Position(since=self._position.since, digest=self._position.digest)
        self._cursor = self._position.since
        self._job.report.restart()

    def _compile(self, source: Source, in_schema: Schema, out_schema: Schema) -> RecordMapper:
        try:
            return RecordMapper(
                self._job.pipeline,
                in_schema,
                out_schema,
                source.columns,
                since=self._position.since,
                now=lambda: microseconds(self._job.clock.now()),
                has_filter=source.has_filter,
                run_function=self._run_function,
            )
        except HeadwaterError as error:
            raise RunFailed("Transformation", f"the pipeline cannot be compiled: {error.message}") from error

    def _run_function(
        self, function: Function, records: Sequence[Record], in_schema: Schema, out_schema: Schema
    ) -> Iterator[Outcome]:
        return self.wait_for(self._job.functions.stream(function, records, in_schema, out_schema))

    def wait_for(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine on the event loop, and wait for its result in the thread of the source.

        Raises RunCancelled if the run is cancelled meanwhile.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return future.result(CHECK_SECONDS)
            except NotReady:
                if future.done():  # its own error, or it has ended since
                    return future.result()
                try:
                    self._job.report.check()
                except RunCancelled:
                    future.cancel()
                    raise

    # --- Storing --------------------------------------------------------------------------------------------------

    async def _store(self, batch: MappedBatch) -> None:
        """Store a batch in one or more transactions. The last one has its counts and its place, which are reported
        then. A run that is killed before stores all of the batch again."""
        job = self._job
        *earlier, last = await asyncio.to_thread(batch.split)
        suppressed = 0
        for users in earlier:
            written, _ = await self._write(
                users, (), self._cursor, self._position, lambda _: job.report.progress, is_first=users is earlier[0]
            )
            suppressed += len(written.suppressed)
        cursor = max((time for time in (self._cursor, batch.cursor) if time is not None), default=None)
        has_unidentified = self._position.has_unidentified or batch.has_unidentified
        position = replace(self._position, place=batch.place, has_unidentified=has_unidentified)
        count = partial(_add, job.report.progress, batch, suppressed)
        written, progress = await self._write(last, batch.kept, cursor, position, count, is_first=not earlier)
        self._cursor, self._position = cursor, position
        job.report.commit(progress)
        for failed in batch.failed:
            job.report.explain(failed.step, failed.message, number=failed.number, id=failed.id, path=failed.path)
        if suppressed := suppressed + len(written.suppressed):
            job.report.explain("Finalize", ERASED, count=suppressed)

    async def _write(
        self,
        users: Mapping[str, Imported],
        kept: Collection[str],
        cursor: int | None,
        position: _Position,
        count: Callable[[Written], RunProgress],
        *,
        is_first: bool,
    ) -> tuple[Written, RunProgress]:
        """Run a transaction of a batch. A cancel ends the run before the first one, so that its counts are exact."""
        write = partial(
            self._run.write,
            self._target,
            users,
            kept,
            now=microseconds(self._job.clock.now()),
            is_tracked=self._changed <= MAX_TRACKED,
            cursor=cursor,
            position=_encode(position),
            count=count,
        )
        written, progress = await self._stored(write, is_cancellable=is_first)
        self._changed += written.changed
        return written, progress

    async def _stored(
        self, transact: Callable[[], Coroutine[Any, Any, _Result]], *, is_cancellable: bool = True
    ) -> _Result:
        """Run a transaction. An outage of the store is waited for."""
        until = self._loop.time() + MAX_STORE_SECONDS
        while True:
            if is_cancellable and self._checks:
                self._job.report.check()
            try:
                return await transact()
            except Unavailable as error:
                if self._loop.time() >= until or not self._checks:
                    raise
                _log.warning("an import waits for the state store", run=self._job.run.id, reason=error.message)
                is_cancellable = True
                await asyncio.sleep(STORE_RETRY_SECONDS)


def _add(before: RunProgress, batch: MappedBatch, suppressed: int, written: Written) -> RunProgress:
    """Return the progress after a batch. `written` is the outcome of its last transaction, `suppressed` the number of
    erased persons in the earlier ones."""
    suppressed += len(written.suppressed)
    passed, failed = list(before.passed), list(before.failed)
    for step, count in batch.passed.items():
        passed[_INDEX[step]] += count
    for each in batch.failed:
        failed[_INDEX[each.step]] += 1
    failed[_INDEX["Filter"]] += batch.filtered
    failed[_INDEX["Finalize"]] += suppressed
    passed[_INDEX["Finalize"]] += batch.passed.get("OutputValidation", 0) - suppressed
    return replace(
        before,
        passed=tuple(passed),
        failed=tuple(failed),
        rows=before.rows + batch.rows,
        bytes=before.bytes if batch.bytes is None else batch.bytes,
    )


_INDEX: Final = {step: index for index, step in enumerate(STEPS)}


def _schemas(definition: Definition) -> tuple[Schema, Schema]:
    in_schema = None if definition.in_schema is None else parse_schema(definition.in_schema)
    out_schema = None if definition.out_schema is None else parse_schema(definition.out_schema)
    if in_schema is None or out_schema is None:
        raise RunFailed("InputValidation", "the pipeline has no schemas")
    return in_schema, out_schema


def _digest(connection: int, definition: Definition) -> bytes:
    """Return the digest of everything that decides which users an import reads, and what it makes of them."""
    content = encode_definition(replace(definition, incremental=False, compression=""))
    return sha256(f"{connection} ".encode() + content).digest()


class _Channel:
    """Passes batches from the thread of the source to the event loop, at most MAX_WAITING_BATCHES at a time."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._loop = asyncio.get_running_loop()
        self._batches: asyncio.Queue[MappedBatch | BaseException | None] = asyncio.Queue()
        self._places = threading.BoundedSemaphore(MAX_WAITING_BATCHES)
        self._is_closed = False

    def send(self, batch: MappedBatch) -> None:
        """Send a batch, after waiting for a place. Raises RunCancelled."""
        while not self._places.acquire(timeout=CHECK_SECONDS):
            self._check()
            if self._is_closed:
                raise RunCancelled
        self._put(batch)

    def offer(self, batch: MappedBatch) -> bool:
        """Send a batch if there is a place. Return whether it was sent."""
        is_free = self._places.acquire(blocking=False)
        if is_free:
            self._put(batch)
        return is_free

    def end(self, error: BaseException | None) -> None:
        """Send the end, or the error that ended it."""
        self._put(error)

    def _put(self, item: MappedBatch | BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._batches.put_nowait, item)
        except RuntimeError as error:  # the event loop has ended
            raise RunCancelled from error

    async def get(self) -> MappedBatch | None:
        """Return the next batch; None at the end. Raises the error of the thread, and RunCancelled."""
        while True:
            self._check()
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    item = await self._batches.get()
            except TimeoutError:
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def release(self) -> None:
        """Make a place free: the last batch is stored."""
        self._places.release()

    def close(self) -> None:
        """Let the thread end at its next batch."""
        self._is_closed = True
