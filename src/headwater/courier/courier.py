"""Runs the transformations of lanes.

After a crash: results and the progress of a lane are stored in one transaction, and the worker applies each result
once. Records that ran without a stored result run again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import HeadwaterError, Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.waiting import wait
from headwater.catalog import Catalog, Definition, Pipeline
from headwater.courier.chunkcache import ChunkCache
from headwater.courier.entries import make_results, payloads, read_record, take
from headwater.courier.scheduler import INITIAL_BATCH_SIZE, LaneState, Scheduler, grow
from headwater.processing.lanes import CONSUMER, definition_digest
from headwater.processing.plans import MAX_MESSAGE
from headwater.processing.transformer import (
    MAX_FUNCTION_SECONDS,
    AttributesJson,
    Budget,
    Failed,
    Transformer,
    compile_transformer,
    failure,
)
from headwater.profiles.alignment import find_profile_schema
from headwater.state import NO_DOCUMENT, Chunk, Lane, LaneEntry, StateStore
from headwater.state.lanestore import AnotherCourier, LaneProgress, LaneStore
from headwater.transforms.functions import FunctionFailed, Runner

DEFAULT_SLOTS: Final[Mapping[str, int]] = {"JavaScript": 2, "Python": 2, "Mapping": 1}
"""Concurrent runs of each kind. A sandbox is a process of about 60 MB."""
POLL_SECONDS: Final = 0.05
"""Interval at which the courier looks for new entries. It doubles up to `MAX_POLL_SECONDS` while no lane runs."""
MAX_POLL_SECONDS: Final = 0.2
COMPACT_SECONDS: Final = 10.0
"""Interval at which it moves old counts into larger periods, and removes those of deleted pipelines. A delivery that is
under way may be counted after the deletion of its pipeline."""
UPKEEP_SECONDS: Final = 0.5
"""Interval at which it refreshes the catalog and removes applied results."""
RETRY_SECONDS: Final = 1.0
"""Wait of the courier, or of a lane, after an outage."""
COMPANION_RETRY_SECONDS: Final = 10.0
"""Wait after an internal error of a companion."""
LIMITS_TO_PAUSE: Final = 4
"""Consecutive runs that reach a limit before the lane is paused."""
INITIAL_PAUSE_SECONDS: Final = 10.0
MAX_PAUSE_SECONDS: Final = 300.0
"""Maximum pause. Each pause doubles the previous one. After it one record is tried."""
MAX_MAPPING_SECONDS: Final = 0.25
MAX_MAPPING_BYTES: Final = 1 << 20
"""Limits of one run of a mapping: its duration and the size of its results. The remaining records are the next run."""
MAX_UNAPPLIED_BYTES: Final = 2 << 20
"""Bytes of results that may wait for the worker before no other run begins. Results are applied in order, so those of a
small workspace wait behind this many bytes of a large one."""

Companion = Callable[[asyncio.Event], Awaitable[None]]
"""Other work of the active courier: it ends soon after the event is set."""

_log = structlog.get_logger(__name__)


class _Compiled(Struct, frozen=True):
    """The compiled transformation of a pipeline."""

    definition: Definition
    schema_version: int
    """The version of the profile schema; 0 without one."""
    digest: str
    transformer: Transformer | None
    """None if the pipeline has no transformation any more."""
    error: str = ""
    """The reason why it cannot be compiled; empty otherwise."""


class Courier:
    """Processes all lanes of an installation. One courier is active at a time."""

    def __init__(
        self,
        catalog: Catalog,
        state: StateStore,
        store: LaneStore,
        functions: Runner,
        clock: Clock,
        metrics: Metrics = NO_METRICS,
        *,
        slots: Mapping[str, int] = DEFAULT_SLOTS,
        companions: Sequence[Companion] = (),
    ) -> None:
        """`companions` run while this courier is the active one. One that fails is started again."""
        self._catalog = catalog
        self._state = state
        self._store = store
        self._functions = functions
        self._clock = clock
        self._metrics = metrics
        self._companions = companions
        self._scheduler = Scheduler(slots)
        self._progress: dict[int, LaneProgress] = {}
        self._compiled: dict[int, _Compiled] = {}
        self._suspects: dict[int, int] = {}
        """By pipeline, the position of a record that reached a limit alone and is tried once more."""
        self._chunks = ChunkCache()
        self._wake = asyncio.Event()
        self._unapplied_bytes = 0
        self._next_compact = 0.0
        self._unsure: set[int] = set()
        """Pipelines whose stored progress may differ from `_progress`, because storing results failed."""

    async def run(self, stop: asyncio.Event) -> None:
        """Process lanes until `stop` is set. Runs in progress are abandoned and start again after the next start."""
        while not stop.is_set():
            try:
                async with self._store.exclusive() as check, self._with_companions(stop):
                    await self._work_again(check, stop)
            except AnotherCourier:
                await wait(stop, RETRY_SECONDS)
            except Unavailable as error:
                _log.warning("the courier waits, and will go on", reason=error.message)
                await wait(stop, RETRY_SECONDS)

    @asynccontextmanager
    async def _with_companions(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Run the companions during the block. After `stop` they complete their work, after an exception they do
        not."""
        running = [asyncio.create_task(_run_again(companion, stop)) for companion in self._companions]
        try:
            yield
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _begin(self) -> None:
        await self._catalog.refresh()
        await self._store.begin_after(await self._state.position(CONSUMER))
        self._progress = await self._store.progress()
        self._unsure.clear()
        self._scheduler.reset()
        self._chunks.clear()

    async def _work_again(self, check: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        """Process lanes until `stop` is set. An outage of their database ends no companion, unless `check` fails."""
        while not stop.is_set():
            try:
                await self._begin()
                await self._work(check, stop)
            except Unavailable as error:
                _log.warning("lanes wait for a database", reason=error.message)
                await wait(stop, RETRY_SECONDS)
                await check()

    async def _work(self, check: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        runs: set[asyncio.Task[None]] = set()
        next_upkeep, pause = 0.0, POLL_SECONDS
        try:
            while not stop.is_set():
                if is_due := time.monotonic() >= next_upkeep:
                    await check()
                    await self._upkeep()
                    next_upkeep = time.monotonic() + UPKEEP_SECONDS
                if self._unapplied_bytes:
                    applied = await self._state.position(CONSUMER)
                    self._unapplied_bytes = await self._store.unapplied_bytes(applied)
                lanes = {lane.pipeline: lane for lane in await self._state.lanes()}
                if is_due:
                    self._measure(lanes.values())
                self._scheduler.replace(list(self._states(lanes.values())))  # first, to forget changed lanes
                while self._unapplied_bytes <= MAX_UNAPPLIED_BYTES:
                    if (state := self._scheduler.begin(self._now())) is None:
                        break
                    run = asyncio.create_task(self._run(state, lanes[state.pipeline]))
                    runs.add(run)
                    run.add_done_callback(runs.discard)
                pause = POLL_SECONDS if runs else min(2 * pause, MAX_POLL_SECONDS)
                await wait(self._wake, pause)
                self._wake.clear()
        finally:
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)

    async def _upkeep(self) -> None:
        """Take in changes of the catalog, and remove what is not needed any more."""
        is_due = time.monotonic() >= self._next_compact
        known = {*self._progress, *self._compiled}
        counted = await self._store.counted() if is_due else set()
        await self._catalog.refresh()  # after the looks, so that a pipeline that was created meanwhile is found
        applied = await self._state.position(CONSUMER)
        await self._store.trim(applied)
        pipelines = {
            pipeline.id
            for workspace in self._catalog.workspaces()
            for connection in self._catalog.connections(workspace.id)
            for pipeline in connection.pipelines
        }
        if gone := known - pipelines:
            await self._store.remove_progress(gone)
            for kept in (self._progress, self._compiled, self._suspects):
                for pipeline_id in gone:
                    kept.pop(pipeline_id, None)
            self._unsure -= gone
        if is_due:
            await self._store.compact_counts(now=microseconds(self._clock.now()))
            gone = counted - pipelines
            if not gone or not await self._store.remove_counts(gone):  # a limited number, so more may be left
                self._next_compact = time.monotonic() + COMPACT_SECONDS

    def _measure(self, lanes: Collection[Lane]) -> None:
        """Report how much waits in lanes."""
        now = microseconds(self._clock.now())
        self._metrics.lanes_waiting(
            lanes=len(lanes),
            entries=sum(lane.entries for lane in lanes),
            bytes=sum(lane.bytes for lane in lanes),
            paused=sum(self._at(lane.pipeline).paused_until > now for lane in lanes),
        )

    def _states(self, lanes: Iterable[Lane]) -> Iterable[LaneState]:
        """Yield the lanes that may run: they have entries without a result, and their pipeline is enabled."""
        for lane in lanes:
            progress = self._at(lane.pipeline)
            if lane.last_position <= progress.position:
                continue
            pipeline = self._pipeline(lane)
            if pipeline is not None and pipeline.enabled:
                compiled = self._compile(pipeline)
                kind = "Mapping" if compiled.transformer is None else compiled.transformer.kind
                paused_until = progress.paused_until / 1e6 if progress.definition == compiled.digest else 0.0
                yield LaneState(lane.pipeline, lane.workspace, kind, paused_until)

    def _pipeline(self, lane: Lane) -> Pipeline | None:
        connection = self._catalog.connection(lane.workspace, lane.connection)
        pipelines = () if connection is None else connection.pipelines
        return next((pipeline for pipeline in pipelines if pipeline.id == lane.pipeline), None)

    def _compile(self, pipeline: Pipeline) -> _Compiled:
        profiles = find_profile_schema(self._catalog, pipeline.workspace)
        version = 0 if profiles is None else profiles.version
        known = self._compiled.get(pipeline.id)
        if known is not None and known.definition == pipeline.definition and known.schema_version == version:
            return known
        digest = definition_digest(pipeline.definition)
        transformer, reason = None, ""
        try:
            transformer = compile_transformer(pipeline, self._functions, profiles)
        except HeadwaterError as error:
            reason = error.message
        except Exception as error:  # an error of one pipeline must not end the courier, which all lanes need
            reason = str(failure(error))
        compiled = _Compiled(pipeline.definition, version, digest, transformer, reason)
        self._compiled[pipeline.id] = compiled
        self._scheduler.forget(pipeline.id)  # a pause ends with the definition that caused it
        self._suspects.pop(pipeline.id, None)
        return compiled

    async def _run(self, state: LaneState, lane: Lane) -> None:
        """Run the next entries of a lane."""
        kind, began = state.kind, time.monotonic()
        try:
            state.ready_at = 0.0
            if await self._run_entries(state, lane):
                self._wake.set()
        except Unavailable as error:
            _log.warning("a lane waits", pipeline=state.pipeline, reason=error.message)
            state.ready_at = self._now() + RETRY_SECONDS
        except Exception as error:
            # An error of one lane must not end the courier, which all lanes need.
            _log.exception("a lane cannot be run and will be retried", pipeline=state.pipeline)
            state.ready_at = self._now() + MAX_PAUSE_SECONDS
            self._metrics.batch_failed(type(error).__name__)
        finally:
            self._scheduler.end(state, kind, time.monotonic() - began, self._now())

    async def _run_entries(self, state: LaneState, lane: Lane) -> bool:
        """Run the next entries of a lane and store their results. Return whether there may be more to run."""
        if lane.pipeline in self._unsure:
            self._progress |= await self._store.progress(lane.pipeline)
            self._unsure.discard(lane.pipeline)
        before = self._at(lane.pipeline)
        chunk = await self._chunk(lane.pipeline, before.position)
        if chunk is None:
            return False
        entries = take(chunk, before.position, state.batch_size)
        documents = [entry for entry in entries if entry.document != NO_DOCUMENT]
        began = time.monotonic()
        compiled = self._compiled[lane.pipeline]
        outcomes, limit = await _transform(compiled, chunk, documents)
        seconds = time.monotonic() - began
        self._metrics.lane_run(state.kind, "Limit" if limit else "Done", seconds, len(documents))
        if limit:
            if self._compiled.get(lane.pipeline) is not compiled:  # the definition changed
                state.batch_size, state.limits = INITIAL_BATCH_SIZE, 0
            else:
                await self._limited(state, lane, before, entries, outcomes, _storable(limit))
            return True
        entries = _finished(entries, outcomes)
        await self._complete(lane, before, LaneProgress(entries[-1].position), entries, outcomes)
        if documents:
            state.limits = 0
            grow(state, seconds, MAX_FUNCTION_SECONDS)
        return True

    async def _limited(
        self,
        state: LaneState,
        lane: Lane,
        before: LaneProgress,
        entries: list[LaneEntry],
        outcomes: dict[int, AttributesJson | Failed],
        limit: str,
    ) -> None:
        """Continue after a run that reached a limit.

        Only a record that reaches it alone, twice, fails. The other records run again, one by one, and are late. A lane
        that keeps reaching limits is paused, and after the pause one record is tried.
        """
        state.batch_size = 1
        state.limits += 1
        after = before
        if len(outcomes) == 1:
            [position] = outcomes
            if self._suspects.pop(lane.pipeline, None) == position:
                after = LaneProgress(entries[-1].position, before.failures, definition=before.definition)
            else:
                self._suspects[lane.pipeline] = position
        if state.limits >= LIMITS_TO_PAUSE:
            state.limits = LIMITS_TO_PAUSE - 1
            digest = self._compiled[lane.pipeline].digest
            failures = before.failures if before.definition == digest else 0
            pause = min(INITIAL_PAUSE_SECONDS * 2 ** min(failures, 30), MAX_PAUSE_SECONDS)
            _log.warning("a pipeline keeps reaching a limit and is paused", pipeline=lane.pipeline, seconds=pause)
            state.ready_at = self._now() + pause
            after = LaneProgress(after.position, failures + 1, int(state.ready_at * 1e6), limit, digest)
        if after is not before:
            finished = entries if after.position > before.position else []
            await self._complete(lane, before, after, finished, outcomes)

    async def _complete(
        self,
        lane: Lane,
        before: LaneProgress,
        after: LaneProgress,
        entries: list[LaneEntry],
        outcomes: dict[int, AttributesJson | Failed],
    ) -> None:
        """Store the results of entries and the progress of their lane."""
        self._unsure.add(lane.pipeline)  # until the transaction is known to have committed
        results = list(payloads(lane, make_results(entries, outcomes)))
        await self._store.complete(lane.pipeline, before, after, results)
        self._unapplied_bytes += sum(len(payload) for _, payload in results)
        self._unsure.discard(lane.pipeline)
        self._progress[lane.pipeline] = after
        if after.position >= lane.last_position:
            self._chunks.drop(lane.pipeline)

    async def _chunk(self, pipeline: int, after: int) -> Chunk | None:
        chunk = self._chunks.get(pipeline)
        if chunk is None or chunk.last_position <= after:
            chunk = await self._state.next_chunk(pipeline, after=after)
            if chunk is None:
                self._chunks.drop(pipeline)
            else:
                self._chunks.put(pipeline, chunk)
        return chunk

    def _at(self, pipeline: int) -> LaneProgress:
        return self._progress.get(pipeline) or LaneProgress()

    def _now(self) -> float:
        return self._clock.now().timestamp()


async def _run_again(companion: Companion, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await companion(stop)
        except Unavailable as error:
            _log.warning("a part of the courier waits, and will go on", reason=error.message)
            await wait(stop, RETRY_SECONDS)
        except Exception:
            _log.exception("a part of the courier failed and will be started again")
            await wait(stop, COMPANION_RETRY_SECONDS)


async def _transform(
    compiled: _Compiled, chunk: Chunk, entries: list[LaneEntry]
) -> tuple[dict[int, AttributesJson | Failed], str]:
    """Return the outcome of each entry by its position, and the limit that the run reached, as text for people."""
    if not entries:
        return {}, ""
    if compiled.error:
        return {entry.position: Failed(compiled.error) for entry in entries}, compiled.error
    outcomes: dict[int, AttributesJson | Failed] = {}
    records = []
    for entry in entries:
        record = read_record(chunk, entry)
        if isinstance(record, Failed):
            outcomes[entry.position] = record
        else:
            records.append((entry.position, record))
    positions = [position for position, _ in records]
    if compiled.transformer is None:
        return outcomes | dict.fromkeys(positions, "{}"), ""
    try:
        budget = Budget(MAX_MAPPING_SECONDS, MAX_MAPPING_BYTES)
        results = await compiled.transformer.run([record for _, record in records], budget)
    except FunctionFailed as error:
        return outcomes | {position: Failed(error.message) for position in positions}, error.message
    except Unavailable:
        raise
    except Exception as error:
        reason = failure(error)
        return outcomes | dict.fromkeys(positions, reason), str(reason)
    return outcomes | dict(zip(positions, results, strict=False)), ""


def _storable(text: str) -> str:
    """Return the text in the form that every database accepts: without NUL and lone surrogates, and of limited
    length."""
    return text[:MAX_MESSAGE].replace("\0", "\ufffd").encode(errors="replace").decode()


def _finished(entries: list[LaneEntry], outcomes: Container[int]) -> list[LaneEntry]:
    """Return the entries up to the first whose record did not run because the budget of the mapping was used up."""
    for index, entry in enumerate(entries):
        if entry.document != NO_DOCUMENT and entry.position not in outcomes:
            return entries[:index]
    return entries
