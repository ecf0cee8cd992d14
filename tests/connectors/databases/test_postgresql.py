"""PostgreSQL as a source and a destination, with a real server."""

from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest

from headwater.base.errors import Unavailable, Unprocessable
from headwater.connectors.addresses import ANY_ADDRESS
from headwater.connectors.catalogue.databases import PostgreSQLSettings
from headwater.connectors.contract import ConnectorContext, QueryRejected, QuerySource, Row, TableSink
from headwater.connectors.databases.postgresql import PostgreSQLSink, PostgreSQLSource, check
from headwater.connectors.databases.postgresql_session import Session
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.query_source import QuerySourceConformance
from tests.connectors.conformance.table_sink import TableSinkConformance
from tests.postgresql import PASSWORD, USER, PostgresqlServer
from tests.system import free_port


class Database:
    """A database of the test server, with a connection of the test."""

    def __init__(self, server: PostgresqlServer, name: str) -> None:
        self.settings = PostgreSQLSettings(
            host="127.0.0.1",
            port=server.port,
            username=USER,
            password=PASSWORD,
            database=name,
            schema="public",
        )
        self.connection = psycopg.connect(
            host="127.0.0.1", port=server.port, user=USER, password=PASSWORD, dbname=name, autocommit=True
        )

    def execute(self, statement: str) -> list[Any]:
        cursor = self.connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def source(self) -> PostgreSQLSource:
        return PostgreSQLSource(self.settings, context())

    def sink(self) -> PostgreSQLSink:
        return PostgreSQLSink(self.settings, context())


def context() -> ConnectorContext:
    return msgspec.structs.replace(make_context(secrets=[PASSWORD]), addresses=ANY_ADDRESS)


@pytest.fixture
def database(postgresql_server: PostgresqlServer) -> Iterator[Database]:
    url = postgresql_server.create(empty=True)
    database = Database(postgresql_server, url.rpartition("/")[2])
    postgresql_server.administer(f"GRANT ALL ON SCHEMA public TO {USER}", database.settings.database)
    try:
        yield database
    finally:
        database.connection.close()
        postgresql_server.drop(url)


class TestSource(QuerySourceConformance):
    WRITING = (
        *QuerySourceConformance.WRITING,
        "WITH new AS (INSERT INTO people VALUES (99, 'x') RETURNING id) SELECT id FROM new",
        "INSERT INTO people VALUES (99, 'x') RETURNING id",
        "EXPLAIN ANALYZE DELETE FROM people",
        "COPY people TO PROGRAM 'cat'",
        "COPY people TO STDOUT",
        "SELECT id INTO copied FROM people",
        "SELECT id FROM people FOR UPDATE",
        "SET default_transaction_read_only = off",
        "COMMIT",
        "SELECT set_config('transaction_read_only', 'off', false), nextval('numbers')",
    )

    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database
        database.execute("CREATE SEQUENCE numbers")

    def make(self, rows: list[Row]) -> QuerySource:
        self.database.execute("CREATE TABLE people (id int PRIMARY KEY, name text)")
        with self.database.connection.cursor() as cursor, cursor.copy("COPY people FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return self.database.source()


class TestSink(TableSinkConformance):
    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database

    def make(self) -> TableSink:
        self.database.execute("CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, note text)")
        return self.database.sink()

    def read(self, sink: TableSink) -> list[Row]:
        return self.database.execute("SELECT id, name, note FROM people ORDER BY id")

    def set_note(self, sink: TableSink, id_: int, note: str) -> None:
        self.database.execute(f"UPDATE people SET note = '{note}' WHERE id = {id_}")


def test_variables_of_the_server_are_not_used(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=77MB")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    with database.source().query("SHOW work_mem", {}, None) as rows:
        assert list(rows.batches()) != [[("77MB",)]]
    session = Session(database.settings, context(), is_read_only=True)
    assert session.connection.info.get_parameters()["sslcertmode"] == "disable"
    session.close()
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with pytest.raises((Unprocessable, Unavailable), match="password"):
        check(msgspec.structs.replace(database.settings, password=""), context())


def test_a_query_of_many_megabytes_is_sent(database: Database) -> None:
    text = "x" * 16_000_000
    with database.source().query(f"SELECT length('{text}') AS a", {}, None) as rows:
        assert list(rows.batches()) == [[(len(text),)]]


@pytest.mark.parametrize("query", ["SELECT repeat('x', 500000000) AS a", "SELECT repeat('x', 9000000) AS a FROM t"])
def test_rows_that_fill_the_memory_are_refused(database: Database, query: str) -> None:
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 16) AS n")
    source = database.source()
    with pytest.raises(QueryRejected, match="67,108,864 bytes"), source.query(query, {}, None) as rows:
        list(rows.batches())
    with source.query("SELECT repeat('x', 3000000) AS a FROM t", {}, None) as rows:
        assert sum(map(len, rows.batches())) == 16


def test_the_message_of_a_lost_connection_is_one_line(database: Database, postgresql_server: PostgresqlServer) -> None:
    query = "SELECT repeat('x', 10000) AS a FROM generate_series(1, 100000)"
    with pytest.raises(Unavailable) as caught, database.source().query(query, {}, None) as rows:
        for _ in rows.batches():
            postgresql_server.administer(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                f"AND datname = '{database.settings.database}' AND query LIKE '%generate_series(1, 100000)%'"
            )
    assert caught.value.message.startswith("the database failed: ")
    assert "\n" not in caught.value.message


def test_the_message_of_a_refused_connection_is_one_line(database: Database) -> None:
    with pytest.raises(Unavailable) as caught:
        check(msgspec.structs.replace(database.settings, port=free_port()), context())
    assert "Connection refused" in caught.value.message
    assert "\n" not in caught.value.message
