"""SQL and the predicate of a filter agree: the SQL keeps every event that passes, and only those if it is exact."""

import asyncio
from random import Random
from typing import Any

import asyncpg
import pytest

from headwater.filters import CheckedFilter
from headwater.filters.model import MAX_VALUES
from headwater.warehouse.conditions import document_test
from headwater.warehouse.contract import EventQuery, StoredEvent
from headwater.warehouse.drivers.postgresql import PostgresqlWarehouse
from headwater.warehouse.drivers.postgresql.database import Parameters
from headwater.warehouse.drivers.postgresql.filters import (
    COLUMNS,
    COUNTED_COLUMNS,
    OLD_COLUMNS,
    Columns,
    render,
    without_equalities,
)
from tests.warehouse.postgresql import samples


@pytest.fixture
async def events(warehouse: PostgresqlWarehouse) -> list[StoredEvent]:
    events = samples.events(Random("events"), 300)
    await warehouse.load(events, through=300)
    return events


async def _kept(
    connection: "asyncpg.Connection[asyncpg.Record]", filter: CheckedFilter, columns: Columns
) -> tuple[set[int], bool]:
    parameters = Parameters()
    where = render(filter, columns, parameters)
    if where is None:
        assert parameters == []
        return set(range(1, 301)), False
    rows = await connection.fetch(f"SELECT position FROM warehouse.events WHERE {where.sql}", *parameters)
    return {row["position"] for row in rows}, where.exact


@pytest.mark.parametrize("columns", [COLUMNS, OLD_COLUMNS, COUNTED_COLUMNS], ids=["events", "old", "counts"])
async def test_sql_keeps_what_the_predicate_passes(url: str, events: list[StoredEvent], columns: Columns) -> None:
    connection = await samples.connect(url)
    random = Random("filters")
    exact = 0
    for _ in range(200):
        filter = samples.filter(random)
        test = document_test(filter)
        passed = {event.position for event in events if test(event.document)}
        kept, is_exact = await _kept(connection, filter, columns)
        assert kept == passed if is_exact else kept >= passed, filter
        exact += is_exact
    assert exact > 10
    await connection.close()


@pytest.mark.parametrize(
    ("text", "sql", "is_exact"),
    [
        ("userId is 'a'", "((user_id = $1::text))", True),
        ("userId is not 'a'", "(((user_id = $1::text) IS NOT TRUE))", True),
        ("userId does not exist", "((user_id IS NULL))", True),
        ("connectionId is one of 1, 2", "((connection = ANY($1::bigint[])))", True),
        ("timestamp is '2024-01-01T00:00:00.0000001'", "((FALSE))", True),
        ("timestamp is before '2024-01-01'", "((timestamp < $1::bigint))", True),
        (
            "properties.plan is 'pro'",
            "((position($1::text IN document) > 0 OR position($2::text IN document) > 0))",
            False,
        ),
        ("userId is 'a' or properties.n is less than 5 or properties.m is not 'a'", None, False),
        ("properties.plan is not 'pro'", None, False),
        ("properties.plan is empty", None, False),
    ],
)
def test_conditions_as_sql(text: str, sql: str | None, is_exact: bool) -> None:
    where = render(samples.checked(text), COLUMNS, Parameters())
    assert (None if where is None else where.sql) == sql
    assert where is None or where.exact is is_exact


@pytest.mark.parametrize(
    ("text", "sought"),
    [
        ("properties.plan is 'pro'", ["pro"]),
        ("properties.plan is 7", ['"plan"']),  # 7.0 is equal
        ("properties.plan contains '7'", ['"plan"']),
        ("properties.plan starts with '7'", ["7"]),
        ("properties.plan is 'a/b'", ['"plan"']),  # which may be written with a backslash
        ("properties.plan is one of 'a', 'b'", ["a", "b"]),
        ("properties.plan is true", ['"plan"']),
        ("context.page.title ends with 'é'", ["é"]),
        ("context.ip is '::1'", ['"ip"']),  # which may be written otherwise
        ("properties.plan exists", ['"plan"']),
        ("properties is null", ['"properties"']),
    ],
)
def test_texts_that_documents_are_searched_for(text: str, sought: list[str]) -> None:
    parameters = Parameters()
    where = render(samples.checked(text), COLUMNS, parameters)
    assert where is not None and not where.exact
    assert parameters == [*sought, "\\u"]


@pytest.mark.parametrize(
    ("text", "members", "rest"),
    [
        ("userId is 'a'", {"user_id": "a"}, 0),
        ("userId is 'a' and connectionId is 7 and properties.n is 1", {"user_id": "a", "connections": (7,)}, 1),
        ("userId is 'a' and userId is 'b'", {"user_id": "a"}, 1),
        ("userId is 'a' or type is 'page'", {}, 2),
        ("userId is not 'a'", {}, 1),
    ],
)
def test_equalities_become_members_of_the_query(text: str, members: dict[str, Any], rest: int) -> None:
    query = EventQuery(workspace=1, filter=samples.checked(text))
    found = without_equalities(query)
    assert {name: getattr(found, name) for name in members} == members
    assert (0 if found.filter is None else len(found.filter.conditions)) == rest


def test_a_member_that_the_query_has_stays() -> None:
    query = EventQuery(workspace=1, user_id="b", filter=samples.checked("userId is 'a'"))
    assert without_equalities(query) == query


async def test_thousands_of_conditions(warehouse: PostgresqlWarehouse, events: list[StoredEvent]) -> None:
    many = " or ".join(f"connectionId is {number}" for number in range(2, 3002))
    negated = " and ".join("timestamp is not '2024-01-01' and properties.plan is not 'x'" for _ in range(1500))
    searched = " and ".join("properties.plan contains 'p'" for _ in range(3000))
    values = ", ".join(f"'{number}'" for number in range(MAX_VALUES - 1))
    for text in (
        many,
        negated,
        searched,
        f"userId is one of {values}, 'a'",
        f"properties.plan is one of {values}, 'pro'",
    ):
        query = EventQuery(workspace=1, filter=await asyncio.to_thread(samples.checked, text))
        wanted = [event.document for event in samples.expected(events, query, ascending=False)]
        assert await samples.all_documents(warehouse, query) == wanted
