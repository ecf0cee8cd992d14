"""The contract of warehouses, which every driver implements."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from headwater.warehouse import CountKey, EventCount, EventCursor, EventQuery, Interval, StoredEvent, Warehouse
from tests.harness import MovableClock
from tests.warehouse.conftest import Open
from tests.warehouse.oracle import DAY, FILTERS, HOUR, MINUTE, START, Oracle, event, find_time, read_all, read_page

ALL = EventQuery(workspace=1)
SIZES = (1, 40, 700, 5_000)
"""Sizes of loads, of which some are large enough for a block."""


def documents(events: Sequence[StoredEvent]) -> list[bytes]:
    return [event.document for event in events]


async def loaded(warehouse: Warehouse, sizes: Sequence[int] = SIZES) -> list[StoredEvent]:
    """Load events in loads of these sizes; return them all."""
    events: list[StoredEvent] = []
    for size in sizes:
        load = [event(len(events) + 1 + index) for index in range(size)]
        await warehouse.load(load, through=load[-1].position)
        events += load
    return events


async def test_a_new_warehouse_is_empty(warehouse: Warehouse) -> None:
    assert await warehouse.loaded() == 0
    assert await read_all(warehouse, ALL) == []
    assert await warehouse.counts(ALL, by=["event"], interval="day", limit=10) == []
    await warehouse.maintain()


@pytest.mark.parametrize("size", SIZES)
async def test_loading_again_adds_nothing(warehouse: Warehouse, size: int) -> None:
    events = [event(position) for position in range(1, size + 1)]
    await warehouse.load(events, through=size)
    await warehouse.load(events, through=size)
    more = [event(position) for position in range(1, size + 3)]
    await warehouse.load(more, through=size + 10)
    await warehouse.load([event(size + 5)], through=size + 5)
    assert await warehouse.loaded() == size + 10
    assert await read_all(warehouse, ALL, ascending=True) == documents(more)


async def test_a_load_without_events_moves_the_position(warehouse: Warehouse) -> None:
    await warehouse.load([], through=7)
    await warehouse.load([], through=5)
    assert await warehouse.loaded() == 7


async def test_everything_is_there_after_opening_again(
    new_warehouse: Callable[[MovableClock], Open], clock: MovableClock
) -> None:
    opens = new_warehouse(clock)
    async with opens() as warehouse:
        events = await loaded(warehouse)
    async with opens() as warehouse:
        assert await warehouse.loaded() == len(events)
        assert await read_all(warehouse, ALL, ascending=True) == documents(events)


@pytest.mark.parametrize("size", [1, 700])
async def test_an_event_that_cannot_be_stored_fails_the_load_as_a_whole(warehouse: Warehouse, size: int) -> None:
    good = [event(position) for position in range(1, size + 1)]
    poison = _poison(size + 1)
    with pytest.raises(Exception) as raised:
        await warehouse.load([*good, poison], through=size + 1)
    with pytest.raises(type(raised.value)):
        await warehouse.check([*good, poison])
    await warehouse.check(good)
    assert await warehouse.loaded() == 0
    assert await read_all(warehouse, ALL) == []
    await warehouse.load(good, through=size + 1)
    assert len(await read_all(warehouse, ALL)) == size


def _poison(position: int) -> StoredEvent:
    """Return an event with a text that UTF-8 cannot encode."""
    good = event(position)
    return StoredEvent(
        position, 1, 11, 21, good.timestamp, good.received_at, "track", "\ud800", "u1", None, good.document
    )


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("order", ["timestamp", "receivedAt"])
async def test_it_orders_by_time_and_then_by_position(warehouse: Warehouse, order: Any, ascending: bool) -> None:
    times = [5, 3, 3, 9, 1, 3] * 200
    events = [
        event(index + 1, timestamp=START + time, received_at=START + 10 - time) for index, time in enumerate(times)
    ]
    await warehouse.load(events[:600], through=600)
    await warehouse.load(events[600:610], through=610)
    await warehouse.load(events[610:], through=1_200)
    query = EventQuery(workspace=1, order=order)
    expected = sorted(events, key=lambda each: (find_time(query, each), each.position), reverse=not ascending)
    for limit in (7, 1_000, 5_000):
        assert await read_all(warehouse, query, ascending=ascending, limit=limit) == documents(expected)


@pytest.mark.parametrize("ascending", [True, False])
async def test_pages_do_not_shift_while_events_arrive(warehouse: Warehouse, ascending: bool) -> None:
    events = await loaded(warehouse)
    expected = events if ascending else events[::-1]
    page = await read_page(warehouse, ALL, limit=100, ascending=ascending)
    assert list(page.documents) == documents(expected[:100])
    assert page.cursor is not None
    last = events[-1].position
    # On both sides of the place where the next page begins.
    arrived = [event(last + 1, timestamp=START - HOUR), event(last + 2, timestamp=START + DAY)]
    await warehouse.load(arrived, through=last + 2)
    await warehouse.maintain()
    rest = documents(expected[100:])
    rest.append(arrived[1 if ascending else 0].document)
    assert await read_all(warehouse, ALL, ascending=ascending, after=page.cursor) == rest


@pytest.mark.parametrize("ascending", [True, False])
async def test_a_cursor_need_not_be_that_of_an_event(warehouse: Warehouse, ascending: bool) -> None:
    events = await loaded(warehouse)
    place = events[1_000]
    for cursor in (EventCursor(place.timestamp, place.position), EventCursor(place.timestamp + 1, 0)):
        expected = events[1_001:] if ascending else events[:1_001][::-1]
        if not ascending and cursor.position:
            expected = expected[1:]
        assert await read_all(warehouse, ALL, ascending=ascending, after=cursor) == documents(expected)


@pytest.mark.parametrize("offset", [0, 1, 600, 5_741, 100_000])
async def test_it_skips_the_offset(warehouse: Warehouse, offset: int) -> None:
    events = await loaded(warehouse)
    expected = documents(events[::-1][offset:])
    assert await read_all(warehouse, ALL, offset=offset, limit=500) == expected


async def test_the_last_page_has_no_cursor(warehouse: Warehouse) -> None:
    await loaded(warehouse, [3])
    page = await read_page(warehouse, ALL, limit=10)
    assert len(page.documents) == 3
    assert page.cursor is None


async def test_workspaces_are_apart(warehouse: Warehouse) -> None:
    events = [event(position, workspace=1 + position % 2) for position in range(1, 2_001)]
    await warehouse.load(events, through=2_000)
    for workspace in (1, 2):
        expected = [each.document for each in events if each.workspace == workspace]
        assert await read_all(warehouse, EventQuery(workspace=workspace), ascending=True) == expected
    assert await read_all(warehouse, EventQuery(workspace=3)) == []


MEMBERS: list[dict[str, Any]] = [
    {"connections": (11,)},
    {"connections": (11, 12)},
    {"connections": ()},
    {"connections": (99,)},
    {"type": "page"},
    {"type": "alias"},
    {"event": "Viewed"},
    {"event": "a'b\"c"},
    {"event": "none"},
    {"user_id": "u2"},
    {"user_id": ""},
    {"user_id": "none"},
    {"anonymous_id": "a1"},
    {"user_id": "u2", "anonymous_id": "a1", "event": "Viewed"},
    {"since": START + 1_000_000},
    {"until": START + 1_000_000},
    {"since": START + 500_000, "until": START + 1_000_000},
    {"since": START + 500_000, "until": START + 500_000},
    {"since": START + 500_000, "order": "receivedAt"},
    *({"filter": filter} for filter in FILTERS),
    {"filter": FILTERS[0], "type": "page"},
    {"filter": FILTERS[3], "connections": (12, 13), "since": START + 300_000},
]


async def test_every_member_of_a_query_selects_events(warehouse: Warehouse) -> None:
    oracle = Oracle()
    position = 1
    for size in (30, 1_500, 20):
        load = [
            event(
                position + index,
                connection=11 + index % 3,
                type="page" if index % 5 == 0 else "track",
                event=None if index % 5 == 0 else ("Bought", "Viewed", "a'b\"c")[index % 3],
                user_id=("u1", "u2", "", None)[index % 4],
                anonymous_id=("a1", None, "u1")[index % 3],
                total=index % 60,
            )
            for index in range(size)
        ]
        position += size
        await warehouse.load(load, through=position - 1)
        oracle.load(load, through=position - 1)
    for members in MEMBERS:
        query = EventQuery(workspace=1, **members)
        assert await read_all(warehouse, query) == oracle.documents(query, ascending=False), members
        found = await warehouse.counts(query, by=["event", "connection"], interval="hour", limit=10_000)
        assert set(found) == set(oracle.counts(query, by=["event", "connection"], interval="hour")), members


COUNTS: list[tuple[list[CountKey], Interval | None]] = [
    ([], None),
    (["event"], None),
    (["type"], "day"),
    (["event", "type", "connection"], "hour"),
    ([], "hour"),
]


@pytest.mark.parametrize(("by", "interval"), COUNTS)
@pytest.mark.parametrize("order", ["timestamp", "receivedAt"])
async def test_counts_by_each_key(
    warehouse: Warehouse, by: list[CountKey], interval: Interval | None, order: Any
) -> None:
    oracle = Oracle()
    events = [
        event(
            position,
            timestamp=START + position * 7 * MINUTE,
            received_at=START + position * 7 * MINUTE + 20 * MINUTE,
            event=("Bought", "Viewed")[position % 2],
            connection=11 + position % 3,
        )
        for position in range(1, 1_000)
    ]
    for some in (events[:10], events[10:900], events[900:]):
        await warehouse.load(some, through=some[-1].position)
        oracle.load(some, through=some[-1].position)
    for since, until in ((None, None), (START, START + DAY), (START + 5 * HOUR + 1, START + 50 * HOUR - 1)):
        query = EventQuery(workspace=1, since=since, until=until, order=order)
        found = await warehouse.counts(query, by=by, interval=interval, limit=100_000)
        assert len(found) == len(set(found))
        assert set(found) == set(oracle.counts(query, by=by, interval=interval))


async def test_counts_come_by_interval_from_the_latest_and_then_the_highest_first(warehouse: Warehouse) -> None:
    day = START - START % DAY
    made = [(day, "a"), (day, "b"), (day, "b"), (day + DAY, "a"), (day + DAY, "a"), (day + DAY, "b")]
    events = [event(index + 1, timestamp=time, event=name) for index, (time, name) in enumerate(made)]
    await warehouse.load(events, through=6)
    counts = await warehouse.counts(ALL, by=["event"], interval="day", limit=3)
    assert counts == [
        EventCount(2, start=day + DAY, event="a"),
        EventCount(1, start=day + DAY, event="b"),
        EventCount(2, start=day, event="b"),
    ]


async def test_maintenance_changes_no_result(warehouse: Warehouse, clock: MovableClock) -> None:
    events = await loaded(warehouse, [400] * 12 + [510] * 10 + [3])
    counts = await warehouse.counts(ALL, by=["event"], interval="hour", limit=10)
    for _ in range(8):
        await warehouse.maintain()
        clock.advance(3_000)
        assert await read_all(warehouse, ALL, ascending=True) == documents(events)
        assert await warehouse.counts(ALL, by=["event"], interval="hour", limit=10) == counts


async def test_documents_of_any_size_come_back_as_they_were(warehouse: Warehouse) -> None:
    texts = [
        b'{"type":"track"}',
        b'{"type":"track","a":"' + b"x" * 500_000 + b'"}',
        '{"type":"track","ü":"\\u0000\n"}'.encode(),
    ]
    texts = [text.replace(b"\n", b"\\n") for text in texts]
    events = [
        StoredEvent(index + 1, 1, 11, 21, START + index, START, "track", None, None, None, texts[index % 3])
        for index in range(600)
    ]
    await warehouse.load(events[:2], through=2)
    await warehouse.load(events[2:], through=600)
    assert await read_all(warehouse, ALL, ascending=True, limit=100) == documents(events)
