"""Asks the database of a connection: runs a query that only reads, and describes tables.

Calls run in threads, with a limit in number for each workspace and in time. A query that takes longer is ended.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec

from headwater.base.errors import BadRequest, HeadwaterError, NotFound, Unavailable, Unprocessable
from headwater.catalog import Catalog, Connection
from headwater.connectors.connector import Connector, Role
from headwater.connectors.contract import Column, ConnectorContext, QueryRejected, QuerySource, Row, TableSink
from headwater.connectors.databases.placeholders import InvalidPlaceholder
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.settings import Settings
from headwater.management.blocking import BlockingCalls
from headwater.management.lookup import find_connection
from headwater.schemas import Codec, InvalidValue, ObjectType, Property, Schema, is_property_name

MAX_QUERY_CHARACTERS: Final = 16_777_215
MAX_ROWS: Final = 100
MAX_TABLE_CHARACTERS: Final = 1_024
MAX_RESULT_BYTES: Final = 2 * 1024 * 1024
"""Size of the rows of a response. Further rows are left out."""
QUERY_SECONDS: Final = 25.0
"""Time limit of a call, including the time in which it waits for others of its workspace. Envoy ends a call after 30 s
without a byte, and its response would not name the reason."""
MAX_ISSUES: Final = 100

_Result = TypeVar("_Result")


class QueryResult(msgspec.Struct, frozen=True, kw_only=True):
    """The first rows of a query as JSON. `schema` is None if no column can be used."""

    rows: tuple[bytes, ...]
    schema: Schema | None
    issues: tuple[str, ...]


class TableSchema(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a table that can be written; None if there are none."""

    schema: Schema | None
    issues: tuple[str, ...]


class DatabaseCalls:
    """The calls to databases of one process."""

    def __init__(self, catalog: Catalog, environment: ConnectorEnvironment, calls: BlockingCalls) -> None:
        self._catalog = catalog
        self._environment = environment
        self._calls = calls

    async def query(self, workspace: int, id_: int, text: str, limit: int) -> QueryResult:
        """Run a query of a source connection, and return its first rows.

        Raises BadRequest; NotFound; Unprocessable with InvalidPlaceholder or ConnectorNotAvailable; Unavailable, also
        for a query that the database rejects.
        """
        connection, connector = self._find(workspace, id_, "Source")
        if not 1 <= len(text) <= MAX_QUERY_CHARACTERS:
            raise BadRequest(f"query must have 1 to {MAX_QUERY_CHARACTERS} characters", field="query")
        if not 0 <= limit <= MAX_ROWS:
            raise BadRequest(f"limit must be in the range from 0 to {MAX_ROWS}", field="limit")
        make = connector.engine.query_source
        assert make is not None, "every database has one"
        try:
            return await self._run(connection, connector, make, lambda source: _read(source, text, limit))
        except InvalidPlaceholder as error:
            raise Unprocessable("InvalidPlaceholder", error.message, field="query") from error
        except QueryRejected as error:
            raise Unavailable(error.message) from error

    async def table_schema(self, workspace: int, id_: int, name: str) -> TableSchema:
        """Return the columns of a table of a destination connection.

        Raises BadRequest; NotFound, also if there is no such table; Unprocessable with ConnectorNotAvailable;
        Unavailable.
        """
        connection, connector = self._find(workspace, id_, "Destination")
        if not 1 <= len(name) <= MAX_TABLE_CHARACTERS:
            raise BadRequest(f"name must have 1 to {MAX_TABLE_CHARACTERS} characters", field="name")
        make = connector.engine.table_sink
        assert make is not None, "every database has one"
        try:
            columns = await self._run(connection, connector, make, lambda sink: _columns(sink, name))
        except QueryRejected as error:
            raise Unavailable(error.message) from error
        except BadRequest as error:
            raise NotFound(error.message, field="name") from error
        schema, issues = make_schema(columns, for_writing=True)
        return TableSchema(schema=schema, issues=tuple(issues))

    def _find(self, workspace: int, id_: int, role: Role) -> tuple[Connection, Connector]:
        connection = find_connection(self._catalog, workspace, id_)
        connector = self._catalog.connectors.get(connection.connector)
        if connector is None or connector.type != "Database":
            raise BadRequest(f"connection {id_} is not a database", field="id")
        if connection.role != role:
            raise BadRequest(f"connection {id_} is not a {role.lower()}", field="id")
        return connection, connector

    async def _run(
        self,
        connection: Connection,
        connector: Connector,
        make: Callable[[Any, ConnectorContext], Any],
        use: Callable[[Any], _Result],
    ) -> _Result:
        """Use a capability in a thread. It is closed at the end of the time, which ends what it does."""
        settings: Settings | None = self._catalog.decrypt_settings(connection)
        workspace = connection.workspace
        async with self._environment.context(connector.code, connection.id, settings, workspace=workspace) as context:
            work = _Work(lambda: make(settings, context), use)
            try:
                return await self._calls.run(workspace, work.run, timeout_seconds=QUERY_SECONDS)
            except (asyncio.CancelledError, Unavailable):
                work.abandon()
                raise


class _Work:
    """The use of a capability in a thread. `abandon` closes it from another one."""

    def __init__(self, make: Callable[[], Any], use: Callable[[Any], Any]) -> None:
        self._make = make
        self._use = use
        self._lock = threading.Lock()
        self._capability: Any = None
        self._is_abandoned = False

    def run(self) -> Any:
        with self._lock:
            if self._is_abandoned:
                raise Unavailable("the caller no longer waits")
            capability = self._capability = self._make()
        try:
            return self._use(capability)
        finally:
            with self._lock:
                self._capability = None
            capability.close()

    def abandon(self) -> None:
        """End the use. Closing can take seconds, so it has a thread of its own."""
        with self._lock:
            self._is_abandoned = True
            capability = self._capability
        if capability is not None:
            threading.Thread(target=_close, args=(capability,), name="close database", daemon=True).start()


def _close(capability: QuerySource | TableSink) -> None:
    with suppress(HeadwaterError):
        capability.close()


def _columns(sink: TableSink, name: str) -> Sequence[Column]:
    return sink.columns(name)


def _read(source: QuerySource, text: str, limit: int) -> QueryResult:
    with source.query(text, {"updated_at": None, "limit": limit}, limit) as result:
        schema, issues = make_schema(result.columns, for_writing=False)
        if schema is None:
            return QueryResult(rows=(), schema=None, issues=tuple(issues))
        names = [column.name if schema.get(column.name) is not None else None for column in result.columns]
        documents, more = _encoded(schema, names, (row for batch in result.batches() for row in batch))
    return QueryResult(rows=tuple(documents), schema=schema, issues=(*issues, *more))


def make_schema(columns: Sequence[Column], *, for_writing: bool) -> tuple[Schema | None, list[str]]:
    """Return the schema of the columns that can be used, and sentences about the others."""
    properties, issues = [], []
    for column in columns:
        if column.type is None:
            issues.append(f'column "{column.name}": {column.issue}')
        elif not is_property_name(column.name):
            issues.append(
                f'column "{column.name}": its name is not that of a property, which has letters, digits and underscores'
            )
        elif for_writing and not column.writable:
            issues.append(f'column "{column.name}": the database computes it')
        else:
            properties.append(Property(column.name, column.type, nullable=column.nullable))
    if len(issues) > MAX_ISSUES:
        issues[MAX_ISSUES:] = [f"{len(issues) - MAX_ISSUES} further columns cannot be used"]
    return (ObjectType(tuple(properties)) if properties else None), issues


def _encoded(schema: Schema, names: Sequence[str | None], rows: Iterable[Row]) -> tuple[list[bytes], list[str]]:
    """Return the rows as JSON, as many as fit, and sentences about values that cannot be shown. No further rows are
    read."""
    codec = Codec(schema)
    documents: list[bytes] = []
    invalid: dict[str, str] = {}
    size, is_cut = 0, False
    for row in rows:
        record = {name: value for name, value in zip(names, row, strict=True) if name is not None}
        try:
            document = codec.encode(record)
        except InvalidValue:
            document = codec.encode(_shown(schema, record, invalid))
        size += len(document)
        if size > MAX_RESULT_BYTES:
            is_cut = True
            break
        documents.append(document)
    issues = [f'column "{name}": a value is shown as null, because it {rule}' for name, rule in invalid.items()]
    if is_cut:
        issues.append(f"only the first {len(documents):,} rows are returned, because they are large")
    return documents, issues


def _shown(schema: Schema, record: dict[str, Any], invalid: dict[str, str]) -> dict[str, Any]:
    """Return the record with null for values that their types do not allow."""
    shown = {}
    for property_ in schema:
        value = record[property_.name]
        try:
            Codec(ObjectType((property_,))).encode({property_.name: value})
        except InvalidValue as error:
            invalid.setdefault(property_.name, error.rule)
            value = None
        shown[property_.name] = value
    return shown
