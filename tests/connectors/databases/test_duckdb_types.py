"""Every column type of DuckDB."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from headwater.base.errors import BadRequest
from headwater.connectors.contract import Outcome, TableWrite
from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    Json,
    JsonType,
    MapType,
    ObjectType,
    Property,
    StringType,
    Time,
    TimeType,
    UuidType,
)
from tests.connectors.databases.test_duckdb import Database, database
from tests.connectors.databases.types import check_read, check_round_trip

__all__ = ["database"]

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


def at(text: str) -> DateTime:
    return DateTime.parse(text)


# the declared type, its schema type, and values as SQL and as read
SUPPORTED: list[tuple[str, Any, list[tuple[str, Any]]]] = [
    ("BOOLEAN", BooleanType(), [("true", True)]),
    ("TINYINT", IntType(8), [("-128", -128)]),
    ("SMALLINT", IntType(16), [("-32768", -(2**15))]),
    ("INTEGER", IntType(32), [("7", 7)]),
    ("BIGINT", IntType(64), [("9223372036854775807", 2**63 - 1)]),
    ("HUGEINT", DecimalType(39), [("170141183460469231731687303715884105727", Decimal(2**127 - 1))]),
    ("UTINYINT", IntType(8, unsigned=True), [("255", 255)]),
    ("UBIGINT", IntType(64, unsigned=True), [("18446744073709551615", 2**64 - 1)]),
    ("FLOAT", FloatType(32), [("1.5", 1.5), ("'nan'", float("nan"))]),
    ("DOUBLE", FloatType(64), [("0.1", 0.1)]),
    ("DECIMAL(10,2)", DecimalType(10, 2), [("12345678.90", Decimal("12345678.90"))]),
    ("VARCHAR", StringType(), [("''", ""), ("'é😀\\'", "é😀\\")]),
    ("DATE", DateType(), [("'2024-02-29'", date(2024, 2, 29))]),
    ("TIME", TimeType(), [("'23:59:59.999999'", Time.parse("23:59:59.999999"))]),
    ("TIMESTAMP", DateTimeType(), [("'2024-03-05 10:00:00.123456'", at("2024-03-05T10:00:00.123456Z"))]),
    ("TIMESTAMPTZ", DateTimeType(), [("'2024-03-05 10:00:00+05:45'", at("2024-03-05T04:15:00Z"))]),
    ("TIMESTAMP_S", DateTimeType(), [("'2024-03-05 10:00:00'", at("2024-03-05T10:00:00Z"))]),
    ("UUID", UuidType(), [(f"'{UUID}'", UUID)]),
    ("JSON", JsonType(), [("'{\"a\": 1.50}'", Json('{"a":1.50}'))]),
    ("ENUM('sad', 'it''s')", StringType(values=("sad", "it's")), [("'it''s'", "it's")]),
    ("INTEGER[]", ArrayType(IntType(32)), [("[1, NULL]", [1, None]), ("[]", [])]),
    ("VARCHAR[]", ArrayType(StringType()), [("['a,b']", ["a,b"])]),
    ("TIMESTAMP[]", ArrayType(DateTimeType()), [("[TIMESTAMP '2024-03-05 10:00:00']", [at("2024-03-05T10:00:00Z")])]),
    ("MAP(VARCHAR, INTEGER)", MapType(IntType(32)), [("MAP {'a': 1}", {"a": 1})]),
    (
        "STRUCT(a INTEGER, b DATE)",
        ObjectType((Property("a", IntType(32), nullable=True), Property("b", DateType(), nullable=True))),
        [("{'a': 1, 'b': DATE '2024-01-01'}", {"a": 1, "b": date(2024, 1, 1)})],
    ),
]
UNSUPPORTED = [("BLOB", "'\\xAA'::BLOB"), ("INTERVAL", "INTERVAL 1 DAY"), ("BIT", "'101'::BIT"), ("BLOB[]", "[]")]


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


@pytest.mark.parametrize(("declared", "literal"), UNSUPPORTED)
def test_unsupported_types_have_an_issue_and_no_values(database: Database, declared: str, literal: str) -> None:
    database.execute(f"CREATE TABLE given (id INTEGER PRIMARY KEY, c {declared})")
    database.execute(f"INSERT INTO given VALUES (1, {literal})")
    check_read(database.source(), "SELECT c FROM given", None, [None])
    [_, column] = database.sink().columns("given")
    assert (column.type, column.writable) == (None, False) and column.issue


def test_the_key_needs_a_unique_index(database: Database) -> None:
    database.execute("CREATE TABLE people (id INTEGER, name VARCHAR)")
    write = TableWrite(table="people", columns=("id", "name"), key=("id",))
    with pytest.raises(BadRequest, match="CREATE UNIQUE INDEX"):
        database.sink().upsert(write, [(1, "a")])
    database.execute("CREATE UNIQUE INDEX by_id ON people (id)")
    assert [result.outcome for result in database.sink().upsert(write, [(1, "a")])] == [Outcome.DELIVERED]
