"""Every column type of PostgreSQL."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

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
    Json,
    JsonType,
    StringType,
    Time,
    TimeType,
    UuidType,
)
from tests.connectors.databases.test_postgresql import Database, database
from tests.connectors.databases.types import check_read, check_round_trip, read

__all__ = ["database"]

INF = float("inf")
UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


def at(text: str) -> DateTime:
    return DateTime.parse(text)


# the declared type, its schema type, and values as SQL and as read
SUPPORTED: list[tuple[str, Any, list[tuple[str, Any]]]] = [
    ("boolean", BooleanType(), [("true", True), ("false", False)]),
    ("smallint", IntType(16), [("-32768", -(2**15)), ("32767", 2**15 - 1)]),
    ("integer", IntType(32), [("-2147483648", -(2**31)), ("7", 7)]),
    ("bigint", IntType(64), [("9223372036854775807", 2**63 - 1)]),
    ("oid", IntType(32, unsigned=True), [("4294967295", 2**32 - 1)]),
    ("real", FloatType(32), [("1.5", 1.5), ("'NaN'", float("nan")), ("'-Infinity'", -INF)]),
    ("double precision", FloatType(64), [("0.1", 0.1), ("'NaN'", float("nan")), ("'Infinity'", INF), ("1e308", 1e308)]),
    ("numeric(10,2)", DecimalType(10, 2), [("12345678.90", Decimal("12345678.90")), ("-0.01", Decimal("-0.01"))]),
    ("numeric(5)", DecimalType(5), [("99999", Decimal("99999"))]),
    ("numeric(3,-2)", DecimalType(5), [("12345", Decimal("12300"))]),
    ("numeric(2,4)", DecimalType(4, 4), [("0.0012", Decimal("0.0012"))]),
    ("numeric", DecimalType(76, 37), [("1e-30", Decimal("1e-30")), ("1e30", Decimal(10**30))]),
    ("text", StringType(), [("''", ""), ("'é😀\\'", "é😀\\"), ("E'a\\tb\\nc'", "a\tb\nc"), ("'\\N'", "\\N")]),
    ("varchar(20)", StringType(max_length=20), [("'x'", "x")]),
    ("varchar", StringType(), [("'x'", "x")]),
    ("char(3)", StringType(max_length=3), [("'a'", "a  ")]),
    ("name", StringType(max_bytes=63), [("'x'", "x")]),
    ('"char"', StringType(max_bytes=4), [("'x'", "x")]),
    ("date", DateType(), [("'2024-02-29'", date(2024, 2, 29)), ("'0001-01-01'", date(1, 1, 1))]),
    ("time", TimeType(), [("'23:59:59.999999'", Time.parse("23:59:59.999999")), ("'00:00'", Time(0))]),
    ("timestamp", DateTimeType(), [("'2024-03-05 10:00:00.123456'", at("2024-03-05T10:00:00.123456Z"))]),
    ("timestamptz", DateTimeType(), [("'2024-03-05 10:00:00+05:45'", at("2024-03-05T04:15:00Z"))]),
    ("uuid", UuidType(), [(f"'{UUID.upper()}'", UUID)]),
    ("json", JsonType(), [("'{\"a\": 1.50}'", Json('{"a":1.50}')), ("'null'", Json("null"))]),
    ("jsonb", JsonType(), [("'[1, \"x\"]'", Json('[1,"x"]'))]),
    ("inet", IpType(), [("'10.1.2.3/8'", "10.1.2.3"), ("'2001:DB8::1'", "2001:db8::1")]),
    ("cidr", StringType(), [("'10.0.0.0/8'", "10.0.0.0/8")]),
    ("macaddr", StringType(), [("'08:00:2b:01:02:03'", "08:00:2b:01:02:03")]),
    ("mood", StringType(values=("sad", "it's")), [("'it''s'", "it's")]),
    ("positive", IntType(32), [("5", 5)]),
    ("integer[]", ArrayType(IntType(32)), [("'{1,2,NULL}'", [1, 2, None]), ("'{}'", [])]),
    ("text[]", ArrayType(StringType()), [("ARRAY['a,b', 'c\"d', '', 'NULL', '{}']", ["a,b", 'c"d', "", "NULL", "{}"])]),
    ("numeric(6,2)[]", ArrayType(DecimalType(6, 2)), [("'{1.50}'", [Decimal("1.50")])]),
    (
        "timestamptz[]",
        ArrayType(DateTimeType()),
        [("ARRAY['2024-03-05 10:00+01'::timestamptz]", [at("2024-03-05T09:00:00Z")])],
    ),
    ("jsonb[]", ArrayType(JsonType()), [("ARRAY['{\"a\": 1}'::jsonb]", [Json('{"a":1}')])]),
    ("mood[]", ArrayType(StringType(values=("sad", "it's"))), [("ARRAY['sad', 'it''s']::mood[]", ["sad", "it's"])]),
]
UNSUPPORTED = [
    ("bytea", "'\\x00ff'"),
    ("money", "'1.00'"),
    ("timetz", "'10:00+01'"),
    ("interval", "'1 day'"),
    ("bit(3)", "'101'"),
    ("int4range", "'[1,5)'"),
    ("point", "'(1,2)'"),
    ("tsvector", "'a'"),
    ("pair", "ROW(1, 2)"),
    ("bytea[]", "'{}'"),
    ("int4range[]", "'{}'"),
]


@pytest.fixture(autouse=True)
def types(database: Database) -> None:
    database.execute("CREATE TYPE mood AS ENUM ('sad', 'it''s')")
    database.execute("CREATE TYPE pair AS (a int, b int)")
    database.execute("CREATE DOMAIN positive AS int CHECK (VALUE > 0)")


def test_every_supported_type_is_read_and_written(database: Database) -> None:
    """The table has the values, and a table of the same columns gets them through the sink."""
    columns = [f"c{number}" for number in range(len(SUPPORTED))]
    declared = ", ".join(f"{name} {type_}" for name, (type_, _, _) in zip(columns, SUPPORTED, strict=True))
    for table in ("given", "written"):
        database.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, {declared})")
    source, sink = database.source(), database.sink()
    described = {column.name: column for column in sink.columns("written")}
    number = 0
    for name, (_, type_, values) in zip(columns, SUPPORTED, strict=True):
        for literal, _ in values:
            database.execute(f"INSERT INTO given (id, {name}) VALUES ({number}, {literal})")
            number += 1
        query = f"SELECT {name} AS c FROM given WHERE {name} IS NOT NULL ORDER BY id"
        check_read(source, query, type_, [value for _, value in values])
        assert (described[name].type, described[name].writable) == (type_, True)
    check_round_trip(source, sink, "SELECT * FROM given ORDER BY id", "written", ["id", *columns])
    sink.close()


@pytest.mark.parametrize(("declared", "literal"), UNSUPPORTED)
def test_unsupported_types_have_an_issue_and_no_values(database: Database, declared: str, literal: str) -> None:
    database.execute(f"CREATE TABLE given (id int PRIMARY KEY, c {declared})")
    database.execute(f"INSERT INTO given VALUES (1, {literal})")
    check_read(database.source(), "SELECT c FROM given", None, [None])
    sink = database.sink()
    [_, column] = sink.columns("given")
    assert (column.type, column.writable) == (None, False) and column.issue
    sink.close()


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("'infinity'::timestamptz", "infinity"),
        ("'-infinity'::date", "-infinity"),
        ("'0044-03-15 BC'::timestamp", "0044-03-15 00:00:00 BC"),
        ("'12024-01-01'::date", "12024-01-01"),
        ("'24:00'::time", "24:00:00"),
        ("'NaN'::numeric", "NaN"),
    ],
)
def test_values_that_their_type_does_not_allow_stay_texts(database: Database, expression: str, text: str) -> None:
    _, rows = read(database.source(), f"SELECT {expression} AS c")
    assert rows == [(text,)]


def test_generated_columns_are_not_written(database: Database) -> None:
    database.execute(
        "CREATE TABLE people (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, "
        "upper text GENERATED ALWAYS AS (upper(name)) STORED, serial int GENERATED BY DEFAULT AS IDENTITY)"
    )
    sink = database.sink()
    found = [(column.name, column.writable, column.nullable) for column in sink.columns("people")]
    assert found == [("id", False, False), ("name", True, False), ("upper", False, True), ("serial", True, False)]
    sink.close()


def test_a_value_that_does_not_fit_its_column_is_rejected(database: Database) -> None:
    database.execute("CREATE TABLE people (id int PRIMARY KEY, code varchar(3), age smallint CHECK (age > 0))")
    sink = database.sink()
    write = TableWrite(table="people", columns=("id", "code", "age"), key=("id",))
    rows = [(1, "abc", 1), (2, "abcd", 1), (3, "a", -1), (4, "a", 99_999), (5, "a\0", 1), (6, "a", 5)]
    first = sink.upsert(write, rows)
    assert [number for number, result in enumerate(first) if result.outcome is Outcome.REJECTED] == [4]
    rest = sink.upsert(write, [row for row in rows if row[0] != 5])
    assert [result.outcome for result in rest] == [
        Outcome.NOT_ATTEMPTED,
        Outcome.REJECTED,
        Outcome.REJECTED,
        Outcome.REJECTED,
        Outcome.NOT_ATTEMPTED,
    ]
    assert [result.reason for result in rest[1:4]] == ["InvalidValue", "ConstraintViolated", "InvalidValue"]
    assert not any("99999" in result.message or "abcd" in result.message for result in rest)
    assert database.execute("SELECT count(*) FROM people") == [(0,)]
    sink.close()
