"""The SQL of a filter keeps the rows whose records the predicate passes: on SQLite, on PostgreSQL, for thousands."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from headwater.filters import (
    POSTGRESQL,
    SQLITE,
    CheckedFilter,
    check_filter,
    compile_filter,
    parse_text,
    print_text,
    render,
)
from headwater.filters.model import MAX_VALUES
from headwater.schemas import (
    ArrayType,
    DateTimeType,
    DecimalType,
    FloatType,
    IntType,
    JsonType,
    ObjectType,
    Property,
    Schema,
    StringType,
    TimeType,
    Type,
)
from tests.examples import examples
from tests.filters import generate, warehouse
from tests.postgresql import PostgresqlServer

ROWS = 25
FILTERS = 20


def _check(schema: Schema, filters: list[CheckedFilter], records: list[Any], kept: list[set[int]]) -> None:
    for filter, found in zip(filters, kept, strict=True):
        passes = compile_filter(filter)
        for index, record in enumerate(records):
            assert passes(record) is (index in found), (print_text(filter.normal), record, schema)


# --- SQLite -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sqlite() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    yield connection
    connection.close()


def _fill(sqlite: sqlite3.Connection, schema: Schema, records: list[Any]) -> None:
    sqlite.execute("DROP TABLE IF EXISTS t")
    sqlite.execute(warehouse.create_table("t", schema, "sqlite"))
    rows = [[index, *warehouse.row(schema, record, "sqlite")] for index, record in enumerate(records)]
    sqlite.executemany(warehouse.insert("t", schema, "sqlite"), rows)


def _select(sqlite: sqlite3.Connection, filter: CheckedFilter) -> set[int]:
    where = render(filter, SQLITE)
    assert where.exact
    return {id for (id,) in sqlite.execute(f"SELECT id FROM t WHERE {where.sql}", where.parameters)}


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**64))
def test_sqlite_keeps_what_the_predicate_passes(sqlite: sqlite3.Connection, seed: int) -> None:
    random = Random(seed)
    schema = generate.schema(random)
    records = [generate.record(random, schema) for _ in range(ROWS)]
    filters = [generate.filter(random, schema) for _ in range(FILTERS)]
    _fill(sqlite, schema, records)
    _check(schema, filters, records, [_select(sqlite, filter) for filter in filters])


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def postgresql(postgresql_server: PostgresqlServer) -> AsyncIterator[AsyncConnection]:
    url = postgresql_server.create(empty=True)
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        yield connection
        await connection.rollback()
    await engine.dispose()
    postgresql_server.drop(url)


async def _postgresql_fill(connection: AsyncConnection, table: str, schema: Schema, records: list[Any]) -> None:
    raw = (await connection.get_raw_connection()).driver_connection
    assert isinstance(raw, asyncpg.Connection)
    await connection.execute(text(warehouse.create_table(table, schema, "postgresql")))
    rows = [[index, *warehouse.row(schema, record, "postgresql")] for index, record in enumerate(records)]
    await raw.executemany(warehouse.insert(table, schema, "postgresql"), rows)


async def _postgresql_select(connection: AsyncConnection, table: str, filters: list[CheckedFilter]) -> list[set[int]]:
    """All filters in one statement, as asking for each by itself takes longer than all else."""
    kept: list[set[int]] = [set() for _ in filters]
    wheres = [render(filter, POSTGRESQL, prefix=f"f{index}_") for index, filter in enumerate(filters)]
    selects = [f"SELECT {index}, id FROM {table} WHERE {where.sql}" for index, where in enumerate(wheres)]
    parameters = {name: value for where in wheres for name, value in where.parameters.items()}
    for index, id in await connection.execute(text(" UNION ALL ".join(selects)), parameters):
        kept[index].add(id)
    return kept


async def test_postgresql_keeps_what_the_predicate_passes(postgresql: AsyncConnection) -> None:
    for seed in range(150):
        random = Random(seed)
        schema = generate.schema(random)
        records = [generate.record(random, schema, nan=True) for _ in range(ROWS)]
        filters = [generate.filter(random, schema) for _ in range(FILTERS)]
        table = f"t{seed}"  # prepared statements are remembered by their text
        await _postgresql_fill(postgresql, table, schema, records)
        _check(schema, filters, records, await _postgresql_select(postgresql, table, filters))


# --- Cases --------------------------------------------------------------------------------------------------------


def _checked(said: str, **types: Type) -> CheckedFilter:
    schema = ObjectType(tuple(Property(name, type, read_optional=True) for name, type in types.items()))
    filter = parse_text(said)
    assert filter is not None
    return check_filter(filter, schema, role="Destination" if "json" not in said else "Source", target="User")


def test_the_statement_holds_names_and_placeholders_and_never_a_value() -> None:
    where = render(_checked('name contains "x\' OR 1=1 --" and n is 7', name=StringType(), n=IntType(8)), SQLITE)
    assert where.sql == '(instr("name", :filter_0) > 0) AND ("n" = :filter_1)'
    assert where.parameters == {"filter_0": "x' OR 1=1 --", "filter_1": 7}


def test_columns_and_placeholders_are_named_by_the_caller() -> None:
    filter = _checked("a.b is 7", a=ObjectType((Property("b", IntType(8), read_optional=True),)))
    assert render(filter, SQLITE).sql == '("a_b" = :filter_0)'
    assert render(filter, SQLITE, columns=lambda path: f"p.[{path}]", prefix="x").sql == "(p.[a.b] = :x0)"


JSON: dict[str, Type] = {"json": JsonType(), "jsons": ArrayType(JsonType()), "n": IntType(8)}


@pytest.mark.parametrize(
    ("said", "sql", "exact"),
    [
        ("n is 1 and n is not 2", '("n" = :filter_0) AND ("n" IS NULL OR NOT ("n" = :filter_1))', True),
        ("n is 1 and json.a is 2", '("n" = :filter_0)', False),
        ("n is 1 or json.a is 2", "TRUE", False),
        ("json is 2", "TRUE", False),
        ("jsons contains 2 and n is 1", '("n" = :filter_0)', False),
        ('n exists and jsons is empty', '("n" IS NOT NULL) AND ("jsons" IS NULL OR "jsons" = \'[]\')', True),
    ],
)  # fmt: skip
def test_what_is_about_json_is_left_to_the_predicate(said: str, sql: str, exact: bool) -> None:
    where = render(_checked(said, **JSON), SQLITE)
    assert (where.sql, where.exact) == (sql, exact)
    assert len(where.parameters) == sql.count(":filter_")


@pytest.mark.parametrize(
    "said",
    [
        "n is less than 9223372036854775808 and n is not 18446744073709551615",
        "n is one of 1, 18446744073709551615 or n is greater than 9223372036854775807",
        'at is "2024-01-01T00:00:00.0000001" or at is before "2024-01-01T00:00:00.0000001"',
        'at is one of "2024-01-01T00:00:00.0000001"',
        'clock is on or after "10:00:00.0000001" or clock is one of "10:00:00.0000001", "10:00:00"',
        "x is greater than -0.0001 and x is less than 100.5",
        'f is greater than or equal to "-1e308"',
    ],
)
async def test_values_that_no_column_can_hold(
    said: str, sqlite: sqlite3.Connection, postgresql: AsyncConnection
) -> None:
    types: dict[str, Type] = {
        "n": IntType(32, unsigned=True),
        "at": DateTimeType(),
        "clock": TimeType(),
        "x": DecimalType(10, 4),
        "f": FloatType(64),
    }
    filter = _checked(said, **types)
    schema = ObjectType(tuple(Property(name, type, read_optional=True) for name, type in types.items()))
    random = Random(said)
    records = [generate.record(random, schema) for _ in range(200)]
    _fill(sqlite, schema, records)
    await _postgresql_fill(postgresql, "cases", schema, records)
    found = [_select(sqlite, filter), *await _postgresql_select(postgresql, "cases", [filter])]
    _check(schema, [filter, filter], records, found)


async def test_thousands_of_conditions(sqlite: sqlite3.Connection, postgresql: AsyncConnection) -> None:
    types: dict[str, Type] = {"n": IntType(16), "x": DecimalType(10, 4), "s": StringType()}
    schema = ObjectType(tuple(Property(name, type, read_optional=True) for name, type in types.items()))
    records: list[Any] = [{"n": number, "s": str(number)} for number in range(-3, 4)]
    many = " or ".join(f"n is {number}" for number in range(1, 3001))
    all_of = " and ".join("x is not between 0.5 and 7" for _ in range(3000))
    texts = "s is one of " + ", ".join(f'"{number}"' for number in range(2, MAX_VALUES))
    numbers = "n is one of 1, 2, " + ", ".join(str(2**63 - number) for number in range(1, 3000))
    filters = [_checked(said, **types) for said in (many, all_of, texts, numbers)]
    _fill(sqlite, schema, records)
    await _postgresql_fill(postgresql, "many", schema, records)
    _check(schema, filters, records, [_select(sqlite, filter) for filter in filters])
    for filter in filters:
        _check(schema, [filter], records, await _postgresql_select(postgresql, "many", [filter]))


def test_a_record_without_anything(sqlite: sqlite3.Connection) -> None:
    schema = ObjectType((Property("s", StringType(), read_optional=True),))
    _fill(sqlite, schema, [{}])
    for said, kept in (("s is 1", set()), ("s is not 1", {0}), ("s is empty", {0}), ("s does not exist", {0})):
        filter = _checked(said, s=StringType())
        assert _select(sqlite, filter) == kept
        assert compile_filter(filter)({}) is bool(kept)
