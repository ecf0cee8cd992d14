"""The reference implementations pass the suites of the capabilities that no connector has yet."""

import sqlite3

from headwater.connectors.contract import FileFormat, FileStorage, OAuthProvider, QuerySource, Row, TableSink
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.file_format import FileFormatConformance
from tests.connectors.conformance.file_storage import FileStorageConformance
from tests.connectors.conformance.oauth import OAuthConformance
from tests.connectors.conformance.query_source import QuerySourceConformance
from tests.connectors.conformance.table_sink import TableSinkConformance
from tests.connectors.reference.files import CsvFormat, MemoryStorage
from tests.connectors.reference.oauth import PlainOAuth
from tests.connectors.reference.tables import SqliteSink, SqliteSource


class TestQuerySource(QuerySourceConformance):
    def make(self, rows: list[Row]) -> QuerySource:
        return SqliteSource(rows)


class TestTableSink(TableSinkConformance):
    def make(self) -> TableSink:
        return SqliteSink()

    def read(self, sink: TableSink) -> list[Row]:
        return self._database(sink).execute("SELECT id, name, note FROM people ORDER BY id").fetchall()

    def set_note(self, sink: TableSink, id_: int, note: str) -> None:
        self._database(sink).execute("UPDATE people SET note = ? WHERE id = ?", (note, id_))

    def _database(self, sink: TableSink) -> sqlite3.Connection:
        assert isinstance(sink, SqliteSink)
        return sink.database


class TestFileStorage(FileStorageConformance):
    def make(self) -> FileStorage:
        return MemoryStorage()


class TestFileFormat(FileFormatConformance):
    INVALID = (b"\xff\xfe\x00", b"", b'a,b\n"open', b"a,b\n1,2,3\n")

    def make(self) -> FileFormat:
        return CsvFormat()


class TestOAuth(OAuthConformance):
    def make(self, http: ScriptedHttp) -> OAuthProvider:
        return PlainOAuth(make_context(http))
