"""SQLite files as sources and destinations."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater.connectors.catalogue.databases import SQLiteSettings
from headwater.connectors.contract import ConnectorContext, QuerySource, Row, TableSink
from headwater.connectors.databases.sqlite import SQLiteSink, SQLiteSource
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.query_source import QuerySourceConformance
from tests.connectors.conformance.table_sink import TableSinkConformance

SETTINGS = SQLiteSettings(path="data/people.db")


class Database:
    """A file below a root folder, with a connection of the test."""

    def __init__(self, root: Path) -> None:
        self.context: ConnectorContext = msgspec.structs.replace(make_context(), filesystem_root=root)
        self.path = root / "data" / "people.db"
        self.path.parent.mkdir()
        self.connection = sqlite3.connect(self.path, isolation_level=None)

    def execute(self, statement: str, *values: Any) -> list[Any]:
        return self.connection.execute(statement, values).fetchall()

    def source(self) -> SQLiteSource:
        return SQLiteSource(SETTINGS, self.context)

    def sink(self) -> SQLiteSink:
        return SQLiteSink(SETTINGS, self.context)


@pytest.fixture
def database(tmp_path: Path) -> Any:
    database = Database(tmp_path)
    yield database
    database.connection.close()


class TestSource(QuerySourceConformance):
    WRITING = (
        *QuerySourceConformance.WRITING,
        "INSERT INTO people VALUES (99, 'x') RETURNING id",
        "ATTACH 'other.db' AS other",
        "PRAGMA user_version = 7",
        "PRAGMA query_only = 0",
        "VACUUM INTO 'copy.db'",
        "CREATE TEMP TABLE t (id)",
        "SELECT load_extension('x')",
        "BEGIN IMMEDIATE",
    )

    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database

    def make(self, rows: list[Row]) -> QuerySource:
        self.database.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
        self.database.connection.executemany("INSERT INTO people VALUES (?, ?)", rows)
        return self.database.source()


class TestSink(TableSinkConformance):
    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database

    def make(self) -> TableSink:
        self.database.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, note TEXT)")
        return self.database.sink()

    def read(self, sink: TableSink) -> list[Row]:
        return self.database.execute("SELECT id, name, note FROM people ORDER BY id")

    def set_note(self, sink: TableSink, id_: int, note: str) -> None:
        self.database.execute("UPDATE people SET note = ? WHERE id = ?", note, id_)
