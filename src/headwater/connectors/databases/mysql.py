"""MySQL and MariaDB: reads rows with a query, and writes rows into a table."""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec
import pymysql

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.catalogue.databases import MySQLSettings
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
from headwater.connectors.databases.mysql_session import Session, describe_failure
from headwater.connectors.databases.mysql_types import (
    ColumnDescription,
    converter,
    query_column,
    stored,
    table_column,
)
from headwater.connectors.databases.placeholders import MYSQL, check_reading, replace_placeholders
from headwater.connectors.databases.quoting import parse_table, quote
from headwater.connectors.databases.rows import QueryRows, next_rows
from headwater.connectors.databases.writing import RowFailed, check_rows, find_failing
from headwater.schemas import Value

CHUNK_ROWS: Final = 100
MAX_STATEMENT_BYTES: Final = 2 * 1024 * 1024
"""Size of a statement that writes rows, from which on another one is begun. Servers accept 16 MB or more."""

_FORBIDDEN: Final = re.compile(r"\bINTO\s+(?:OUTFILE|DUMPFILE)\b", re.IGNORECASE)
_ABOUT_ROWS: Final = frozenset(
    {1048, 1062, 1138, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1452, 1451, 1525, 1644, 3140, 3819, 4025, 1690, 1411}
)
"""Errors that values of rows cause: null, duplicate, range, truncation, foreign key, check, a trigger's signal."""
_CONSTRAINTS: Final = frozenset({1048, 1062, 1451, 1452, 3819, 4025, 1364})


class MySQLSource:
    """Implements `QuerySource`. Each query has its own connection, in a transaction that only reads."""

    def __init__(self, settings: MySQLSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context
        self._lock = threading.Lock()
        self._open: set[Session] = set()
        self._is_closed = False

    @contextmanager
    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> Iterator[Rows]:
        statement = replace_placeholders(text, parameters, MYSQL)
        check_reading(statement, MYSQL, _FORBIDDEN)
        session = Session(self._settings, self._context, is_read_only=True)
        with self._lock:
            self._open.add(session)
        try:
            if self._is_closed:
                raise Unavailable("the connection to the database was closed")
            yield _query(session, statement, limit)
        finally:
            with self._lock:
                self._open.discard(session)
            session.close()

    def close(self) -> None:
        """End the queries that run; their readers raise Unavailable. May be called from any thread."""
        with self._lock:
            self._is_closed = True
            sessions = list(self._open)
        for session in sessions:
            session.end()


def check(settings: MySQLSettings, context: ConnectorContext) -> MySQLSettings:
    """Log in with the settings. Raises Unprocessable with InvalidSettings, and Unavailable."""
    Session(settings, context, is_read_only=True).close()
    return settings


def _query(session: Session, statement: str, limit: int | None) -> QueryRows:
    result = session.open_result(statement)
    if result is None:
        raise QueryRejected("the query returns no columns")
    descriptions = [_description(field) for field in result.fields]
    # The driver converts values by their type alone; the length and the flags of a column are needed too.
    result.converters = [converter(description) for description in descriptions]
    return QueryRows([query_column(each) for each in descriptions], lambda: _rows(session, result), limit)


def _description(field: Any) -> ColumnDescription:
    return ColumnDescription(
        name=field.name,
        type=field.type_code,
        flags=field.flags,
        charset=field.charsetnr,
        length=field.length,
        scale=field.scale,
    )


def _rows(session: Session, result: Any) -> Iterator[Sequence[Row]]:
    rows: Iterator[Row] = iter(result._read_rowdata_packet_unbuffered, None)
    while True:
        with session.errors():
            chunk = next_rows(rows, CHUNK_ROWS)
        if not chunk:
            session.is_running = False
            return
        yield chunk


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of the statement that writes rows."""

    insert: str
    row: str
    update: str


class MySQLSink:
    """Implements `TableSink`. It keeps one connection, and opens another one after a failure."""

    def __init__(self, settings: MySQLSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context
        self._session: Session | None = None
        self._targets: dict[TableWrite, _Target] = {}
        self._is_closed = False

    def columns(self, table: str) -> tuple[Column, ...]:
        session = self._opened()
        with session.errors():
            return self._columns(session, table)

    def upsert(self, write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        refused = check_rows(write, rows)
        if refused is not None or not rows:
            return refused or []
        values = [tuple(map(stored, row)) for row in rows]
        session = self._opened()
        try:
            with session.errors():
                target = self._target(session, write)
                session.execute("START TRANSACTION")
                try:
                    results = _write(session, target, values)
                    session.execute("COMMIT" if results is None else "ROLLBACK")
                except BaseException:
                    with suppress(pymysql.Error, OSError):
                        session.execute("ROLLBACK")
                    raise
        except Unavailable:
            self._forget()
            raise
        return [DELIVERED] * len(rows) if results is None else results

    def close(self) -> None:
        """Close the connection. May be called from any thread; a batch that is being written raises Unavailable."""
        self._is_closed = True
        self._forget()

    def _opened(self) -> Session:
        if self._is_closed:
            raise Unavailable("the connection to the database was closed")
        if self._session is None:
            self._session = Session(self._settings, self._context, is_read_only=False)
        return self._session

    def _forget(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end()
            session.close()

    def _columns(self, session: Session, table: str) -> tuple[Column, ...]:
        database, name = self._names(table)
        found = session.execute(
            "SELECT c.column_name, c.column_type, c.is_nullable, c.extra, t.table_name, t.table_schema "
            "FROM information_schema.columns c JOIN information_schema.tables t "
            "ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.table_type = 'BASE TABLE' "
            "WHERE c.table_schema = %s AND c.table_name = %s ORDER BY c.ordinal_position",
            (database, name),
        )
        [(case,)] = session.execute("SELECT @@lower_case_table_names")
        # Names of information_schema compare without case, names of tables maybe with it.
        found = [row for row in found if case or (row[4], row[5]) == (name, database)]
        if not found:
            raise BadRequest(f"table {table[:200]!r} does not exist in the database", field="table")
        return tuple(
            table_column(column, type_, nullable=nullable == "YES", writable="GENERATED" not in extra.upper())
            for column, type_, nullable, extra, *_ in found
        )

    def _names(self, table: str) -> tuple[str, str]:
        parts = parse_table(table)
        return (parts[0], parts[1]) if len(parts) == 2 else (self._settings.database, parts[0])

    def _target(self, session: Session, write: TableWrite) -> _Target:
        """Return the statement. Raises BadRequest if the table lacks a column, or has other unique indexes."""
        if write not in self._targets:
            columns = {column.name for column in self._columns(session, write.table)}
            if missing := [name for name in write.columns if name not in columns]:
                raise BadRequest(f"table {write.table} has no column {missing[0]}", field="table")
            self._check_table(session, write)
            database, name = self._names(write.table)
            names = [quote(column, "`") for column in write.columns]
            others = [quote(column, "`") for column in write.columns if column not in write.key]
            unchanged = quote(write.key[0], "`")
            updates = [f"{name} = VALUES({name})" for name in others] or [f"{unchanged} = {unchanged}"]
            self._targets[write] = _Target(
                insert=f"INSERT INTO {quote(database, '`')}.{quote(name, '`')} ({', '.join(names)}) VALUES ",
                row=f"({', '.join(['%s'] * len(names))})",
                update=f" ON DUPLICATE KEY UPDATE {', '.join(updates)}",
            )
        return self._targets[write]

    def _check_table(self, session: Session, write: TableWrite) -> None:
        """Any unique index makes the statement update a row, so the key's must be the only one."""
        names = self._names(write.table)
        [(engine, transactions)] = session.execute(
            "SELECT t.engine, e.transactions FROM information_schema.tables t "
            "LEFT JOIN information_schema.engines e ON e.engine = t.engine "
            "WHERE t.table_schema = %s AND t.table_name = %s",
            names,
        )
        if transactions != "YES":
            raise BadRequest(f"table {write.table} has the engine {engine}, which has no transactions", field="table")
        keys: dict[str, list[str | None]] = {}
        for index, column, part in session.execute(
            "SELECT index_name, column_name, sub_part FROM information_schema.statistics "
            "WHERE table_schema = %s AND table_name = %s AND non_unique = 0 ORDER BY index_name, seq_in_index",
            names,
        ):
            keys.setdefault(index, []).append(column if part is None else None)
        if set(write.key) not in [set(columns) for columns in keys.values()]:
            names_ = ", ".join(quote(name, "`") for name in write.key)
            raise BadRequest(
                f"table {write.table} needs a unique index on its key: "
                f"CREATE UNIQUE INDEX headwater_key ON {quote(names[1], '`')} ({names_})",
                field="tableKey",
            )
        others = [index for index, columns in keys.items() if set(columns) != set(write.key)]
        if others:
            raise BadRequest(
                f"table {write.table} has another unique index, {others[0]}: a row with an equal value there would be "
                "overwritten",
                field="tableKey",
            )


def _write(session: Session, target: _Target, rows: Sequence[Sequence[Any]]) -> list[ItemResult] | None:
    """Write rows in the open transaction; return the results if some are at fault."""
    # Escaped by the driver with the rules of the connection.
    texts = [session.connection.cursor().mogrify(target.row, row) for row in rows]

    def write(first: int, end: int) -> None:
        session.execute("SAVEPOINT part")
        try:
            for part in _divide(texts[first:end]):
                session.execute(target.insert + ", ".join(part) + target.update)
        except pymysql.Error as error:
            code, message = describe_failure(error)
            if code not in _ABOUT_ROWS:
                raise
            session.execute("ROLLBACK TO SAVEPOINT part")
            raise RowFailed(_rejection(code, message)) from error
        session.execute("RELEASE SAVEPOINT part")

    try:
        write(0, len(rows))
        return None
    except RowFailed:
        return find_failing(len(rows), write)


def _divide(texts: Sequence[str]) -> Iterator[list[str]]:
    part, size = list[str](), 0
    for text in texts:
        if part and size + len(text) > MAX_STATEMENT_BYTES:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    yield part


def _rejection(code: int, message: str) -> ItemResult:
    """Return the result of a row. Its message has no values of the row."""
    text = re.sub(r"entry '.*' for key", "entry for key", message, flags=re.DOTALL)
    text = re.sub(r"(?i)(incorrect [\w ]*value): '.*' for", r"\1 for", text, flags=re.DOTALL)
    text = re.sub(r"(?i)\(`.*", "", text, flags=re.DOTALL).strip()
    return rejected("ConstraintViolated" if code in _CONSTRAINTS else "InvalidValue", text)
