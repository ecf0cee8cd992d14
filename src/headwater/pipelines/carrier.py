"""Carries a batch of the log through the pipelines of its sources into the warehouse.

One batch is one transaction of the warehouse: the claims, the events, the identities, the devices, the refused ones,
and the position up to which the log is finished. A crash between any two lines leaves the batch undone, to be done
again; nothing is lost and nothing happens twice.

An event goes through the pipelines that its source has when it is carried, a moment after it was accepted; a repetition
of a message goes through none.
"""

import time
from collections.abc import Iterable, Sequence

import structlog
from msgspec import Raw, Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog
from headwater.events import Event
from headwater.events.wire import email_of
from headwater.pipelines.batch import Arrival, Batch
from headwater.pipelines.devices import device_event
from headwater.pipelines.routes import Route, Routes
from headwater.pipelines.traits import knowing, saying_of
from headwater.pipelines.transformer import Failed, Transformer
from headwater.schemas import Record
from headwater.transforms.functions import Runner
from headwater.warehouse import DeviceEvent, Sighting, Step, StoredEvent, Warehouse, claim

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
            passage = _Passage([arrival for arrival in batch.arrivals if arrival.position in fresh])
            passage.learn(await transaction.merge_traits(passage.sayings))
            passage.route(self._routes)
            await passage.transform()
            for arrival in passage.arrivals:
                entries[arrival.message_key].steps = passage.steps[arrival.position]
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
            previous_id=event.previous_id if event.type == "alias" and event.user_id is not None else None,
            is_once=_is_once(self.arrival),
        )


class _Passage:
    """The way of one batch's new messages through the pipelines."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self.arrivals = arrivals
        said = [(arrival.position, saying) for arrival in arrivals if (saying := saying_of(arrival)) is not None]
        self.sayings = [saying for _, saying in said]
        """What the messages say of people, where that adds up."""
        self._speaking = [position for position, _ in said]
        self._known: dict[int, Raw] = {}
        self.events: list[StoredEvent] = []
        self.devices: list[DeviceEvent] = []
        self.steps: dict[int, list[Step]] = {}
        """What each pipeline did with each message, by the message's position."""
        self._people: list[_Seen] = []
        self._waiting: dict[int, tuple[Route, Transformer, list[_Seen]]] = {}

    def learn(self, traits: Iterable[Raw]) -> None:
        """What is known of people after each of the `sayings`, for the pipelines that see them."""
        self._known = dict(zip(self._speaking, traits, strict=True))

    def route(self, routes: Routes) -> None:
        """Let the messages through the filters of their sources' pipelines."""
        for arrival in self.arrivals:
            if (device := device_event(arrival)) is not None:
                self.devices.append(device)
            routing = routes.of(arrival.workspace, arrival.event.connection_id)
            record = arrival.record() if routing.needs_record else None
            steps = self.steps[arrival.position] = []
            storing = routing.storing
            if storing is not None and _passes(storing, record, steps):
                self.events.append(_stored(arrival, storing.pipeline))
                steps.append(storing.passed)
            user_id, is_about_somebody = _person(arrival.event)
            if is_about_somebody and routing.seeing:
                seen = _Seen(arrival, knowing(record, self._known.get(arrival.position)), user_id, {})
                self._people.append(seen)
                if not _is_once(arrival):
                    self._see(seen, routing.seeing, steps)

    def _see(self, seen: _Seen, routes: Iterable[Route], steps: list[Step]) -> None:
        for route in routes:
            if not _passes(route, seen.record, steps):
                continue
            if route.transformer is None or seen.arrival.event.type == "alias":
                seen.attributes[route.pipeline] = "{}"
                steps.append(route.passed)
            else:
                self._waiting.setdefault(route.pipeline, (route, route.transformer, []))[2].append(seen)

    async def transform(self) -> None:
        """Let each pipeline's transformation have everything that it lets through, at once."""
        for route, transformer, people in self._waiting.values():
            failures: list[Failed] = []
            results = await transformer.run([seen.record for seen in people if seen.record is not None])
            for seen, result in zip(people, results, strict=True):
                if isinstance(result, Failed):
                    failures.append(result)
                    self.steps[seen.arrival.position].append(route.failed(str(result)))
                else:
                    seen.attributes[route.pipeline] = result
                    self.steps[seen.arrival.position].append(route.passed)
            if failures:
                _log.warning(
                    "events cannot be transformed", pipeline=route.pipeline, count=len(failures), first=str(failures[0])
                )

    def sightings(self) -> list[Sighting]:
        """Who was seen by any pipeline, and who got another id, in the order of the messages."""
        return [seen.sighting() for seen in self._people if seen.attributes or seen.arrival.event.type == "alias"]


def _passes(route: Route, record: Record | None, steps: list[Step]) -> bool:
    if route.passes is None or (record is not None and route.passes(record)):
        return True
    steps.append(route.filtered)
    return False


def _stored(arrival: Arrival, pipeline: int) -> StoredEvent:
    event = arrival.event
    return StoredEvent(
        position=arrival.position,
        workspace=arrival.workspace,
        connection=event.connection_id,
        pipeline=pipeline,
        timestamp=microseconds(event.timestamp),
        received_at=microseconds(event.received_at),
        document=arrival.document,
    )


def _is_once(arrival: Arrival) -> bool:
    """Whether it is an alias of the client API, which works once and says nothing else."""
    return arrival.dialect == "client" and arrival.event.type == "alias"


def _person(event: Event) -> tuple[str | None, bool]:
    """The user id that an event is about, and whether it is about anybody: that of a group alone is not."""
    user_id = event.user_id
    if user_id is None and event.anonymous_id is None and event.type == "identify":
        user_id = email_of(event.traits)
    return user_id, user_id is not None or event.anonymous_id is not None
