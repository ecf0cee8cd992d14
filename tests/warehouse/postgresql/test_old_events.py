"""The events of an earlier version are read, moved and counted, also after an interruption."""

import asyncio
import sys
from contextlib import AbstractAsyncContextManager
from random import Random

import pytest

from headwater.base.clock import SystemClock
from headwater.base.errors import Unavailable
from headwater.state import open_state
from headwater.warehouse.contract import EventQuery, StoredEvent
from headwater.warehouse.drivers.postgresql import PostgresqlWarehouse, oldevents, open_postgresql_warehouse, reading
from headwater.warehouse.drivers.postgresql.database import Driver
from tests.storage.test_split import install
from tests.warehouse.postgresql import samples

COUNT = 200


def _open(url: str) -> AbstractAsyncContextManager[PostgresqlWarehouse]:
    return open_postgresql_warehouse(url, writes=True, clock=SystemClock())


@pytest.fixture
async def old(url: str) -> list[StoredEvent]:
    """Store events as an earlier version did, with the worker's position in the schema of the warehouse."""
    events = samples.events(Random("old"), COUNT)
    connection = await samples.connect(url)
    await connection.execute(
        """
        CREATE SCHEMA warehouse;
        CREATE TABLE warehouse.events (
            position bigint NOT NULL, workspace integer NOT NULL, connection integer NOT NULL,
            pipeline integer NOT NULL, timestamp bigint NOT NULL, received_at bigint NOT NULL, document text NOT NULL,
            CONSTRAINT events_pkey PRIMARY KEY (position)
        );
        CREATE INDEX events_by_time ON warehouse.events (workspace, timestamp);
        CREATE TABLE warehouse.progress (consumer text PRIMARY KEY, position bigint NOT NULL);
        INSERT INTO warehouse.progress VALUES ('warehouse', 210), ('warehouse.tail', 999);
        """
    )
    rows = [
        (
            event.position,
            event.workspace,
            event.connection,
            event.pipeline,
            event.timestamp,
            event.received_at,
            event.document.decode(),
        )
        for event in events
    ]
    await connection.copy_records_to_table("events", schema_name="warehouse", records=rows)
    await connection.close()
    return events


async def _check_pages(warehouse: PostgresqlWarehouse, events: list[StoredEvent], queries: int) -> None:
    random = Random("queries")
    for _ in range(queries):
        query, ascending = samples.query(random), random.random() < 0.5
        wanted = [event.document for event in samples.expected(events, query, ascending=ascending)]
        assert await samples.all_documents(warehouse, query, ascending=ascending, limit=30) == wanted, query


async def test_old_events_are_read_and_moved(url: str, old: list[StoredEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oldevents, "MAX_MOVED", 70)
    monkeypatch.setattr(oldevents, "MOVING_SECONDS", 0.0001)  # one transaction in each call
    async with _open(url) as warehouse:
        assert await warehouse.loaded() == 210
        new = samples.events(Random("new"), 50, first=205)
        await warehouse.load(new, through=254)
        events = [*old, *(event for event in new if event.position > 210)]
        for _ in range(3):
            await _check_pages(warehouse, events, 25)
            with pytest.raises(Unavailable):
                await warehouse.counts(EventQuery(workspace=1), by=[], interval=None, limit=1)
            await warehouse.maintain()
        await warehouse.maintain()
        await _check_pages(warehouse, events, 25)
        query = EventQuery(workspace=1)
        counts = await warehouse.counts(query, by=["event", "type"], interval="day", limit=1000)
        assert set(counts) == samples.expected_counts(events, query, ["event", "type"], "day")
        await warehouse.maintain()
    connection = await samples.connect(url)
    assert await connection.fetchval("SELECT to_regclass('warehouse.old_events')") is None
    await connection.close()


async def test_an_interrupted_move_continues(url: str, old: list[StoredEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oldevents, "MAX_MOVED", 70)
    monkeypatch.setattr(oldevents, "MOVING_SECONDS", 0.0001)
    async with _open(url) as warehouse:
        await warehouse.maintain()
        other = await samples.connect(url)
        async with other.transaction():
            await other.execute("LOCK TABLE warehouse.event_counts IN SHARE ROW EXCLUSIVE MODE")
            task = asyncio.create_task(warehouse.maintain())
            while not (pids := await other.fetch("SELECT pid FROM pg_locks WHERE NOT granted")):
                await asyncio.sleep(0.01)
            await other.execute("SELECT pg_terminate_backend($1)", pids[0]["pid"])
            with pytest.raises(Unavailable):
                await task
        await other.close()
        await _check_pages(warehouse, old, 10)
    async with _open(url) as warehouse, _open(url) as second:
        for _ in range(4):
            await asyncio.gather(warehouse.maintain(), second.maintain(), return_exceptions=False)
        await _check_pages(warehouse, old, 10)
        counts = await warehouse.counts(EventQuery(workspace=1), by=[], interval=None, limit=1)
        assert counts[0].count == sum(event.workspace == 1 for event in old)


async def test_a_page_begun_before_the_table_is_dropped(
    url: str, old: list[StoredEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _open(url) as warehouse, _open(url) as writer:
        read_spans, calls = reading.read_spans, 0

        async def and_drop(driver: Driver, query: EventQuery) -> list[reading.Span]:
            nonlocal calls
            calls += 1
            spans = await read_spans(driver, query)
            await writer.maintain()
            return spans

        monkeypatch.setattr(reading, "read_spans", and_drop)
        await _check_pages(warehouse, old, 1)
        assert calls > 1


async def test_processes_that_start_together_migrate_once(url: str, old: list[StoredEvent]) -> None:
    async def start() -> int:
        async with _open(url) as warehouse:
            return await warehouse.loaded()

    assert await asyncio.gather(*(start() for _ in range(4))) == [210] * 4
    async with _open(url) as warehouse:
        await _check_pages(warehouse, old, 5)


@pytest.mark.parametrize(
    ("tables", "loaded"),
    [
        ("ALTER TABLE warehouse.progress SET SCHEMA state", 210),
        ("CREATE TABLE state.checkpoints AS SELECT 'warehouse' AS owner, '\\x00000000000000e6'::bytea AS value", 230),
        (
            "DROP TABLE warehouse.progress; "
            "CREATE TABLE warehouse.checkpoints AS SELECT 'warehouse' AS owner, '\\x00000000000000e6'::bytea AS value",
            230,
        ),
        ("DROP TABLE warehouse.progress", 0),
    ],
)
async def test_the_position_is_found_wherever_the_state_store_has_it(
    url: str, old: list[StoredEvent], tables: str, loaded: int
) -> None:
    connection = await samples.connect(url)
    await connection.execute(f"CREATE SCHEMA state; {tables}")
    await connection.close()
    async with _open(url) as warehouse:
        assert await warehouse.loaded() == loaded


async def test_old_days_have_partitions(url: str, old: list[StoredEvent]) -> None:
    connection = await samples.connect(url)
    await connection.execute(
        "UPDATE warehouse.events SET received_at = $1 WHERE position = 1", samples.NOW - 300 * samples.DAY
    )
    async with _open(url) as warehouse:
        await warehouse.maintain()
    found = await connection.fetchval(
        "SELECT count(DISTINCT tableoid) FROM warehouse.events WHERE received_at > $1", samples.NOW - 250 * samples.DAY
    )
    assert found > 3
    await connection.close()


async def test_an_empty_table_of_old_events_is_dropped(url: str, old: list[StoredEvent]) -> None:
    connection = await samples.connect(url)
    await connection.execute("TRUNCATE warehouse.events")
    async with _open(url) as warehouse:
        assert await warehouse.loaded() == 210
        assert await warehouse.counts(EventQuery(workspace=1), by=[], interval=None, limit=1) == []
    await connection.close()


async def test_documents_that_have_no_columns_are_moved(url: str, old: list[StoredEvent]) -> None:
    documents = ['["1"]', '{"type":7}', '{"type":"track","event":"a\\u0000b","userId":"a"}', '{"userId":"\\ud800"}']
    connection = await samples.connect(url)
    await connection.execute("TRUNCATE warehouse.events")
    await connection.executemany(
        "INSERT INTO warehouse.events VALUES ($1, 1, 2, 3, $1, $1, $2)", list(enumerate(documents, 1))
    )
    await connection.close()
    async with _open(url) as warehouse:
        assert await samples.all_documents(warehouse, EventQuery(workspace=1, user_id="a")) == []
        await warehouse.maintain()
        found = await samples.all_documents(warehouse, EventQuery(workspace=1), ascending=True)
        assert found == [document.encode() for document in documents]


OPEN = """
import asyncio, sys
from headwater.base.clock import SystemClock
from headwater.state import open_state
from headwater.warehouse.drivers.postgresql import open_postgresql_warehouse

async def main():
    open = open_state if sys.argv[2] == "state" else open_postgresql_warehouse
    async with open(sys.argv[1], writes=True, clock=SystemClock()):
        pass

asyncio.run(main())
"""


@pytest.mark.parametrize("order", ["state first", "warehouse first", "together"])
@pytest.mark.parametrize("revision", ["0001", "0009"])
async def test_an_installation_of_an_earlier_release_is_taken_over(url: str, revision: str, order: str) -> None:
    """The state store moves its tables out of the schema, and the warehouse renames the table of events."""
    await install(url, revision)

    async def open_state_store() -> int:
        async with open_state(url, writes=True, clock=SystemClock()) as state:
            return await state.position("warehouse")

    async def open_the_warehouse() -> int:
        async with _open(url) as warehouse:
            return await warehouse.loaded()

    starts = [open_state_store, open_the_warehouse]
    if order == "together":
        processes = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", OPEN, url, which)
            for which in ("state", "warehouse") * 2
        ]
        assert [await process.wait() for process in processes] == [0] * 4
    for start in starts if order == "state first" else reversed(starts):
        assert await start() == 1
    async with _open(url) as warehouse:
        assert await samples.all_documents(warehouse, EventQuery(workspace=2)) == [b'["2"]']
        await warehouse.maintain()
        counts = [await warehouse.counts(EventQuery(workspace=n), by=[], interval=None, limit=1) for n in (1, 2, 3)]
        assert [count.count for [count] in counts] == [1, 1, 1]
