"""ClickHouse as a source and a destination, with the embedded engine."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from headwater.connectors.catalogue.databases import ClickHouseSettings
from headwater.connectors.contract import QuerySource, Row, TableSink
from headwater.connectors.databases.clickhouse import (
    BLOCK_ROWS,
    LARGE_BLOCK_ROWS,
    ClickHouseSink,
    ClickHouseSource,
)
from headwater.connectors.databases.rows import QueryRows
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.query_source import QuerySourceConformance
from tests.connectors.conformance.table_sink import TableSinkConformance

SETTINGS = ClickHouseSettings(host="embedded", port=8123)


def connect(*_: object) -> Client:
    return clickhouse_connect.get_client(interface="chdb")


class Database:
    """The embedded engine, which a process has once."""

    def __init__(self) -> None:
        self.client = connect()
        for (table,) in self.client.query("SHOW TABLES").result_rows:
            self.client.command(f"DROP TABLE `{table}`")

    def execute(self, statement: str) -> list[Any]:
        if statement.startswith("SELECT"):
            return [tuple(row) for row in self.client.query(statement).result_rows]
        self.client.command(statement)
        return []

    def source(self) -> ClickHouseSource:
        return ClickHouseSource(SETTINGS, make_context(), connect)

    def sink(self) -> ClickHouseSink:
        return ClickHouseSink(SETTINGS, make_context(), connect)


@pytest.fixture
def database() -> Iterator[Database]:
    if find_spec("chdb") is None:
        pytest.skip("no ClickHouse to test with: chdb has no wheel for this machine")
    database = Database()
    yield database
    database.client.close()


class TestSource(QuerySourceConformance):
    WRITING = (
        *QuerySourceConformance.WRITING,
        "SELECT id FROM people INTO OUTFILE '/tmp/people'",
        "ALTER TABLE people DELETE WHERE 1",
        "TRUNCATE TABLE people",
        "SYSTEM SHUTDOWN",
        "SET readonly = 0",
    )

    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database

    def make(self, rows: list[Row]) -> QuerySource:
        self.database.execute("CREATE TABLE people (id Int32, name Nullable(String)) ENGINE = MergeTree ORDER BY id")
        if rows:
            self.database.client.insert("people", rows, column_names=["id", "name"])
        return self.database.source()


class TestSink(TableSinkConformance):
    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database

    def make(self) -> TableSink:
        self.database.execute(
            "CREATE TABLE people (id Int32, name String, note Nullable(String)) ENGINE = ReplacingMergeTree ORDER BY id"
        )
        return self.database.sink()

    def read(self, sink: TableSink) -> list[Row]:
        return self.database.execute("SELECT id, name, note FROM people FINAL ORDER BY id")

    def set_note(self, sink: TableSink, id_: int, note: str) -> None:
        self.database.execute(f"INSERT INTO people SELECT id, name, '{note}' FROM people FINAL WHERE id = {id_}")


@pytest.mark.parametrize(("column", "rows"), [("toString(number)", LARGE_BLOCK_ROWS), ("number", BLOCK_ROWS)])
def test_blocks_with_texts_have_fewer_rows(database: Database, column: str, rows: int) -> None:
    with database.source().query(f"SELECT {column} AS value FROM numbers(9000)", {}, None) as found:
        assert isinstance(found, QueryRows)
        assert max(len(chunk) for chunk in found._read()) == rows
