"""Every column type of MariaDB."""

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
    StringType,
    Time,
    TimeType,
    YearType,
)
from tests.connectors.databases.test_mysql import Database, database, mariadb_server
from tests.connectors.databases.types import check_read, check_round_trip, read

__all__ = ["database", "mariadb_server"]


def at(text: str) -> DateTime:
    return DateTime.parse(text)


# the declared type, its schema type in a query, that in a table if it differs, and values as SQL and as read
SUPPORTED: list[tuple[str, Any, Any, list[tuple[str, Any]]]] = [
    ("boolean", BooleanType(), None, [("TRUE", True), ("0", False)]),
    ("tinyint", IntType(8), None, [("-128", -128)]),
    ("tinyint unsigned", IntType(8, unsigned=True), None, [("255", 255)]),
    ("smallint", IntType(16), None, [("-32768", -(2**15))]),
    ("mediumint", IntType(24), None, [("-8388608", -(2**23))]),
    ("int", IntType(32), None, [("2147483647", 2**31 - 1)]),
    ("int unsigned", IntType(32, unsigned=True), None, [("4294967295", 2**32 - 1)]),
    ("bigint", IntType(64), None, [("-9223372036854775808", -(2**63))]),
    ("bigint unsigned", IntType(64, unsigned=True), None, [("18446744073709551615", 2**64 - 1)]),
    ("float", FloatType(32), None, [("1.5", 1.5)]),
    ("double", FloatType(64), None, [("0.1", 0.1), ("1e300", 1e300)]),
    ("decimal(10,2)", DecimalType(10, 2), None, [("-12345678.90", Decimal("-12345678.90"))]),
    ("decimal(5)", DecimalType(5), None, [("99999", Decimal("99999"))]),
    ("decimal(6,3) unsigned", DecimalType(6, 3), None, [("1.5", Decimal("1.500"))]),
    ("decimal(65,30)", DecimalType(65, 30), None, [("1e-30", Decimal("0." + "0" * 29 + "1"))]),
    ("varchar(20)", StringType(max_length=20), None, [("''", ""), ("'é😀\\\\'", "é😀\\"), ("'a''b'", "a'b")]),
    ("char(3)", StringType(max_length=3), None, [("'a'", "a")]),
    ("text", StringType(), StringType(max_bytes=2**16 - 1), [("'x'", "x")]),
    ("longtext", StringType(), None, [("'x'", "x")]),
    ("enum('sad','it''s')", StringType(max_length=4), StringType(values=("sad", "it's")), [("'it''s'", "it's")]),
    ("set('a','b')", StringType(max_length=3), StringType(), [("'a,b'", "a,b")]),
    ("date", DateType(), None, [("'2024-02-29'", date(2024, 2, 29))]),
    ("time", TimeType(), None, [("'23:59:59'", Time.parse("23:59:59"))]),
    ("time(6)", TimeType(), None, [("'23:59:59.999999'", Time.parse("23:59:59.999999"))]),
    ("datetime", DateTimeType(), None, [("'2024-03-05 10:00:00'", at("2024-03-05T10:00:00Z"))]),
    ("datetime(6)", DateTimeType(), None, [("'2024-03-05 10:00:00.123456'", at("2024-03-05T10:00:00.123456Z"))]),
    ("timestamp", DateTimeType(), None, [("'2024-03-05 10:00:00'", at("2024-03-05T04:15:00Z"))]),
    ("year", YearType(), None, [("2024", 2024)]),
]
UNSUPPORTED = [
    ("blob", "x'00ff'"),
    ("binary(2)", "x'00ff'"),
    ("varbinary(2)", "x'00ff'"),
    ("bit(3)", "b'101'"),
    ("point", "POINT(1, 2)"),
]


def test_every_supported_type_is_read_and_written(database: Database) -> None:
    columns = [f"c{number}" for number in range(len(SUPPORTED))]
    declared = ", ".join(f"{name} {type_} NULL" for name, (type_, _, _, _) in zip(columns, SUPPORTED, strict=True))
    for table in ("given", "written"):
        database.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, {declared})")
    source, sink = database.source(), database.sink()
    described = {column.name: column for column in sink.columns("written")}
    number = 0
    for name, (_, type_, of_table, values) in zip(columns, SUPPORTED, strict=True):
        for literal, _ in values:
            database.execute(f"INSERT INTO given (id, {name}) VALUES ({number}, {literal})")
            number += 1
        query = f"SELECT {name} AS c FROM given WHERE {name} IS NOT NULL ORDER BY id"
        check_read(source, query, type_, [value for _, value in values])
        assert described[name].type == (of_table or type_), described[name]
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


def test_values_that_their_type_does_not_allow_stay_as_they_are(database: Database) -> None:
    database.execute("SET SESSION sql_mode = ''")
    database.execute("CREATE TABLE given (d date, t datetime, h time, f boolean)")
    database.execute("INSERT INTO given VALUES ('0000-00-00', '2024-00-01', '-25:00:00', 7)")
    _, rows = read(database.source(), "SELECT * FROM given")
    assert rows == [("0000-00-00", "2024-00-01 00:00:00", "-25:00:00", 7)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("(id int, name text)", "needs a unique index"),
        ("(id int, name varchar(9), UNIQUE (id, name))", "needs a unique index"),
        ("(id varchar(9), name varchar(9), UNIQUE (id(3)))", "needs a unique index"),
        ("(id int PRIMARY KEY, name varchar(9) UNIQUE)", "another unique index"),
        ("(id int PRIMARY KEY, name varchar(9)) ENGINE = Aria", "no transactions"),
        ("(id int PRIMARY KEY, other varchar(9))", "has no column name"),
    ],
)
def test_tables_that_cannot_be_written_safely_are_refused(database: Database, table: str, message: str) -> None:
    database.execute(f"CREATE TABLE people {table}")
    sink = database.sink()
    with pytest.raises(BadRequest, match=message):
        sink.upsert(TableWrite(table="people", columns=("id", "name"), key=("id",)), [(1, "a")])
    sink.close()


def test_a_value_that_does_not_fit_its_column_is_rejected(database: Database) -> None:
    database.execute("CREATE TABLE people (id int PRIMARY KEY, code varchar(3), age smallint CHECK (age > 0), d date)")
    sink = database.sink()
    write = TableWrite(table="people", columns=("id", "code", "age", "d"), key=("id",))
    good = date(2024, 1, 1)
    rows = [(1, "abc", 1, good), (2, "abcd", 1, good), (3, "a", -1, good), (4, "a", 99_999, good), (5, "a", 5, "x-y")]
    results = sink.upsert(write, rows)  # type: ignore[arg-type]
    assert [result.outcome is Outcome.REJECTED for result in results] == [False, True, True, True, True]
    assert not any(
        "99999" in result.message or "abcd" in result.message or "x-y" in result.message for result in results
    )
    assert database.execute("SELECT count(*) FROM people") == [(0,)]
    sink.close()
