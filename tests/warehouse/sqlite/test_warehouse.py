"""The guarantees of the driver itself: when rows become blocks, when pages end, how it fails."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.base.errors import Unavailable, Unprocessable
from headwater.warehouse import EventQuery
from headwater.warehouse.drivers.sqlite import SqliteWarehouse, open_sqlite_warehouse
from headwater.warehouse.drivers.sqlite.counting import Counter
from headwater.warehouse.drivers.sqlite.maintenance import MAX_ROW_AGE
from headwater.warehouse.drivers.sqlite.warehouse import MAX_COUNTING
from tests.harness import MovableClock
from tests.warehouse.oracle import DAY, FILTERS, START, event, read_all

ALL = EventQuery(workspace=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.db"


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def warehouse(path: Path, clock: MovableClock) -> AsyncIterator[SqliteWarehouse]:
    async with open_sqlite_warehouse(path, writes=True, clock=clock) as opened:
        yield opened


def sizes(path: Path) -> tuple[int, list[int]]:
    """Return the number of rows, and of events in each block."""
    connection = sqlite3.connect(path)
    try:
        (rows,) = connection.execute("SELECT count(*) FROM event_rows").fetchone()
        return rows, [size for (size,) in connection.execute("SELECT events FROM event_blocks ORDER BY events")]
    finally:
        connection.close()


async def load(warehouse: SqliteWarehouse, number: int, *, delay: int = 0, workspace: int = 1) -> None:
    first = await warehouse.loaded() + 1
    events = [
        event(first + index, workspace=workspace, timestamp=START + (first + index) * 1_000 - delay)
        for index in range(number)
    ]
    await warehouse.load(events, through=first + number - 1)


@pytest.mark.parametrize(
    ("loads", "rows", "blocks"),
    [
        ([1], 1, []),
        ([499], 499, []),
        ([500], 0, [500]),
        ([9_000], 0, [808, 8_192]),
        ([499] * 8, 3_992, []),
        ([499] * 9, 491, [4_000]),
        ([700] * 5, 0, [700] * 5),
        ([700] * 6, 0, [4_200]),
        ([700] * 7, 0, [700, 4_200]),
        ([2_500] * 3, 0, [2_500] * 3),
    ],
)
async def test_events_become_blocks(
    warehouse: SqliteWarehouse, path: Path, loads: list[int], rows: int, blocks: list[int]
) -> None:
    for number in loads:
        await load(warehouse, number)
    await warehouse.maintain()
    assert sizes(path) == (rows, blocks)


async def test_rows_become_a_block_after_an_hour_if_they_are_not_few(
    warehouse: SqliteWarehouse, path: Path, clock: MovableClock
) -> None:
    await load(warehouse, 300)
    await load(warehouse, 300)
    await load(warehouse, 300, workspace=2)
    clock.advance(MAX_ROW_AGE / 1e6 - 1)
    await warehouse.maintain()
    assert sizes(path) == (900, [])
    clock.advance(1)
    await warehouse.maintain()
    assert sizes(path) == (300, [600])


async def test_late_events_wait_for_a_block_of_their_own(
    warehouse: SqliteWarehouse, path: Path, clock: MovableClock
) -> None:
    await load(warehouse, 400, delay=3 * DAY)
    await load(warehouse, 400)
    await load(warehouse, 400)
    clock.advance(3_600)
    await warehouse.maintain()
    assert sizes(path) == (400, [800])
    await load(warehouse, 400, delay=2 * DAY)
    clock.advance(3_600)
    await warehouse.maintain()
    assert sizes(path) == (0, [800, 800])


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize(
    "query", [ALL, EventQuery(workspace=1, filter=FILTERS[8]), EventQuery(workspace=1, user_id="x")]
)
async def test_a_page_without_time_makes_progress(path: Path, query: EventQuery, ascending: bool) -> None:
    clock = MovableClock()
    async with open_sqlite_warehouse(path, writes=True, clock=clock) as warehouse:
        for number in (30, 600, 600, 40):
            await load(warehouse, number)
        expected = await read_all(warehouse, query, ascending=ascending)
    impatient = SqliteWarehouse(path, writes=False, clock=clock, page_seconds=0, count_seconds=0)
    assert await read_all(impatient, query, ascending=ascending) == expected
    assert await read_all(impatient, query, ascending=ascending, offset=5) == expected[5:]
    with pytest.raises(Unprocessable) as raised:
        await impatient.counts(query, by=[], interval=None, limit=1)
    assert raised.value.code == "TooExpensive"
    await impatient.close()


async def test_a_page_of_rare_events_ends_early_and_has_a_cursor(path: Path) -> None:
    clock = MovableClock()
    async with open_sqlite_warehouse(path, writes=True, clock=clock) as warehouse:
        await load(warehouse, 2_000)
    impatient = SqliteWarehouse(path, writes=False, clock=clock, page_seconds=0)
    query = EventQuery(workspace=1, filter=FILTERS[9])
    page = await impatient.events(query, ascending=False, after=None, offset=0, limit=1_000)
    assert len(page.documents) < 100
    assert page.cursor is not None
    await impatient.close()


@pytest.mark.parametrize("writes", [True, False])
async def test_a_file_that_cannot_be_used_is_an_outage(tmp_path: Path, writes: bool) -> None:
    (tmp_path / "w.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(Unavailable, match="the warehouse's database does not respond"):
        async with open_sqlite_warehouse(tmp_path / "w.db", writes=writes, clock=MovableClock()):
            pass
    with pytest.raises(Unavailable):
        async with open_sqlite_warehouse(tmp_path / "none" / "w.db", writes=writes, clock=MovableClock()):
            pass


async def test_a_full_disk_is_an_outage_that_passes(warehouse: SqliteWarehouse, path: Path) -> None:
    await load(warehouse, 600)
    connection = warehouse._writer
    assert connection is not None
    pages = await connection.run(lambda opened: opened.execute("PRAGMA page_count").fetchone()[0])
    await connection.run(lambda opened: opened.execute(f"PRAGMA max_page_count={pages}").fetchone())
    with pytest.raises(Unavailable):
        await load(warehouse, 5_000)
    assert await warehouse.loaded() == 600
    await connection.run(lambda opened: opened.execute("PRAGMA max_page_count=100000").fetchone())
    await load(warehouse, 5_000)
    assert len(await read_all(warehouse, ALL)) == 5_600


async def test_a_bug_is_no_outage(warehouse: SqliteWarehouse) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await warehouse.load([event(1), event(1)], through=1)


async def test_cancelled_calls_leave_the_warehouse_usable(warehouse: SqliteWarehouse) -> None:
    await load(warehouse, 3_000)
    calls = [asyncio.create_task(read_all(warehouse, ALL)) for _ in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert [len(each) for each in done[1::2] if isinstance(each, list)] == [3_000] * 10
    assert len(await read_all(warehouse, ALL)) == 3_000


async def test_counting_leaves_a_reader_for_pages(warehouse: SqliteWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    await load(warehouse, 600)
    monkeypatch.setattr("headwater.warehouse.drivers.sqlite.warehouse.READER_TIMEOUT_SECONDS", 0.01)
    may_end = threading.Event()
    monkeypatch.setattr(Counter, "count", lambda *_: may_end.wait(60))
    counting = [asyncio.create_task(warehouse.counts(ALL, by=[], interval=None, limit=1)) for _ in range(MAX_COUNTING)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="all readers of the warehouse are busy"):
        await warehouse.counts(ALL, by=[], interval=None, limit=1)
    assert len(await read_all(warehouse, ALL)) == 600
    may_end.set()
    await asyncio.gather(*counting)


async def test_readers_in_other_processes_see_what_was_loaded(warehouse: SqliteWarehouse, path: Path) -> None:
    async with open_sqlite_warehouse(path, writes=False, clock=MovableClock()) as reader:
        for number in (10, 600, 10):
            await load(warehouse, number)
            assert await reader.loaded() == await warehouse.loaded()
            assert len(await read_all(reader, ALL)) == await warehouse.loaded()
