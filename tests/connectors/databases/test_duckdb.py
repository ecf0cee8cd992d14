"""DuckDB files as sources and destinations."""

from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from headwater.base.errors import Unprocessable
from headwater.connectors.catalogue.databases import DuckDBSettings
from headwater.connectors.contract import ConnectorContext, QuerySource, Row, TableSink
from headwater.connectors.databases.duckdb import DuckDBSink, DuckDBSource, check
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.query_source import QuerySourceConformance
from tests.connectors.conformance.table_sink import TableSinkConformance

SETTINGS = DuckDBSettings(path="people.duckdb")


class Database:
    """A file below a root folder."""

    def __init__(self, root: Path) -> None:
        self.context: ConnectorContext = msgspec.structs.replace(make_context(), filesystem_root=root)
        self.path = root / "people.duckdb"
        self.execute("SELECT 1")

    def execute(self, statement: str, values: Any = None) -> list[Any]:
        with duckdb.connect(str(self.path)) as connection:
            rows: list[Any] = connection.execute(statement, values).fetchall()
        return rows

    def source(self) -> DuckDBSource:
        return DuckDBSource(SETTINGS, self.context)

    def sink(self) -> DuckDBSink:
        return DuckDBSink(SETTINGS, self.context)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


class TestSource(QuerySourceConformance):
    WRITING = (
        *QuerySourceConformance.WRITING,
        "INSERT INTO people VALUES (99, 'x') RETURNING id",
        "WITH gone AS (DELETE FROM people RETURNING id) SELECT id FROM gone",
        "COPY people TO '/tmp/people'",
        "ATTACH '/tmp/other.duckdb'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "PRAGMA database_list",
        "CREATE TEMP TABLE t (id int)",
    )

    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database

    def make(self, rows: list[Row]) -> QuerySource:
        with duckdb.connect(str(self.database.path)) as connection:
            connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR)")
            for start in range(0, len(rows), 1_000):
                part = rows[start : start + 1_000]
                values = [value for row in part for value in row]
                connection.execute(f"INSERT INTO people VALUES {', '.join(['(?, ?)'] * len(part))}", values)
        return self.database.source()


class TestSink(TableSinkConformance):
    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database

    def make(self) -> TableSink:
        self.database.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, note VARCHAR)")
        return self.database.sink()

    def read(self, sink: TableSink) -> list[Row]:
        return self.database.execute("SELECT id, name, note FROM people ORDER BY id")

    def set_note(self, sink: TableSink, id_: int, note: str) -> None:
        self.database.execute("UPDATE people SET note = ? WHERE id = ?", [note, id_])


@pytest.mark.parametrize("path", ["people.csv", "empty", "../people.duckdb", "folder"])
def test_a_file_that_is_no_database_is_refused(database: Database, path: str) -> None:
    root = database.path.parent
    (root / "people.csv").write_text("id,name\n1,Ada\n")
    (root / "empty").touch()
    (root / "folder").mkdir()
    assert check(SETTINGS, database.context) == SETTINGS
    with pytest.raises(Unprocessable) as raised:
        check(DuckDBSettings(path=path), database.context)
    assert (raised.value.code, raised.value.field) == ("InvalidSettings", "settings.path")
