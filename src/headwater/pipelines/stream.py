"""The consumer of the log: claims each message once, and carries it through the pipelines of its source.

One batch of frames is one transaction of the warehouse: the claims, the events, the identities, the refused ones, and
the position up to which the log is finished. A crash between any two lines leaves the batch undone, to be done again;
nothing is lost and nothing happens twice.

An event goes through the pipelines that its source has when it is carried, a moment after it was accepted; a duplicate
goes through none.
"""

import asyncio
import time
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog
from msgspec import Struct

from headwater.base.clock import microseconds
from headwater.base.errors import Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog
from headwater.eventlog import EventLog, Lease, LeaseTaken
from headwater.events import Event
from headwater.events.record import event_record
from headwater.events.wire import email_of
from headwater.pipelines.batch import Arrival, Batch, read_batch
from headwater.pipelines.routes import Route, Routes
from headwater.pipelines.transformer import Failed, Transformer
from headwater.schemas import Record
from headwater.transforms.functions import Runner
from headwater.warehouse import Sighting, StoredEvent, Warehouse

CONSUMER: Final = "warehouse"
MAX_BATCH_BYTES: Final = 2 * 1024 * 1024
"""How much of the log one transaction carries: enough to be quick, little enough to be seen soon."""
WAIT: Final = timedelta(milliseconds=500)
"""How long one look for new frames may take, and so how long a stop waits for an idle consumer."""
GATHER_SECONDS: Final = 0.05
"""How long frames gather after a batch that took all there was: even a small transaction costs milliseconds."""
LEASE_SECONDS: Final = 0.2
"""How often a taken lease is asked for again."""
FIRST_PAUSE_SECONDS: Final = 0.1
LAST_PAUSE_SECONDS: Final = 2.0
"""How long a database that is away is left alone before it is tried again; each pause is twice the one before."""
HOUSEKEEPING_SECONDS: Final = 5.0
"""How often the log's cursor is moved, and what is old enough is removed."""

_log = structlog.get_logger(__name__)


class _Seen(Struct):
    """A person in an event, on the way through the pipelines that see them."""

    arrival: Arrival
    record: Record | None
    user_id: str | None
    attributes: dict[int, str]
    """What each pipeline made of the event, by pipeline."""

    def sighting(self) -> Sighting:
        event = self.arrival.event
        return Sighting(
            workspace=self.arrival.workspace,
            connection=event.connection_id,
            pipelines=tuple(self.attributes),
            user_id=self.user_id,
            anonymous_id=event.anonymous_id,
            at=microseconds(event.timestamp),
            attributes=tuple(self.attributes.values()),
        )


class StreamConsumer:
    """Carries events from the log into the warehouse."""

    def __init__(
        self,
        log: EventLog,
        catalog: Catalog,
        warehouse: Warehouse,
        functions: Runner,
        *,
        keep: timedelta,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        """`keep` is how long frames stay in the log after everyone has finished them."""
        self._events = log
        self._catalog = catalog
        self._warehouse = warehouse
        self._keep = keep
        self._metrics = metrics
        self._swept: set[int] | None = None
        self._routes = Routes(catalog, functions)

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, and finish the batch at hand."""
        lease = await self._lease(stop)
        if lease is None:
            return
        try:
            reached, pause = 0, FIRST_PAUSE_SECONDS
            while True:
                try:
                    # Asked again after each outage: one that came during a commit does not tell whether it happened.
                    position = await self._warehouse.finished(CONSUMER)
                    if position > reached:
                        reached, pause = position, FIRST_PAUSE_SECONDS
                    return await self._follow(lease, position, stop)
                except Unavailable as error:
                    _log.warning("the worker waits, and will go on", reason=error.message, seconds=pause)
                    await _until(stop, pause)
                    if stop.is_set():
                        return
                    pause = min(2 * pause, LAST_PAUSE_SECONDS)
        finally:
            await lease.release()

    async def _follow(self, lease: Lease, position: int, stop: asyncio.Event) -> None:
        """Consume what comes after `position`. Raises Unavailable when a database is away."""
        next_housekeeping = 0.0
        while not stop.is_set():
            frames = await self._events.read(position, max_bytes=MAX_BATCH_BYTES, wait=WAIT)
            if frames:
                position = await self.carry(read_batch(frames))
            if time.monotonic() >= next_housekeeping:
                await self._housekeeping(lease, position)
                next_housekeeping = time.monotonic() + HOUSEKEEPING_SECONDS
            if sum(len(stored.frame.body) for stored in frames) < MAX_BATCH_BYTES:
                await _until(stop, GATHER_SECONDS)
        await lease.advance(position)

    async def carry(self, batch: Batch) -> int:
        """Do all that the batch leads to, once, and return the position up to which the log is finished."""
        began = time.perf_counter()
        await self._catalog.refresh()
        async with self._warehouse.transaction() as transaction:
            fresh = await transaction.claim([arrival.message for arrival in batch.arrivals])
            events, sightings = await self._through_pipelines(
                [arrival for arrival in batch.arrivals if arrival.position in fresh]
            )
            await transaction.add_events(events)
            identities = await transaction.merge_identities(sightings)
            await transaction.add_rejected(batch.rejected)
            await transaction.note_calls(batch.calls)
            await transaction.finish(CONSUMER, batch.last)
        duplicates = len(batch.arrivals) - len(fresh)
        self._metrics.batch_carried(
            time.perf_counter() - began,
            stored=len(events),
            duplicates=duplicates,
            rejected=len(batch.rejected),
            identities=identities,
        )
        if duplicates or batch.rejected:
            _log.info("batch carried", last=batch.last, duplicates=duplicates, rejected=len(batch.rejected))
        return batch.last

    async def _through_pipelines(self, arrivals: list[Arrival]) -> tuple[list[StoredEvent], list[Sighting]]:
        """What is to be stored of the events, and who was seen in them."""
        self._routes.refresh()
        events: list[StoredEvent] = []
        people: list[_Seen] = []
        waiting: dict[int, tuple[Transformer, list[_Seen]]] = {}
        for arrival in arrivals:
            routing = self._routes.of(arrival.workspace, arrival.event.connection_id)
            record = event_record(arrival.event) if routing.needs_record else None
            if routing.storing is not None and _passes(routing.storing, record):
                events.append(_stored(arrival, routing.storing.pipeline))
            user_id, is_about_somebody = _person(arrival.event)
            if not is_about_somebody:
                continue
            seen = _Seen(arrival, record, user_id, {})
            people.append(seen)
            for route in routing.seeing:
                if not _passes(route, record):
                    continue
                if route.transformer is None:
                    seen.attributes[route.pipeline] = "{}"
                else:
                    waiting.setdefault(route.pipeline, (route.transformer, []))[1].append(seen)
        for pipeline, (transformer, some) in waiting.items():
            await self._transform(pipeline, transformer, some)
        return events, [seen.sighting() for seen in people if seen.attributes]

    async def _transform(self, pipeline: int, transformer: Transformer, people: list[_Seen]) -> None:
        failures: list[Failed] = []
        results = await transformer.run([seen.record for seen in people if seen.record is not None])
        for seen, result in zip(people, results, strict=True):
            if isinstance(result, Failed):
                failures.append(result)
            else:
                seen.attributes[pipeline] = result
        if failures:
            _log.warning("events cannot be transformed", pipeline=pipeline, count=len(failures), first=str(failures[0]))

    async def _lease(self, stop: asyncio.Event) -> Lease | None:
        """The right to consume; None when `stop` came first. Whoever has it loses it at the latest when it ends."""
        while not stop.is_set():
            try:
                return await self._events.lease(CONSUMER)
            except LeaseTaken:
                await asyncio.sleep(LEASE_SECONDS)
        return None

    async def _housekeeping(self, lease: Lease, position: int) -> None:
        await lease.advance(position)
        await self._events.trim(older_than=self._keep)
        await self._catalog.refresh()
        present = {
            pipeline.id
            for workspace in self._catalog.workspaces()
            for connection in self._catalog.connections(workspace.id)
            for pipeline in connection.pipelines
        }
        if present != self._swept:  # looking through all identities takes long; once after each change is enough
            async with self._warehouse.transaction() as transaction:
                await transaction.remove_identities_except(present)
            self._swept = present


async def _until(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but no longer than until `stop` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _passes(route: Route, record: Record | None) -> bool:
    return route.passes is None or (record is not None and route.passes(record))


def _stored(arrival: Arrival, pipeline: int) -> StoredEvent:
    event = arrival.event
    return StoredEvent(
        position=arrival.position,
        workspace=arrival.workspace,
        connection=event.connection_id,
        pipeline=pipeline,
        timestamp=event.timestamp,
        received_at=event.received_at,
        document=arrival.document,
    )


def _person(event: Event) -> tuple[str | None, bool]:
    """The user id that an event is about, and whether it is about anybody: that of a group alone is not."""
    user_id = event.user_id
    if user_id is None and event.anonymous_id is None and event.type == "identify":
        user_id = email_of(event.traits)
    return user_id, user_id is not None or event.anonymous_id is not None
