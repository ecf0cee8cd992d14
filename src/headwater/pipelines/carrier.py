"""Carries a batch of the log through the pipelines of its sources into the warehouse.

One batch is one transaction of the warehouse: the claims, the events, the identities, the devices, the refused ones,
and the position up to which the log is finished. A crash between any two lines leaves the batch undone, to be done
again; nothing is lost and nothing happens twice.

An event goes through the pipelines that its source has when it is carried, a moment after it was accepted; a repetition
of a message goes through none.
"""

import time

import structlog

from headwater.base.clock import Clock, microseconds
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog
from headwater.pipelines.batch import Batch
from headwater.pipelines.passage import Passage
from headwater.pipelines.routes import Routes
from headwater.transforms.functions import Runner
from headwater.warehouse import Warehouse, claim

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

    async def carry(self, batch: Batch, *, after: int) -> int:
        """Carry the batch that follows position `after`; returns the position up to which the log is finished then.

        Raises Unavailable when a database is away, or another process has carried this batch.
        """
        began = time.perf_counter()
        await self._catalog.refresh()
        self._routes.refresh()
        async with self._warehouse.transaction() as transaction:
            messages = [arrival.message for arrival in batch.arrivals]
            fresh, entries = claim(messages, await transaction.known(messages), now=microseconds(self._clock.now()))
            passage = Passage([arrival for arrival in batch.arrivals if arrival.position in fresh])
            passage.learn(await transaction.merge_traits(passage.sayings))
            passage.route(self._routes)
            await passage.transform()
            for arrival in passage.arrivals:
                entries[arrival.message.key].steps = passage.steps[arrival.position]
            await transaction.add_events(passage.events)
            identities = await transaction.merge_identities(passage.sightings())
            await transaction.change_devices(passage.devices)
            await transaction.add_rejected(batch.rejected)
            await transaction.note_calls(batch.calls)
            await transaction.finish(self._consumer, batch.last, after=after)
            await transaction.record(entries)
        duplicates = len(batch.arrivals) - len(fresh)
        self._metrics.batch_carried(
            time.perf_counter() - began,
            stored=len(passage.events),
            duplicates=duplicates,
            rejected=len(batch.rejected),
            identities=identities,
        )
        if duplicates or batch.rejected:
            _log.info("batch carried", last=batch.last, duplicates=duplicates, rejected=len(batch.rejected))
        return batch.last
