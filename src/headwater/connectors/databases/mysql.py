"""MySQL and MariaDB: reads rows with a query, and writes rows into a table."""

import re
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

import msgspec
import pymysql
from pymysql.constants import CR
from pymysql.cursors import SSCursor

from headwater.base.errors import BadRequest, HeadwaterError, Unavailable, Unprocessable
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
from headwater.connectors.databases.limits import CONNECT_SECONDS, MAX_ADDRESSES, MAX_VALUE_BYTES, WAIT_SECONDS
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
from headwater.connectors.databases.tls import make_context
from headwater.connectors.databases.writing import RowFailed, check_rows, find_failing
from headwater.connectors.resolving import resolve_allowed
from headwater.schemas import Value

CHUNK_ROWS: Final = 100
MAX_STATEMENT_BYTES: Final = 2 * 1024 * 1024
"""Size of a statement that writes rows, from which on another one is begun. Servers accept 16 MB or more."""

_FORBIDDEN: Final = re.compile(r"\bINTO\s+(?:OUTFILE|DUMPFILE)\b", re.IGNORECASE)
_SQL_MODE: Final = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_SETTINGS: Final = frozenset({1044, 1045, 1049, 1130, 1251, 1698, 1820, 1862, 4151})
"""Errors of a login that the settings cause: access denied, unknown database, host or plugin not allowed, expired."""
_OUTSIDE: Final = frozenset(
    {1021, 1037, 1038, 1040, 1041, 1053, 1077, 1080, 1114, 1129, 1152, 1153, 1158, 1159, 1160, 1161, 1184, 1203, 1205}
    | {1213, 1226, 1290, 1317, 1836, 1927, 1969, 3024, 3572}
)
"""Errors for which the statement is not at fault: resources, shutdown, locks, time limits, a read-only server."""
_ABOUT_ROWS: Final = frozenset(
    {1048, 1062, 1138, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1452, 1451, 1525, 1644, 3140, 3819, 4025, 1690, 1411}
)
"""Errors that values of rows cause: null, duplicate, range, truncation, foreign key, check, a trigger's signal."""
_CONSTRAINTS: Final = frozenset({1048, 1062, 1451, 1452, 3819, 4025, 1364})
_READ_ONLY: Final = 1792
_FAILURES: Final = (
    *(pymysql.Error, OSError, struct.error),
    *(ValueError, LookupError, TypeError, RuntimeError, AssertionError),
)
"""The errors of the driver, with those for a server that does not keep to the protocol."""


class _Driver(pymysql.Connection):
    """Refuses packets, and so rows, that are larger than a value may be."""

    _size = 0

    def _read_packet(self, *arguments: Any) -> Any:
        self._size = 0
        return super()._read_packet(*arguments)  # type: ignore[no-untyped-call]

    def _read_bytes(self, size: int) -> Any:
        self._size += size
        if self._size > MAX_VALUE_BYTES:
            self._force_close()  # type: ignore[attr-defined]
            raise pymysql.ProgrammingError(CR.CR_NET_PACKET_TOO_LARGE, f"a row has more than {MAX_VALUE_BYTES:,} bytes")
        return super()._read_bytes(size)  # type: ignore[misc]


class _Session:
    """One connection. `end` may be called from any thread."""

    def __init__(self, settings: MySQLSettings, context: ConnectorContext, *, is_read_only: bool) -> None:
        self._settings = settings
        self._context = context
        self._is_ended = False
        self._lock = threading.Lock()
        self.is_running = False
        self.cursor: SSCursor | None = None
        self.connection, self._socket = _connect(settings, context)
        mode = "READ ONLY" if is_read_only else "READ WRITE"
        try:
            with self.errors(), _in_time(self._socket):
                self.execute(
                    f"SET SESSION time_zone = '+00:00', sql_mode = '{_SQL_MODE}', "
                    f"net_write_timeout = {WAIT_SECONDS:.0f}, lock_wait_timeout = {CONNECT_SECONDS:.0f}"
                )
                self.execute(f"SET SESSION TRANSACTION {mode}")
                if is_read_only:
                    self.execute("START TRANSACTION READ ONLY")
        except BaseException:
            self.close()
            raise

    def execute(self, statement: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement of this module, and return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translate the errors of the driver. Raises QueryRejected and Unavailable."""
        try:
            yield
        except _FAILURES as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> HeadwaterError:
        if self._is_ended:
            return Unavailable("the connection to the database was closed")
        code, message = _parts(error)
        message = self._context.redact(message)
        if isinstance(error, TimeoutError) or "timed out" in message:
            self.end()
            return Unavailable(f"the database did not respond within {WAIT_SECONDS:g} seconds")
        if code == CR.CR_NET_PACKET_TOO_LARGE:
            return QueryRejected(f"the rows of the query are too large: {message}")
        if not isinstance(error, pymysql.Error) or code == 0 or 2000 <= code < 3000 or code in _OUTSIDE:
            return Unavailable(f"the database failed: {message}")
        if code == _READ_ONLY:
            return QueryRejected(f"the query may only read: {message}")
        return QueryRejected(f"the database rejects the statement: {message}")

    def end(self) -> None:
        """Kill a running statement, and end the connection."""
        with self._lock:
            if self._is_ended:
                return
            self._is_ended = True
        driver: Any = self.connection
        number, is_running = driver.thread_id(), self.is_running
        _shut(self._socket)
        if is_running:
            with suppress(pymysql.Error, OSError, HeadwaterError):
                other, _ = _connect(self._settings, self._context)
                with suppress(pymysql.Error, OSError):
                    other.query(f"KILL {number}")
                _discard(other)

    def close(self) -> None:
        """Close the connection; a statement that runs is killed."""
        if self.is_running:
            self.end()
        if self.cursor is not None:
            # Else the driver would read the rest of the rows, when the objects are deleted.
            result: Any = self.cursor._result  # type: ignore[attr-defined]
            if result is not None:
                result.unbuffered_active = False
            self.cursor.connection = None  # type: ignore[assignment]
        _discard(self.connection)


class MySQLSource:
    """Implements `QuerySource`. Each query has its own connection, in a transaction that only reads."""

    def __init__(self, settings: MySQLSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context
        self._lock = threading.Lock()
        self._open: set[_Session] = set()
        self._is_closed = False

    @contextmanager
    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> Iterator[Rows]:
        statement = replace_placeholders(text, parameters, MYSQL)
        check_reading(statement, MYSQL, _FORBIDDEN)
        session = _Session(self._settings, self._context, is_read_only=True)
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
    _Session(settings, context, is_read_only=True).close()
    return settings


def _query(session: _Session, statement: str, limit: int | None) -> QueryRows:
    session.cursor = cursor = SSCursor(session.connection)
    session.is_running = True
    with session.errors():
        cursor.execute(statement)
    result: Any = cursor._result  # type: ignore[attr-defined]
    if cursor.description is None:
        raise QueryRejected("the query returns no columns")
    descriptions = [_description(field) for field in result.fields]
    # The driver converts values by their type alone; the length and the flags of a column are needed too.
    result.converters = [converter(description) for description in descriptions]
    return QueryRows([query_column(each) for each in descriptions], lambda: _rows(session, cursor), limit)


def _description(field: Any) -> ColumnDescription:
    return ColumnDescription(
        name=field.name,
        type=field.type_code,
        flags=field.flags,
        charset=field.charsetnr,
        length=field.length,
        scale=field.scale,
    )


def _rows(session: _Session, cursor: SSCursor) -> Iterator[Sequence[Row]]:
    result: Any = cursor._result  # type: ignore[attr-defined]
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
        self._session: _Session | None = None
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

    def _opened(self) -> _Session:
        if self._is_closed:
            raise Unavailable("the connection to the database was closed")
        if self._session is None:
            self._session = _Session(self._settings, self._context, is_read_only=False)
        return self._session

    def _forget(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end()
            session.close()

    def _columns(self, session: _Session, table: str) -> tuple[Column, ...]:
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

    def _target(self, session: _Session, write: TableWrite) -> _Target:
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

    def _check_table(self, session: _Session, write: TableWrite) -> None:
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


def _write(session: _Session, target: _Target, rows: Sequence[Sequence[Any]]) -> list[ItemResult] | None:
    """Write rows in the open transaction; return the results if some are at fault."""
    # Escaped by the driver with the rules of the connection.
    texts = [session.connection.cursor().mogrify(target.row, row) for row in rows]

    def write(first: int, end: int) -> None:
        session.execute("SAVEPOINT part")
        try:
            for part in _divide(texts[first:end]):
                session.execute(target.insert + ", ".join(part) + target.update)
        except pymysql.Error as error:
            code, message = _parts(error)
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


def _parts(error: Exception) -> tuple[int, str]:
    """Return the code and the message of an error."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    message = str(error.args[1]) if len(error.args) > 1 else str(error) or type(error).__name__
    return code, message


def _connect(settings: MySQLSettings, context: ConnectorContext) -> tuple["pymysql.Connection[Any]", socket.socket]:
    """Connect to a checked address. Raises Unavailable, and Unprocessable with InvalidSettings."""
    addresses = resolve_allowed(settings.host, settings.port, context.addresses)
    failure: Exception | None = None
    for address in addresses[:MAX_ADDRESSES]:
        try:
            plain = socket.create_connection((address, settings.port), CONNECT_SECONDS)
        except OSError as error:
            failure = error
            continue
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            with _in_time(plain):
                return _log_in(settings, plain), plain
        except _FAILURES as error:
            plain.close()
            code, message = _parts(error)
            if code in _SETTINGS:
                refusal = f"the database refuses the connection: {context.redact(message)}"
                raise Unprocessable("InvalidSettings", refusal, field="settings") from error
            failure = error
    assert failure is not None
    raise Unavailable(f"the database cannot be reached: {context.redact(_parts(failure)[1])}") from failure


@contextmanager
def _in_time(plain: socket.socket) -> Iterator[None]:
    """End a connection that takes too long to log in. Each read has a limit, but a server may send byte after byte."""
    timer = threading.Timer(CONNECT_SECONDS, partial(_shut, plain))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut(plain: socket.socket) -> None:
    with suppress(OSError):
        plain.shutdown(socket.SHUT_RDWR)


def _discard(connection: "pymysql.Connection[Any]") -> None:
    """Close a connection without a word to the server, which may not listen."""
    driver: Any = connection
    reader = driver._rfile
    driver._force_close()
    if reader is not None:
        with suppress(OSError, ValueError):
            reader.close()


def _log_in(settings: MySQLSettings, plain: socket.socket) -> "pymysql.Connection[Any]":
    encryption: dict[str, Any] = {}  # preferred
    if settings.tls == "Off":
        encryption = {"ssl_disabled": True}
    elif settings.tls != "Preferred":
        encryption = {"ssl": make_context(is_verified=settings.tls == "Verified")}
    connection = _Driver(
        host=settings.host,
        port=settings.port,
        user=settings.username,
        password=settings.password,
        database=settings.database,
        charset="utf8mb4",
        connect_timeout=int(CONNECT_SECONDS),
        read_timeout=WAIT_SECONDS,
        write_timeout=WAIT_SECONDS,
        local_infile=False,
        program_name="headwater",
        autocommit=True,
        defer_connect=True,
        **encryption,
    )
    connection.connect(plain)
    return connection
