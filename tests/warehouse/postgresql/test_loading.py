"""A load happens once and completely, or not at all, with concurrent loads and after any interruption."""

import asyncio
from itertools import chain
from random import Random

import asyncpg
import pytest
from msgspec.structs import replace

from headwater.base.clock import SystemClock
from headwater.base.errors import Unavailable
from headwater.warehouse.contract import EventQuery, StoredEvent
from headwater.warehouse.drivers.postgresql import PostgresqlWarehouse, loading, open_postgresql_warehouse
from headwater.warehouse.drivers.postgresql.partitions import DAY_MICROSECONDS
from tests.postgresql import PostgresqlServer
from tests.warehouse.postgresql import samples

ALL = [EventQuery(workspace=workspace) for workspace in (1, 2)]


async def _stored(warehouse: PostgresqlWarehouse) -> list[bytes]:
    found = [await samples.all_documents(warehouse, query, limit=1000) for query in ALL]
    return sorted(chain.from_iterable(found))


async def _counted(warehouse: PostgresqlWarehouse) -> int:
    found = [await warehouse.counts(query, by=[], interval=None, limit=10) for query in ALL]
    return sum(count.count for count in chain.from_iterable(found))


def _documents(events: list[StoredEvent]) -> list[bytes]:
    return sorted(event.document for event in events)


async def test_events_that_were_loaded_are_ignored(warehouse: PostgresqlWarehouse) -> None:
    events = samples.events(Random(1), 60)
    assert await warehouse.loaded() == 0
    for end in (20, 20, 10, 40, 60, 55):
        await warehouse.load(events[:end], through=end)
    assert await warehouse.loaded() == 60
    assert await _stored(warehouse) == _documents(events)
    assert await _counted(warehouse) == 60
    await warehouse.load([], through=75)
    assert await warehouse.loaded() == 75
    await warehouse.load(samples.events(Random(2), 10, first=70), through=80)
    assert await _counted(warehouse) == 64


async def test_concurrent_writers_store_nothing_twice(url: str) -> None:
    events = samples.events(Random(3), 300)

    async def write(seed: int) -> None:
        random, end = Random(seed), 0
        async with open_postgresql_warehouse(url, writes=True, clock=SystemClock()) as warehouse:
            while end < len(events):
                start, end = end, end + random.randrange(10, 50)
                await warehouse.load(events[start:end], through=min(end, len(events)))

    await asyncio.gather(*map(write, range(3)))
    async with open_postgresql_warehouse(url, writes=False, clock=SystemClock()) as warehouse:
        assert await _stored(warehouse) == _documents(events)
        assert await _counted(warehouse) == 300


@pytest.mark.parametrize("statement", ["events", "event_counts", "event_spans"])
async def test_a_load_with_a_broken_connection_stores_nothing(
    url: str, warehouse: PostgresqlWarehouse, statement: str
) -> None:
    """Another transaction locks a table, so the load waits in the middle when its connection is cut."""
    await warehouse.load(samples.events(Random(4), 10), through=10)
    events = samples.events(Random(5), 20, first=11)
    other = await samples.connect(url)
    async with other.transaction():
        await other.execute(f"LOCK TABLE warehouse.{statement} IN SHARE ROW EXCLUSIVE MODE")
        task = asyncio.create_task(warehouse.load(events, through=30))
        while not (pids := await other.fetch("SELECT pid FROM pg_locks WHERE NOT granted")):
            await asyncio.sleep(0.01)
        await other.execute("SELECT pg_terminate_backend($1)", pids[0]["pid"])
        with pytest.raises(Unavailable):
            await task
    await other.close()
    assert await warehouse.loaded() == 10
    assert await _counted(warehouse) == len(await _stored(warehouse)) == 10
    await warehouse.load(events, through=30)
    assert await _counted(warehouse) == len(await _stored(warehouse)) == 30


async def test_a_cancelled_load_stores_nothing(url: str, warehouse: PostgresqlWarehouse) -> None:
    other = await samples.connect(url)
    async with other.transaction():
        await other.execute("LOCK TABLE warehouse.event_counts IN SHARE ROW EXCLUSIVE MODE")
        task = asyncio.create_task(warehouse.load(samples.events(Random(4), 10), through=10))
        while not await other.fetch("SELECT pid FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await other.close()
    assert await warehouse.loaded() == 0 and await _stored(warehouse) == []


async def test_check_raises_what_load_raises_and_stores_nothing(warehouse: PostgresqlWarehouse) -> None:
    events = samples.events(Random(6), 5)
    bad = [*events, replace(events[0], position=6, user_id="a\0b")]
    for call in (warehouse.check(bad), warehouse.load(bad, through=6)):
        with pytest.raises(asyncpg.CharacterNotInRepertoireError):
            await call
    await warehouse.check(events)
    assert await warehouse.loaded() == 0 and await _stored(warehouse) == []
    await warehouse.load(events, through=5)
    assert await _stored(warehouse) == _documents(events)


async def test_documents_stay_as_they_are(warehouse: PostgresqlWarehouse) -> None:
    documents = [
        b'{"n": 1.0,"m":100000000000000000000000000000000000001,"e":1E+2, "n":2}',
        '{"s":"\\u0000\\ud800\\u00e9é😀"}'.encode(),
        b'{"long":"' + b"x" * 3_000_000 + b'"}',
    ]
    event = samples.events(Random(7), 1, workspaces=1)[0]
    events = [replace(event, position=n, timestamp=n, document=text) for n, text in enumerate(documents, 1)]
    await warehouse.load(events, through=3)
    page = await warehouse.events(ALL[0], ascending=True, after=None, offset=0, limit=10)
    assert list(page.documents) == documents


async def test_names_longer_than_an_index_entry(warehouse: PostgresqlWarehouse) -> None:
    random = Random(8)
    names = ["".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(1000)) for _ in range(3)]
    event = samples.events(random, 1, workspaces=1)[0]
    events = [
        replace(event, position=n, timestamp=n, type="track", event=name) for n, name in enumerate([*names, names[0]])
    ]
    await warehouse.load([replace(event, position=event.position + 1) for event in events], through=4)
    query = EventQuery(workspace=1, event=names[0])
    assert len(await samples.all_documents(warehouse, query)) == 2
    counts = await warehouse.counts(EventQuery(workspace=1), by=["event"], interval=None, limit=10)
    assert {count.event: count.count for count in counts} == {names[0]: 2, names[1]: 1, names[2]: 1}


async def test_partitions_are_made_ahead_and_on_demand(url: str, warehouse: PostgresqlWarehouse) -> None:
    connection = await samples.connect(url)

    async def partitions() -> set[str]:
        rows = await connection.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'warehouse.events'::regclass"
        )
        return {row["name"].removeprefix("warehouse.events_") for row in rows}

    at_start = await partitions()
    assert {"before", "after"} < at_start and len(at_start) == 5
    await warehouse.maintain()
    assert await partitions() == at_start
    event = samples.events(Random(9), 1, workspaces=1)[0]
    days = (-3, -20, -400, -20_000, 20, 50_000)
    events = [
        replace(event, position=n, received_at=samples.NOW + day * DAY_MICROSECONDS) for n, day in enumerate(days, 1)
    ]
    await warehouse.load(events, through=len(days))
    assert len(await partitions() - at_start) == 3
    assert await connection.fetchval("SELECT count(*) FROM warehouse.events_before") == 2
    assert await connection.fetchval("SELECT count(*) FROM warehouse.events_after") == 1
    assert len(await _stored(warehouse)) == len(days)
    await connection.close()


async def test_a_load_does_not_wait_for_readers_of_the_events(url: str, warehouse: PostgresqlWarehouse) -> None:
    """A client's long query locks the table when a day begins."""
    connection = await samples.connect(url)
    async with connection.transaction():
        await connection.fetch("SELECT count(*) FROM warehouse.events")
        event = replace(samples.events(Random(10), 1)[0], received_at=samples.NOW + 30 * DAY_MICROSECONDS)
        async with asyncio.timeout(4):
            await warehouse.load([event], through=1)
    await connection.close()


async def test_a_large_load_does_not_block_the_event_loop(
    warehouse: PostgresqlWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "MAX_SLICE_EVENTS", 100)
    events = samples.events(Random(11), 1_000)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    await warehouse.load(events, through=1_000)
    counting.cancel()
    assert turns > 10
    assert await _counted(warehouse) == 1_000


async def test_every_call_is_unavailable_without_the_database(
    postgresql_server: PostgresqlServer, warehouse: PostgresqlWarehouse
) -> None:
    events = samples.events(Random(12), 3)
    await warehouse.load(events, through=3)
    postgresql_server.stop()
    try:
        for call in (
            warehouse.loaded(),
            warehouse.load(events, through=9),
            warehouse.check(events),
            warehouse.events(ALL[0], ascending=True, after=None, offset=0, limit=1),
            warehouse.counts(ALL[0], by=[], interval=None, limit=1),
            warehouse.maintain(),
        ):
            with pytest.raises(Unavailable):
                await call
    finally:
        postgresql_server.start()
    assert await _stored(warehouse) == _documents(events)
