"""The search for stored events by position, and the division of ranges among events."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.delivery.preparing import SourceEvent
from headwater.delivery.resending import select_in_ranges
from headwater.delivery.stored import CLOCK_SLACK, StoredEvents
from headwater.state.deliveries import DeadRange
from headwater.warehouse import EventCursor, EventPage, EventQuery

HOUR = 3_600_000_000


class ListedEvents:
    """The part of a warehouse that the search uses: times of reception, by position."""

    def __init__(self, times: Sequence[int]) -> None:
        self._events = sorted((time, position) for position, time in enumerate(times, 1))
        self.reads = 0

    async def events(
        self, query: EventQuery, *, ascending: bool, after: EventCursor | None, offset: int, limit: int
    ) -> EventPage:
        assert ascending and after is None and not offset
        self.reads += 1
        found = [position for time, position in self._events if query.since is None or time >= query.since][:limit]
        return EventPage(tuple(b"{}" for _ in found), None, positions=tuple(found))


def search(events: ListedEvents) -> StoredEvents:
    warehouse: Any = events
    catalog: Any = None
    return StoredEvents(catalog, warehouse)


@st.composite
def received(draw: st.DrawFn) -> list[int]:
    """Times of reception by position: those of machines whose clocks differ by less than the slack."""
    gaps = draw(st.lists(st.integers(0, 2 * HOUR), min_size=1, max_size=40))
    errors = draw(st.lists(st.integers(0, CLOCK_SLACK), min_size=len(gaps), max_size=len(gaps)))
    times, now = [], 1_790_000_000_000_000
    for gap, error in zip(gaps, errors, strict=True):
        now += gap
        times.append(now + error)
    return times


@given(received(), st.data())
@settings(max_examples=200)
def test_no_event_from_a_position_on_is_before_the_time_that_is_found(times: list[int], data: st.DataObject) -> None:
    position = data.draw(st.integers(1, len(times) + 1))
    listed = ListedEvents(times)
    stored = search(listed)
    query = EventQuery(workspace=1, order="receivedAt")
    until = max(times) + HOUR
    found = asyncio.run(stored.find_start(query, position, until))
    assert all(time >= found for time in times[position - 1 :])
    assert listed.reads <= 40


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 20)), max_size=8), st.sets(st.integers(0, 100)))
@settings(max_examples=200)
def test_events_are_chosen_by_the_ranges_that_have_their_positions(
    lengths: list[tuple[int, int]], positions: set[int]
) -> None:
    ranges, expected = [], set()
    for id_, (first, length) in enumerate(lengths):
        ranges.append(DeadRange(id_, 1, 2, first, first + length - 1, {3: length}, 0, 0))
        expected |= positions & set(range(first, first + length))
    events = [(position, SourceEvent(b"{}")) for position in sorted(positions)]
    chosen, found = select_in_ranges(ranges, events)
    assert [position for position, _ in chosen] == sorted(expected)
    assert found == {
        each.id for each in ranges if any(each.first_position <= one <= each.last_position for one in positions)
    }


@pytest.mark.parametrize("position", [1, 5])
async def test_a_warehouse_without_events_is_searched_from_its_end(position: int) -> None:
    stored = search(ListedEvents([]))
    assert await stored.find_start(EventQuery(workspace=1, order="receivedAt"), position, HOUR) == 0
