"""Runs new messages through their source's pipelines; collects events to store, identities, lane entries, deliveries
and trace steps.

Errors are contained: an error of a filter or a mapping affects one record in one pipeline, and an event is stored by
its Event pipeline whatever the other pipelines do with it. Functions do not run here. Their records go to the lanes of
their pipelines, and so do the records of a mapping that would exceed its workspace's share of the batch.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import structlog
from msgspec import Raw, Struct

from headwater.base.steps import ProcessingStep, StepCounts, StepOutcome
from headwater.base.throttle import Throttle
from headwater.events.devices import DEVICE_EVENTS
from headwater.events.raw import join, members
from headwater.events.record import event_record
from headwater.processing.batch import AcceptedEvent
from headwater.processing.deliveries import BatchDeliveries
from headwater.processing.plans import CompiledPipeline, PlanCache, SourcePlan
from headwater.processing.transformer import Budget, Failed, Transformer
from headwater.schemas import Json, Record
from headwater.state import (
    NO_DOCUMENT,
    DeviceEvent,
    IdentityObservation,
    Lane,
    LaneEntry,
    NewChunk,
    PipelineCounts,
    Step,
)
from headwater.state.deliveries import NewDeliveries
from headwater.warehouse import StoredEvent

MAX_MAPPING_SECONDS: Final = 1.0
MAX_MAPPING_BYTES: Final = 32 << 20
"""Limits of all mappings of a batch: their total duration, and the size of their results.

Further records go to the lanes of their pipelines, and are late.
"""
MAX_WORKSPACE_MAPPING_SECONDS: Final = 0.25
MAX_WORKSPACE_MAPPING_BYTES: Final = 8 << 20
"""The same limits for the mappings of one workspace."""
DEFAULT_LANE_BYTES: Final = 256 << 20
"""Maximum compressed size of the lanes of one workspace."""

_log = structlog.get_logger(__name__)
_throttle: Final = Throttle()


class _Person(Struct):
    """The person in an event, and the pipelines whose filters let the event through."""

    accepted: AcceptedEvent
    plan: SourcePlan
    passed: Sequence[CompiledPipeline]
    record: Record | None
    user_id: str | None
    steps: list[Step]
    traits: Raw | None
    """The traits from earlier calls of the client API; None for an event of another protocol."""
    attributes: dict[int, str]
    """The attributes by pipeline."""
    document: bytes | None = None
    """The event's document with these traits, once a lane needs it."""


class BatchEvaluation:
    """One batch's new messages, evaluated."""

    def __init__(
        self,
        accepted: Sequence[AcceptedEvent],
        *,
        lanes: Iterable[Lane] = (),
        lane_bytes: int = DEFAULT_LANE_BYTES,
        store_only: Collection[int] = (),
    ) -> None:
        """`lanes` are those that have entries, and `lane_bytes` is the limit of each workspace's lanes.

        Events at the positions of `store_only` are only stored: they have no other effects, and fail in other
        pipelines.
        """
        self.accepted = accepted
        self._store_only = store_only
        updates = [
            (each.position, update)
            for each in accepted
            if each.protocol == "client"
            and each.position not in store_only
            and (update := each.traits_update()) is not None
        ]
        self.traits_updates = [update for _, update in updates]
        """The updates of stored traits, which only the client API contains."""
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
        self._mapped: dict[int, tuple[CompiledPipeline, Transformer, list[_Person]]] = {}
        """The records of each mapping, by pipeline."""
        self.lane_documents: dict[int, list[bytes]] = {}
        """The documents that lane entries refer to, by source connection."""
        self._lane_entries: dict[int, tuple[_Person, list[LaneEntry]]] = {}
        self._deliveries = BatchDeliveries()
        self._record: Record | None = None
        """The record of the latest event, if it was needed."""
        self._storing: set[int] = set()
        """The pipelines that store events."""
        self._counts: list[tuple[Step, int]] | None = None
        """The counted steps, once all events are evaluated."""

    def apply_known_traits(self, traits: Iterable[Raw]) -> None:
        """Set the traits of people after each of the `traits_updates`, for User pipelines."""
        self._known_traits = dict(zip(self._traits_positions, traits, strict=True))

    def filter(self, plans: PlanCache) -> None:
        """Run the filters of the pipelines, and collect the events to store."""
        source, plan, is_plain = 0, SourcePlan(), False
        for accepted in self.accepted:
            event = accepted.event
            if event.connection_id != source:
                source = event.connection_id
                plan = plans.for_source(accepted.workspace, source)
                if plan.event_pipeline is not None:
                    self._storing.add(plan.event_pipeline.pipeline)
                is_plain = plan.is_plain and self._backlog.isdisjoint(plan.user_ids)
            if accepted.position in self._store_only:
                self._store_unconditionally(accepted, plan)
                continue
            if event.event in DEVICE_EVENTS and (device := accepted.device_event()) is not None:
                self.devices.append(device)
            self._record = None
            if is_plain and not accepted.claims_once:
                self._accept_all(accepted, plan)
            else:
                self._evaluate(accepted, plan)
            if plan.destinations:
                steps = self.steps[accepted.position]
                self.steps[accepted.position] = self._deliveries.add(accepted, plan.destinations, steps, self._record)

    def _store_unconditionally(self, accepted: AcceptedEvent, plan: SourcePlan) -> None:
        if plan.event_pipeline is not None:
            self.events.append(accepted.stored_by(plan.event_pipeline.pipeline))
        reason = "internal error: the event was stored without its other effects"
        others = (*plan.user_pipelines, *(each for linked in plan.destinations for each in linked.pipelines))
        self.steps[accepted.position] = (*plan.event_steps, *(each.failed(reason) for each in others))

    def _accept_all(self, accepted: AcceptedEvent, plan: SourcePlan) -> None:
        """Fast path of sources whose pipelines have no filter and no transformation, which are most."""
        if plan.event_pipeline is not None:
            self.events.append(accepted.stored_by(plan.event_pipeline.pipeline))
        user_id, is_about_person = accepted.user()
        if is_about_person and plan.user_pipelines:
            self.steps[accepted.position] = plan.all_steps
            self._people.append(accepted.observation(user_id, plan.enabled_ids, (), plan.user_ids, claims=True))
        else:
            self.steps[accepted.position] = plan.event_steps

    def _evaluate(self, accepted: AcceptedEvent, plan: SourcePlan) -> None:
        steps: list[Step] = []
        self.steps[accepted.position] = steps
        record, error = None, ""
        if not plan.is_plain:
            try:
                record = self._record = event_record(accepted.event)
            except Exception as cause:
                error = _internal_error(cause, accepted)
        storing = plan.event_pipeline
        if storing is not None and (error or _passes(storing, record, steps, on_error=True)):
            self.events.append(accepted.stored_by(storing.pipeline))
            steps.append(storing.passed)
        user_id, is_about_person = accepted.user()
        if not is_about_person or not plan.user_ids:
            return
        traits = self._known_traits.get(accepted.position)
        person = _Person(accepted, plan, (), _with_known_traits(record, traits), user_id, steps, traits, {})
        if accepted.claims_once:
            steps += [pipeline.passed for pipeline in plan.user_pipelines]
        else:
            person.passed = self._passed(person, error)
        if person.passed or accepted.event.type == "alias":
            self._people.append(person)

    def _passed(self, person: _Person, error: str) -> list[CompiledPipeline]:
        """Return the User pipelines whose filters let the event through."""
        if error:
            person.steps += [pipeline.failed(error, "Filter") for pipeline in person.plan.user_pipelines]
            return []
        passed = [each for each in person.plan.user_pipelines if _passes(each, person.record, person.steps)]
        if person.accepted.event.type == "alias":  # it only joins ids: there is nothing to transform
            return passed
        for pipeline in passed:
            if pipeline.mapping is not None and pipeline.pipeline not in self._backlog:
                self._mapped.setdefault(pipeline.pipeline, (pipeline, pipeline.mapping, []))[2].append(person)
        return passed

    async def transform(self) -> None:
        """Run the mappings within their workspace's share of the batch; put all other records into lanes."""
        if not any(isinstance(person, _Person) for person in self._people):
            return
        laned = dict.fromkeys(self._backlog, 0)
        everybody = Budget(MAX_MAPPING_SECONDS, MAX_MAPPING_BYTES)
        budgets: dict[int, Budget] = {}
        # The smallest first: a pipeline with few records is not late because of one with many.
        for pipeline, transformer, people in sorted(self._mapped.values(), key=lambda each: len(each[2])):
            workspace = people[0].accepted.workspace
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
                laned[pipeline.pipeline] = people[len(results)].accepted.position
        for index, person in enumerate(self._people):
            if isinstance(person, _Person):
                self._people[index] = self._settle(person, laned)

    def _settle(self, person: _Person, laned: Mapping[int, int]) -> IdentityObservation | _Person:
        """Return the effects that the worker applies, or the person itself if there are none; append the rest to lanes.

        `laned` are the positions from which on pipelines use their lanes.
        """
        accepted, plan = person.accepted, person.plan
        is_alias = accepted.event.type == "alias"
        claims = bool(person.passed) and person.user_id is not None and accepted.event.anonymous_id is not None
        in_lanes = {each for each in plan.user_ids if each in laned and laned[each] <= accepted.position}
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
                self._append(person, pipeline_id, accepted.lane_entry(person.user_id, claims=claims))
        if not seeing and not claims and not is_alias:
            return person
        attributes = () if is_alias else tuple(person.attributes[each] for each in seeing)
        reaches = plan.user_ids if not in_lanes else tuple(each for each in plan.user_ids if each not in in_lanes)
        return accepted.observation(person.user_id, tuple(seeing), attributes, reaches, claims=claims)

    def _enqueue(self, person: _Person, pipeline: CompiledPipeline, *, is_transformed: bool, claims: bool) -> None:
        """Append the event to the lane of a pipeline that let it through."""
        accepted = person.accepted
        if not is_transformed:
            self._append(person, pipeline.pipeline, accepted.lane_entry(person.user_id, is_observed=True))
            person.steps.append(pipeline.passed)
        elif self._workspace_bytes[accepted.workspace] >= self._lane_bytes:
            reason = f"the records that wait in the workspace's lanes have reached {self._lane_bytes} bytes"
            person.steps.append(pipeline.failed(reason))
            if claims:  # like that of a record whose transformation failed
                self._append(person, pipeline.pipeline, accepted.lane_entry(person.user_id))
        else:
            documents = self.lane_documents.setdefault(accepted.event.connection_id, [])
            if not documents or documents[-1] is not _document(person):
                documents.append(_document(person))
            entry = accepted.lane_entry(person.user_id, document=len(documents) - 1)
            self._append(person, pipeline.pipeline, entry)
            person.steps.append(pipeline.pending)

    def _append(self, person: _Person, pipeline: int, entry: LaneEntry) -> None:
        entries = self._lane_entries.setdefault(pipeline, (person, []))[1]
        if entry.document == NO_DOCUMENT and not entry.is_observed and entry.previous_id is None and entries:
            last = entries[-1]
            # An alias may claim nothing: that of the client API, and one that every filter rejected.
            is_same = (last.user_id, last.anonymous_id) == (entry.user_id, entry.anonymous_id)
            if is_same and last.claims and not last.only_if_unclaimed:
                return  # the previous entry makes the claim already
        entries.append(entry)

    def step_counts(self) -> StepCounts:
        """Count the trace steps by their outcomes."""
        counts: defaultdict[tuple[ProcessingStep, StepOutcome], int] = defaultdict(int)
        for step, number in self._counted_steps():
            counts[step.step, step.outcome] += number
        return counts

    def pipeline_counts(self) -> PipelineCounts:
        """Count the trace steps of each pipeline, and the reasons of failures."""
        counts = PipelineCounts()
        for step, number in self._counted_steps():
            if step.pipeline:
                counts.add(
                    step.pipeline,
                    step.step,
                    step.outcome,
                    number,
                    message=step.message,
                    stores_events=step.pipeline in self._storing,
                )
        return counts

    def _counted_steps(self) -> Iterable[tuple[Step, int]]:
        """Return the different steps of the batch's events, each with its number. Most events share their steps."""
        if self._counts is not None:
            return self._counts
        found: dict[int, tuple[Step, int]] = {}
        latest: Sequence[Step] = ()
        number = 0
        for steps in (*self.steps.values(), ()):
            if steps is latest:  # consecutive events of a source mostly share the steps of its plan
                number += 1
                continue
            for step in latest:
                key = id(step)  # much faster than a hash of its fields, and a plan has one object for each
                found[key] = (step, found[key][1] + number if key in found else number)
            latest, number = steps, 1
        self._counts = [*found.values()]
        return self._counts

    def lane_chunks(self) -> list[NewChunk]:
        """Return the entries of the batch for each lane."""
        return [
            NewChunk(pipeline, person.accepted.workspace, person.accepted.event.connection_id, entries)
            for pipeline, (person, entries) in self._lane_entries.items()
        ]

    def deliveries(self) -> list[NewDeliveries]:
        """Return the deliveries of the batch."""
        return self._deliveries.deliveries()

    def observations(self) -> list[IdentityObservation]:
        """Return the observations of the pipelines that the worker runs, and the changes of ids, in order."""
        return [person for person in self._people if isinstance(person, IdentityObservation)]


def _with_known_traits(record: Record | None, traits: Raw | None) -> Record | None:
    """Return the record with the user's known traits; `traits` is None if the record has them already."""
    return record if record is None or traits is None else {**record, "traits": Json(bytes(traits).decode())}


def _document(person: _Person) -> bytes:
    """Return the event's document, with the person's known traits."""
    if person.traits is None:
        return person.accepted.document
    if person.document is None:
        person.document = bytes(join({**members(Raw(person.accepted.document)), "traits": person.traits}))
    return person.document


def _passes(pipeline: CompiledPipeline, record: Record | None, steps: list[Step], *, on_error: bool = False) -> bool:
    """Run the filter of a pipeline, and append its step if it rejects the event.

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


def _internal_error(error: Exception, accepted: AcceptedEvent) -> str:
    name = type(error).__name__
    if count := _throttle.passes((accepted.workspace, name)):
        _log.error("an event cannot be evaluated", position=accepted.position, error=name, count=count, exc_info=error)
    return f"internal error ({name})"
