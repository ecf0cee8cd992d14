"""Every column type of ClickHouse."""

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
    IpType,
    MapType,
    StringType,
    UuidType,
)
from tests.connectors.databases.test_clickhouse import Database, database
from tests.connectors.databases.types import check_read, check_round_trip

__all__ = ["database"]

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
NAN = float("nan")


def at(text: str) -> DateTime:
    return DateTime.parse(text)


# the declared type, its schema type, and values as SQL and as read
SUPPORTED: list[tuple[str, Any, list[tuple[str, Any]]]] = [
    ("Bool", BooleanType(), [("true", True)]),
    *[(f"Int{size}", IntType(size), [(f"-{2 ** (size - 1)}", -(2 ** (size - 1)))]) for size in (8, 16, 32, 64)],
    *[(f"UInt{size}", IntType(size, unsigned=True), [(f"{2**size - 1}", 2**size - 1)]) for size in (8, 16, 32, 64)],
    ("Int128", DecimalType(39), [("-5", Decimal(-5))]),
    ("UInt128", DecimalType(39), [(f"toUInt128('{2**128 - 1}')", Decimal(2**128 - 1))]),
    ("Float32", FloatType(32), [("1.5", 1.5), ("nan", NAN)]),
    ("Float64", FloatType(64), [("0.1", 0.1), ("-inf", float("-inf"))]),
    ("Decimal(10, 2)", DecimalType(10, 2), [("'12345678.90'", Decimal("12345678.90"))]),
    ("Decimal(76, 30)", DecimalType(76, 30), [("'1.5'", Decimal("1.5"))]),
    ("String", StringType(), [("''", ""), ("'é😀\\\\'", "é😀\\")]),
    ("LowCardinality(String)", StringType(), [("'x'", "x")]),
    ("FixedString(4)", StringType(max_bytes=4), [("'ab'", "ab")]),
    ("Date", DateType(), [("'2024-02-29'", date(2024, 2, 29))]),
    ("Date32", DateType(), [("'1925-01-01'", date(1925, 1, 1))]),
    ("DateTime", DateTimeType(), [("toDateTime('2024-03-05 10:00:00', 'UTC')", at("2024-03-05T10:00:00Z"))]),
    (
        "DateTime('Asia/Kathmandu')",
        DateTimeType(),
        [("toDateTime('2024-03-05 10:00:00', 'UTC')", at("2024-03-05T10:00:00Z"))],
    ),
    (
        "DateTime64(6)",
        DateTimeType(),
        [("toDateTime64('2024-03-05 10:00:00.123456', 6, 'UTC')", at("2024-03-05T10:00:00.123456Z"))],
    ),
    (
        "DateTime64(3, 'Asia/Kathmandu')",
        DateTimeType(),
        [("toDateTime64('1950-03-05 10:00:00.123', 3, 'UTC')", at("1950-03-05T10:00:00.123Z"))],
    ),
    ("UUID", UuidType(), [(f"'{UUID}'", UUID)]),
    ("IPv4", IpType(), [("'10.1.2.3'", "10.1.2.3")]),
    ("IPv6", IpType(), [("'2001:db8::1'", "2001:db8::1")]),
    ("Enum8('sad' = 1, 'it\\'s' = -2)", StringType(values=("it's", "sad")), [("'sad'", "sad"), ("'it\\'s'", "it's")]),
    ("Array(Int32)", ArrayType(IntType(32)), [("[1, 2]", [1, 2]), ("[]", [])]),
    ("Array(Nullable(String))", ArrayType(StringType()), [("['a', NULL]", ["a", None])]),
    (
        "Array(DateTime64(3, 'UTC'))",
        ArrayType(DateTimeType()),
        [("['2024-03-05 10:00:00.5']", [at("2024-03-05T10:00:00.5Z")])],
    ),
    ("Map(String, Int32)", MapType(IntType(32)), [("map('a', 1)", {"a": 1})]),
]
UNSUPPORTED = [
    ("Tuple(a Int32, b String)", "(1, 'x')"),
    ("UInt256", "1"),
    ("Map(Int32, String)", "map(1, 'x')"),
    ("Array(UInt256)", "[1]"),
]


def test_every_supported_type_is_read_and_written(database: Database) -> None:
    columns = [f"c{number}" for number in range(len(SUPPORTED))]
    declared = ", ".join(f"{name} {type_}" for name, (type_, _, _) in zip(columns, SUPPORTED, strict=True))
    for table in ("given", "written"):
        database.execute(f"CREATE TABLE {table} (id Int32, {declared}) ENGINE = ReplacingMergeTree ORDER BY id")
    source, sink = database.source(), database.sink()
    described = {column.name: column for column in sink.columns("written")}
    number = 0
    for name, (_, type_, values) in zip(columns, SUPPORTED, strict=True):
        for literal, _ in values:
            database.execute(f"INSERT INTO given (id, {name}) SELECT {number}, {literal}")
            number += 1
        first = number - len(values)
        query = f"SELECT {name} AS c FROM given WHERE id >= {first} AND id < {number} ORDER BY id"
        check_read(source, query, type_, [value for _, value in values])
        assert (described[name].type, described[name].nullable) == (type_, False)
    check_round_trip(source, sink, "SELECT * FROM given ORDER BY id", "written", ["id", *columns])
    sink.close()


@pytest.mark.parametrize(("declared", "literal"), UNSUPPORTED)
def test_unsupported_types_have_an_issue_and_no_values(database: Database, declared: str, literal: str) -> None:
    database.execute(f"CREATE TABLE given (id Int32, c {declared}) ENGINE = ReplacingMergeTree ORDER BY id")
    database.execute(f"INSERT INTO given SELECT 1, {literal}")
    check_read(database.source(), "SELECT c FROM given", None, [None])
    sink = database.sink()
    [_, column] = sink.columns("given")
    assert (column.type, column.writable) == (None, False) and column.issue
    sink.close()


def test_nulls(database: Database) -> None:
    check_read(database.source(), "SELECT CAST(NULL AS Nullable(Date)) AS c", DateType(), [None])
    check_read(database.source(), "SELECT NULL AS c", StringType(), [None])


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("MergeTree ORDER BY id", "only ReplacingMergeTree"),
        ("ReplacingMergeTree ORDER BY name", "must be its key"),
        ("ReplacingMergeTree ORDER BY (id, name)", "must be its key"),
    ],
)
def test_tables_that_do_not_replace_rows_by_their_key_are_refused(
    database: Database, engine: str, message: str
) -> None:
    database.execute(f"CREATE TABLE people (id Int32, name String) ENGINE = {engine}")
    sink = database.sink()
    with pytest.raises(BadRequest, match=message):
        sink.upsert(TableWrite(table="people", columns=("id", "name"), key=("id",)), [(1, "a")])
    sink.close()


def test_values_that_clickhouse_would_change_are_rejected(database: Database) -> None:
    database.execute("CREATE TABLE people (id Int32, t DateTime, d Date) ENGINE = ReplacingMergeTree ORDER BY id")
    sink = database.sink()
    write = TableWrite(table="people", columns=("id", "t", "d"), key=("id",))
    day, moment = date(2024, 1, 1), at("2024-01-01T00:00:00Z")
    rows = [(1, moment, day), (2, at("1969-01-01T00:00:00Z"), day), (3, moment, date(1960, 1, 1)), (4, None, day)]
    outcomes = [result.outcome for result in sink.upsert(write, rows)]
    assert outcomes == [Outcome.NOT_ATTEMPTED, *[Outcome.REJECTED] * 3]
    assert database.execute("SELECT count() FROM people") == [(0,)]
    sink.close()
