"""Replays stored events to one pipeline of a destination, step by step.

The place of a replay is stored in the delivery queue, in the transaction that appends the events of a step. So a step
that is repeated after a crash loses and doubles nothing.
"""

from typing import Final

import msgspec
from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import NotFound
from headwater.catalog import Catalog
from headwater.delivery.stepping import StepResult, is_behind
from headwater.delivery.stored import PAGE_EVENTS, StoredEvents
from headwater.filters import CheckedFilter, check_filter, parse_json
from headwater.schemas import EVENT_SCHEMA
from headwater.state.deliveries import DeliveryStore
from headwater.state.operations import Operation, ReplayParameters
from headwater.warehouse import EventCursor, EventQuery


class _Place(Struct, frozen=True, array_like=True):
    """The place of a replay in the stored events."""

    cursor: EventCursor | None = None
    done: int = 0


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Place).decode


def replay_query(
    workspace: int, sources: tuple[int, ...], parameters: ReplayParameters, filter_: CheckedFilter | None
) -> EventQuery:
    """Return the query of the events of a replay."""
    return EventQuery(
        workspace=workspace,
        connections=sources,
        since=parameters.since,
        until=parameters.until,
        filter=filter_,
        order="receivedAt",
    )


def replay_filter(parameters: ReplayParameters) -> CheckedFilter | None:
    """Return the filter of a replay. Raises InvalidFilter."""
    given = None if parameters.filter is None else parse_json(parameters.filter)
    return None if given is None else check_filter(given, EVENT_SCHEMA, role="Source", target="Event")


class Replay:
    """The steps of one replay."""

    def __init__(
        self, operation: Operation, catalog: Catalog, stored: StoredEvents, deliveries: DeliveryStore, clock: Clock
    ) -> None:
        assert isinstance(operation.parameters, ReplayParameters)
        self._operation = operation
        self._key = str(operation.id)
        self._parameters = operation.parameters
        self._filter = replay_filter(operation.parameters)
        self._catalog = catalog
        self._stored = stored
        self._deliveries = deliveries
        self._clock = clock

    async def step(self) -> StepResult:
        """Append the deliveries of the next events. Raises NotFound if the pipeline does not exist any more."""
        parameters, workspace = self._parameters, self._operation.workspace
        if self._catalog.pipeline(workspace, parameters.pipeline) is None:
            raise NotFound(f"pipeline {parameters.pipeline} does not exist any more")
        progress = await self._deliveries.operation_progress(self._key)
        place = _decode(progress.cursor) if progress.cursor else _Place()
        sources = self._stored.sources(workspace, parameters.destination)
        if progress.is_complete or not sources:
            return self._result(place, progress.items, is_complete=True)
        if await is_behind(self._deliveries, parameters.destination):
            return StepResult(place.done, progress.items, self._operation.total, must_wait=True)
        query = replay_query(workspace, sources, parameters, self._filter)
        page = await self._stored.page(query, place.cursor, PAGE_EVENTS)
        deliveries = await self._stored.deliveries(
            workspace, parameters.destination, {parameters.pipeline}, page.events
        )
        place = _Place(page.cursor, place.done + len(page.events))
        progress = await self._deliveries.append_again(
            self._key,
            deliveries,
            expected=progress.cursor,
            cursor=_encode(place),
            now=microseconds(self._clock.now()),
            is_complete=page.cursor is None,
        )
        return self._result(_decode(progress.cursor), progress.items, is_complete=progress.is_complete)

    async def forget(self) -> None:
        """Delete the place of a replay that has ended."""
        await self._deliveries.forget_operation(self._key)

    def _result(self, place: _Place, items: int, *, is_complete: bool) -> StepResult:
        return StepResult(place.done, items, self._operation.total, is_complete=is_complete)
