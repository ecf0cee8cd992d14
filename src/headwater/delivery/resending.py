"""Sends dead letters again, step by step.

First those whose events are in the delivery queue: the queue moves them in one transaction with its progress. Then the
deliveries whose events were dropped for space, destination by destination. Their events are read from the warehouse by
position, in groups, and filtered as new ones are; this waits while the destination is behind. A group whose events have
been appended is removed from the queue. The place is stored with each step, so a step that is repeated after a crash
loses and doubles nothing.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from headwater.base.clock import Clock, microseconds
from headwater.catalog import Catalog
from headwater.delivery.preparing import SourceEvent
from headwater.delivery.stepping import StepResult, is_behind
from headwater.delivery.stored import CLOCK_SLACK, StoredEvents
from headwater.state.deliveries import NO_SPACE, DeadRange, DeadSelection, DeliveryStore
from headwater.state.operations import Operation, ResendParameters
from headwater.warehouse import EventCursor, EventQuery

GROUP_RANGES: Final = 500
"""Ranges of one destination that are read from the warehouse together."""


class _Place(Struct, frozen=True, array_like=True):
    """The place of a re-send in the ranges without events."""

    destination: int = 0
    """The destination whose ranges are being read; those of smaller ids are finished."""
    after: int = 0
    """The last range of the former group."""
    through: int = 0
    """The last range of the present group; 0 before it is chosen."""
    since: int = 0
    """The time of reception from which the events of the group are read."""
    cursor: EventCursor | None = None
    is_read: bool = False
    """Whether all events of the group have been appended, so that its ranges can be removed."""
    found: tuple[int, ...] = ()
    """The ranges of the group that had events. The others stay."""
    done: int = 0
    """The number of deliveries of the ranges that have been processed."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Place).decode


def dead_selection(workspace: int, parameters: ResendParameters, until: int) -> DeadSelection:
    """Return the dead letters of a re-send: those that died before `until`."""
    return DeadSelection(
        workspace=workspace,
        destination=parameters.destination,
        pipeline=parameters.pipeline,
        reason=parameters.reason,
        since=parameters.since,
        until=until if parameters.until is None else min(parameters.until, until),
    )


async def read_ranges(
    catalog: Catalog, deliveries: DeliveryStore, selection: DeadSelection, *, after: int = 0
) -> list[DeadRange]:
    """Return the next ranges that a re-send of the selection includes; empty after the last one.

    A range is sent again as a whole. It is left out if the selection is for one of its pipelines only, or one of
    them is disabled.
    """
    if selection.reason not in (None, NO_SPACE):
        return []
    selected = replace(selection, pipeline=None, reason=None)
    while found := await deliveries.dead_ranges(selected, limit=GROUP_RANGES, after=after):
        if included := [each for each in found if _is_included(catalog, each, selection.pipeline)]:
            return included
        after = found[-1].id
    return []


async def count_dead(catalog: Catalog, deliveries: DeliveryStore, selection: DeadSelection) -> int:
    """Return the number of deliveries that a re-send of the selection includes."""
    total, after = 0, 0
    if selection.reason != NO_SPACE:
        total = await deliveries.count_dead(selection)
    while ranges := await read_ranges(catalog, deliveries, selection, after=after):
        total += sum(sum(each.pipelines.values()) for each in ranges)
        after = ranges[-1].id
    return total


def _is_included(catalog: Catalog, range_: DeadRange, pipeline: int | None) -> bool:
    present = [found for id_ in range_.pipelines if (found := catalog.pipeline(range_.workspace, id_)) is not None]
    is_whole = pipeline is None or all(each.id == pipeline for each in present)
    return bool(present) and is_whole and all(each.enabled for each in present)


class Resend:
    """The steps of one re-send."""

    def __init__(
        self, operation: Operation, catalog: Catalog, stored: StoredEvents, deliveries: DeliveryStore, clock: Clock
    ) -> None:
        assert isinstance(operation.parameters, ResendParameters)
        self._operation = operation
        self._selection = dead_selection(operation.workspace, operation.parameters, operation.created_at)
        self._letters_key = str(operation.id)
        self._ranges_key = f"{operation.id}/ranges"
        self._catalog = catalog
        self._stored = stored
        self._deliveries = deliveries
        self._clock = clock
        self._moved: int | None = None
        """The number of dead letters that were moved, when there are no others."""

    async def step(self) -> StepResult:
        """Move the next dead letters."""
        if self._moved is None:
            progress = await self._deliveries.resend(self._letters_key, self._selection, now=self._now())
            if progress.is_complete:
                self._moved = progress.items
            return StepResult(progress.items, progress.items, self._operation.total)
        progress = await self._deliveries.operation_progress(self._ranges_key)
        place = _decode(progress.cursor) if progress.cursor else _Place()
        items, is_complete, must_wait = progress.items, progress.is_complete, False
        if not is_complete:
            is_appending = place.through > 0 and not place.is_read
            must_wait = is_appending and await is_behind(self._deliveries, place.destination)
        if not is_complete and not must_wait:
            place, items, is_complete = await self._range_step(place, progress.cursor)
        return StepResult(
            self._moved + place.done,
            self._moved + items,
            self._operation.total,
            is_complete=is_complete,
            must_wait=must_wait,
        )

    async def forget(self) -> None:
        """Delete the places of a re-send that has ended."""
        await self._deliveries.forget_operation(self._letters_key)
        await self._deliveries.forget_operation(self._ranges_key)

    async def _range_step(self, place: _Place, expected: bytes) -> tuple[_Place, int, bool]:
        """Do one step with the ranges; return the place, the number of deliveries, and whether none are left."""
        if not place.destination:
            return await self._go_on(_Place(self._next_destination(0)), expected)
        if place.is_read:
            return await self._remove(place, expected)
        if not place.through:
            return await self._choose(place, expected)
        return await self._append(place, expected)

    async def _choose(self, place: _Place, expected: bytes) -> tuple[_Place, int, bool]:
        """Choose the next group of ranges of a destination, or the next destination."""
        ranges = await self._ranges(place)
        sources = self._stored.sources(self._operation.workspace, place.destination)
        if not ranges or not sources:
            following = _Place(self._next_destination(place.destination), done=place.done)
            return await self._go_on(following, expected)
        first = min(each.first_position for each in ranges)
        since = await self._stored.find_start(self._query(sources), first, self._operation.created_at)
        return await self._go_on(replace(place, through=ranges[-1].id, since=since), expected)

    async def _append(self, place: _Place, expected: bytes) -> tuple[_Place, int, bool]:
        """Append the deliveries of the next stored events that are in a range of the group."""
        workspace, destination = self._operation.workspace, place.destination
        ranges = await self._ranges(place)
        sources = self._stored.sources(workspace, destination)
        done = place.done + sum(sum(each.pipelines.values()) for each in ranges)
        if not sources:
            return await self._go_on(replace(place, is_read=True, done=done), expected)
        until = max((each.enqueued_at for each in ranges), default=0) + CLOCK_SLACK
        query = replace(self._query(sources), since=place.since, until=until)
        page = await self._stored.page(query, place.cursor)
        chosen, found = select_in_ranges(ranges, page.events)
        pipelines = {pipeline for each in ranges for pipeline in each.pipelines}
        deliveries = await self._stored.deliveries(workspace, destination, pipelines, chosen)
        is_read = page.cursor is None
        all_found = tuple(sorted(found.union(place.found)))
        following = replace(place, cursor=page.cursor, is_read=is_read, found=all_found)
        if is_read:
            following = replace(following, done=done)
        progress = await self._deliveries.append_again(
            self._ranges_key, deliveries, expected=expected, cursor=_encode(following), now=self._now()
        )
        return _decode(progress.cursor), progress.items, progress.is_complete

    async def _remove(self, place: _Place, expected: bytes) -> tuple[_Place, int, bool]:
        """Remove the ranges of a group whose events have been appended. Their removal may be repeated."""
        ranges = await self._ranges(place)
        for each in ranges:
            if each.id in place.found:
                await self._deliveries.remove_dead_range(each.id)
        following = _Place(place.destination, after=place.through, done=place.done)
        return await self._go_on(following, expected)

    async def _go_on(self, place: _Place, expected: bytes) -> tuple[_Place, int, bool]:
        """Store a place. All destinations are finished when it names none."""
        progress = await self._deliveries.append_again(
            self._ranges_key,
            [],
            expected=expected,
            cursor=_encode(place),
            now=self._now(),
            is_complete=not place.destination,
        )
        return (_decode(progress.cursor) if progress.cursor else place), progress.items, progress.is_complete

    async def _ranges(self, place: _Place) -> list[DeadRange]:
        """Return the ranges of the present group, or those of the next one if it is not chosen."""
        selection = replace(self._selection, destination=place.destination)
        ranges = await read_ranges(self._catalog, self._deliveries, selection, after=place.after)
        return [each for each in ranges if each.id <= place.through] if place.through else ranges

    def _next_destination(self, after: int) -> int:
        """Return the selected destination with the smallest id above this one; 0 if there is none."""
        chosen = self._selection.destination
        ids = (
            connection.id
            for connection in self._catalog.connections(self._operation.workspace)
            if connection.role == "Destination" and chosen in (None, connection.id)
        )
        return min((id_ for id_ in ids if id_ > after), default=0)

    def _query(self, sources: tuple[int, ...]) -> EventQuery:
        return EventQuery(workspace=self._operation.workspace, connections=sources, order="receivedAt")

    def _now(self) -> int:
        return microseconds(self._clock.now())


def select_in_ranges(
    ranges: Sequence[DeadRange], events: Collection[tuple[int, SourceEvent]]
) -> tuple[list[tuple[int, SourceEvent]], set[int]]:
    """Return the events whose positions are in a range, and the ids of the ranges that have such events.

    Ranges may overlap, because deliveries of re-sends and replays can be dropped for space as well.
    """
    ordered = sorted(ranges, key=lambda each: each.first_position)
    firsts = [each.first_position for each in ordered]
    longest = max((each.last_position - each.first_position for each in ranges), default=0)
    chosen: list[tuple[int, SourceEvent]] = []
    found: set[int] = set()
    for position, event in events:
        near = ordered[bisect_left(firsts, position - longest) : bisect_right(firsts, position)]
        containing = [each.id for each in near if position <= each.last_position]
        if containing:
            chosen.append((position, event))
            found.update(containing)
    return chosen, found
