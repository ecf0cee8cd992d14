"""ClickHouse over HTTP: reads rows with a query, and writes rows into a table of a ReplacingMergeTree engine.

ClickHouse has no transactions and no upsert. A ReplacingMergeTree keeps the newest row of a key, but only when it
merges its parts, or reads with FINAL. So the rows of a key may be seen twice for a while.
"""

import re
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any, Final

import msgspec
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DataError

from headwater.base.errors import BadRequest
from headwater.connectors.catalogue.databases import ClickHouseSettings
from headwater.connectors.contract import (
    DELIVERED,
    NOT_ATTEMPTED,
    Column,
    ConnectorContext,
    ItemResult,
    Row,
    Rows,
    TableWrite,
    rejected,
)
from headwater.connectors.databases.clickhouse_session import (
    FAILURES,
    Connect,
    connect,
    end_client,
    error_code,
    kill,
    translated,
)
from headwater.connectors.databases.clickhouse_types import (
    READ_FORMATS,
    check_value,
    make_column,
    read_format,
    reader,
    stored,
)
from headwater.connectors.databases.limits import MAX_QUERY_SECONDS
from headwater.connectors.databases.placeholders import (
    CLICKHOUSE,
    check_reading,
    literal,
    replace_placeholders,
    without_terminator,
)
from headwater.connectors.databases.quoting import parse_qualified, quote
from headwater.connectors.databases.rows import QueryRows, convert_columns, is_large
from headwater.connectors.databases.sessions import KeptSession, OpenSessions, connection_closed
from headwater.connectors.databases.tables import check_columns_exist, table_not_found
from headwater.connectors.databases.writing import check_rows
from headwater.schemas import Value

BLOCK_ROWS: Final = 4_096
"""Rows of a block that the server sends."""
LARGE_BLOCK_ROWS: Final = 256
"""Rows of a block if the query has a column of texts or other values without a maximum size."""
BLOCK_BYTES: Final = 1 << 20
"""Bytes of the values of a block, which the server estimates when it reads a table."""

_FORBIDDEN: Final = re.compile(r"\bINTO\s+OUTFILE\b", re.IGNORECASE)
_CONVERSION: Final = (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, struct.error)
"""The errors of the driver for a value that it cannot convert."""


class ClickHouseSource:
    """Implements `QuerySource`."""

    def __init__(self, settings: ClickHouseSettings, context: ConnectorContext, connect: Connect = connect) -> None:
        self._settings = settings
        self._context = context
        self._connect = connect
        self._sessions = OpenSessions[tuple[Client, str]](_end_query, lambda running: end_client(running[0]))

    @contextmanager
    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> Iterator[Rows]:
        statement = without_terminator(replace_placeholders(text, parameters, CLICKHOUSE))
        check_reading(statement, CLICKHOUSE, _FORBIDDEN)
        id_ = str(uuid.uuid4())
        with self._errors():
            client = self._connect(self._settings, self._context)
        with self._sessions.use((client, id_)):
            with self._errors():
                settings = _reading_settings(client)
                described = client.query(f"DESCRIBE TABLE (\n{statement}\n)", settings=settings).result_rows
            types = [str(row[1]) for row in described]
            columns = [make_column(str(row[0]), str(row[1])) for row in described]
            if settings and any(is_large(column.type) for column in columns):
                settings["max_block_size"] = LARGE_BLOCK_ROWS
            chunks = _Chunks(self._errors, client, statement, settings | _query_id(client, id_), types)
            try:
                yield QueryRows(columns, lambda: chunks.read(), limit)
            finally:
                chunks.close()

    def close(self) -> None:
        """End the queries that run; their readers raise Unavailable. May be called from any thread."""
        self._sessions.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            if self._sessions.is_closed:
                raise connection_closed() from error
            raise translated(error, self._context) from error


def check(settings: ClickHouseSettings, context: ConnectorContext) -> ClickHouseSettings:
    """Log in with the settings. Raises Unprocessable with InvalidSettings, and Unavailable."""
    end_client(connect(settings, context))
    return settings


def _end_query(running: tuple[Client, str]) -> None:
    with suppress(Exception):  # the time limit of the query ends it too
        kill(*running)


def _reading_settings(client: Client) -> dict[str, Any]:
    """Return the settings of a query that only reads. The server refuses all settings of a user who only may read."""
    mode = client.server_settings.get("readonly")
    if mode is not None and mode.value == "1":
        return {}
    return {
        "readonly": 2,
        "max_execution_time": int(MAX_QUERY_SECONDS),
        "max_block_size": BLOCK_ROWS,
        "preferred_block_size_bytes": BLOCK_BYTES,
        "preferred_max_column_in_block_size_bytes": BLOCK_BYTES,
        "session_timezone": "UTC",
    }


def _query_id(client: Client, id_: str) -> dict[str, Any]:
    return {"query_id": id_} if "query_id" in client.valid_transport_settings else {}


class _Chunks:
    """The blocks of a query. `close` ends it."""

    def __init__(
        self, errors: Any, client: Client, statement: str, settings: dict[str, Any], types: Sequence[str]
    ) -> None:
        self._errors = errors
        self._client = client
        self._statement = statement
        self._settings = settings
        self._readers = [reader(type_) for type_ in types]
        self._stream: Any = None

    def read(self) -> Iterator[Sequence[Row]]:
        with self._errors():
            self._stream = self._client.query_column_block_stream(
                self._statement, settings=self._settings, query_formats=dict(READ_FORMATS)
            )
            blocks = iter(self._stream.__enter__())
        while True:
            with self._errors():
                block = next(blocks, None)
            if block is None:
                return
            yield list(zip(*convert_columns(block, self._readers), strict=True))

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(*FAILURES):
                stream.__exit__(None, None, None)


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """The table as the statements name it. `types` are those of all columns that are stored."""

    table: str
    types: dict[str, str]


class ClickHouseSink:
    """Implements `TableSink`.

    A row replaces the whole row of its key, so the other columns of existing rows are read first, and written again.
    """

    def __init__(self, settings: ClickHouseSettings, context: ConnectorContext, connect: Connect = connect) -> None:
        self._settings = settings
        self._context = context
        self._kept = KeptSession(lambda: connect(settings, context), end_client)
        self._targets: dict[TableWrite, _Target] = {}

    def columns(self, table: str) -> tuple[Column, ...]:
        with self._errors():
            found = self._columns(self._kept.get(), table)
        return tuple(make_column(name, type_, writable=not kind) for name, type_, kind in found)

    def upsert(self, write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        refused = check_rows(write, rows)
        if refused is not None or not rows:
            return refused or []
        with self._errors():
            client = self._kept.get()
            target = self._target(client, write)
            refused = _check_values(write, target, rows)
            return refused or _insert(client, target, write, rows)

    def close(self) -> None:
        self._kept.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            raise translated(error, self._context) from error

    def _names(self, table: str) -> tuple[str, str]:
        return parse_qualified(table, self._settings.database or "default")

    def _columns(self, client: Client, table: str) -> list[tuple[str, str, str]]:
        """Return the name, the type and the kind of default of each column; the kind is empty if it is stored."""
        database, name = self._names(table)
        found = client.query(
            "SELECT name, type, default_kind FROM system.columns "
            "WHERE database = {database:String} AND table = {name:String} ORDER BY position",
            parameters={"database": database, "name": name},
        ).result_rows
        if not found:
            raise table_not_found(table)
        return [(str(row[0]), str(row[1]), "" if row[2] in ("", "DEFAULT") else str(row[2])) for row in found]

    def _target(self, client: Client, write: TableWrite) -> _Target:
        """Return the table. Raises BadRequest if it lacks a column, or if its engine does not replace rows by key."""
        if write not in self._targets:
            types = {name: type_ for name, type_, kind in self._columns(client, write.table) if not kind}
            check_columns_exist(write, types)
            database, name = self._names(write.table)
            [(engine, key)] = client.query(
                "SELECT engine, sorting_key FROM system.tables "
                "WHERE database = {database:String} AND name = {name:String}",
                parameters={"database": database, "name": name},
            ).result_rows
            if "ReplacingMergeTree" not in engine:
                raise BadRequest(
                    f"table {write.table} has the engine {engine}: only ReplacingMergeTree replaces rows by their key",
                    field="table",
                )
            if {part.strip().strip("`") for part in key.split(",")} != set(write.key):
                raise BadRequest(
                    f"table {write.table} is ordered by ({key}), which must be its key ({', '.join(write.key)})",
                    field="tableKey",
                )
            self._targets[write] = _Target(table=f"{quote(database, '`')}.{quote(name, '`')}", types=types)
        return self._targets[write]


def _check_values(write: TableWrite, target: _Target, rows: Sequence[Row]) -> list[ItemResult] | None:
    refused = {}
    types = [target.types[name] for name in write.columns]
    for number, row in enumerate(rows):
        for name, type_, value in zip(write.columns, types, row, strict=True):
            if rule := check_value(value, type_):
                reason = "ConstraintViolated" if value is None else "InvalidValue"
                refused[number] = rejected(reason, f"column {name} {rule}")
                break
    return [refused.get(number, NOT_ATTEMPTED) for number in range(len(rows))] if refused else None


def _insert(client: Client, target: _Target, write: TableWrite, rows: Sequence[Row]) -> list[ItemResult]:
    """Insert rows. If the database rejects them, insert each half, so that rows at fault are found."""
    others = [name for name in target.types if name not in write.columns]
    positions = [write.columns.index(name) for name in write.key]
    try:
        existing = _existing(client, target, write, rows, others)
        known: list[list[Any]] = []
        new: list[list[Any]] = []
        for row in rows:
            kept = existing.get(tuple(row[position] for position in positions))
            values = [stored(value, target.types[name]) for name, value in zip(write.columns, row, strict=True)]
            (new if kept is None else known).append(values if kept is None else [*values, *kept])
        if known:
            client.insert(target.table, known, column_names=[*write.columns, *others])
        if new:
            client.insert(target.table, new, column_names=list(write.columns))
        return [DELIVERED] * len(rows)
    except (ClickHouseError, *_CONVERSION) as error:
        if isinstance(error, ClickHouseError) and not _is_about_rows(error):
            raise
        if len(rows) == 1:
            return [rejected("InvalidValue", "the database does not accept a value of the row")]
        middle = len(rows) // 2
        return [*_insert(client, target, write, rows[:middle]), *_insert(client, target, write, rows[middle:])]


def _existing(
    client: Client, target: _Target, write: TableWrite, rows: Sequence[Row], others: Sequence[str]
) -> dict[tuple[Value, ...], Sequence[Any]]:
    """Return the other columns of existing rows by their keys."""
    if not others:
        return {}
    positions = [write.columns.index(name) for name in write.key]
    keys = ", ".join(f"({', '.join(_key_literal(row[position]) for position in positions)})" for row in rows)
    names = ", ".join(quote(name, "`") for name in (*write.key, *others))
    key = ", ".join(quote(name, "`") for name in write.key)
    types = [target.types[name] for name in write.key]
    formats: dict[str, str | dict[str, str]] = {
        name: form for name, type_ in zip(write.key, types, strict=True) if (form := read_format(type_))
    }
    found = client.query(
        f"SELECT {names} FROM {target.table} FINAL WHERE ({key}) IN ({keys})", column_formats=formats
    ).result_columns
    if not found:
        return {}
    count = len(write.key)
    keys_found = zip(*convert_columns(found[:count], [reader(type_) for type_ in types]), strict=True)
    return dict(zip(keys_found, zip(*found[count:], strict=True), strict=True))


def _key_literal(value: Value) -> str:
    return literal(str(value) if isinstance(value, Decimal) else value, CLICKHOUSE)


def _is_about_rows(error: ClickHouseError) -> bool:
    return isinstance(error, DataError) or error_code(error) in (6, 27, 41, 53, 69, 117, 321, 349, 469, 691)
