"""The column types of SQLite, which declares them but accepts every value."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from headwater.base.errors import BadRequest
from headwater.connectors.contract import Outcome, TableWrite
from headwater.schemas import (
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    Json,
    JsonType,
    StringType,
    Time,
    TimeType,
    UuidType,
)
from tests.connectors.databases.test_sqlite import Database, database
from tests.connectors.databases.types import check_read, check_round_trip, read

__all__ = ["database"]

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"

# the declared type, its schema type, and values as SQL and as read
SUPPORTED: list[tuple[str, Any, list[tuple[str, Any]]]] = [
    ("INTEGER", IntType(64), [("9223372036854775807", 2**63 - 1)]),
    ("BIGINT UNSIGNED", IntType(64), [("5", 5)]),
    ("TEXT", StringType(), [("''", ""), ("'é😀'", "é😀")]),
    ("VARCHAR(3)", StringType(), [("'longer'", "longer")]),
    ("", StringType(), [("'x'", "x"), ("5", "5"), ("1.5", "1.5")]),
    ("REAL", FloatType(64), [("0.1", 0.1), ("5", 5.0), ("9e999", float("inf"))]),
    ("DOUBLE PRECISION", FloatType(64), [("1.5", 1.5)]),
    ("BOOLEAN", BooleanType(), [("1", True), ("FALSE", False)]),
    ("DECIMAL(10, 2)", DecimalType(10, 2), [("'12.50'", Decimal("12.5")), ("7", Decimal(7))]),
    ("NUMERIC", DecimalType(76, 37), [("0.1", Decimal("0.1"))]),
    ("DATE", DateType(), [("'2024-02-29'", date(2024, 2, 29))]),
    ("TIME", TimeType(), [("'23:59:59.5'", Time.parse("23:59:59.5"))]),
    (
        "DATETIME",
        DateTimeType(),
        [
            ("'2024-03-05 10:00:00.5'", DateTime.parse("2024-03-05T10:00:00.5Z")),
            ("'2024-03-05T10:00:00+05:45'", DateTime.parse("2024-03-05T04:15:00Z")),
        ],
    ),
    ("JSON", JsonType(), [("'{\"a\": 1.50}'", Json('{"a":1.50}'))]),
    ("UUID", UuidType(), [(f"'{UUID.upper()}'", UUID)]),
]


def test_every_supported_type_is_read_and_written(database: Database) -> None:
    columns = [f"c{number}" for number in range(len(SUPPORTED))]
    declared = ", ".join(f"{name} {type_}" for name, (type_, _, _) in zip(columns, SUPPORTED, strict=True))
    for table in ("given", "written"):
        database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {declared})")
    source, sink = database.source(), database.sink()
    described = {column.name: column for column in sink.columns("written")}
    number = 0
    for name, (_, type_, values) in zip(columns, SUPPORTED, strict=True):
        for literal, _ in values:
            database.execute(f"INSERT INTO given (id, {name}) VALUES ({number}, {literal})")
            number += 1
        query = f"SELECT {name} AS c FROM given WHERE {name} IS NOT NULL ORDER BY id"
        check_read(source, query, type_, [value for _, value in values])
        assert described[name].type == type_
    check_round_trip(source, sink, "SELECT * FROM given ORDER BY id", "written", ["id", *columns])
    sink.close()


@pytest.mark.parametrize(
    ("expression", "type_", "value"),
    [
        ("count(*)", StringType(), "1"),
        ("CAST('5' AS INTEGER)", IntType(64), 5),
        ("CAST(5 AS TEXT)", StringType(), "5"),
        ("CAST(5 AS REAL)", FloatType(64), 5.0),
        ("NULL", StringType(), None),
        ("x'00ff'", StringType(), "\0\udcff"),
    ],
)
def test_expressions(database: Database, expression: str, type_: Any, value: Any) -> None:
    check_read(database.source(), f"SELECT {expression} AS c", type_, [value])


def test_values_of_other_types_stay_as_they_are(database: Database) -> None:
    database.execute("CREATE TABLE given (i INTEGER, d DATE, t DATETIME, b BOOLEAN, n DECIMAL(5,2), x BLOB)")
    database.execute("INSERT INTO given VALUES ('many', 'today', 1700000000, 7, 'x', x'00')")
    columns, rows = read(database.source(), "SELECT * FROM given")
    assert rows == [("many", "today", 1_700_000_000, 7, "x", None)]
    assert [bool(column.issue) for column in columns] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("table", "is_writable"),
    [
        ("(id INTEGER PRIMARY KEY, name)", True),
        ("(id TEXT PRIMARY KEY, name) WITHOUT ROWID", True),
        ("(id INTEGER, name, UNIQUE (id))", True),
        ("(id INTEGER, name)", False),
        ("(id INTEGER, name, UNIQUE (id, name))", False),
    ],
)
def test_the_key_needs_a_unique_index(database: Database, table: str, is_writable: bool) -> None:
    database.execute(f"CREATE TABLE people {table}")
    database.execute("CREATE UNIQUE INDEX part ON people (id) WHERE name > 'a'")
    sink = database.sink()
    write = TableWrite(table="people", columns=("id", "name"), key=("id",))
    if is_writable:
        assert [result.outcome for result in sink.upsert(write, [(1, "a")])] == [Outcome.DELIVERED]
    else:
        with pytest.raises(BadRequest, match="CREATE UNIQUE INDEX"):
            sink.upsert(write, [(1, "a")])
    sink.close()
