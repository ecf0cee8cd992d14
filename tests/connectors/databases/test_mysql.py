"""MySQL as a source and a destination, with a real MariaDB."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pymysql
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.addresses import ANY_ADDRESS
from headwater.connectors.catalogue.databases import MySQLSettings
from headwater.connectors.contract import ConnectorContext, QueryRejected, QuerySource, Row, TableSink
from headwater.connectors.databases.mysql import MySQLSink, MySQLSource
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.query_source import QuerySourceConformance
from tests.connectors.conformance.table_sink import TableSinkConformance
from tests.mariadb import PASSWORD, USER, MariadbServer, missing


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariadbServer]:
    if reason := missing():
        pytest.skip(reason)
    server = MariadbServer()
    yield server
    server.close()


class Database:
    """A database of the test server, with a connection of the test."""

    def __init__(self, server: MariadbServer, name: str) -> None:
        self.server = server
        self.settings = MySQLSettings(
            host="127.0.0.1", port=server.port, username=USER, password=PASSWORD, database=name
        )
        self.context: ConnectorContext = msgspec.structs.replace(
            make_context(secrets=[PASSWORD]), addresses=ANY_ADDRESS
        )
        self.connection = pymysql.connect(
            host="127.0.0.1",
            port=server.port,
            user=USER,
            password=PASSWORD,
            database=name,
            charset="utf8mb4",
            autocommit=True,
        )

    def execute(self, statement: str, values: Any = None) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def source(self) -> MySQLSource:
        return MySQLSource(self.settings, self.context)

    def sink(self) -> MySQLSink:
        return MySQLSink(self.settings, self.context)


@pytest.fixture
def database(mariadb_server: MariadbServer) -> Iterator[Database]:
    database = Database(mariadb_server, mariadb_server.create())
    try:
        yield database
    finally:
        database.connection.close()
        mariadb_server.drop(database.settings.database)


class TestSource(QuerySourceConformance):
    WRITING = (
        *QuerySourceConformance.WRITING,
        "INSERT INTO people VALUES (99, 'x') RETURNING id",
        "SELECT id FROM people INTO OUTFILE '/tmp/people'",
        "SELECT id /*! INTO OUTFILE '/tmp/people' */ FROM people",
        "/*! DROP TABLE people */",
        "CREATE TEMPORARY TABLE copied (id int)",
        "SET SESSION TRANSACTION READ WRITE",
        "COMMIT",
        "SELECT nextval(numbers)",
    )

    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database
        database.execute("CREATE SEQUENCE numbers")

    def make(self, rows: list[Row]) -> QuerySource:
        self.database.execute("CREATE TABLE people (id int PRIMARY KEY, name text)")
        with self.database.connection.cursor() as cursor:
            cursor.executemany("INSERT INTO people VALUES (%s, %s)", rows)
        return self.database.source()


class TestSink(TableSinkConformance):
    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database

    def make(self) -> TableSink:
        self.database.execute("CREATE TABLE people (id int PRIMARY KEY, name varchar(100) NOT NULL, note text)")
        return self.database.sink()

    def read(self, sink: TableSink) -> list[Row]:
        return self.database.execute("SELECT id, name, note FROM people ORDER BY id")

    def set_note(self, sink: TableSink, id_: int, note: str) -> None:
        self.database.execute("UPDATE people SET note = %s WHERE id = %s", (note, id_))


def test_tls(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the certificate is compared with the host, although the connection goes to its address."""

    def is_encrypted(**settings: str) -> bool:
        source = MySQLSource(msgspec.structs.replace(database.settings, **settings), database.context)
        query = "SELECT variable_value AS v FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'"
        with source.query(query, {}, None) as rows:
            return [row for batch in rows.batches() for row in batch] != [("",)]

    assert [is_encrypted(tls=tls) for tls in ("Off", "Preferred", "Required")] == [False, True, True]
    with pytest.raises(Unavailable, match="certificate"):
        is_encrypted(tls="Verified", host="localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(database.server.authority))
    assert is_encrypted(tls="Verified", host="localhost")
    with pytest.raises(Unavailable, match="certificate"):
        is_encrypted(tls="Verified", host="127.0.0.1")


def test_rows_that_fill_the_memory_are_refused(database: Database) -> None:
    texts = ", ".join(f"REPEAT('x', 16000000) AS a{number}" for number in range(5))
    source = database.source()
    with pytest.raises(QueryRejected, match="67,108,864 bytes"), source.query(f"SELECT {texts}", {}, None) as rows:
        list(rows.batches())
    with source.query("SELECT REPEAT('x', 16000000) AS a FROM seq_1_to_8", {}, None) as rows:
        assert [len(batch) for batch in rows.batches()] == [1] * 8
