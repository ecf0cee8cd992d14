"""Events of persons: reading them, erasing them, and the retention of events, for every driver."""

from collections.abc import Callable, Sequence
from random import Random

import pytest

from headwater.warehouse import (
    ErasureCursor,
    EventCursor,
    EventQuery,
    Person,
    PersonSet,
    StoredEvent,
    Warehouse,
)
from tests.harness import MovableClock
from tests.warehouse.conftest import Open
from tests.warehouse.oracle import CONNECTIONS, DAY, HOUR, START, Oracle, event, random_events, read_all

PERSONS: list[list[Person]] = [
    [],
    [Person(user_id="u1")],
    [Person(connection=11, user_id="u1")],
    [Person(connection=11, user_id="u1"), Person(user_id="u1")],
    [Person(anonymous_id="u1")],
    [Person(connection=12, anonymous_id="a1"), Person(connection=13, user_id="u2")],
    [Person(user_id="none"), Person(connection=99, user_id="u1")],
    [Person(user_id=""), Person(anonymous_id="a3")],
    [Person(user_id="a\0b")],
    [Person(user_id=f"rare-{number}") for number in range(0, 500, 7)],
    [Person(connection=connection, user_id=f"rare-{number}") for number in range(500) for connection in CONNECTIONS],
]


def of_persons(events: Sequence[StoredEvent], persons: Sequence[Person]) -> list[StoredEvent]:
    """Return the events of persons in workspace 1, the newest first."""
    found = [
        event
        for event in events
        if event.workspace == 1
        and any(
            person.connection in (None, event.connection)
            and (
                event.user_id == person.user_id
                if person.user_id is not None
                else event.user_id is None and event.anonymous_id == person.anonymous_id
            )
            for person in persons
        )
    ]
    return sorted(found, key=lambda each: (each.timestamp, each.position), reverse=True)


async def list_person_events(warehouse: Warehouse, persons: Sequence[Person], *, limit: int = 1_000) -> list[bytes]:
    documents: list[bytes] = []
    before: EventCursor | None = None
    while True:
        page = await warehouse.find_events(1, persons, before=before, limit=limit)
        assert len(page.documents) <= limit
        assert page.cursor is None or page.cursor != before
        assert len(page.positions) == len(page.documents)
        documents += page.documents
        before = page.cursor
        if before is None:
            return documents


async def erase_all(warehouse: Warehouse, persons: Sequence[Person], workspace: int = 1) -> int:
    removed, cursor = 0, ErasureCursor()
    while True:
        step = await warehouse.erase(workspace, persons, cursor)
        removed += step.removed
        if step.cursor is None:
            return removed
        cursor = step.cursor


async def remove_all_before(warehouse: Warehouse, received_at: int, workspace: int = 1) -> int:
    removed = 0
    while step := await warehouse.remove_before(workspace, received_at):
        removed += step
    return removed


async def filled(warehouse: Warehouse, seed: object, sizes: Sequence[int] = (300, 2_500, 40, 700)) -> list[StoredEvent]:
    """Load random events, and return them."""
    random, events = Random(f"{seed}"), list[StoredEvent]()
    for size in sizes:
        first = events[-1].position + 1 if events else 1
        load = random_events(random, first, size, random.choice(("in time", "spread")))
        await warehouse.load(load, through=load[-1].position)
        events += load
    return events


async def assert_has(warehouse: Warehouse, events: Sequence[StoredEvent]) -> None:
    """Assert that the warehouse has exactly these events, in pages and in counts."""
    oracle = Oracle()
    oracle.load(events, through=2**60)
    for workspace in (1, 2):
        query = EventQuery(workspace=workspace)
        assert await read_all(warehouse, query) == oracle.documents(query, ascending=False)
        found = await warehouse.counts(query, by=["event", "type", "connection"], interval="hour", limit=100_000)
        expected = oracle.counts(query, by=["event", "type", "connection"], interval="hour")
        assert len(found) == len(expected) and set(found) == set(expected)


async def test_events_of_persons_come_newest_first(warehouse: Warehouse) -> None:
    events = await filled(warehouse, "reading")
    expected = [[each.document for each in of_persons(events, persons)] for persons in PERSONS]
    for limit in (1_000, 7):
        assert [await list_person_events(warehouse, persons, limit=limit) for persons in PERSONS] == expected
    await warehouse.maintain()
    assert [await list_person_events(warehouse, persons) for persons in PERSONS] == expected


@pytest.mark.parametrize("persons", PERSONS, ids=range(len(PERSONS)))
async def test_erasing_removes_the_events_of_persons_and_no_other(warehouse: Warehouse, persons: list[Person]) -> None:
    events = await filled(warehouse, "erasing")
    loaded = await warehouse.loaded()
    expected = of_persons(events, persons)
    page = await warehouse.events(EventQuery(workspace=1), ascending=False, after=None, offset=0, limit=100)
    assert await erase_all(warehouse, persons) == len(expected)
    gone = {each.position for each in expected}
    rest = [each for each in events if each.position not in gone]
    await assert_has(warehouse, rest)
    assert await list_person_events(warehouse, persons) == []
    assert await erase_all(warehouse, persons) == 0
    assert await warehouse.loaded() == loaded
    assert page.cursor is not None
    following = [
        each.document
        for each in sorted(rest, key=lambda each: (-each.timestamp, -each.position))
        if each.workspace == 1 and (each.timestamp, each.position) < (page.cursor.time, page.cursor.position)
    ]
    assert await read_all(warehouse, EventQuery(workspace=1), after=page.cursor) == following


async def test_erased_events_do_not_come_back_by_loading_again(warehouse: Warehouse) -> None:
    events = await filled(warehouse, "again")
    persons = [Person(user_id="u1")]
    removed = await erase_all(warehouse, persons)
    await warehouse.load(events, through=events[-1].position)
    assert removed > 0
    assert await list_person_events(warehouse, persons) == []


async def test_other_workspaces_keep_their_events(warehouse: Warehouse) -> None:
    events = await filled(warehouse, "workspaces")
    assert await erase_all(warehouse, [Person(user_id="u1")], workspace=3) == 0
    assert await remove_all_before(warehouse, START + 40 * DAY, workspace=3) == 0
    await assert_has(warehouse, events)


async def test_erasing_continues_after_a_restart_at_any_step(
    new_warehouse: Callable[[MovableClock], Open], clock: MovableClock
) -> None:
    """A cursor that was stored, or the one before it, continues in another process, also while rows become blocks."""
    opens = new_warehouse(clock)
    persons = [Person(user_id="u1"), Person(anonymous_id="a1")]
    async with opens() as warehouse:
        events = await filled(warehouse, "restarts", (300, 900, 900, 450, 40))
    removed, cursor, steps = 0, ErasureCursor(), 0
    while True:
        async with opens() as warehouse:
            step = await warehouse.erase(1, persons, cursor)
            removed += step.removed
            repeated = await warehouse.erase(1, persons, cursor)
            removed += repeated.removed
            clock.advance(4_000)
            await warehouse.maintain()
        steps += 1
        if step.cursor is None:
            break
        cursor = step.cursor
    expected = of_persons(events, persons)
    assert removed == len(expected)
    assert steps > 1
    async with opens() as warehouse:
        assert await list_person_events(warehouse, persons) == []
        gone = {each.position for each in expected}
        await assert_has(warehouse, [each for each in events if each.position not in gone])


@pytest.mark.parametrize("delay", [0, 1, HOUR, 3 * DAY, 400 * DAY])
async def test_retention_removes_what_arrived_before(warehouse: Warehouse, delay: int) -> None:
    events = [
        event(
            position,
            workspace=1 + position % 2,
            timestamp=START + position * HOUR - (position % 7) * DAY,
            received_at=START + position * HOUR,
            event=("Bought", "Viewed")[position % 3 == 0],
        )
        for position in range(1, 3_000)
    ]
    for first, last in ((0, 300), (300, 1_600), (1_600, 2_200), (2_200, 2_999)):
        await warehouse.load(events[first:last], through=events[last - 1].position)
    horizon = START + delay
    expected = [each for each in events if each.workspace == 1 and each.received_at < horizon]
    assert await remove_all_before(warehouse, horizon) == len(expected)
    gone = {each.position for each in expected}
    await assert_has(warehouse, [each for each in events if each.position not in gone])
    assert await remove_all_before(warehouse, horizon) == 0


async def test_removed_events_are_overwritten(warehouse: Warehouse) -> None:
    await filled(warehouse, "overwriting")
    await erase_all(warehouse, [Person(user_id="u1")])
    for _ in range(100):
        if await warehouse.overwrite_removed():
            break
    else:
        pytest.fail("overwriting does not end")


@pytest.mark.parametrize(
    ("persons", "connection", "user_id", "anonymous_id", "has"),
    [
        ([Person(user_id="u")], 1, "u", None, True),
        ([Person(user_id="u")], 1, "v", "u", False),
        ([Person(user_id="u")], 1, None, "u", False),
        ([Person(connection=1, user_id="u")], 1, "u", "a", True),
        ([Person(connection=2, user_id="u")], 1, "u", None, False),
        ([Person(connection=2, user_id="u"), Person(connection=1, user_id="u")], 1, "u", None, True),
        ([Person(anonymous_id="a")], 1, None, "a", True),
        ([Person(anonymous_id="a")], 1, "u", "a", False),
        ([Person(anonymous_id="a")], 1, None, None, False),
        ([], 1, "u", "a", False),
    ],
)
def test_events_belong_to_persons(
    persons: list[Person], connection: int, user_id: str | None, anonymous_id: str | None, has: bool
) -> None:
    assert PersonSet(persons).has(connection, user_id, anonymous_id) is has
