"""Reads stored events, and decides which deliveries of a destination they make, as the worker does for new ones."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from headwater.base.clock import microseconds
from headwater.catalog import Catalog
from headwater.delivery.preparing import SourceEvent
from headwater.events.raw import is_object
from headwater.processing.deliveries import selects
from headwater.processing.plans import CompiledPipeline, PlanCache
from headwater.state.deliveries import NewChunk, NewDeliveries, QueuedEvent
from headwater.warehouse import EventCursor, EventQuery, Warehouse

PAGE_EVENTS: Final = 500
"""Events that one step reads."""
SEARCH_STEP: Final = 60 * 1_000_000
"""Precision with which the time of a position is searched, in microseconds."""
CLOCK_SLACK: Final = 10 * 60 * 1_000_000
"""Maximum difference, in microseconds, between the order of positions and that of reception: the clocks of machines
differ."""
MAX_EMPTY_PAGES: Final = 1_000
"""Pages without an event after which a search gives up. Each has reached the limit of work of a page."""
_YIELD_SECONDS: Final = 0.01


class StoredPage(Struct, frozen=True):
    """Some stored events, by time of reception and position."""

    events: Sequence[tuple[int, SourceEvent]]
    """Each with its position."""
    cursor: EventCursor | None
    """None on the last page."""


class StoredEvents:
    """The stored events of one installation."""

    def __init__(self, catalog: Catalog, warehouse: Warehouse) -> None:
        self._catalog = catalog
        self._warehouse = warehouse
        self._plans = PlanCache(catalog, delivers=True)

    def sources(self, workspace: int, destination: int) -> tuple[int, ...]:
        """Return the connections whose events a destination gets; empty if it does not exist."""
        connection = self._catalog.connection(workspace, destination)
        return () if connection is None else connection.linked_connections

    async def page(self, query: EventQuery, after: EventCursor | None, limit: int = PAGE_EVENTS) -> StoredPage:
        """Return the next events of a query that is ordered by `receivedAt`."""
        page = await self._warehouse.events(query, ascending=True, after=after, offset=0, limit=limit)
        events = [SourceEvent(document) for document in page.documents]
        return StoredPage(list(zip(page.positions, events, strict=True)), page.cursor)

    async def deliveries(
        self, workspace: int, destination: int, pipelines: Collection[int], events: Iterable[tuple[int, SourceEvent]]
    ) -> list[NewDeliveries]:
        """Return the deliveries of events to some pipelines of a destination.

        The `integrations` of an event and the filter of a pipeline decide; a disabled pipeline gets none. Other tasks
        run every 10 ms.
        """
        self._plans.refresh()
        queued: list[QueuedEvent] = []
        wanted: defaultdict[int, list[int]] = defaultdict(list)
        slice_began = time.perf_counter()
        for position, event in events:
            chosen = self._wanted(workspace, destination, pipelines, event)
            if chosen:
                queued.append(_queued(position, event))
            for pipeline in chosen:
                wanted[pipeline].append(len(queued) - 1)
            if time.perf_counter() > slice_began + _YIELD_SECONDS:
                await asyncio.sleep(0)
                slice_began = time.perf_counter()
        if not queued:
            return []
        return [NewDeliveries(workspace, queued, [NewChunk(destination, workspace, dict(wanted))])]

    async def find_start(self, query: EventQuery, position: int, until: int) -> int:
        """Return a time of reception before which no event of a query has this position or a higher one.

        `until` is a time after its reception. Positions ascend with the time of reception, but for `CLOCK_SLACK`.
        """
        low, high = 0, until // SEARCH_STEP + 1
        while low < high:
            middle = (low + high + 1) // 2
            found = await self._first_position(replace(query, since=middle * SEARCH_STEP))
            if found is None or found >= position:
                high = middle - 1
            else:
                low = middle
        return max(0, low * SEARCH_STEP - CLOCK_SLACK)

    async def _first_position(self, query: EventQuery) -> int | None:
        after: EventCursor | None = None
        for _ in range(MAX_EMPTY_PAGES):
            page = await self.page(query, after, limit=1)
            if page.events:
                return page.events[0][0]
            after = page.cursor
            if after is None:
                break
        return None

    def _wanted(self, workspace: int, destination: int, pipelines: Collection[int], event: SourceEvent) -> list[int]:
        """Return those of the pipelines that get an event, in ascending order."""
        fields = event.event
        plan = self._plans.for_source(workspace, fields.connection_id)
        linked = next((each for each in plan.destinations if each.connection == destination), None)
        if linked is None:
            return []
        if is_object(fields.integrations) and not selects(bytes(fields.integrations), linked.names):
            return []
        return [each.pipeline for each in linked.pipelines if each.pipeline in pipelines and _passes(each, event)]


def _passes(pipeline: CompiledPipeline, event: SourceEvent) -> bool:
    """Run the filter of a pipeline. A filter that raises lets nothing through; a new event would be a failed step."""
    try:
        return pipeline.passes is None or pipeline.passes(event.record)
    except Exception as error:
        pipeline.failed(f"internal error ({type(error).__name__})", "Filter")
        return False


def _queued(position: int, event: SourceEvent) -> QueuedEvent:
    fields = event.event
    return QueuedEvent(
        position,
        fields.connection_id,
        fields.message_id,
        microseconds(fields.received_at),
        fields.user_id,
        fields.anonymous_id,
        event.document,
    )
