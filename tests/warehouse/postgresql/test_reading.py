"""Pages and counts are those of a model, with slices of any size and pages with any limit of time."""

from random import Random

import pytest
from msgspec.structs import replace

from headwater.base.errors import Unprocessable
from headwater.warehouse.contract import CountKey, EventCursor, EventQuery, Interval, StoredEvent
from headwater.warehouse.drivers.postgresql import PostgresqlWarehouse, counting, reading
from tests.warehouse.postgresql import samples

COUNT = 400


@pytest.fixture
async def loaded(warehouse: PostgresqlWarehouse) -> list[StoredEvent]:
    events = samples.events(Random("events"), COUNT)
    await warehouse.load(events[:150], through=150)
    await warehouse.load(events[150:], through=COUNT)
    return events


@pytest.fixture(params=["whole", "slices"])
def slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose whether a slice has all rows or a few."""
    if request.param == "slices":
        for name, rows in (
            ("INITIAL_SLICE_ROWS", 3),
            ("MAX_SLICE_ROWS", 20),
            ("MAX_ROWS", 4),
            ("INITIAL_TEST_ROWS", 2),
        ):
            monkeypatch.setattr(reading, name, rows)


@pytest.mark.usefixtures("slices")
async def test_pages_are_those_of_the_model(warehouse: PostgresqlWarehouse, loaded: list[StoredEvent]) -> None:
    random = Random("queries")
    for _ in range(120):
        query = samples.query(random)
        ascending, offset = random.random() < 0.3, random.choice((0, 0, 1, 7, 500))
        wanted = [event.document for event in samples.expected(loaded, query, ascending=ascending)][offset:]
        limit = random.choice((1, 3, 50, 1000)) if len(wanted) < 40 else random.choice((7, 50, 1000))
        found = await samples.all_documents(warehouse, query, ascending=ascending, limit=limit, offset=offset)
        assert found == wanted, (query, ascending, offset, limit)


async def test_a_page_without_time_ends_after_a_slice(
    warehouse: PostgresqlWarehouse, loaded: list[StoredEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE_SECONDS", 0.0)
    page = await warehouse.events(EventQuery(workspace=1), ascending=False, after=None, offset=5, limit=10)
    assert page.documents == () and page.cursor is not None and page.offset == 5
    monkeypatch.setattr(reading, "PAGE_SECONDS", 0.003)
    monkeypatch.setattr(reading, "MAX_ROWS", 10)
    for offset in (0, 33):
        query = EventQuery(workspace=1, type="page")
        wanted = [event.document for event in samples.expected(loaded, query, ascending=False)][offset:]
        assert await samples.all_documents(warehouse, query, limit=20, offset=offset) == wanted


async def test_a_page_continues_after_a_place_without_an_event(
    warehouse: PostgresqlWarehouse, loaded: list[StoredEvent]
) -> None:
    query = EventQuery(workspace=1)
    events = samples.expected(loaded, query, ascending=False)
    middle = samples.place(events[50], query)
    after = EventCursor(middle[0], middle[1] + 1)
    page = await warehouse.events(query, ascending=False, after=after, offset=0, limit=3)
    wanted = [event for event in events if samples.place(event, query) < (after.time, after.position)]
    assert list(page.documents) == [event.document for event in wanted[:3]]


async def test_pages_do_not_shift_while_events_arrive(
    warehouse: PostgresqlWarehouse, loaded: list[StoredEvent]
) -> None:
    query = EventQuery(workspace=1, order="receivedAt")
    wanted = [event.document for event in samples.expected(loaded, query, ascending=False)]
    first = await warehouse.events(query, ascending=False, after=None, offset=0, limit=5)
    late = samples.events(Random(1), 1, first=COUNT + 1, workspaces=1)[0]
    await warehouse.load([replace(late, received_at=samples.NOW + 1)], through=COUNT + 1)
    second = await warehouse.events(query, ascending=False, after=first.cursor, offset=0, limit=5)
    assert [*first.documents, *second.documents] == wanted[:10]


@pytest.mark.usefixtures("slices")
async def test_counts_are_those_of_the_model(warehouse: PostgresqlWarehouse, loaded: list[StoredEvent]) -> None:
    random = Random("counts")
    keys: tuple[CountKey, ...] = ("event", "type", "connection")
    intervals: tuple[Interval | None, ...] = (None, "hour", "day")
    for _ in range(120):
        query = samples.query(random)
        by, interval = [key for key in keys if random.random() < 0.5], random.choice(intervals)
        found = await warehouse.counts(query, by=by, interval=interval, limit=1000)
        assert set(found) == samples.expected_counts(loaded, query, by, interval), (query, by, interval)
        assert len(set(found)) == len(found)
        assert found == sorted(found, key=lambda count: (-(count.start or 0), -count.count))
        assert await warehouse.counts(query, by=by, interval=interval, limit=2) == found[:2]


async def test_counting_that_takes_too_long_is_rejected(
    warehouse: PostgresqlWarehouse, loaded: list[StoredEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "COUNTING_SECONDS", 0.0)
    query = EventQuery(workspace=1, filter=samples.checked("properties.plan is 7"))
    with pytest.raises(Unprocessable) as caught:
        await warehouse.counts(query, by=["event"], interval=None, limit=10)
    assert caught.value.code == "TooExpensive"
