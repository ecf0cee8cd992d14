"""The way of new messages through the pipelines of their sources: what is to be stored, who was seen, and each step."""

import time
from collections.abc import Iterable, Sequence
from typing import Final

import structlog
from msgspec import Raw, Struct

from headwater.events import Event
from headwater.events.wire import email_of
from headwater.pipelines.batch import Arrival
from headwater.pipelines.devices import device_event
from headwater.pipelines.routes import Route, Routes, Routing
from headwater.pipelines.traits import knowing, saying_of
from headwater.pipelines.transformer import Attributes, Failed, Transformer
from headwater.schemas import Record
from headwater.warehouse import DeviceEvent, Sighting, Step, StoredEvent

TRANSFORMATION_SECONDS: Final = 20.0
"""How long the transformations of a batch may take together before no other is begun: the transaction of the batch
waits for them, and PostgreSQL ends one that waits for a minute."""
_TOO_LATE: Final = Failed("the transformations of other pipelines took too long")

_log = structlog.get_logger(__name__)


class _Waiting(Struct):
    """A person in an event whose transformations are still to come."""

    arrival: Arrival
    record: Record | None
    user_id: str | None
    steps: list[Step]
    attributes: dict[int, str]
    """What each pipeline made of the event, by pipeline."""


class Passage:
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
        self.steps: dict[int, Sequence[Step]] = {}
        """What each pipeline did with each message, by the message's position."""
        self._people: list[Sighting | _Waiting] = []
        self._waiting: dict[int, tuple[Route, Transformer, list[_Waiting]]] = {}

    def learn(self, traits: Iterable[Raw]) -> None:
        """What is known of people after each of the `sayings`, for the pipelines that see them."""
        self._known = dict(zip(self._speaking, traits, strict=True))

    def route(self, routes: Routes) -> None:
        """Let the messages through the filters of their sources' pipelines."""
        for arrival in self.arrivals:
            if (device := device_event(arrival)) is not None:
                self.devices.append(device)
            routing = routes.of(arrival.workspace, arrival.event.connection_id)
            if routing.needs_record or _is_once(arrival):
                self._look_into(arrival, routing)
            else:
                self._let_through(arrival, routing)

    def _let_through(self, arrival: Arrival, routing: Routing) -> None:
        """What happens where no pipeline looks into events, in one go: most sources have none that does."""
        if routing.storing is not None:
            self.events.append(_stored(arrival, routing.storing.pipeline))
        user_id, is_about_somebody = _person(arrival.event)
        if is_about_somebody and routing.seeing:
            self.steps[arrival.position] = routing.seen
            self._people.append(_sighting(arrival, user_id, routing.pipelines, ()))
        else:
            self.steps[arrival.position] = routing.stored

    def _look_into(self, arrival: Arrival, routing: Routing) -> None:
        record = arrival.record() if routing.needs_record else None
        steps: list[Step] = []
        self.steps[arrival.position] = steps
        if routing.storing is not None and _passes(routing.storing, record, steps):
            self.events.append(_stored(arrival, routing.storing.pipeline))
            steps.append(routing.storing.passed)
        user_id, is_about_somebody = _person(arrival.event)
        if is_about_somebody and routing.seeing:
            self._see(arrival, record, user_id, routing.seeing, steps)

    def _see(
        self, arrival: Arrival, record: Record | None, user_id: str | None, routes: Iterable[Route], steps: list[Step]
    ) -> None:
        if _is_once(arrival):
            self._people.append(_sighting(arrival, user_id, (), ()))
            return
        record = knowing(record, self._known.get(arrival.position))
        passed = [route for route in routes if _passes(route, record, steps)]
        is_alias = arrival.event.type == "alias"  # it says who somebody is, and there is nothing to transform
        if is_alias or not any(route.transformer for route in passed):
            steps += [route.passed for route in passed]
            if passed or is_alias:
                self._people.append(_sighting(arrival, user_id, tuple(route.pipeline for route in passed), ()))
            return
        waiting = _Waiting(arrival, record, user_id, steps, {})
        self._people.append(waiting)
        for route in passed:
            if route.transformer is None:
                waiting.attributes[route.pipeline] = "{}"
                steps.append(route.passed)
            else:
                self._waiting.setdefault(route.pipeline, (route, route.transformer, []))[2].append(waiting)

    async def transform(self) -> None:
        """Let each pipeline's transformation have everything that it lets through, at once."""
        deadline = time.monotonic() + TRANSFORMATION_SECONDS
        for route, transformer, people in self._waiting.values():
            failures: list[Failed] = []
            if time.monotonic() > deadline:
                results: list[Attributes | Failed] = [_TOO_LATE] * len(people)
            else:
                results = await transformer.run([seen.record for seen in people if seen.record is not None])
            for seen, result in zip(people, results, strict=True):
                if isinstance(result, Failed):
                    failures.append(result)
                    seen.steps.append(route.failed(str(result)))
                else:
                    seen.attributes[route.pipeline] = result
                    seen.steps.append(route.passed)
            if failures:
                _log.warning("events cannot be transformed", pipeline=route.pipeline, count=len(failures))

    def sightings(self) -> list[Sighting]:
        """Who was seen by any pipeline, and who got another id, in the order of the messages."""
        return [
            seen
            if isinstance(seen, Sighting)
            else _sighting(seen.arrival, seen.user_id, tuple(seen.attributes), tuple(seen.attributes.values()))
            for seen in self._people
            if isinstance(seen, Sighting) or seen.attributes
        ]


def _passes(route: Route, record: Record | None, steps: list[Step]) -> bool:
    if route.passes is None or (record is not None and route.passes(record)):
        return True
    steps.append(route.filtered)
    return False


def _stored(arrival: Arrival, pipeline: int) -> StoredEvent:
    source, _ = arrival.message.key
    return StoredEvent(
        arrival.position,
        arrival.workspace,
        source,
        pipeline,
        arrival.at,
        arrival.message.received_at,
        arrival.document,
    )


def _sighting(
    arrival: Arrival, user_id: str | None, pipelines: tuple[int, ...], attributes: tuple[str, ...]
) -> Sighting:
    event = arrival.event
    previous_id = event.previous_id if event.type == "alias" and event.user_id is not None else None
    return Sighting(
        arrival.workspace,
        event.connection_id,
        pipelines,
        user_id,
        event.anonymous_id,
        arrival.at,
        attributes,
        previous_id,
        _is_once(arrival),
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
