"""Snowflake: reads rows with a query, and writes rows into a table.

Its statements are tested without a server, because there is none to test with.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec
import snowflake.connector
from snowflake.connector import errors

from headwater.base.errors import HeadwaterError, Unavailable, Unprocessable
from headwater.connectors.catalogue.databases import SnowflakeSettings
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
from headwater.connectors.databases.limits import CONNECT_SECONDS, WAIT_SECONDS
from headwater.connectors.databases.placeholders import SNOWFLAKE, check_reading, replace_placeholders
from headwater.connectors.databases.quoting import parse_table, quote, quote_all
from headwater.connectors.databases.rows import QueryRows, convert_columns
from headwater.connectors.databases.sessions import KeptSession, OpenSessions, connection_closed
from headwater.connectors.databases.snowflake_types import make_column, reader, source_expression, stored
from headwater.connectors.databases.tables import check_columns_exist, table_not_found
from headwater.connectors.databases.writing import RowFailed, check_rows, find_failing
from headwater.connectors.resolving import resolve_allowed
from headwater.schemas import Value

CHUNK_ROWS: Final = 1_000
PORT: Final = 443
MAX_BINDINGS: Final = 10_000
"""Values of one statement that inserts rows."""

_BATCH: Final = "HEADWATER_BATCH"
_FORBIDDEN: Final = re.compile(r"(?!)")
_SESSION: Final[Mapping[str, Any]] = {
    "TIMEZONE": "UTC",
    "STATEMENT_TIMEOUT_IN_SECONDS": int(WAIT_SECONDS),
    "LOCK_TIMEOUT": int(CONNECT_SECONDS),
    "MULTI_STATEMENT_COUNT": 1,
    "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
}

Connection = Any
Connect = Callable[[SnowflakeSettings, ConnectorContext], Connection]


def connect(settings: SnowflakeSettings, context: ConnectorContext) -> Connection:
    """Log in. Raises Unavailable, and Unprocessable with InvalidSettings.

    The driver resolves the host itself, so the check of its addresses protects only against names that lead to a
    forbidden address at this moment; the domain is always Snowflake's.
    """
    account = settings.account.replace(".", "-")
    resolve_allowed(f"{account}.snowflakecomputing.com", PORT, context.addresses, workspace=context.workspace)
    credentials: Mapping[str, Any] = (
        {"password": settings.password}
        if settings.oidc_token is None
        else {"authenticator": "oauth", "token": settings.oidc_token}
    )
    try:
        return snowflake.connector.connect(
            account=account,
            user=settings.username,
            role=settings.role,
            database=settings.database,
            schema=settings.schema,
            warehouse=settings.warehouse,
            login_timeout=int(CONNECT_SECONDS),
            network_timeout=int(WAIT_SECONDS),
            session_parameters=dict(_SESSION),
            application="headwater",
            client_session_keep_alive=False,
            validate_default_parameters=True,
            paramstyle="qmark",
            **credentials,
        )
    except (errors.DatabaseError, errors.ForbiddenError) as error:
        if isinstance(error, errors.OperationalError) and not isinstance(error, errors.ForbiddenError):
            raise Unavailable(f"the database cannot be reached: {_message(error, context)}") from error
        message = f"the database refuses the connection: {_message(error, context)}"
        raise Unprocessable("InvalidSettings", message, field="settings") from error
    except errors.Error as error:
        raise Unavailable(f"the database cannot be reached: {_message(error, context)}") from error


def check(settings: SnowflakeSettings, context: ConnectorContext) -> SnowflakeSettings:
    """Log in with the settings. Raises Unprocessable with InvalidSettings, and Unavailable."""
    connect(settings, context).close()
    return settings


class SnowflakeSource:
    """Implements `QuerySource`. Each query has its own connection.

    Snowflake has no transactions that only read: a query must begin with a word that reads, and only one statement is
    accepted. The role of the connection should have no rights to write.
    """

    def __init__(self, settings: SnowflakeSettings, context: ConnectorContext, connect: Connect = connect) -> None:
        self._settings = settings
        self._context = context
        self._connect = connect
        self._sessions = OpenSessions[Any](_cancel, lambda cursor: cursor.connection.close())

    @contextmanager
    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> Iterator[Rows]:
        statement = replace_placeholders(text, parameters, SNOWFLAKE)
        check_reading(statement, SNOWFLAKE, _FORBIDDEN)
        cursor = self._connect(self._settings, self._context).cursor()
        with self._sessions.use(cursor):
            with self._errors():
                described = cursor.describe(statement)
            columns = [make_column(each) for each in described]
            readers = [reader(each) for each in described]
            yield QueryRows(columns, lambda: self._rows(cursor, statement, readers), limit)

    def close(self) -> None:
        """End the queries that run; their readers raise Unavailable. May be called from any thread."""
        self._sessions.close()

    def _rows(
        self, cursor: Any, statement: str, readers: Sequence[Callable[[Any], Value] | None]
    ) -> Iterator[Sequence[Row]]:
        with self._errors():
            cursor.execute(statement)
        while True:
            with self._errors():
                chunk = cursor.fetchmany(CHUNK_ROWS)
            if not chunk:
                return
            yield list(zip(*convert_columns(zip(*chunk, strict=True), readers), strict=True))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except errors.Error as error:
            if self._sessions.is_closed:
                raise connection_closed() from error
            raise _translated(error, self._context) from error


def _cancel(cursor: Any) -> None:
    """End the query of a cursor on the server."""
    with suppress(errors.Error):
        cursor.connection.cursor().execute("SELECT SYSTEM$CANCEL_QUERY(?)", (cursor.sfqid,))


def _close(connection: Connection) -> None:
    with suppress(errors.Error):
        connection.close()


class Statements(msgspec.Struct, frozen=True, kw_only=True):
    """The statements that write a batch: into a temporary table of texts, and from there by one MERGE."""

    create: str
    empty: str
    insert: str
    row: str
    merge: str


def statements(write: TableWrite, parts: Sequence[str], types: Mapping[str, str]) -> Statements:
    """Return the statements that write into a table, whose columns have the types of Snowflake."""
    names = [f"C{number}" for number in range(len(write.columns))]
    casts = ", ".join(
        f"{source_expression(name, types[column])} AS {quote(column)}"
        for name, column in zip(names, write.columns, strict=True)
    )
    on = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in write.key)
    others = [quote(name) for name in write.columns if name not in write.key]
    update = f"WHEN MATCHED THEN UPDATE SET {', '.join(f't.{name} = s.{name}' for name in others)} " if others else ""
    values = ", ".join(f"s.{quote(name)}" for name in write.columns)
    batch = f"{_BATCH}_{len(names)}"
    table = ".".join(quote(part) for part in parts)
    return Statements(
        create=f"CREATE TEMPORARY TABLE IF NOT EXISTS {batch} "
        f"(NUMBER INT, {', '.join(f'{name} VARCHAR' for name in names)})",
        empty=f"DELETE FROM {batch}",
        insert=f"INSERT INTO {batch} VALUES ",
        row=f"({', '.join('?' * (len(names) + 1))})",
        merge=(
            f"MERGE INTO {table} t USING (SELECT {casts} FROM {batch} WHERE NUMBER >= ? AND NUMBER < ?) s ON {on} "
            f"{update}WHEN NOT MATCHED THEN INSERT ({quote_all(write.columns)}) VALUES ({values})"
        ),
    )


class SnowflakeSink:
    """Implements `TableSink`. Snowflake does not enforce unique keys, so the key needs none."""

    def __init__(self, settings: SnowflakeSettings, context: ConnectorContext, connect: Connect = connect) -> None:
        self._settings = settings
        self._context = context
        self._kept = KeptSession[Connection](lambda: connect(settings, context), _close)
        self._statements: dict[TableWrite, Statements] = {}

    def columns(self, table: str) -> tuple[Column, ...]:
        with self._errors():
            return self._columns(self._kept.get().cursor(), table)

    def upsert(self, write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        refused = check_rows(write, rows)
        if refused is not None or not rows:
            return refused or []
        with self._errors():
            cursor = self._kept.get().cursor()
            return self._write(cursor, self._prepared(cursor, write), rows)

    def close(self) -> None:
        self._kept.close()

    def _parts(self, table: str) -> tuple[str, ...]:
        parts = parse_table(table, max_parts=3)
        return (self._settings.database, self._settings.schema, *parts)[-3:]

    def _columns(self, cursor: Any, table: str) -> tuple[Column, ...]:
        name = ".".join(quote(part) for part in self._parts(table))
        try:
            described = cursor.describe(f"SELECT * FROM {name}")
        except errors.ProgrammingError as error:
            raise table_not_found(table) from error
        return tuple(make_column(each, nullable=bool(each.is_nullable)) for each in described)

    def _prepared(self, cursor: Any, write: TableWrite) -> Statements:
        if write not in self._statements:
            parts = self._parts(write.table)
            found = cursor.execute(
                f"SELECT COLUMN_NAME, DATA_TYPE FROM {quote(parts[0])}.INFORMATION_SCHEMA.COLUMNS "
                "WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
                parts[1:],
            ).fetchall()
            types = dict(found)
            check_columns_exist(write, types)
            self._statements[write] = statements(write, parts, types)
        return self._statements[write]

    def _write(self, cursor: Any, prepared: Statements, rows: Sequence[Row]) -> Sequence[ItemResult]:
        cursor.execute(prepared.create)  # before the transaction, because it would commit it
        cursor.execute("BEGIN")
        try:
            cursor.execute(prepared.empty)
            size = max(1, MAX_BINDINGS // (len(rows[0]) + 1))
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                values = [value for number, row in enumerate(part, start) for value in (number, *map(stored, row))]
                cursor.execute(prepared.insert + ", ".join([prepared.row] * len(part)), values)
            results = _merged(cursor, prepared, len(rows))
            cursor.execute("COMMIT" if results is None else "ROLLBACK")
        except BaseException:
            with suppress(errors.Error):
                cursor.execute("ROLLBACK")
            raise
        return [DELIVERED] * len(rows) if results is None else results

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except errors.Error as error:
            raise _translated(error, self._context) from error


def _merged(cursor: Any, prepared: Statements, count: int) -> list[ItemResult] | None:
    """Merge the batch in the open transaction; return the results if some rows are at fault. A statement that fails
    has no effect, and leaves the transaction open."""

    def write(first: int, end: int) -> None:
        try:
            cursor.execute(prepared.merge, (first, end))
        except (errors.ProgrammingError, errors.IntegrityError, errors.DataError) as error:
            is_constraint = isinstance(error, errors.IntegrityError) or error.errno == 100072  # null in a column
            message = "the database does not accept a value of the row"
            raise RowFailed(rejected("ConstraintViolated" if is_constraint else "InvalidValue", message)) from error

    try:
        write(0, count)
        return None
    except RowFailed:
        return find_failing(count, write)


def _message(error: Exception, context: ConnectorContext) -> str:
    text = getattr(error, "raw_msg", None) or str(error)
    return context.redact((str(text).splitlines() or [type(error).__name__])[0][:500])


def _translated(error: Exception, context: ConnectorContext) -> HeadwaterError:
    message = _message(error, context)
    if isinstance(error, errors.ProgrammingError | errors.DataError | errors.IntegrityError | errors.NotSupportedError):
        return QueryRejected(f"the database rejects the statement: {message}")
    return Unavailable(f"the database failed: {message}")
