"""Applies the results of lane entries: identities and trace steps, and deletes the entries, in one transaction."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.steps import ProcessingStep, StepOutcome
from headwater.base.throttle import Throttle
from headwater.base.waiting import wait
from headwater.catalog import Catalog, Definition
from headwater.processing.canary import MAX_POSITION, check_writes
from headwater.processing.plans import MAX_MESSAGE, log_failed
from headwater.state import (
    NO_DOCUMENT,
    IdentityObservation,
    LaneEntry,
    Message,
    PipelineCounts,
    StateStore,
    Step,
    Transaction,
)
from headwater.state.lanestore import LaneStore, StoredResult
from headwater.state.profiles.resolving import ProfileUpdater
from headwater.state.suppressions import Suppressions

CONSUMER: Final = "lanes"
"""The name under which the state store keeps the sequence number of the last applied result."""
MAX_APPLIED_BYTES: Final = 512 << 10
"""Approximate size of the results that one transaction applies."""
POLL_SECONDS: Final = 0.05
MAX_POLL_SECONDS: Final = 0.2
"""Maximum delay between two checks for results. It grows while there are none."""
PAUSE_SECONDS: Final = 1.0
"""Delay after an error."""

_log = structlog.get_logger(__name__)
_throttle: Final = Throttle()


class LaneResult(Struct, frozen=True, array_like=True):
    """The outcome of one lane entry. It is stored as MessagePack: add fields at the end only, with a default."""

    entry: LaneEntry
    attributes: str | None = None
    """The person's attributes, a JSON object; None if there was nothing to transform, or after an error."""
    error: str = ""
    """The reason of a failed transformation, for people; empty otherwise."""


class LaneResults(Struct, frozen=True, array_like=True):
    """The results of consecutive entries of one lane."""

    workspace: int
    connection: int
    results: list[LaneResult]


encode_results: Final = msgspec.msgpack.Encoder().encode
_decode_results: Final = msgspec.msgpack.Decoder(LaneResults).decode


def definition_digest(definition: Definition) -> str:
    """Return a digest that changes with the definition of a pipeline."""
    return sha256(msgspec.json.encode(definition, order="sorted")).hexdigest()[:16]


class ResultApplier:
    """Applies results in the order of their completion, each exactly once."""

    def __init__(
        self,
        catalog: Catalog,
        state: StateStore,
        store: LaneStore,
        clock: Clock,
        metrics: Metrics = NO_METRICS,
        *,
        profiles: ProfileUpdater | None = None,
    ) -> None:
        """Without `profiles` none is updated."""
        self._catalog = catalog
        self._profiles = profiles
        self._state = state
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._after = 0
        """At most the sequence number of the last applied result."""

    async def run(self, stop: asyncio.Event) -> None:
        """Apply results until `stop` is set."""
        pause = POLL_SECONDS
        while not stop.is_set():
            try:
                pause = POLL_SECONDS if await self.apply() else min(2 * pause, MAX_POLL_SECONDS)
            except Unavailable as error:
                _log.warning("results of lanes wait", reason=error.message)
                pause = PAUSE_SECONDS
            except Exception as error:
                self._metrics.batch_failed(type(error).__name__)
                _log.exception("results of lanes cannot be applied and will be retried")
                pause = PAUSE_SECONDS
            await wait(stop, pause)

    async def apply(self) -> int:
        """Apply the next results, if there are any; return the number of entries that they finish.

        Raises Unavailable if a database is unavailable, or another process has applied them.
        """
        stored = await self._store.results(self._after, max_bytes=MAX_APPLIED_BYTES)
        if not stored:  # most calls end here, after one statement
            return 0
        after = await self._state.position(CONSUMER)
        if after != self._after:
            self._after = after
            stored = await self._store.results(after, max_bytes=MAX_APPLIED_BYTES)
            if not stored:
                return 0
        await self._catalog.refresh()  # they may be of pipelines that were created while this process had no lease
        began = time.perf_counter()
        batches = [(each, _decode_results(each.payload)) for each in stored]
        try:
            await self._commit(batches, after)
        except Unavailable:
            raise
        except Exception as error:
            self._metrics.batch_failed(type(error).__name__)
            _log.exception("results of lanes failed together and are applied one by one")
            try:
                await check_writes(self._state, None, MAX_POSITION)
            except Unavailable:
                raise
            except Exception:  # the system is at fault, so no result may fail for it
                raise error from None
            for each, results in batches:
                await self._apply_one_by_one(each, results, after)
                after = each.sequence
        self._after = stored[-1].sequence
        count = sum(len(results.results) for _, results in batches)
        self._metrics.lane_results_applied(time.perf_counter() - began, count)
        return count

    async def _commit(self, batches: list[tuple[StoredResult, LaneResults]], after: int) -> None:
        async with self._state.transaction() as transaction:
            await self._write(transaction, [(stored.pipeline, results) for stored, results in batches], self._profiles)
            await transaction.record_counts(_counts(batches), now=microseconds(self._clock.now()))
            await transaction.finish_lanes({stored.pipeline: stored.position for stored, _ in batches})
            await transaction.advance(CONSUMER, after, batches[-1][0].sequence)

    async def _apply_one_by_one(self, stored: StoredResult, results: LaneResults, after: int) -> None:
        """Apply the results that can be applied, of results that fail together.

        A result that fails alone becomes a failed step; if that fails too, its claim or alias has no effect.
        """
        written: list[LaneResult] = []
        for result in results.results:
            written.append(result)
            if (error := await self._failure(stored.pipeline, _only(results, [result]))) is None:
                continue
            name = type(error).__name__
            if count := _throttle.passes((stored.pipeline, name)):
                _log.error("a result is isolated", pipeline=stored.pipeline, error=name, count=count, exc_info=error)
            entry = msgspec.structs.replace(result.entry, is_observed=False)
            written[-1] = LaneResult(entry, None, f"internal error ({name})")
            if await self._failure(stored.pipeline, _only(results, written[-1:])) is not None:
                entry = msgspec.structs.replace(entry, user_id=None, anonymous_id=None, previous_id=None)
                written[-1] = LaneResult(entry, None, f"internal error ({name})")
        await self._commit([(stored, _only(results, written))], after)

    async def _failure(self, pipeline: int, results: LaneResults) -> Exception | None:
        """Apply results in a transaction that is rolled back; return its exception, unless it is Unavailable."""
        try:
            async with self._state.trial() as transaction:
                await self._write(transaction, [(pipeline, results)])
        except Unavailable:
            raise
        except Exception as error:
            return error
        return None

    async def _write(
        self,
        transaction: Transaction,
        batches: Sequence[tuple[int, LaneResults]],
        profiles: ProfileUpdater | None = None,
    ) -> None:
        """Write results, each with its pipeline. Many small ones take as few statements as one large one."""
        suppressions = self._state.suppressions
        if not suppressions.is_read:
            await transaction.run(suppressions.read)
        observations = [
            _observation(pipeline, results, result)
            for pipeline, results in batches
            if self._is_present(pipeline, results)
            for result in results.results
            if not (suppressions and _is_suppressed(results, result.entry, suppressions))
        ]
        await transaction.change_identities(await transaction.merge_identities(observations), profiles)
        await self._write_steps(transaction, batches)

    def _is_present(self, pipeline: int, results: LaneResults) -> bool:
        """Return whether the pipeline still exists. The identities of a deleted pipeline must not come back."""
        connection = self._catalog.connection(results.workspace, results.connection)
        return connection is not None and any(each.id == pipeline for each in connection.pipelines)

    async def _write_steps(self, transaction: Transaction, batches: Sequence[tuple[int, LaneResults]]) -> None:
        finished = [
            ((results.connection, result.entry.message_id), pipeline, result)
            for pipeline, results in batches
            for result in results.results
            if result.entry.document != NO_DOCUMENT
        ]
        entries = await transaction.lookup(Message(each.entry.position, key, 0) for key, _, each in finished)
        changed = {}
        for key, pipeline, result in finished:
            entry = entries.get(key)
            if entry is not None and entry.position == result.entry.position:
                entry.steps = tuple(_finished(step, pipeline, result) for step in entry.steps)
                changed[key] = entry
        await transaction.save(changed)


def _is_suppressed(results: LaneResults, entry: LaneEntry, suppressions: Suppressions) -> bool:
    """Return whether the entry belongs to an erased person."""
    id_, is_anonymous = (entry.user_id, False) if entry.user_id is not None else (entry.anonymous_id, True)
    return suppressions.has(results.workspace, results.connection, entry.position, id_, is_anonymous=is_anonymous)


def _counts(batches: Iterable[tuple[StoredResult, LaneResults]]) -> PipelineCounts:
    """Count the records that had waited for a transformation."""
    counts = PipelineCounts()
    for stored, results in batches:
        for result in results.results:
            if result.entry.document != NO_DOCUMENT:
                step, outcome, message = _outcome(result)
                counts.add(stored.pipeline, step, outcome, message=message, has_waited=True)
    return counts


def _outcome(result: LaneResult) -> tuple[ProcessingStep, StepOutcome, str]:
    """Return the last step of a record, its outcome, and the reason of a failure."""
    if result.error:
        return "Transformation", "Failed", result.error[:MAX_MESSAGE]
    return "Finalize", "Passed", ""


def _finished(step: Step, pipeline: int, result: LaneResult) -> Step:
    if step.pipeline != pipeline or step.outcome != "Pending":
        return step
    if result.error:
        log_failed(pipeline, "Transformation")
    return Step(pipeline, step.connection, *_outcome(result))


def _observation(pipeline: int, results: LaneResults, result: LaneResult) -> IdentityObservation:
    entry = result.entry
    is_observed = entry.is_observed or result.attributes is not None
    return IdentityObservation(
        results.workspace,
        results.connection,
        (pipeline,) if is_observed else (),
        entry.user_id,
        entry.anonymous_id,
        entry.at,
        () if result.attributes is None else (result.attributes,),
        entry.previous_id,
        entry.only_if_unclaimed,
        (pipeline,),
        claims=entry.claims and not entry.only_if_unclaimed,
    )


def _only(results: LaneResults, some: Iterable[LaneResult]) -> LaneResults:
    return LaneResults(results.workspace, results.connection, list(some))
