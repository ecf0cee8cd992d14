"""No statement of the queue reads a whole table that grows, and a long snapshot of PostgreSQL does not slow it."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from headwater.state.deliveries import AttemptRecord, ChunkProgress, DeadSelection, LaneHealth, Owners
from headwater.state.deliveries import store as store_module
from headwater.state.deliveries.store import SqlDeliveryStore, open_delivery_store
from tests.state.deliveries.deliveries import WORKSPACE, bits, deliveries, letter, progress

GROWING = "delivery_bodies|delivery_chunks|dead_letters|dead_chunks|dead_ranges|delivery_log"
"""Tables that grow with events. `delivery_counts` and `dead_counts` are added up, and the others have few rows."""
CHUNKS = 600
Statement = tuple[str, Any]


async def fill(store: SqlDeliveryStore) -> int:
    """Fill all tables; return the epoch of the courier."""
    epoch = await store.claim()
    for number in range(CHUNKS):
        destination, first = number % 20, 2 * number + 1
        batch = deliveries([first, first + 1], {destination: {100 + destination: None}}, workspace=7 + number % 5)
        await store.append([batch], through=first + 1, now=number // 20)
    for destination in range(20):
        done, dead, *_ = await store.read(destination, 0, max_bytes=1 << 20)
        attempts = [AttemptRecord(1, "Delivered", 0, 1)]
        logged = ChunkProgress(done.id, destination, bits([0, 1]), attempts)
        letters = [letter(dead, index, reason=f"R{destination % 3}") for index in (0, 1)]
        await store.commit(epoch, [logged, progress(dead)], dead=letters, now=9)
    await store.expire(epoch, before=10, now=10)
    return epoch


async def use(store: SqlDeliveryStore, epoch: int) -> None:
    """Do everything that the worker, the courier, an operation and a page do."""
    await store.append([deliveries([90_001, 90_003], {3: {103: None}})], through=90_003, now=20)
    await store.newest_chunk()
    await store.heads(500)
    await store.summaries()
    first, second, third, *_ = await store.read(3, 0, max_bytes=1 << 20)
    await store.health()
    attempts = [AttemptRecord(1, "Delivered", 0, 1)]
    done = ChunkProgress(first.id, 3, bits([0, 1]), attempts)
    health = [LaneHealth(destination=3, workspace=WORKSPACE)]
    await store.commit(epoch, [done, progress(second, [0])], dead=[letter(third, 0)], health=health, now=21)
    await store.expire(epoch, before=12, now=22, limit=10)
    for chosen in ({}, {"destination": 3}, {"pipeline": 103}, {"reason": "R1"}, {"since": 5, "until": 15}):
        selection = DeadSelection(**{"workspace": WORKSPACE, **chosen})  # type: ignore[arg-type]
        page = await store.dead_letters(selection, limit=5)
        await store.dead_letters(selection, limit=5, after=page.next)
        await store.count_dead(selection)
        await store.dead_ranges(selection, limit=5)
    await store.dead_counts(WORKSPACE)
    await store.resend("op", DeadSelection(workspace=WORKSPACE, destination=4), now=23)
    await store.append_again("re", [deliveries([1], {3: {103: None}})], expected=b"", cursor=b"1", now=24)
    await store.trace([3, 4], 7)
    await store.trace([3, 4], 1_007)
    await store.trim(dead_before=5, attempts_before=5)
    store._max_bytes = (await _size(store)) - 3_000
    await store.make_space(now=25)
    await store.remove_dead_range(1)
    await store.owners()
    await store.remove(Owners(frozenset({19}), frozenset({118, 119})))


async def _size(store: SqlDeliveryStore) -> int:
    query = text("SELECT sum(open_bytes) FROM delivery_counts WHERE destination = 0")
    return await store._read(lambda connection: int(connection.execute(query).scalar_one()))


@asynccontextmanager
async def noted(store: SqlDeliveryStore) -> AsyncIterator[list[Statement]]:
    statements: list[Statement] = []
    engine = store._sessions.engine

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if re.match("SELECT|INSERT|UPDATE|DELETE|WITH", statement):
            statements.append((statement, parameters[0] if many else parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def plan(connection: Connection, statement: Statement) -> list[str]:
    query, parameters = statement
    if connection.dialect.name == "sqlite":
        return [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", parameters)]
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # the tables of a test are too small for an index
    return [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {query}", tuple(parameters))]


async def test_no_statement_reads_a_whole_table(store: SqlDeliveryStore) -> None:
    epoch = await fill(store)
    async with noted(store) as statements:
        await use(store, epoch)
    assert len(statements) >= 100
    scan = re.compile(rf"SCAN ({GROWING})\b(?! USING)|Seq Scan on ({GROWING})\b|USE TEMP B-TREE FOR ORDER BY")
    # Tables that stay small, and a search that stops early.
    other = re.compile(r"FROM (delivery_counts|dead_counts) |FROM dead_ranges ORDER BY dead_ranges.id\s+LIMIT")
    for statement in {query: (query, parameters) for query, parameters in statements}.values():
        if other.search(statement[0]):
            continue
        lines = await store._read(lambda connection, each=statement: plan(connection, each))  # type: ignore[misc]
        assert not [line for line in lines if scan.search(line)], (statement[0][:500], lines)


async def test_counts_stay_few_rows(store: SqlDeliveryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_ROWS", 100)
    epoch = await store.claim()
    for position in range(1, 150):
        await store.append([deliveries([position], {21: {31: None}})], through=position, now=1)
        (chunk,) = await store.read(21, 0, max_bytes=1)
        await store.commit(epoch, [progress(chunk)], dead=[letter(chunk, 0)], now=1)
    for table in ("delivery_counts", "dead_counts"):
        count = text(f"SELECT count(*) FROM {table}")
        assert await store._read(lambda connection, each=count: connection.execute(each).scalar_one()) < 120  # type: ignore[misc]
    assert [each.count for each in await store.dead_counts(WORKSPACE)] == [149]
    (summary,) = await store.summaries()
    assert (summary.open_items, summary.dead_items) == (0, 149)


async def test_the_cost_of_an_event_does_not_grow_with_the_queue(url: str) -> None:
    """Rows are found by indexes, so a hundred times as many chunks cost about the same."""
    async with open_delivery_store(url) as store:
        epoch = await store.claim()

        async def cost(first: int) -> float:
            times = []
            for position in range(first, first + 40):
                began = time.perf_counter()
                await store.append([deliveries([position], {21: {31: None}, 22: {32: None}})], through=position, now=1)
                (chunk,) = await store.read(21, 0, max_bytes=1)
                await store.commit(epoch, [progress(chunk)], now=1)
                times.append(time.perf_counter() - began)
            return min(times)  # other work of the machine makes one longer, and never shorter

        few = await cost(1)
        for position in range(100, 2_500, 100):
            batches = [deliveries([position + n], {22 + n % 3: {32: None}}) for n in range(100)]
            await store.append(batches, through=position + 99, now=1)
        assert await cost(5_000) < 4 * few


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_long_snapshot_does_not_slow_the_queue(store: SqlDeliveryStore, url: str) -> None:
    """PostgreSQL keeps the old version of every changed row for it. No statement has to read past many of them."""
    epoch = await store.claim()
    async with open_delivery_store(url) as other, other._sessions.open() as session:
        await session.run(_open_snapshot)
        last = await _cycles(store, epoch, range(1, 300), 0)
        async with noted(store) as statements:
            await _cycles(store, epoch, range(300, 303), last)
        reading = [each for each in statements if each[0].startswith("SELECT")]
        assert len(reading) >= 10
        for query, parameters in reading:
            blocks = await store._read(lambda connection, q=query, p=parameters: _blocks(connection, q, p))  # type: ignore[misc]
            assert blocks <= 20, (query, parameters)


def _open_snapshot(connection: Connection) -> None:
    connection.execution_options(isolation_level="REPEATABLE READ")
    connection.exec_driver_sql("SELECT count(*) FROM delivery_chunks")


async def _cycles(store: SqlDeliveryStore, epoch: int, positions: range, last: int) -> int:
    """Append, read and finish a chunk for each position; return the id of the last one."""
    for position in positions:
        await store.append([deliveries([position], {21: {31: None}, 22: {32: None}})], through=position, now=1)
        await store.heads(last)
        for destination in (21, 22):
            (chunk,) = await store.read(destination, last, max_bytes=1)
            await store.commit(epoch, [progress(chunk)], now=1)
        last = await store.newest_chunk()
        await store.expire(epoch, before=0, now=1)
    return last


def _blocks(connection: Connection, query: str, parameters: Any) -> int:
    """Return the number of blocks that a statement reads."""
    explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", tuple(parameters))
    (found,) = explained.scalar_one()
    return int(found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"])
