"""Processes each batch of the log exactly once: deduplicates, evaluates pipelines, and stores.

One batch is one transaction of the state store: messages, identities, profiles, devices, lane entries, rejected events,
and the position up to which the log is processed. After a crash at any point the batch is processed again.

An event is processed by the pipelines that its source has at that time, shortly after it was accepted. A repeated
message is not processed.
"""

import asyncio
import time
from bisect import insort
from collections.abc import Collection, Sequence
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog
from headwater.processing.batch import AcceptedEvent, Batch
from headwater.processing.canary import check_writes
from headwater.processing.evaluate import DEFAULT_LANE_BYTES, BatchEvaluation
from headwater.processing.plans import PlanCache
from headwater.processing.suppressing import find_suppressed, suppressed_step
from headwater.state import IdentityChanges, MessageStates, NewChunk, StateStore, Step, Transaction, deduplicate
from headwater.state.deduplication.message import encode_message
from headwater.state.deliveries import DeliveryStore, NewDeliveries, pack
from headwater.state.profiles.resolving import ProfileUpdater
from headwater.warehouse import Warehouse

MAX_ISOLATED: Final = 8
"""Maximum number of events of one workspace in a batch that are isolated one by one.

The workspace's other events in the batch are then stored without their effects, to bound the time.
"""
URGENT_SECONDS: Final = 60.0
"""Time after a batch with events for destinations in which less time passes between batches."""

_log = structlog.get_logger(__name__)


class BatchProcessor:
    """Processes batches of the log: the `Handler` of the consumer that stores events."""

    def __init__(
        self,
        consumer: str,
        catalog: Catalog,
        state: StateStore,
        warehouse: Warehouse,
        clock: Clock,
        metrics: Metrics = NO_METRICS,
        *,
        lane_bytes: int = DEFAULT_LANE_BYTES,
        deliveries: DeliveryStore | None = None,
        profiles: ProfileUpdater | None = None,
    ) -> None:
        """`lane_bytes` is the maximum compressed size of the lanes of one workspace.

        Without `deliveries` no event is sent to a destination, and without `profiles` none is updated.
        """
        self._consumer = consumer
        self._catalog = catalog
        self._state = state
        self._warehouse = warehouse
        self._clock = clock
        self._metrics = metrics
        self._lane_bytes = lane_bytes
        self._deliveries = deliveries
        self._profiles = profiles
        self._plans = PlanCache(catalog, delivers=deliveries is not None)
        self._urgent_until = 0.0
        self.io_bound = asyncio.Event()
        """Set while the large writes of a batch wait for the database, so that this process has time for other work."""

    def is_urgent(self) -> bool:
        """Return whether destinations wait for events: a batch of the last `URGENT_SECONDS` had some for them."""
        return time.monotonic() < self._urgent_until

    async def position(self) -> int:
        """Return the position up to which the log is processed. It is stored in the transaction of each batch.

        Ends the transactions that a hung predecessor left open, because their locks would make each batch fail.
        """
        if ended := await self._state.end_hung_writers():
            _log.warning("transactions of a hung worker are ended", transactions=ended)
        self._state.suppressions.forget()  # another process may have changed them
        return await self._state.position(self._consumer)

    async def handle(self, batch: Batch, *, after: int) -> int:
        """Process the batch that follows position `after`; return the position up to which the log is processed.

        If events make the batch fail and the same work succeeds without them, they are isolated: such an event is
        stored without its effects on people or, if that fails too, as rejected. Raises Unavailable if a database is
        unavailable or another process has processed the batch, and any other exception if nothing can be processed,
        whatever the events.
        """
        began = time.perf_counter()
        await self._catalog.refresh()
        self._plans.refresh()
        try:
            plan = await self._commit(batch, after)
        except Unavailable:
            raise
        except Exception as error:
            self._metrics.batch_failed(type(error).__name__)
            _log.exception("a batch failed: the events that cause it are isolated", after=after)
            batch, store_only = await self._isolate(batch, error)
            plan = await self._commit(batch, after, store_only)
        self._metrics.batch_processed(
            time.perf_counter() - began,
            stored=len(plan.evaluation.events),
            duplicates=plan.duplicates,
            rejected=len(batch.rejected),
            suppressed=plan.suppressed,
            identities=len(plan.identities.changed),
            steps=plan.evaluation.step_counts(),
        )
        if plan.duplicates or batch.rejected:
            _log.info("batch processed", last=batch.last, duplicates=plan.duplicates, rejected=len(batch.rejected))
        return batch.last

    async def _commit(self, batch: Batch, after: int, store_only: Collection[int] = ()) -> "_BatchPlan":
        try:
            async with self._state.transaction() as transaction:
                plan = await self._plan(batch.accepted, transaction, store_only)
                # The large writes come last. Meanwhile the next batch is read; small writes would have to wait for it.
                await self._write_small(batch, plan, transaction, self._profiles)
                await transaction.record_counts(plan.evaluation.pipeline_counts(), now=microseconds(self._clock.now()))
                await transaction.save_calls(batch.calls)
                await transaction.advance(self._consumer, after, batch.last)
                self.io_bound.set()
                await transaction.save(plan.entries)
                # Before the commit: after a crash between the two the batch comes again, and is not loaded twice.
                await self._warehouse.load(plan.evaluation.events, through=batch.last)
                await self._append_deliveries(plan.deliveries, batch.last)
        finally:
            self.io_bound.clear()
        return plan

    async def _append_deliveries(self, deliveries: Sequence[NewDeliveries], last: int) -> None:
        """Append to the delivery queue, which has its own transactions.

        It is the last action before the commit. After a crash between the two the batch comes again, and its events are
        not appended twice. An event may therefore be delivered before it can be queried.
        """
        if self._deliveries is not None and deliveries:
            self._urgent_until = time.monotonic() + URGENT_SECONDS
            await self._deliveries.append(deliveries, through=last, now=microseconds(self._clock.now()))

    async def _plan(
        self, accepted: Sequence[AcceptedEvent], transaction: Transaction, store_only: Collection[int]
    ) -> "_BatchPlan":
        """Compute all effects of the events."""
        messages = [each.message for each in accepted]
        known, lanes = await transaction.lookup(messages), await transaction.lanes()
        fresh, entries = deduplicate(messages, known, now=microseconds(self._clock.now()))
        suppressed = await find_suppressed(accepted, self._state.suppressions, transaction)
        evaluation = BatchEvaluation(
            [each for each in accepted if each.position in fresh and each.position not in suppressed],
            lanes=lanes,
            lane_bytes=self._lane_bytes,
            store_only=store_only,
        )
        if evaluation.traits_updates:
            evaluation.apply_known_traits(await transaction.merge_traits(evaluation.traits_updates))
        evaluation.filter(self._plans)
        await evaluation.transform()
        for each in evaluation.accepted:
            steps = evaluation.steps[each.position]
            if each.notes:
                source = each.event.connection_id
                steps = [*(Step(0, source, "Receive", "Passed", note) for note in each.notes), *steps]
            entries[each.message.key].steps = tuple(steps)
        dropped = [each for each in accepted if each.position in suppressed and each.position in fresh]
        for each in dropped:
            entries[each.message.key].steps = (suppressed_step(each),)
        observations, lane_chunks = evaluation.observations(), evaluation.lane_chunks()
        identities = await transaction.merge_identities(observations)
        deliveries = evaluation.deliveries()
        duplicates = len(accepted) - len(fresh)
        return _BatchPlan(evaluation, lane_chunks, deliveries, identities, entries, duplicates, len(dropped))

    async def _write_small(
        self, batch: Batch, plan: "_BatchPlan", transaction: Transaction, profiles: ProfileUpdater | None = None
    ) -> None:
        """Write all but the large effects. A trial updates no profiles: their errors do not make a batch fail."""
        evaluation = plan.evaluation
        await transaction.change_identities(plan.identities, profiles)
        if evaluation.devices:
            await transaction.change_devices(evaluation.devices)
        if plan.lane_chunks:
            now = microseconds(self._clock.now())
            await transaction.append_to_lanes(plan.lane_chunks, evaluation.lane_documents, now=now)
        if batch.rejected:
            await transaction.add_rejected(batch.rejected)

    async def _isolate(self, batch: Batch, error: Exception) -> tuple[Batch, set[int]]:
        """Isolate the events that make the batch fail. Raises `error` if even a harmless event cannot be stored.

        Returns the batch with the events that cannot be stored as rejected ones, and the positions of events that can
        only be stored.
        """
        try:
            await check_writes(self._state, self._warehouse, batch.last)
        except Unavailable:
            raise
        except Exception:
            raise error from None
        poison = await self._find_poison(batch.accepted)
        if not poison:  # the events alone are not the cause, or it has passed: the unchanged batch may succeed
            return batch, set()
        rejected = {
            each.position
            for each in batch.accepted
            if each.position in poison and not await self._succeeds([each], {each.position})
        }
        for position in sorted(poison):
            _log.error("an event is isolated", position=position, kept="rejected" if position in rejected else "stored")
        self._metrics.events_isolated(len(poison))
        return _without(batch, rejected), poison - rejected

    async def _find_poison(self, accepted: Sequence[AcceptedEvent]) -> set[int]:
        """Return the positions of the events that fail, found by bisection.

        Events of a workspace that has `MAX_ISOLATED` of them count as failing too. Of events that fail only together
        the last counts as failing.
        """
        poison: dict[int, list[int]] = {}

        def found() -> int:
            return sum(map(len, poison.values()))

        def add(each: AcceptedEvent) -> None:
            insort(poison.setdefault(each.workspace, []), each.position)

        async def search(some: Sequence[AcceptedEvent]) -> None:
            some = [each for each in some if len(poison.get(each.workspace, ())) < MAX_ISOLATED]
            if not some or await self._succeeds(some, ()):
                return
            if len(some) == 1:
                add(some[0])
                return
            before, middle = found(), len(some) // 2
            await search(some[:middle])
            await search(some[middle:])
            if found() == before:
                add(some[await last_of_those_that_fail_together(some, middle)])

        async def last_of_those_that_fail_together(some: Sequence[AcceptedEvent], good: int) -> int:
            """Return the index of the event with which they fail, and without which they succeed. The first `good`
            succeed."""
            bad = len(some)
            while bad - good > 1:
                middle = (good + bad) // 2
                if await self._succeeds(some[:middle], ()):
                    good = middle
                else:
                    bad = middle
            return bad - 1

        rest, before = list(accepted), -1
        while found() > before:  # the remaining events may fail together
            before = found()
            await search(rest)
            known = {position for positions in poison.values() for position in positions}
            rest = [each for each in rest if each.position not in known]
        positions_found = {position for positions in poison.values() for position in positions}
        for each in accepted:
            positions = poison.get(each.workspace, ())
            if len(positions) >= MAX_ISOLATED and each.position > positions[-1]:
                positions_found.add(each.position)
        return positions_found

    async def _succeeds(self, accepted: Sequence[AcceptedEvent], store_only: Collection[int]) -> bool:
        """Process events in a transaction that is rolled back; return whether that succeeds."""
        batch = Batch(list(accepted), [], [], accepted[-1].position)
        try:
            async with self._state.trial() as transaction:
                plan = await self._plan(batch.accepted, transaction, store_only)
                await self._write_small(batch, plan, transaction)
                await self._warehouse.check(plan.evaluation.events)
                pack(plan.deliveries)  # as appending them would
                for (_, message_id), entry in plan.entries.items():  # as storing the entries would
                    message_id.encode()
                    encode_message(entry)
        except Unavailable:
            raise
        except Exception:
            return False
        return True


class _BatchPlan(Struct):
    """All effects of a batch."""

    evaluation: BatchEvaluation
    lane_chunks: list[NewChunk]
    deliveries: list[NewDeliveries]
    identities: IdentityChanges
    entries: MessageStates
    """The changed states of the deduplication."""
    duplicates: int
    suppressed: int
    """Number of events that are dropped because the person is erased."""


def _without(batch: Batch, culprits: set[int]) -> Batch:
    """Return the batch with the events at these positions among the rejected ones."""
    rows = [*batch.rejected, *(each.rejected() for each in batch.accepted if each.position in culprits)]
    return msgspec.structs.replace(
        batch,
        accepted=[each for each in batch.accepted if each.position not in culprits],
        rejected=sorted(rows, key=lambda row: row.position),
    )
