"""DuckDB files as sources and destinations."""

from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from headwater.base.errors import BadRequest, Unprocessable
from headwater.connectors.catalogue.databases import DuckDBSettings
from headwater.connectors.contract import DELIVERED, ConnectorContext, QuerySource, Row, TableSink, TableWrite
from headwater.connectors.databases.duckdb import DuckDBSink, DuckDBSource, check
from headwater.connectors.databases.rows import QueryRows
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


def test_large_rows_are_read_in_small_chunks(database: Database) -> None:
    source = database.source()
    text = "SELECT i, repeat('x', 1500000) AS text, [repeat('y', 1500000)] AS list FROM range(12) t(i)"
    with source.query(text, {}, None) as rows:
        assert isinstance(rows, QueryRows)
        chunks = [len(chunk) for chunk in rows._read()]
    assert chunks == [2] * 6


def test_a_table_in_a_file_that_was_replaced_is_checked_again(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR)")
    write = TableWrite(table="people", columns=("id", "name"), key=("id",))
    sink = database.sink()
    assert sink.upsert(write, [(1, "a")]) == [DELIVERED]
    other = tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as connection:
        connection.execute("CREATE TABLE people (id INTEGER, name VARCHAR)")
    other.replace(database.path)
    with pytest.raises(BadRequest, match="CREATE UNIQUE INDEX"):
        sink.upsert(write, [(2, "b")])
    database.execute("CREATE UNIQUE INDEX people_key ON people (id)")
    assert sink.upsert(write, [(2, "b")]) == [DELIVERED]
    assert database.execute("SELECT * FROM people") == [(2, "b")]


def test_a_file_that_is_replaced_while_it_is_opened_is_not_used(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    secret = tmp_path / "secret.duckdb"
    with duckdb.connect(str(secret)) as connection:
        connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    connect = duckdb.connect

    def replace(path: str, **options: Any) -> duckdb.DuckDBPyConnection:
        database.path.unlink()
        database.path.symlink_to(secret)
        return connect(path, **options)

    monkeypatch.setattr(duckdb, "connect", replace)
    with pytest.raises(BadRequest, match="symbolic links"):
        database.sink().columns("people")
