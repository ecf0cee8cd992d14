"""Decides which destinations get each new event: by the links of its source, its `integrations`, and filters.

The filter of a destination's pipeline runs here, so it is that of the moment of processing. The courier transforms an
event when it sends it. A disabled pipeline gets no events; those that were queued before wait until it is enabled.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import structlog
from msgspec import Raw, Struct

from headwater.base.throttle import Throttle
from headwater.events.raw import is_object, members
from headwater.events.record import event_record
from headwater.processing.batch import AcceptedEvent
from headwater.processing.plans import CompiledPipeline, LinkedDestination
from headwater.schemas import Record
from headwater.state import Step
from headwater.state.deliveries import NewChunk, NewDeliveries, QueuedEvent

EXCLUDED: Final = "the event's integrations exclude this destination"
"""The message of the trace step of an event that is not for a destination."""
_ALL: Final = "all"
_MAX_SELECTIONS: Final = 1_000
"""Maximum number of different `integrations` that are remembered for a batch."""

_log = structlog.get_logger(__name__)
_throttle: Final = Throttle()


def selects(integrations: bytes, names: frozenset[str]) -> bool:
    """Return whether the `integrations` of an event, a JSON object, select a destination with these lower-case names.

    Without a word about it a destination is selected, unless `All` is false. True or an object selects it, and false
    excludes it; other values say nothing. Names of connectors are compared without regard to case.
    """
    selected = True
    named: bool | None = None
    for name, value in members(Raw(integrations)).items():
        choice = _choice(value)
        key = name.lower()
        if choice is None:
            continue
        if key == _ALL:
            selected = choice
        elif key in names:
            named = choice
    return selected if named is None else named


def _choice(value: Raw) -> bool | None:
    if is_object(value):
        return True
    return {b"true": True, b"false": False}.get(bytes(value))


class _Selection(Struct, frozen=True):
    """The pipelines of those destinations of a source that the `integrations` of an event select."""

    pipelines: tuple[CompiledPipeline, ...]
    """The pipelines without a filter."""
    filtering: tuple[CompiledPipeline, ...]
    """The pipelines with a filter."""
    reads_context: bool
    """True if any of the filters reads the context of events."""
    steps: tuple[Step, ...]
    """The trace steps of an event in all pipelines but the filtering ones, which include those not selected."""
    indexes: list[int]
    """The queued events that `pipelines` want, as indexes in the events of the workspace."""


class BatchDeliveries:
    """The deliveries of one batch."""

    def __init__(self) -> None:
        self._events: defaultdict[int, list[QueuedEvent]] = defaultdict(list)
        """The queued events by workspace."""
        self._selections: dict[tuple[int, bytes], _Selection] = {}
        self._kept: list[tuple[int, _Selection]] = []
        """All selections with their workspaces."""
        self._filtered: dict[int, tuple[int, CompiledPipeline, list[int]]] = {}
        """The events that each pipeline with a filter wants, by its id."""
        self._joined: dict[tuple[int, int], tuple[Sequence[Step], tuple[Step, ...]]] = {}

    def add(
        self,
        accepted: AcceptedEvent,
        destinations: Sequence[LinkedDestination],
        steps: Sequence[Step],
        record: Record | None = None,
    ) -> Sequence[Step]:
        """Queue an event for the destinations of its source; return `steps` with the steps of their pipelines.

        A list of steps is extended, and returned. `record` is the record of the event, if it is known already.
        """
        integrations = accepted.event.integrations
        selection = self._select(accepted, destinations, bytes(integrations) if integrations else b"")
        index = None
        if selection.pipelines:
            index = self._queue(accepted)
            selection.indexes.append(index)
        if selection.filtering:
            extended: list[Step] = steps if isinstance(steps, list) else [*steps]
            extended.extend(selection.steps)
            self._filter(accepted, selection, extended, index, record)
            return extended
        if isinstance(steps, list):
            steps.extend(selection.steps)
            return steps
        # Events of a source mostly share the steps of its plan. The key is valid while the values are kept alive.
        key = id(steps), id(selection)
        found = self._joined.get(key)
        if found is None:
            found = self._joined[key] = steps, (*steps, *selection.steps)
        return found[1]

    def deliveries(self) -> list[NewDeliveries]:
        """Return all deliveries."""
        wanted: defaultdict[int, defaultdict[int, defaultdict[int, list[int]]]]
        wanted = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        for workspace, pipeline, indexes in self._lists():
            wanted[workspace][pipeline.connection][pipeline.pipeline] += indexes
        return [
            NewDeliveries(
                workspace,
                self._events[workspace],
                [
                    NewChunk(destination, workspace, _complete(pipelines, len(self._events[workspace])))
                    for destination, pipelines in sorted(destinations.items())
                ],
            )
            for workspace, destinations in sorted(wanted.items())
        ]

    def _lists(self) -> Iterator[tuple[int, CompiledPipeline, list[int]]]:
        for workspace, selection in self._kept:
            if selection.indexes:
                for pipeline in selection.pipelines:
                    yield workspace, pipeline, selection.indexes
        yield from self._filtered.values()

    def _queue(self, accepted: AcceptedEvent) -> int:
        events = self._events[accepted.workspace]
        event = accepted.event
        events.append(
            QueuedEvent(
                accepted.position,
                event.connection_id,
                event.message_id,
                accepted.message.received_at,
                event.user_id,
                event.anonymous_id,
                accepted.document,
            )
        )
        return len(events) - 1

    def _select(
        self, accepted: AcceptedEvent, destinations: Sequence[LinkedDestination], integrations: bytes
    ) -> _Selection:
        key = accepted.event.connection_id, integrations
        selection = self._selections.get(key)
        if selection is None:
            selection = _make_selection(destinations, integrations)
            if len(self._selections) >= _MAX_SELECTIONS:
                self._selections.clear()
            self._selections[key] = selection
            self._kept.append((accepted.workspace, selection))
        return selection

    def _filter(
        self,
        accepted: AcceptedEvent,
        selection: _Selection,
        steps: list[Step],
        index: int | None,
        record: Record | None,
    ) -> None:
        """Run the filters. An error of a filter concerns its pipeline only.

        `index` is that of the event, if it is queued for other pipelines already.
        """
        for pipeline in selection.filtering:
            try:
                if record is None:
                    record = event_record(accepted.event, with_context=selection.reads_context)
                if pipeline.passes is not None and not pipeline.passes(record):
                    steps.append(pipeline.filtered)
                    continue
            except Exception as error:
                steps.append(_failed(pipeline, error))
                continue
            if index is None:
                index = self._queue(accepted)
            self._filtered.setdefault(pipeline.pipeline, (accepted.workspace, pipeline, []))[2].append(index)
            steps.append(pipeline.pending)


def _make_selection(destinations: Sequence[LinkedDestination], integrations: bytes) -> _Selection:
    pipelines: list[CompiledPipeline] = []
    excluded: list[Step] = []
    for destination in destinations:
        if not is_object(Raw(integrations)) or selects(integrations, destination.names):
            pipelines += destination.pipelines
        else:
            excluded += (
                Step(each.pipeline, each.connection, "Filter", "Filtered", EXCLUDED) for each in destination.pipelines
            )
    plain = tuple(each for each in pipelines if each.passes is None)
    filtering = tuple(each for each in pipelines if each.passes is not None)
    return _Selection(
        plain,
        filtering,
        any(each.reads_context for each in filtering),
        (*(each.pending for each in plain), *excluded),
        [],
    )


def _complete(pipelines: Mapping[int, list[int]], events: int) -> dict[int, list[int] | None]:
    """Return the wanted indexes in ascending order: they are joined from ascending lists."""
    return {
        pipeline: None if len(indexes) == events else sorted(indexes) for pipeline, indexes in sorted(pipelines.items())
    }


def _failed(pipeline: CompiledPipeline, error: Exception) -> Step:
    name = type(error).__name__
    if count := _throttle.passes((pipeline.pipeline, name)):
        _log.error("internal error in a filter", pipeline=pipeline.pipeline, error=name, count=count, exc_info=error)
    return pipeline.failed(f"internal error ({name})", "Filter")
