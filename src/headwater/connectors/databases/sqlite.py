"""SQLite: reads rows from a file with a query, and writes rows into a table.

A query can neither write nor open other files: the file is opened for reading, and an authorizer permits only reading.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from headwater.base.errors import BadRequest, Unavailable, Unprocessable
from headwater.connectors.catalogue.databases import SQLiteSettings
from headwater.connectors.contract import (
    DELIVERED,
    Column,
    ConnectorContext,
    ItemResult,
    QueryRejected,
    Row,
    Rows,
    TableWrite,
    rejected,
)
from headwater.connectors.databases.files import checking_file, database_file
from headwater.connectors.databases.limits import CONNECT_SECONDS, MAX_VALUE_BYTES, WAIT_SECONDS
from headwater.connectors.databases.placeholders import SQLITE, replace_placeholders
from headwater.connectors.databases.quoting import parse_table, quote, quote_all
from headwater.connectors.databases.rows import QueryRows, next_rows
from headwater.connectors.databases.sessions import KeptSession, OpenSessions, connection_closed
from headwater.connectors.databases.sqlite_types import convert_rows, decode_text, make_column, stored
from headwater.connectors.databases.tables import (
    check_columns_exist,
    check_key_is_unique,
    conflict_clause,
    table_not_found,
)
from headwater.connectors.databases.writing import RowFailed, check_rows, find_failing
from headwater.schemas import Value

CHUNK_ROWS: Final = 100

_STEPS: Final = 10_000
"""Instructions of a query between two looks at its time limit."""
_READING: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_FORBIDDEN_FUNCTIONS: Final = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})
_PRAGMAS: Final = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"})


class SQLiteSource:
    """Implements `QuerySource`. Each query has its own connection."""

    def __init__(self, settings: SQLiteSettings, context: ConnectorContext) -> None:
        self._path = settings.path
        self._context = context
        self._sessions = OpenSessions(sqlite3.Connection.interrupt, sqlite3.Connection.close)

    @contextmanager
    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> Iterator[Rows]:
        statement = replace_placeholders(text, parameters, SQLITE)
        connection = _open(database_file(self._context, self._path), "ro")
        with self._sessions.use(connection):
            with self._errors():
                connection.set_progress_handler(self._interrupt(), _STEPS)
                types = _types(connection, statement)
                cursor = connection.execute(statement)
                names = [each[0] for each in cursor.description]
            columns = [make_column(name, type_) for name, type_ in zip(names, types, strict=True)]
            with closing(cursor):  # a statement that lives longer would keep its lock on the file
                yield QueryRows(columns, partial(self._rows, connection, cursor, columns), limit)

    def close(self) -> None:
        """End the queries that run; their readers raise Unavailable. May be called from any thread."""
        self._sessions.close()

    def _interrupt(self) -> Callable[[], bool]:
        """Return a function that is true when the statement that begins here must end."""
        deadline = time.monotonic() + WAIT_SECONDS
        return lambda: self._sessions.is_closed or time.monotonic() > deadline

    def _rows(
        self, connection: sqlite3.Connection, cursor: sqlite3.Cursor, columns: Sequence[Column]
    ) -> Iterator[Sequence[Row]]:
        types = [column.type for column in columns]
        while True:
            with self._errors():
                connection.set_progress_handler(self._interrupt(), _STEPS)
                chunk = next_rows(cursor, CHUNK_ROWS)
            if not chunk:
                return
            yield convert_rows(chunk, types)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self._sessions.is_closed:
                raise connection_closed() from error
            raise _translated(error) from error


def check(settings: SQLiteSettings, context: ConnectorContext) -> SQLiteSettings:
    """Open the file. Raises Unavailable, and Unprocessable with InvalidSettings if it is no database."""
    with checking_file():
        connection = _open(database_file(context, settings.path), "ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.DatabaseError as error:
        raise Unprocessable("InvalidSettings", f"the file cannot be read: {error}", field="settings.path") from error
    finally:
        connection.close()
    return settings


class SQLiteSink:
    """Implements `TableSink`."""

    def __init__(self, settings: SQLiteSettings, context: ConnectorContext) -> None:
        self._kept = KeptSession(lambda: _open(database_file(context, settings.path), "rw"), _end)
        self._statements: dict[TableWrite, str] = {}

    def columns(self, table: str) -> tuple[Column, ...]:
        with _errors():
            return _table_columns(self._kept.get(), table)

    def upsert(self, write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        refused = check_rows(write, rows)
        if refused is not None or not rows:
            return refused or []
        with _errors():
            connection = self._kept.get()
            statement = self._statement(connection, write)
            connection.execute("BEGIN IMMEDIATE")
            try:
                results = _write(connection, statement, [tuple(map(stored, row)) for row in rows])
                connection.execute("COMMIT" if results is None else "ROLLBACK")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        return [DELIVERED] * len(rows) if results is None else results

    def close(self) -> None:
        """Close the file. May be called from any thread; a batch that is being written raises Unavailable."""
        self._kept.close()

    def _statement(self, connection: sqlite3.Connection, write: TableWrite) -> str:
        """Return the statement that writes a row. Raises BadRequest if the table lacks a column, or a unique index on
        the key."""
        if write not in self._statements:
            names = {column.name for column in _table_columns(connection, write.table)}
            check_columns_exist(write, names)
            [table] = parse_table(write.table, max_parts=1)
            create = f"CREATE UNIQUE INDEX {quote(f'{table}_key')} ON {quote(table)} ({quote_all(write.key)})"
            check_key_is_unique(write, _keys(connection, table), create)
            self._statements[write] = (
                f"INSERT INTO {quote(table)} ({quote_all(write.columns)}) "
                f"VALUES ({', '.join('?' * len(write.columns))}) "
                f"{conflict_clause(write)}"
            )
        return self._statements[write]


def _write(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[Any]]) -> list[ItemResult] | None:
    """Write rows in the open transaction; return the results if some are at fault."""

    def write(first: int, end: int) -> None:
        connection.execute("SAVEPOINT part")
        try:
            connection.executemany(statement, rows[first:end])
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            connection.execute("ROLLBACK TO part")
            raise RowFailed(_rejection(error)) from error
        connection.execute("RELEASE part")

    try:
        write(0, len(rows))
        return None
    except RowFailed:
        return find_failing(len(rows), write)


def _rejection(error: Exception) -> ItemResult:
    if isinstance(error, sqlite3.IntegrityError):
        return rejected("ConstraintViolated", str(error))
    return rejected("InvalidValue", "a value is too large for the database")


def _end(connection: sqlite3.Connection) -> None:
    connection.interrupt()
    connection.close()


def _open(path: Path, mode: str) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            uri=True,
            timeout=CONNECT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise Unavailable(f"the database cannot be opened: {error}") from error
    connection.text_factory = decode_text
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _types(connection: sqlite3.Connection, statement: str) -> list[str]:
    """Return the declared types of the columns of a query, or those of its casts; empty for other expressions.

    From here on, the connection can only read. A temporary view has the declared types, and a temporary table those of
    casts. Neither runs the query.
    """
    connection.set_authorizer(_permit_reading)
    connection.execute(f"EXPLAIN {statement}").close()
    connection.set_authorizer(_permit_describing)
    connection.execute(f"CREATE TEMP VIEW headwater_view AS {statement}")
    connection.execute("CREATE TEMP TABLE headwater_table AS SELECT * FROM headwater_view LIMIT 0")
    types = [
        connection.execute(f"SELECT type FROM pragma_table_info('{name}', 'temp')").fetchall()
        for name in ("headwater_view", "headwater_table")
    ]
    connection.execute("DROP TABLE headwater_table")
    connection.execute("DROP VIEW headwater_view")
    connection.execute("PRAGMA query_only = ON")
    connection.set_authorizer(_permit_reading)
    return [declared or affinity for (declared,), (affinity,) in zip(*types, strict=True)]


def _permit_reading(action: int, first: str | None, second: str | None, *_: object) -> int:
    if action == sqlite3.SQLITE_PRAGMA:
        return sqlite3.SQLITE_OK if first in _PRAGMAS else sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _permit_describing(action: int, first: str | None, second: str | None, *_: object) -> int:
    if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return sqlite3.SQLITE_DENY
    is_forbidden = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS
    return sqlite3.SQLITE_DENY if is_forbidden else sqlite3.SQLITE_OK


def _table_columns(connection: sqlite3.Connection, name: str) -> tuple[Column, ...]:
    """Return the columns of a table. Raises BadRequest if there is none of this name, in this case."""
    [table] = parse_table(name, max_parts=1)
    kinds = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?"
    if connection.execute(kinds, (table,)).fetchone() is None:
        raise table_not_found(name)
    found = connection.execute(
        "SELECT name, type, \"notnull\" OR (pk AND upper(type) = 'INTEGER'), hidden FROM pragma_table_xinfo(?)",
        (table,),
    )
    return tuple(
        make_column(column, type_, nullable=not is_required, writable=hidden == 0)
        for column, type_, is_required, hidden in found
        if hidden != 1
    )


def _keys(connection: sqlite3.Connection, table: str) -> list[set[str]]:
    """Return the columns of each unique key of a table."""
    keys = [{name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk", (table,))}]
    indexes = connection.execute('SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial', (table,))
    for (index,) in indexes.fetchall():
        keys.append({name for (name,) in connection.execute("SELECT name FROM pragma_index_info(?)", (index,))})
    return keys


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(error) from error


def _translated(error: sqlite3.Error) -> BadRequest | Unavailable:
    message = str(error)
    code = getattr(error, "sqlite_errorcode", None)
    if message == "not authorized" or "prohibited" in message:
        return QueryRejected("the query may only read tables of its database")
    if code == sqlite3.SQLITE_INTERRUPT:
        return Unavailable(f"the query gave no rows for {WAIT_SECONDS:g} seconds, or was ended")
    if isinstance(error, sqlite3.OperationalError) and code not in (None, sqlite3.SQLITE_ERROR):
        return Unavailable(f"the database failed: {message}")
    if isinstance(error, sqlite3.DatabaseError) and code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Unavailable(f"the database failed: {message}")
    return QueryRejected(f"the database rejects the statement: {message}")
