"""Carries a batch of the log through the pipelines of its sources into the warehouse.

One batch is one transaction of the warehouse: the claims, the events, the identities, the devices, the refused ones,
and the position up to which the log is finished. A crash between any two lines leaves the batch undone, to be done
again; nothing is lost and nothing happens twice.

An event goes through the pipelines that its source has when it is carried, a moment after it was accepted; a repetition
of a message goes through none.
"""

import asyncio
import time

import msgspec
import structlog
from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog
from headwater.pipelines.batch import Arrival, Batch, refused
from headwater.pipelines.passage import Passage
from headwater.pipelines.routes import Routes
from headwater.transforms.functions import Runner
from headwater.warehouse import Entries, IdentityChanges, Transaction, Warehouse, claim

_log = structlog.get_logger(__name__)


class Carrier:
    """Does all that a batch leads to, once."""

    def __init__(
        self,
        consumer: str,
        catalog: Catalog,
        warehouse: Warehouse,
        functions: Runner,
        clock: Clock,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self._consumer = consumer
        self._catalog = catalog
        self._warehouse = warehouse
        self._clock = clock
        self._metrics = metrics
        self._routes = Routes(catalog, functions)
        self.is_writing = asyncio.Event()
        """Set while most of what a batch leads to is written: the databases work then, and this process has time."""

    async def carry(self, batch: Batch, *, after: int) -> int:
        """Carry the batch that follows position `after`; returns the position up to which the log is finished then.

        An event that cannot be carried while others can, which a defect of ours would be, is kept among the refused
        ones. Raises Unavailable when a database is away, or another process has carried this batch.
        """
        began = time.perf_counter()
        await self._catalog.refresh()
        self._routes.refresh()
        try:
            decided = await self._carry(batch, after)
        except Unavailable:
            raise
        except Exception:
            _log.exception("a batch cannot be carried: each of its events is tried by itself", after=after)
            culprits = {arrival.position for arrival in batch.arrivals if not await self._can_carry(arrival)}
            if len(culprits) == len(batch.arrivals):
                raise  # it is not the events: nothing can be carried now
            batch = _without(batch, culprits)
            decided = await self._carry(batch, after)
        self._metrics.batch_carried(
            time.perf_counter() - began,
            stored=len(decided.passage.events),
            duplicates=decided.duplicates,
            rejected=len(batch.rejected),
            identities=len(decided.identities.changed),
        )
        if decided.duplicates or batch.rejected:
            _log.info("batch carried", last=batch.last, duplicates=decided.duplicates, rejected=len(batch.rejected))
        return batch.last

    async def _carry(self, batch: Batch, after: int) -> "_Decided":
        try:
            async with self._warehouse.transaction() as transaction:
                decided = await self._decide(batch, transaction)
                # The great writes come last: meanwhile the next batch is read, for which small ones would have to wait.
                await self._write_little(batch, decided, transaction)
                await transaction.note_calls(batch.calls)
                await transaction.finish(self._consumer, batch.last, after=after)
                self.is_writing.set()
                await transaction.add_events(decided.passage.events)
                await transaction.record(decided.entries)
        finally:
            self.is_writing.clear()
        return decided

    async def _decide(self, batch: Batch, transaction: Transaction) -> "_Decided":
        """All that the events lead to."""
        messages = [arrival.message for arrival in batch.arrivals]
        fresh, entries = claim(messages, await transaction.known(messages), now=microseconds(self._clock.now()))
        passage = Passage([arrival for arrival in batch.arrivals if arrival.position in fresh])
        passage.learn(await transaction.merge_traits(passage.sayings))
        passage.route(self._routes)
        await passage.transform()
        for arrival in passage.arrivals:
            entries[arrival.message.key].steps = tuple(passage.steps[arrival.position])
        identities = await transaction.merge_identities(passage.sightings())
        return _Decided(passage, identities, entries, len(batch.arrivals) - len(fresh))

    async def _write_little(self, batch: Batch, decided: "_Decided", transaction: Transaction) -> None:
        await transaction.change_identities(decided.identities)
        await transaction.change_devices(decided.passage.devices)
        await transaction.add_rejected(batch.rejected)

    async def _can_carry(self, arrival: Arrival) -> bool:
        try:
            async with self._warehouse.transaction() as transaction:
                batch = Batch([arrival], [], [], arrival.position)
                decided = await self._decide(batch, transaction)
                await self._write_little(batch, decided, transaction)
                await transaction.add_events(decided.passage.events)
                raise _Undone
        except _Undone:
            return True
        except Unavailable:
            raise
        except Exception:
            _log.exception("an event cannot be carried and is kept as refused", position=arrival.position)
            return False


class _Decided(Struct):
    """What a batch leads to."""

    passage: Passage
    identities: IdentityChanges
    entries: Entries
    """What the ledger is to keep."""
    duplicates: int


class _Undone(Exception):
    """Ends a transaction that was a trial."""


def _without(batch: Batch, culprits: set[int]) -> Batch:
    """The batch, with the events at these positions among the refused ones."""
    rejected = [*batch.rejected, *(refused(arrival) for arrival in batch.arrivals if arrival.position in culprits)]
    return msgspec.structs.replace(
        batch,
        arrivals=[arrival for arrival in batch.arrivals if arrival.position not in culprits],
        rejected=sorted(rejected, key=lambda row: row.position),
    )
