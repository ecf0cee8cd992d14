"""The statements and the types of Snowflake. There is no Snowflake to test with."""

from typing import Any

import pytest
from snowflake.connector import errors
from snowflake.connector.cursor import ResultMetadata

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.catalogue.databases import SnowflakeSettings
from headwater.connectors.contract import Outcome, QueryRejected, TableWrite
from headwater.connectors.databases.snowflake import SnowflakeSink, SnowflakeSource, statements
from headwater.connectors.databases.snowflake_types import make_column, stored
from headwater.schemas import (
    BooleanType,
    DateTime,
    DateTimeType,
    DecimalType,
    Json,
    JsonType,
    StringType,
    TimeType,
    Value,
)
from tests.connectors.conformance.context import make_context

SETTINGS = SnowflakeSettings(
    account="org-account", username="u", password="p", role="r", database="D", schema="S", warehouse="w"
)
WRITE = TableWrite(table="people", columns=("id", 'na"me'), key=("id",))


def described(name: str, code: int, precision: int = 0, scale: int = 0, size: int = 0) -> ResultMetadata:
    return ResultMetadata(name, code, None, size, precision, scale, True)


class Cursor:
    """A cursor that records statements, and fails where a test says."""

    def __init__(self, fails: Any = None) -> None:
        self.executed: list[tuple[str, Any]] = []
        self.fails = fails or (lambda statement, values: None)
        self.rows: list[Any] = [("id", "NUMBER"), ('na"me', "TEXT")]
        self.connection = self
        self.sfqid = "1"

    def cursor(self) -> "Cursor":
        return self

    def execute(self, statement: str, values: Any = None) -> "Cursor":
        self.executed.append((statement, values))
        error = self.fails(statement, values)
        if error is not None:
            raise error
        return self

    def describe(self, statement: str) -> list[ResultMetadata]:
        self.execute(statement)
        return [described("id", 0, 38, 0), described('na"me', 2, size=50)]

    def fetchall(self) -> list[Any]:
        return self.rows

    def fetchmany(self, count: int) -> list[Any]:
        rows, self.rows = self.rows[:count], self.rows[count:]
        return rows

    def close(self) -> None:
        pass


def test_a_batch_is_merged_by_its_key() -> None:
    prepared = statements(WRITE, ("D", "S", "people"), {"id": "NUMBER", 'na"me': "TEXT"})
    assert prepared.merge == (
        'MERGE INTO "D"."S"."people" t USING (SELECT C0::NUMBER AS "id", C1 AS "na""me" FROM HEADWATER_BATCH_2 '
        'WHERE NUMBER >= ? AND NUMBER < ?) s ON t."id" = s."id" '
        'WHEN MATCHED THEN UPDATE SET t."na""me" = s."na""me" '
        'WHEN NOT MATCHED THEN INSERT ("id", "na""me") VALUES (s."id", s."na""me")'
    )
    only_key = statements(TableWrite(table="t", columns=("id",), key=("id",)), ("t",), {"id": "VARIANT"})
    assert "WHEN MATCHED" not in only_key.merge and "PARSE_JSON(C0)" in only_key.merge


def test_rows_are_written_in_one_transaction() -> None:
    cursor = Cursor()
    sink = SnowflakeSink(SETTINGS, make_context(), lambda *_: cursor)
    results = sink.upsert(WRITE, [(1, "a"), (2, None)])
    assert [result.outcome for result in results] == [Outcome.DELIVERED] * 2
    names = [statement.split()[0] for statement, _ in cursor.executed]
    assert names == ["SELECT", "CREATE", "BEGIN", "DELETE", "INSERT", "MERGE", "COMMIT"]
    assert cursor.executed[4][1] == [0, "1", "a", 1, "2", None]


def test_rows_at_fault_are_found_and_nothing_is_written() -> None:
    def fails(statement: str, values: Any) -> Exception | None:
        is_hit = statement.startswith("MERGE") and values[0] <= 2 < values[1]
        return errors.ProgrammingError("Numeric value 'x' is not recognized") if is_hit else None

    cursor = Cursor(fails)
    results = SnowflakeSink(SETTINGS, make_context(), lambda *_: cursor).upsert(WRITE, [(n, "a") for n in range(4)])
    outcomes = [result.outcome for result in results]
    assert outcomes == [Outcome.NOT_ATTEMPTED] * 2 + [Outcome.REJECTED, Outcome.NOT_ATTEMPTED]
    assert cursor.executed[-1][0] == "ROLLBACK" and "x" not in results[2].message.split()


def test_queries_that_write_are_rejected_before_they_are_sent() -> None:
    cursor = Cursor()
    source = SnowflakeSource(SETTINGS, make_context(), lambda *_: cursor)
    for query in ("DELETE FROM t", "CALL p()", "COPY INTO @s FROM t", "USE ROLE admin", "// SELECT\nDROP TABLE t"):
        with pytest.raises(QueryRejected), source.query(query, {}, None):
            pass
    assert cursor.executed == []


def test_rows_are_read_with_their_types() -> None:
    cursor = Cursor()
    cursor.rows = [(1, "a"), (2, None)]
    with SnowflakeSource(SETTINGS, make_context(), lambda *_: cursor).query("SELECT id, name FROM t", {}, None) as rows:
        assert [str(column.type) for column in rows.columns] == ["decimal(38,0)", "string"]
        assert list(rows.batches()) == [[(1, "a"), (2, None)]]


def test_errors_are_those_of_the_contract() -> None:
    context = make_context(secrets=["secret-word"])

    def query(error: Exception) -> None:
        source = SnowflakeSource(SETTINGS, context, lambda *_: Cursor(lambda *_: error))
        with source.query("SELECT 1 AS a", {}, None):
            pass

    with pytest.raises(QueryRejected) as rejected:
        query(errors.ProgrammingError("syntax error near secret-word"))
    assert "secret-word" not in rejected.value.message
    with pytest.raises(Unavailable):
        query(errors.OperationalError("timed out"))
    sink = SnowflakeSink(SETTINGS, context, lambda *_: Cursor(lambda *_: errors.ProgrammingError("no table")))
    with pytest.raises(BadRequest):
        sink.columns("missing")


@pytest.mark.parametrize(
    ("column", "type_"),
    [
        (described("a", 0, 10, 2), DecimalType(10, 2)),
        (described("a", 2, size=50), StringType(max_length=50)),
        (described("a", 2, size=16 * 1024 * 1024), StringType()),
        (described("a", 7), DateTimeType()),
        (described("a", 5), JsonType()),
        (described("a", 12), TimeType()),
        (described("a", 13), BooleanType()),
        (described("a", 11), None),
        (described("a", 14), None),
    ],
)
def test_types_of_columns(column: ResultMetadata, type_: object) -> None:
    made = make_column(column)
    assert made.type == type_ and bool(made.issue) is (type_ is None)


def test_values_are_written_as_texts() -> None:
    moment = DateTime.parse("2026-05-04T12:00:00.5Z")
    values: list[Value] = [None, True, 5, moment, Json('{"a":1}'), [1, "x"]]
    assert [stored(each) for each in values] == [
        None,
        "true",
        "5",
        "2026-05-04 12:00:00.5 +0000",
        '{"a":1}',
        '[1, "x"]',
    ]
