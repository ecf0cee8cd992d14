"""DuckDB: reads rows from a file with a query, and writes rows into a table.

A query can neither write nor open other files: the file is opened for reading only, and without access to anything
else. DuckDB locks its file: while one process writes, no other can open it.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.catalogue.databases import DuckDBSettings
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
from headwater.connectors.databases.duckdb_types import make_column, reader, stored
from headwater.connectors.databases.files import checking_file, database_file, file_identity
from headwater.connectors.databases.limits import WAIT_SECONDS
from headwater.connectors.databases.placeholders import DUCKDB, replace_placeholders
from headwater.connectors.databases.quoting import parse_qualified, quote, quote_all
from headwater.connectors.databases.rows import QueryRows, convert_columns, next_rows
from headwater.connectors.databases.sessions import OpenSessions, connection_closed
from headwater.connectors.databases.tables import (
    check_columns_exist,
    check_key_is_unique,
    conflict_clause,
    table_not_found,
)
from headwater.connectors.databases.writing import RowFailed, check_rows, find_failing
from headwater.schemas import Value

CHUNK_ROWS: Final = 1_000
MEMORY_LIMIT: Final = "256MB"

_SCHEMA: Final = "main"
"""The schema of tables whose names have none."""
_CONFIGURATION: Final[dict[str, Any]] = {
    "enable_external_access": "false",
    "lock_configuration": "true",
    "memory_limit": MEMORY_LIMIT,
    "threads": "2",
}
_ABOUT_ROWS: Final = (
    duckdb.ConstraintException,
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    duckdb.TypeMismatchException,
)
_UNAVAILABLE: Final = (
    duckdb.ConnectionException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.IOException,
    duckdb.OutOfMemoryException,
    duckdb.TransactionException,
)


class DuckDBSource:
    """Implements `QuerySource`. Each query has its own connection."""

    def __init__(self, settings: DuckDBSettings, context: ConnectorContext) -> None:
        self._path = settings.path
        self._context = context
        self._sessions = OpenSessions(duckdb.DuckDBPyConnection.interrupt, duckdb.DuckDBPyConnection.close)

    @contextmanager
    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> Iterator[Rows]:
        statement = replace_placeholders(text, parameters, DUCKDB)
        connection = _open(self._context, self._path, is_read_only=True)
        with self._sessions.use(connection):
            with self._errors(connection):
                _check_reading(connection, statement)
                connection.execute(statement)
                description = connection.description or []
            columns = [make_column(name, type_) for name, type_, *_ in description]
            yield QueryRows(columns, partial(self._rows, connection, [type_ for _, type_, *_ in description]), limit)

    def close(self) -> None:
        """End the queries that run; their readers raise Unavailable. May be called from any thread."""
        self._sessions.close()

    def _rows(self, connection: duckdb.DuckDBPyConnection, types: Sequence[Any]) -> Iterator[Sequence[Row]]:
        readers = [reader(type_) for type_ in types]
        rows: Iterator[tuple[Any, ...]] = iter(connection.fetchone, None)
        while True:
            with self._errors(connection):
                chunk = next_rows(rows, CHUNK_ROWS)
            if not chunk:
                return
            yield list(zip(*convert_columns(zip(*chunk, strict=True), readers), strict=True))

    @contextmanager
    def _errors(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Translate the errors of a call, which is interrupted after a time."""
        timer = threading.Timer(WAIT_SECONDS, connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            with _errors():
                yield
        except Unavailable:
            if self._sessions.is_closed:
                raise connection_closed() from None
            raise
        finally:
            timer.cancel()


def check(settings: DuckDBSettings, context: ConnectorContext) -> DuckDBSettings:
    """Open the file. Raises Unavailable, and Unprocessable with InvalidSettings if it is no database."""
    with checking_file():
        file = database_file(context, settings.path)
        if not _has_signature(file):
            raise BadRequest("it is not a database of DuckDB")
        _open(context, settings.path, is_read_only=True).close()
    return settings


def _has_signature(file: Path) -> bool:
    """Return whether a file is a database: DuckDB opens files of other formats, such as CSV, in memory."""
    with file.open("rb") as stream:
        return stream.read(12)[8:] == b"DUCK"


def _check_reading(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    statements = connection.extract_statements(statement)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryRejected("the query must be one statement that reads")


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of the statement that writes rows."""

    insert: str
    row: str
    conflict: str


class DuckDBSink:
    """Implements `TableSink`. The file is open for the time of a call only, so that others can open it, or replace it:
    then the table is checked again."""

    def __init__(self, settings: DuckDBSettings, context: ConnectorContext) -> None:
        self._path = settings.path
        self._context = context
        self._targets: dict[TableWrite, _Target] = {}
        self._identity = (0, 0)
        """The file in which the targets were found."""
        self._is_closed = False

    def columns(self, table: str) -> tuple[Column, ...]:
        with self._opened(is_read_only=True) as connection, _errors():
            return _columns(connection, table)

    def upsert(self, write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        refused = check_rows(write, rows)
        if refused is not None or not rows:
            return refused or []
        values = [[stored(value) for value in row] for row in rows]
        with self._opened(is_read_only=False) as connection, _errors():
            return _write(connection, self._target(connection, write), values)

    def close(self) -> None:
        self._is_closed = True

    @contextmanager
    def _opened(self, *, is_read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        if self._is_closed:
            raise connection_closed()
        connection = _open(self._context, self._path, is_read_only=is_read_only)
        try:
            identity = file_identity(database_file(self._context, self._path))
            if identity != self._identity:
                self._targets, self._identity = {}, identity
            yield connection
        finally:
            connection.close()

    def _target(self, connection: duckdb.DuckDBPyConnection, write: TableWrite) -> _Target:
        """Return the statement. Raises BadRequest if the table lacks a column, or a unique key."""
        if write not in self._targets:
            names = {column.name for column in _columns(connection, write.table)}
            check_columns_exist(write, names)
            schema, table = parse_qualified(write.table, _SCHEMA)
            name = f"{quote(schema)}.{quote(table)}"
            create = f"CREATE UNIQUE INDEX {quote(f'{table}_key')} ON {name} ({quote_all(write.key)})"
            check_key_is_unique(write, _keys(connection, schema, table), create)
            self._targets[write] = _Target(
                insert=f"INSERT INTO {name} ({quote_all(write.columns)}) VALUES ",
                row=f"({', '.join('?' * len(write.columns))})",
                conflict=f" {conflict_clause(write)}",
            )
        return self._targets[write]


def _write(
    connection: duckdb.DuckDBPyConnection, target: _Target, rows: Sequence[Sequence[Any]]
) -> Sequence[ItemResult]:
    """Write rows in one transaction.

    DuckDB has no savepoints, and an error ends the transaction. To find the rows at fault, each part is written after
    the parts that succeeded, in a transaction that is rolled back.
    """
    parts = [(0, len(rows))]
    try:
        _transact(connection, target, rows, parts, commit=True)
        return [DELIVERED] * len(rows)
    except _ABOUT_ROWS:
        parts = []

    def write(first: int, end: int) -> None:
        try:
            _transact(connection, target, rows, [*parts, (first, end)], commit=False)
        except _ABOUT_ROWS as error:
            raise RowFailed(_rejection(error)) from error
        parts.append((first, end))

    results = find_failing(len(rows), write)
    if results is not None:
        return results
    _transact(connection, target, rows, parts, commit=True)
    return [DELIVERED] * len(rows)


def _transact(
    connection: duckdb.DuckDBPyConnection,
    target: _Target,
    rows: Sequence[Sequence[Any]],
    parts: Sequence[tuple[int, int]],
    *,
    commit: bool,
) -> None:
    connection.execute("BEGIN")
    try:
        for first, end in parts:
            values = [value for row in rows[first:end] for value in row]
            connection.execute(target.insert + ", ".join([target.row] * (end - first)) + target.conflict, values)
        connection.execute("COMMIT" if commit else "ROLLBACK")
    except BaseException:
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise


def _rejection(error: Exception) -> ItemResult:
    """Return the result of a row. Its message has no values of the row."""
    if isinstance(error, duckdb.ConstraintException):
        message = str(error).splitlines()[0].partition(': "')[0].partition(" with value")[0]
        return rejected("ConstraintViolated", message)
    return rejected("InvalidValue", "a value does not fit the type of its column")


def _open(context: ConnectorContext, path: str, *, is_read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open the file. Raises Unavailable if it was replaced meanwhile: DuckDB opens it by name."""
    file = database_file(context, path)
    identity = file_identity(file)
    with _errors():
        connection = duckdb.connect(str(file), read_only=is_read_only, config=_CONFIGURATION)
    try:
        if file_identity(database_file(context, path)) != identity:
            raise Unavailable("the database file was replaced while it was opened")
    except BaseException:
        connection.close()
        raise
    return connection


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[Column, ...]:
    schema, name = parse_qualified(table, _SCHEMA)
    found = connection.execute(
        "SELECT c.column_name, c.is_nullable "
        "FROM duckdb_columns() c JOIN duckdb_tables() t USING (table_oid, database_name) "
        "WHERE c.database_name = current_database() AND c.schema_name = ? AND c.table_name = ? ORDER BY c.column_index",
        [schema, name],
    ).fetchall()
    if not found:
        raise table_not_found(table)
    description = connection.execute(f"SELECT * FROM {quote(schema)}.{quote(name)} LIMIT 0").description or []
    types = {column: type_ for column, type_, *_ in description}
    return tuple(make_column(column, types[column], nullable=bool(nullable)) for column, nullable in found)


def _keys(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> list[set[str]]:
    """Return the columns of each unique key of a table."""
    condition = "database_name = current_database() AND schema_name = ? AND table_name = ?"
    constraints = connection.execute(
        "SELECT constraint_column_names FROM duckdb_constraints() "
        f"WHERE {condition} AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')",
        [schema, table],
    ).fetchall()
    indexes = connection.execute(
        f"SELECT expressions FROM duckdb_indexes() WHERE {condition} AND is_unique", [schema, table]
    ).fetchall()
    # The expressions of an index are a text such as `[id, "a b"]`.
    parsed = [{part.strip().strip("'\"") for part in text.strip("[]").split(",")} for (text,) in indexes]
    return [set(names) for (names,) in constraints] + parsed


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException as error:
        raise Unavailable(f"the query gave no rows for {WAIT_SECONDS:g} seconds, or was ended") from error
    except _UNAVAILABLE as error:
        raise Unavailable(f"the database failed: {_message(error)}") from error
    except (duckdb.Error, ValueError, OverflowError) as error:
        raise QueryRejected(f"the database rejects the statement: {_message(error)}") from error


def _message(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
