"""Runs new messages through their source's pipelines; collects what to store, identities, lane entries and trace steps.

Errors are contained: whatever a filter or a mapping raises belongs to one record in one pipeline, and an event is
stored by its Event pipeline whatever the other pipelines do with it. Functions do not run here. Their records go to
the lanes of their pipelines, and so do the records of a mapping that would take more than its workspace's share of
the batch.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import structlog
from msgspec import Raw, Struct

from headwater.base.throttle import Throttle
from headwater.events import Event
from headwater.events.raw import join, members
from headwater.events.wire import email_of
from headwater.processing.batch import Arrival
from headwater.processing.devices import device_event
from headwater.processing.plans import CompiledPipeline, PlanCache, SourcePlan
from headwater.processing.traits import traits_update, with_known_traits
from headwater.processing.transformer import Budget, Failed, MappingTransformer
from headwater.schemas import Record
from headwater.state import (
    NO_DOCUMENT,
    DeviceEvent,
    IdentityObservation,
    Lane,
    LaneEntry,
    NewChunk,
    Step,
)
from headwater.warehouse import StoredEvent

MAX_MAPPING_SECONDS: Final = 1.0
MAX_MAPPING_BYTES: Final = 32 << 20
"""How long the mappings of a batch may take together, and how large their results may be. What is beyond goes to the
lanes of the pipelines, and is late."""
MAX_WORKSPACE_MAPPING_SECONDS: Final = 0.25
MAX_WORKSPACE_MAPPING_BYTES: Final = 8 << 20
"""The same for the mappings of one workspace."""
DEFAULT_LANE_BYTES: Final = 256 << 20
"""How much may wait in the lanes of one workspace, compressed."""

_log = structlog.get_logger(__name__)
_throttle: Final = Throttle()


class _Person(Struct):
    """The person in an event, and the pipelines whose filters let the event through."""

    arrival: Arrival
    plan: SourcePlan
    passed: Sequence[CompiledPipeline]
    record: Record | None
    user_id: str | None
    steps: list[Step]
    traits: Raw | None
    """What the client API has said of the person so far; None for an event of another protocol."""
    attributes: dict[int, str]
    """By pipeline."""
    document: bytes | None = None
    """The event's document with these traits, once a lane needs it."""


class BatchEvaluation:
    """One batch's new messages, evaluated."""

    def __init__(
        self,
        arrivals: Sequence[Arrival],
        *,
        lanes: Iterable[Lane] = (),
        lane_bytes: int = DEFAULT_LANE_BYTES,
        store_only: Collection[int] = (),
    ) -> None:
        """`lanes` are those that have entries, and `lane_bytes` is the bound of each workspace's lanes.

        From events at the positions of `store_only` nothing is derived: they are stored, and fail in other pipelines.
        """
        self.arrivals = arrivals
        self._store_only = store_only
        updates = [
            (arrival.position, update)
            for arrival in arrivals
            if arrival.position not in store_only and (update := traits_update(arrival)) is not None
        ]
        self.traits_updates = [update for _, update in updates]
        """What the messages say of people, where that adds up."""
        self._traits_positions = [position for position, _ in updates]
        self._known_traits: dict[int, Raw] = {}
        self._lane_bytes = lane_bytes
        self._backlog = {lane.pipeline for lane in lanes}
        self._workspace_bytes: defaultdict[int, int] = defaultdict(int)
        for lane in lanes:
            self._workspace_bytes[lane.workspace] += lane.bytes
        self.events: list[StoredEvent] = []
        self.devices: list[DeviceEvent] = []
        self.steps: dict[int, Sequence[Step]] = {}
        """The trace steps of each message, by its position."""
        self._people: list[IdentityObservation | _Person] = []
        self._mapped: dict[int, tuple[CompiledPipeline, MappingTransformer, list[_Person]]] = {}
        """The records of each mapping, by pipeline."""
        self.lane_documents: dict[int, list[bytes]] = {}
        """The documents that lane entries refer to, by source connection."""
        self._lane_entries: dict[int, tuple[_Person, list[LaneEntry]]] = {}

    def apply_known_traits(self, traits: Iterable[Raw]) -> None:
        """Give what is known of people after each of the `traits_updates`; User pipelines see it."""
        self._known_traits = dict(zip(self._traits_positions, traits, strict=True))

    def filter(self, plans: PlanCache) -> None:
        """Run the filters of the pipelines, and collect what is to be stored."""
        for arrival in self.arrivals:
            plan = plans.for_source(arrival.workspace, arrival.event.connection_id)
            if arrival.position in self._store_only:
                self._store_unconditionally(arrival, plan)
                continue
            if (device := device_event(arrival)) is not None:
                self.devices.append(device)
            if plan.is_plain and not _is_once(arrival) and self._backlog.isdisjoint(plan.user_ids):
                self._accept_all(arrival, plan)
            else:
                self._evaluate(arrival, plan)

    def _store_unconditionally(self, arrival: Arrival, plan: SourcePlan) -> None:
        if plan.event_pipeline is not None:
            self.events.append(_stored(arrival, plan.event_pipeline.pipeline))
        reason = "internal error: the event was stored without its effects on people"
        self.steps[arrival.position] = (*plan.event_steps, *(each.failed(reason) for each in plan.user_pipelines))

    def _accept_all(self, arrival: Arrival, plan: SourcePlan) -> None:
        """The fast path of sources whose pipelines have no filter and no transformation, which are most."""
        if plan.event_pipeline is not None:
            self.events.append(_stored(arrival, plan.event_pipeline.pipeline))
        user_id, is_about_somebody = _person(arrival.event)
        if is_about_somebody and plan.user_pipelines:
            self.steps[arrival.position] = plan.all_steps
            self._people.append(_sighting(arrival, user_id, plan.enabled_ids, (), plan.user_ids, claims=True))
        else:
            self.steps[arrival.position] = plan.event_steps

    def _evaluate(self, arrival: Arrival, plan: SourcePlan) -> None:
        steps: list[Step] = []
        self.steps[arrival.position] = steps
        record, error = None, ""
        if not plan.is_plain:
            try:
                record = arrival.record()
            except Exception as cause:
                error = _internal_error(cause, arrival)
        storing = plan.event_pipeline
        if storing is not None and (error or _passes(storing, record, steps, on_error=True)):
            self.events.append(_stored(arrival, storing.pipeline))
            steps.append(storing.passed)
        user_id, is_about_somebody = _person(arrival.event)
        if not is_about_somebody or not plan.user_ids:
            return
        traits = self._known_traits.get(arrival.position)
        person = _Person(arrival, plan, (), with_known_traits(record, traits), user_id, steps, traits, {})
        if _is_once(arrival):
            steps += [pipeline.passed for pipeline in plan.user_pipelines]
        else:
            person.passed = self._passed(person, error)
        if person.passed or arrival.event.type == "alias":
            self._people.append(person)

    def _passed(self, person: _Person, error: str) -> list[CompiledPipeline]:
        """Return the User pipelines whose filters let the event through."""
        if error:
            person.steps += [pipeline.failed(error, "Filter") for pipeline in person.plan.user_pipelines]
            return []
        passed = [each for each in person.plan.user_pipelines if _passes(each, person.record, person.steps)]
        if person.arrival.event.type == "alias":  # it says who somebody is, and there is nothing to transform
            return passed
        for pipeline in passed:
            if pipeline.mapping is not None and pipeline.pipeline not in self._backlog:
                self._mapped.setdefault(pipeline.pipeline, (pipeline, pipeline.mapping, []))[2].append(person)
        return passed

    async def transform(self) -> None:
        """Run the mappings within their workspace's share of the batch; put all other records into lanes."""
        laned = dict.fromkeys(self._backlog, 0)
        everybody = Budget(MAX_MAPPING_SECONDS, MAX_MAPPING_BYTES)
        budgets: dict[int, Budget] = {}
        # The smallest first: a pipeline with few records is not late because of one with many.
        for pipeline, transformer, people in sorted(self._mapped.values(), key=lambda each: len(each[2])):
            workspace = people[0].arrival.workspace
            budget = budgets.setdefault(
                workspace, Budget(MAX_WORKSPACE_MAPPING_SECONDS, MAX_WORKSPACE_MAPPING_BYTES, everybody)
            )
            results = [] if budget.is_used_up else await transformer.run([each.record or {} for each in people], budget)
            for each, result in zip(people, results, strict=False):
                if isinstance(result, Failed):
                    each.steps.append(pipeline.failed(str(result)))
                else:
                    each.attributes[pipeline.pipeline] = result
                    each.steps.append(pipeline.passed)
            if len(results) < len(people):
                laned[pipeline.pipeline] = people[len(results)].arrival.position
        for index, person in enumerate(self._people):
            if isinstance(person, _Person):
                self._people[index] = self._settle(person, laned)

    def _settle(self, person: _Person, laned: Mapping[int, int]) -> IdentityObservation | _Person:
        """Decide what the worker applies, and append the rest to lanes. Returns the person itself when the worker has
        nothing to apply. `laned` are the positions from which on pipelines work through their lanes."""
        arrival, plan = person.arrival, person.plan
        is_alias = arrival.event.type == "alias"
        claims = bool(person.passed) and person.user_id is not None and arrival.event.anonymous_id is not None
        in_lanes = {each for each in plan.user_ids if each in laned and laned[each] <= arrival.position}
        in_lanes.update(each.pipeline for each in plan.user_pipelines if each.is_function)
        seeing: list[int] = []
        passed: set[int] = set()
        for pipeline in person.passed:
            passed.add(pipeline.pipeline)
            is_transformed = pipeline.transforms and not is_alias
            if pipeline.pipeline in in_lanes:
                self._enqueue(person, pipeline, is_transformed=is_transformed, claims=claims)
            elif not is_transformed:
                seeing.append(pipeline.pipeline)
                person.attributes.setdefault(pipeline.pipeline, "{}")
                person.steps.append(pipeline.passed)
            elif pipeline.pipeline in person.attributes:
                seeing.append(pipeline.pipeline)
        if claims or is_alias:
            for pipeline_id in in_lanes - passed:
                self._append(person, pipeline_id, _entry(arrival, person.user_id, claims=claims))
        if not seeing and not claims and not is_alias:
            return person
        attributes = () if is_alias else tuple(person.attributes[each] for each in seeing)
        reaches = plan.user_ids if not in_lanes else tuple(each for each in plan.user_ids if each not in in_lanes)
        return _sighting(arrival, person.user_id, tuple(seeing), attributes, reaches, claims=claims)

    def _enqueue(self, person: _Person, pipeline: CompiledPipeline, *, is_transformed: bool, claims: bool) -> None:
        """Append the event to the lane of a pipeline that let it through."""
        arrival = person.arrival
        if not is_transformed:
            self._append(person, pipeline.pipeline, _entry(arrival, person.user_id, is_seen=True))
            person.steps.append(pipeline.passed)
        elif self._workspace_bytes[arrival.workspace] >= self._lane_bytes:
            reason = f"the records that wait in the workspace's lanes have reached {self._lane_bytes} bytes"
            person.steps.append(pipeline.failed(reason))
            if claims:  # as that of a record on which a transformation failed
                self._append(person, pipeline.pipeline, _entry(arrival, person.user_id))
        else:
            documents = self.lane_documents.setdefault(arrival.event.connection_id, [])
            if not documents or documents[-1] is not _document(person):
                documents.append(_document(person))
            entry = _entry(arrival, person.user_id, document=len(documents) - 1)
            self._append(person, pipeline.pipeline, entry)
            person.steps.append(pipeline.pending)

    def _append(self, person: _Person, pipeline: int, entry: LaneEntry) -> None:
        entries = self._lane_entries.setdefault(pipeline, (person, []))[1]
        if entry.document == NO_DOCUMENT and not entry.is_seen and entry.previous_id is None and entries:
            last = entries[-1]
            # An alias may claim nothing: that of the client API, and one that every filter held back.
            is_same = (last.user_id, last.anonymous_id) == (entry.user_id, entry.anonymous_id)
            if is_same and last.claims and not last.is_once:
                return  # the claim that the entry before makes already
        entries.append(entry)

    def lane_chunks(self) -> list[NewChunk]:
        """Return what the batch has for each lane."""
        return [
            NewChunk(pipeline, person.arrival.workspace, person.arrival.event.connection_id, entries)
            for pipeline, (person, entries) in self._lane_entries.items()
        ]

    def observations(self) -> list[IdentityObservation]:
        """Return who was seen by the pipelines that the worker runs, and who got another id, in order."""
        return [person for person in self._people if isinstance(person, IdentityObservation)]


def _document(person: _Person) -> bytes:
    """Return the event's document, with everything that is known of the person."""
    if person.traits is None:
        return person.arrival.document
    if person.document is None:
        person.document = bytes(join({**members(Raw(person.arrival.document)), "traits": person.traits}))
    return person.document


def _passes(pipeline: CompiledPipeline, record: Record | None, steps: list[Step], *, on_error: bool = False) -> bool:
    """Run the filter of a pipeline, and append its step when it does not let the event through.

    A filter that raises is a failed step, and the result is `on_error`.
    """
    try:
        if pipeline.passes is None or (record is not None and pipeline.passes(record)):
            return True
    except Exception as error:
        name = type(error).__name__
        if count := _throttle.passes((pipeline.pipeline, name)):
            _log.error(
                "internal error in a filter", pipeline=pipeline.pipeline, error=name, count=count, exc_info=error
            )
        steps.append(pipeline.failed(f"internal error ({type(error).__name__})", "Filter"))
        return on_error
    steps.append(pipeline.filtered)
    return False


def _internal_error(error: Exception, arrival: Arrival) -> str:
    name = type(error).__name__
    if count := _throttle.passes((arrival.workspace, name)):
        _log.error("an event cannot be evaluated", position=arrival.position, error=name, count=count, exc_info=error)
    return f"internal error ({name})"


def _stored(arrival: Arrival, pipeline: int) -> StoredEvent:
    source, _ = arrival.message.key
    event = arrival.event
    return StoredEvent(
        arrival.position,
        arrival.workspace,
        source,
        pipeline,
        arrival.at,
        arrival.message.received_at,
        event.type,
        event.event,
        event.user_id,
        event.anonymous_id,
        arrival.document,
    )


def _previous_id(event: Event) -> str | None:
    return event.previous_id if event.type == "alias" and event.user_id is not None else None


def _entry(
    arrival: Arrival,
    user_id: str | None,
    *,
    is_seen: bool = False,
    document: int = NO_DOCUMENT,
    claims: bool = True,
) -> LaneEntry:
    event = arrival.event
    return LaneEntry(
        arrival.position,
        event.message_id,
        arrival.at,
        user_id,
        event.anonymous_id,
        _previous_id(event),
        _is_once(arrival),
        is_seen,
        document,
        claims,
    )


def _sighting(
    arrival: Arrival,
    user_id: str | None,
    pipelines: tuple[int, ...],
    attributes: tuple[str, ...],
    reaches: tuple[int, ...],
    *,
    claims: bool,
) -> IdentityObservation:
    event = arrival.event
    return IdentityObservation(
        arrival.workspace,
        event.connection_id,
        pipelines,
        user_id,
        event.anonymous_id,
        arrival.at,
        attributes,
        _previous_id(event),
        _is_once(arrival),
        reaches,
        claims,
    )


def _is_once(arrival: Arrival) -> bool:
    """Whether it is an alias of the client API, which applies once and says nothing else."""
    return arrival.protocol == "client" and arrival.event.type == "alias"


def _person(event: Event) -> tuple[str | None, bool]:
    """The user id that an event is about, and whether it is about anybody: that of a group alone is not."""
    user_id = event.user_id
    if user_id is None and event.anonymous_id is None and event.type == "identify":
        user_id = email_of(event.traits)
    return user_id, user_id is not None or event.anonymous_id is not None
