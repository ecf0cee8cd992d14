"""No statement of a load or a read scans a table that grows, and those of a page use the index of their order."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import asyncpg
import pytest

from headwater.base.clock import SystemClock
from headwater.warehouse.contract import ErasureCursor, EventQuery, Person
from headwater.warehouse.drivers.postgresql import PostgresqlWarehouse, open_postgresql_warehouse, reading
from headwater.warehouse.drivers.postgresql.loading import SLOT_MICROSECONDS
from tests.postgresql import PostgresqlServer
from tests.warehouse.postgresql import samples

ROWS = 40_000
Statements = list[tuple[str, tuple[Any, ...]]]


@pytest.fixture(scope="module")
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """Fill a warehouse with enough rows in each table that a scan costs more than an index."""
    url = postgresql_server.create(empty=True)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _fill(url)).result()
    yield url
    postgresql_server.drop(url)


async def _fill(url: str) -> None:
    async with open_postgresql_warehouse(url, writes=True, clock=SystemClock()):
        connection = await samples.connect(url)
        await connection.execute(
            f"""
            INSERT INTO warehouse.events SELECT n, {samples.NOW} - n % 7919 * 1000000::bigint, {samples.NOW} - n,
                1 + n % 3, n % 5, 9, CASE WHEN n % 3 = 0 THEN 'track' ELSE 'page' END,
                CASE WHEN n % 3 = 0 THEN 'event ' || n % 50 END, 'user ' || n % 9973, 'anonymous ' || n % 9967,
                repeat('x', 300)
            FROM generate_series(1, {ROWS}) AS n;
            INSERT INTO warehouse.event_spans SELECT workspace, split_part(tableoid::regclass::text, '.', 2), count(*),
                min(timestamp), max(timestamp), min(received_at), max(received_at)
            FROM warehouse.events GROUP BY 1, 2;
            INSERT INTO warehouse.event_spans SELECT n / 100, 'other ' || n % 100, 1, 0, 0, 0, 0
            FROM generate_series(1000, 20000) AS n;
            INSERT INTO warehouse.event_counts SELECT 1 + n % 40, n / 40, n / 40, 1, 'track', int4send(n),
                'event ' || n, 1
            FROM generate_series(1, {ROWS}) AS n;
            UPDATE warehouse.event_loading SET position = {ROWS};
            ANALYZE
            """
        )
        await connection.close()


@pytest.fixture
async def connection(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await samples.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    """Record the executed statements with their values."""
    statements: Statements = []

    def recording(method: str) -> Callable[..., Any]:
        original = getattr(asyncpg.Connection, method)

        async def record(self: object, sql: str, *values: Any, **options: Any) -> Any:
            if sql.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
                statements.append((sql, values))
            return await original(self, sql, *values, **options)

        return record

    for method in ("fetch", "fetchrow", "fetchval", "execute"):
        monkeypatch.setattr(asyncpg.Connection, method, recording(method))
    return statements


async def _scans(connection: "asyncpg.Connection[asyncpg.Record]", statements: Statements) -> list[dict[str, Any]]:
    """Return the nodes of the statements' plans that read a table, with the statement."""
    scans: list[dict[str, Any]] = []

    def walk(node: dict[str, Any], sql: str) -> None:
        if "Relation Name" in node and node["Node Type"] != "ModifyTable":
            scans.append({**node, "sql": sql})
        for below in node.get("Plans", ()):
            walk(below, sql)

    for sql, values in list(statements):
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *values))
        walk(plan[0]["Plan"], sql)
    return scans


GROWING = ("events_", "event_counts", "event_spans", "old_events")


def _assert_no_scan(scans: list[dict[str, Any]]) -> None:
    for scan in scans:
        if scan["Relation Name"].startswith(GROWING):
            assert scan["Node Type"] != "Seq Scan", scan["sql"]


QUERIES = {
    "newest": (EventQuery(workspace=1), "workspace_timestamp"),
    "newest received": (EventQuery(workspace=1, order="receivedAt"), "workspace_received_at"),
    "user": (EventQuery(workspace=1, user_id="user 7"), "workspace_user_id"),
    "user received": (EventQuery(workspace=1, user_id="user 7", order="receivedAt"), "workspace_user_id"),
    "anonymous": (EventQuery(workspace=1, anonymous_id="anonymous 7"), "workspace_anonymous_id"),
    "event": (EventQuery(workspace=1, event="event 6"), "workspace_event"),
    "event received": (EventQuery(workspace=1, event="event 6", order="receivedAt"), "workspace_received_at"),
    "type": (EventQuery(workspace=1, type="page"), "workspace_timestamp"),
    "period": (EventQuery(workspace=1, since=samples.NOW - 10**9, until=samples.NOW), "workspace_timestamp"),
    "filter": (EventQuery(workspace=1, filter=samples.checked("properties.plan is 'y'")), "workspace_timestamp"),
    "filter user": (EventQuery(workspace=1, filter=samples.checked("userId is 'user 7'")), "workspace_user_id"),
}


@pytest.mark.parametrize("name", QUERIES)
async def test_pages_use_the_index_of_their_order(
    connection: "asyncpg.Connection[asyncpg.Record]",
    warehouse: PostgresqlWarehouse,
    statements: Statements,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(reading, "MAX_SLICE_ROWS", 2_000)
    query, index = QUERIES[name]
    page = await warehouse.events(query, ascending=False, after=None, offset=0, limit=100)
    if page.cursor is not None:
        await warehouse.events(query, ascending=False, after=page.cursor, offset=0, limit=100)
        await warehouse.events(query, ascending=True, after=page.cursor, offset=20, limit=100)
    scans = await _scans(connection, statements)
    _assert_no_scan(scans)
    used = [scan for scan in scans if scan["Relation Name"].startswith("events_2")]
    assert used and all(index in scan.get("Index Name", "bitmap" + index) for scan in used)


@pytest.mark.parametrize(
    "query",
    [
        EventQuery(workspace=1),
        EventQuery(workspace=1, order="receivedAt", since=SLOT_MICROSECONDS * 10, until=SLOT_MICROSECONDS * 30),
        EventQuery(workspace=1, since=SLOT_MICROSECONDS * 10, until=SLOT_MICROSECONDS * 30, event="event 7"),
        EventQuery(workspace=1, since=samples.NOW - 10**9, until=samples.NOW - 9 * 10**8),
        EventQuery(workspace=1, user_id="user 7"),
    ],
    ids=["all", "received slots", "slots of an event", "minutes", "user"],
)
async def test_counts_use_an_index(
    connection: "asyncpg.Connection[asyncpg.Record]",
    warehouse: PostgresqlWarehouse,
    statements: Statements,
    query: EventQuery,
) -> None:
    await warehouse.counts(query, by=["event"], interval="day", limit=100)
    _assert_no_scan(await _scans(connection, statements))


async def test_loads_use_an_index(
    connection: "asyncpg.Connection[asyncpg.Record]", warehouse: PostgresqlWarehouse, statements: Statements
) -> None:
    await warehouse.load(samples.events(Random(1), 50, first=ROWS + 1), through=ROWS + 50)
    await warehouse.maintain()
    assert sum(sql.lstrip().startswith("INSERT") for sql, _ in statements) == 2
    _assert_no_scan(await _scans(connection, statements))


async def test_events_of_persons_are_read_and_removed_through_their_indexes(
    connection: "asyncpg.Connection[asyncpg.Record]", warehouse: PostgresqlWarehouse, statements: Statements
) -> None:
    persons = [Person(user_id=f"user {number}") for number in range(40)]
    persons += [Person(connection=2, anonymous_id=f"anonymous {number}") for number in range(300)]
    page = await warehouse.find_events(1, persons, before=None, limit=20)
    assert len(page.documents) == 20
    await warehouse.find_events(1, persons, before=page.cursor, limit=20)
    cursor: ErasureCursor | None = ErasureCursor()
    while cursor is not None:
        cursor = (await warehouse.erase(1, [Person(user_id="user 7")], cursor)).cursor
    assert await warehouse.remove_before(1, samples.NOW - 39_990) > 0
    assert len(statements) > 10
    scans = await _scans(connection, statements)
    assert any("DELETE" in scan["sql"] for scan in scans)
    _assert_no_scan([scan for scan in scans if scan["Total Cost"] > _PAGE_COST])


_PAGE_COST = 30
"""The cost of a table of a few pages, which is read whole."""
