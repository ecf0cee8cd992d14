"""PostgreSQL: reads rows with a query, and writes rows into a table."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
import psycopg
from psycopg import errors, pq
from psycopg.adapt import Transformer

from headwater.base.errors import Unavailable
from headwater.connectors.catalogue.databases import PostgreSQLSettings
from headwater.connectors.contract import (
    DELIVERED,
    Column,
    ConnectorContext,
    ItemResult,
    Row,
    Rows,
    TableWrite,
    rejected,
)
from headwater.connectors.databases.limits import WAIT_SECONDS
from headwater.connectors.databases.placeholders import POSTGRESQL, replace_placeholders
from headwater.connectors.databases.postgresql_session import Session
from headwater.connectors.databases.postgresql_types import copy_text, make_column, register_types
from headwater.connectors.databases.quoting import parse_qualified, quote, quote_all
from headwater.connectors.databases.rows import QueryRows
from headwater.connectors.databases.sessions import KeptSession, OpenSessions
from headwater.connectors.databases.tables import (
    check_columns_exist,
    check_key_is_unique,
    conflict_clause,
    table_not_found,
)
from headwater.connectors.databases.writing import RowFailed, check_rows, find_failing
from headwater.schemas import Value

CHUNK_ROWS: Final = 16
"""Rows that the driver holds at a time. They are few, because all must have at most MAX_VALUE_BYTES."""

_BATCH: Final = "headwater_batch"
"""The temporary table that a batch is copied into, as texts."""

_QUOTED: Final = re.compile(r':? ".*"', re.DOTALL)

_COLUMNS: Final = """
WITH RECURSIVE found AS (
  SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')
), based AS (
  SELECT a.attnum, a.attname, a.attnotnull, a.attgenerated = '' AND a.attidentity <> 'a' AS writable,
    a.atttypid AS type, a.atttypmod AS modifier
  FROM found JOIN pg_catalog.pg_attribute a ON a.attrelid = found.oid WHERE a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, b.attname, b.attnotnull OR t.typnotnull, b.writable, t.typbasetype,
    CASE WHEN b.modifier = -1 THEN t.typtypmod ELSE b.modifier END
  FROM based b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
)
SELECT b.attname::text, b.attnotnull, b.writable, b.type::int8, b.modifier, pg_catalog.format_type(b.type, -1)
FROM based b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype <> 'd' ORDER BY b.attnum"""
"""The columns of a table; a domain has its base type."""

_KEYS: Final = """
SELECT array_agg(a.attname::text)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey[0:i.indnkeyatts - 1])
WHERE n.nspname = %s AND c.relname = %s AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
  AND i.indexprs IS NULL
GROUP BY i.indexrelid"""


class PostgreSQLSource:
    """Implements `QuerySource`. Each query has its own connection, in a transaction that only reads."""

    def __init__(self, settings: PostgreSQLSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context
        self._sessions = OpenSessions(Session.end, Session.close)

    @contextmanager
    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> Iterator[Rows]:
        statement = replace_placeholders(text, parameters, POSTGRESQL)
        session = Session(self._settings, self._context, is_read_only=True)
        with self._sessions.use(session):
            yield _query(session, statement.encode(), limit)

    def close(self) -> None:
        """End the queries that run; their readers raise Unavailable. May be called from any thread."""
        self._sessions.close()


def check(settings: PostgreSQLSettings, context: ConnectorContext) -> PostgreSQLSettings:
    """Log in with the settings. Raises Unprocessable with InvalidSettings, and Unavailable."""
    Session(settings, context, is_read_only=True).close()
    return settings


def _end(session: Session) -> None:
    session.end()
    session.close()


def _query(session: Session, statement: bytes, limit: int | None) -> QueryRows:
    with session.errors():
        session.connection.execute("BEGIN READ ONLY")
    for _ in session.results(lambda pgconn: pgconn.send_prepare(b"", statement), WAIT_SECONDS):
        pass
    [described] = session.results(lambda pgconn: pgconn.send_describe_prepared(b""), WAIT_SECONDS)
    columns = _columns(session, described)
    return QueryRows(columns, lambda: _rows(session, statement), limit)


def _columns(session: Session, described: pq.abc.PGresult) -> list[Column]:
    numbers = range(described.nfields)
    oids = [described.ftype(number) for number in numbers]
    types = session.types(oids)
    register_types(session.connection, types, set(oids))
    names = [(described.fname(number) or b"").decode() for number in numbers]
    return [
        make_column(name, types, oid, described.fmod(number))
        for number, (name, oid) in enumerate(zip(names, oids, strict=True))
    ]


def _rows(session: Session, statement: bytes) -> Iterator[Sequence[Row]]:
    def send(pgconn: pq.abc.PGconn) -> None:
        pgconn.send_query_params(statement, None)
        pgconn.set_chunked_rows_mode(CHUNK_ROWS)

    transformer = Transformer.from_context(session.connection)
    is_first = True
    for result in session.results(send, WAIT_SECONDS):
        if result.ntuples:
            transformer.set_pgresult(result, set_loaders=is_first)
            is_first = False
            yield transformer.load_rows(0, result.ntuples, tuple)


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """The statements that write a batch. The condition on the rows stands between `select` and `conflict`."""

    create: str
    copy: str
    select: str
    conflict: str

    def insert(self, first: int, end: int) -> str:
        return f"{self.select} WHERE number >= {first} AND number < {end} ORDER BY number {self.conflict}"


class _RowsRejected(Exception):
    """Rows of a batch are at fault. Raised to roll its transaction back."""

    def __init__(self, results: list[ItemResult]) -> None:
        super().__init__()
        self.results = results


class PostgreSQLSink:
    """Implements `TableSink`. It keeps one connection, and opens another one after a failure.

    A batch is copied as texts into a temporary table. One statement then inserts or updates all of its rows.
    """

    def __init__(self, settings: PostgreSQLSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context
        self._kept = KeptSession(self._open, _end)
        self._targets: dict[TableWrite, _Target] = {}

    def columns(self, table: str) -> tuple[Column, ...]:
        session = self._opened()
        found = self._found(session, table)
        types = session.types(oid for _, _, _, oid, _, _ in found)
        return tuple(
            make_column(name, types, oid, modifier, nullable=not is_required, writable=writable)
            for name, is_required, writable, oid, modifier, _ in found
        )

    def upsert(self, write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        refused = check_rows(write, rows)
        if refused is not None or not rows:
            return refused or []
        session = self._opened()
        target = self._target(session, write)
        try:
            with session.errors():
                return self._write(session, target, rows)
        except _RowsRejected as error:
            return error.results
        except Unavailable:
            self._kept.forget()
            raise

    def close(self) -> None:
        """Close the connection. May be called from any thread; a batch that is being written raises Unavailable."""
        self._kept.close()

    def _opened(self) -> Session:
        session = self._kept.get()
        if session.connection.closed:
            self._kept.forget()
            session = self._kept.get()
        return session

    def _open(self) -> Session:
        session = Session(self._settings, self._context, is_read_only=False)
        try:
            with session.errors():
                session.connection.execute(f"SET statement_timeout = '{WAIT_SECONDS:g}s'")
        except BaseException:
            session.close()
            raise
        return session

    def _found(self, session: Session, table: str) -> list[tuple[str, bool, bool, int, int, str]]:
        with session.errors():
            found = session.connection.execute(_COLUMNS, self._names(table)).fetchall()
        if not found:
            raise table_not_found(table)
        return found

    def _names(self, table: str) -> tuple[str, str]:
        return parse_qualified(table, self._settings.schema)

    def _target(self, session: Session, write: TableWrite) -> _Target:
        """Return the statements. Raises BadRequest if the table lacks a column, or a unique index on the key."""
        target = self._targets.get(write)
        if target is not None:
            return target
        types = {name: type_ for name, _, _, _, _, type_ in self._found(session, write.table)}
        check_columns_exist(write, types)
        names = self._names(write.table)
        with session.errors():
            keys = [set(key) for (key,) in session.connection.execute(_KEYS, names).fetchall()]
        table = f"{quote(names[0])}.{quote(names[1])}"
        check_key_is_unique(write, keys, f"CREATE UNIQUE INDEX ON {table} ({quote_all(write.key)})")
        target = self._targets[write] = _statements(table, write, types)
        return target

    def _write(self, session: Session, target: _Target, rows: Sequence[Row]) -> Sequence[ItemResult]:
        connection = session.connection
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(target.create)
            with cursor.copy(target.copy) as copy:
                for number, row in enumerate(rows):
                    copy.write_row([number, *map(copy_text, row)])
            try:
                with connection.transaction():
                    cursor.execute(target.insert(0, len(rows)))
                return [DELIVERED] * len(rows)
            except psycopg.Error as error:
                if not _is_about_rows(error):
                    raise

            def write(first: int, end: int) -> None:
                try:
                    with connection.transaction():
                        cursor.execute(target.insert(first, end))
                except psycopg.Error as error:
                    if not _is_about_rows(error):
                        raise
                    raise RowFailed(_rejection(error)) from error

            results = find_failing(len(rows), write)
            if results is not None:
                raise _RowsRejected(results)
            return [DELIVERED] * len(rows)


def _statements(table: str, write: TableWrite, types: Mapping[str, str]) -> _Target:
    names = [f"c{number}" for number in range(len(write.columns))]
    texts = ", ".join(f"{name} text" for name in names)
    casts = ", ".join(f"{name}::{types[column]}" for name, column in zip(names, write.columns, strict=True))
    # The name depends on the number of columns, because a connection behind a pooler may have the table of another run.
    batch = f"pg_temp.{_BATCH}_{len(names)}"
    return _Target(
        create=(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {_BATCH}_{len(names)} (number int, {texts}) ON COMMIT DELETE ROWS"
        ),
        copy=f"COPY {batch} (number, {', '.join(names)}) FROM STDIN",
        select=f"INSERT INTO {table} ({quote_all(write.columns)}) SELECT {casts} FROM {batch}",
        conflict=conflict_clause(write),
    )


def _is_about_rows(error: psycopg.Error) -> bool:
    """Return whether values of rows are the cause: an integrity constraint, a value of a type, or a key twice."""
    state = error.sqlstate or ""
    return state[:2] in ("21", "22", "23") or isinstance(error, errors.RaiseException)


def _rejection(error: psycopg.Error) -> ItemResult:
    """Return the result of a row. Its message has no values of the row, which PostgreSQL quotes."""
    message = error.diag.message_primary or "the database rejects the row"
    if isinstance(error, psycopg.IntegrityError):
        return rejected("ConstraintViolated", message)
    return rejected("InvalidValue", _QUOTED.sub("", message))
