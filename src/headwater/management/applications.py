"""Reads users, schemas and event types from the application of a connection.

A request that exceeds its time limit raises Unavailable. `environment` decides which addresses the application's HTTP
client may connect to.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec
import structlog

from headwater.base.errors import BadRequest, NotFound, Unavailable, Unprocessable
from headwater.catalog import Catalog, Connection
from headwater.connectors.connector import Connector
from headwater.connectors.contract import Engine, EventSink, EventType, Factory, UserSink, UserSource, UsersPage
from headwater.connectors.environment import DEFAULT_ENVIRONMENT, ConnectorEnvironment
from headwater.filters import Filter, InvalidFilter, Predicate, check_filter, compile_filter
from headwater.management.lookup import find_connection
from headwater.schemas import (
    ArrayType,
    Codec,
    InvalidValue,
    MapType,
    ObjectType,
    Record,
    Schema,
    Type,
    Value,
    misalignment,
)

TIMEOUT_SECONDS: Final = 10.0
"""Time limit of one request to an application."""

_log = structlog.get_logger(__name__)
_Response = TypeVar("_Response")
_Capability = TypeVar("_Capability")


class ConnectionSchemas(msgspec.Struct, frozen=True, kw_only=True):
    """The schemas of an application's users. `source` is None if it cannot be read, and `destination` for a source
    connection."""

    source: Schema | None
    destination: Schema | None


async def find_event_types(
    catalog: Catalog, connection: Connection, environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT
) -> Sequence[EventType]:
    """Return the event types that the connection can be sent.

    Empty if it accepts no events, or if its application does not respond: the connection can be read even then.
    """
    try:
        return await offered_event_types(catalog, connection, environment)
    except Unavailable as error:
        _log.warning(
            "the event types of an application are unavailable", connection=connection.id, reason=error.message
        )
        return ()


async def offered_event_types(
    catalog: Catalog, connection: Connection, environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT
) -> Sequence[EventType]:
    """Return the event types that the connection can be sent; empty if it takes no events. Raises Unavailable."""
    connector = catalog.connectors.get(connection.connector)
    if connection.role != "Destination" or connector is None or not connector.supports_events("Destination"):
        return ()
    return await ask(catalog, connection, environment, event_sink, lambda sink: sink.event_types())


async def user_schemas(
    catalog: Catalog, workspace: int, id_: int, environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT
) -> ConnectionSchemas:
    """Return the schemas of the users of a connection. Raises BadRequest, NotFound, Unavailable."""
    connection, connector = _find(catalog, workspace, id_)
    if connector.destination is None or "User" not in connector.destination.targets:
        raise BadRequest(f"connection {id_} does not support users", field="id")
    source, destination = None, None
    if not connector.engine.is_write_only:
        source = await ask(catalog, connection, environment, _user_source, lambda users: users.readable_schema())
    if connection.role == "Destination":
        destination = await ask(catalog, connection, environment, _user_sink, lambda users: users.writable_schema())
    return ConnectionSchemas(source=source, destination=destination)


async def event_type_schema(
    catalog: Catalog, workspace: int, id_: int, type_: str, environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT
) -> Schema | None:
    """Return the schema of an event type; None if it has none. Raises BadRequest, NotFound, Unavailable."""
    find_connection(catalog, workspace, id_)
    if not type_:
        raise BadRequest("type is required", field="type")
    connection = find_event_destination(catalog, workspace, id_)
    for event_type in await offered_event_types(catalog, connection, environment):
        if event_type.id == type_:
            return event_type.schema
    raise NotFound(f'event type "{type_}" does not exist', field="type")


async def users(
    catalog: Catalog,
    workspace: int,
    id_: int,
    schema: Schema | None,
    cursor: str,
    environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT,
    *,
    filter_: Filter | None = None,
) -> tuple[list[bytes], str]:
    """Return one page of the application's users as JSON, with the properties of `schema`, and the next cursor.

    `filter_` uses properties of the schema. It is applied after reading, so that a page may be empty although others
    follow. The cursor is empty if no users follow. Raises BadRequest; NotFound; Unprocessable with SchemaNotAligned;
    Unavailable.
    """
    connection, connector = _find(catalog, workspace, id_)
    if connector.source is None or "User" not in connector.source.targets:
        raise BadRequest(f"connection {id_} does not support reading of users", field="id")
    if schema is None:
        raise BadRequest("schema is required", field="schema")
    passes = None if filter_ is None else _predicate(filter_, schema)
    page = await ask(
        catalog, connection, environment, _user_source, lambda source: _aligned_page(source, schema, cursor)
    )
    codec = Codec(schema)
    selected = (_selected(user.attributes, schema) for user in page.users if not user.error)
    try:
        return [codec.encode(user) for user in selected if passes is None or passes(user)], page.cursor
    except InvalidValue as error:
        raise Unavailable(f"the application gave a user that its schema does not allow: {error.message}") from error


def find_event_destination(catalog: Catalog, workspace: int, id_: int) -> Connection:
    """Return the connection, if it is an application that events are sent to. Raises BadRequest, NotFound."""
    connection, connector = _find(catalog, workspace, id_)
    if connection.role != "Destination":
        raise BadRequest(f"connection {id_} is not a destination", field="id")
    if not connector.supports_events("Destination"):
        raise BadRequest(f"connection {id_} does not support events", field="id")
    return connection


def find_user_destination(catalog: Catalog, workspace: int, id_: int) -> Connection:
    """Return the connection, if it is an application that users are written to with requests. Raises BadRequest,
    NotFound."""
    connection, connector = _find(catalog, workspace, id_)
    if connection.role != "Destination":
        raise BadRequest(f"connection {id_} is not a destination", field="id")
    if connector.destination is None or "User" not in connector.destination.targets:
        raise BadRequest(f"connection {id_} does not support users", field="id")
    if not connector.engine.writes_users_over_http:
        raise BadRequest(f"connector {connector.code} writes users without a request", field="id")
    return connection


def _predicate(filter_: Filter, schema: Schema) -> Predicate:
    try:
        return compile_filter(check_filter(filter_, schema, role="Source", target="User"))
    except InvalidFilter as error:
        field = "filter" if error.field is None else f"filter.{error.field}"
        raise BadRequest(f"filter: {error.message}", field=field) from error


def _find(catalog: Catalog, workspace: int, id_: int) -> tuple[Connection, Connector]:
    connection = find_connection(catalog, workspace, id_)
    connector = catalog.connectors.get(connection.connector)
    if connector is None or connector.type != "Application":
        raise BadRequest(f"connection {id_} is not an application", field="id")
    return connection, connector


def event_sink(engine: Engine) -> Factory[EventSink] | None:
    return engine.event_sink


def _user_source(engine: Engine) -> Factory[UserSource] | None:
    return engine.user_source


def _user_sink(engine: Engine) -> Factory[UserSink] | None:
    return engine.user_sink


async def ask(
    catalog: Catalog,
    connection: Connection,
    environment: ConnectorEnvironment,
    capability: Callable[[Engine], Factory[_Capability] | None],
    request: Callable[[_Capability], Awaitable[_Response]],
) -> _Response:
    """Call one capability of a connection and return the result. Raises Unavailable, and the capability's errors."""
    connector = catalog.connectors[connection.connector]
    make = capability(connector.engine)
    if make is None:
        raise Unavailable(f"connector {connector.code} cannot be reached by this version")
    settings = catalog.decrypt_settings(connection)
    access_token = catalog.access_token(connection, environment)
    opening = environment.context(connector.code, connection.id, settings, access_token, workspace=connection.workspace)
    async with opening as context:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await request(make(settings, context))
        except TimeoutError:
            raise Unavailable(f"the application did not respond within {TIMEOUT_SECONDS:g} seconds") from None


async def _aligned_page(source: UserSource, schema: Schema, cursor: str) -> UsersPage:
    _check_aligned(schema, await source.readable_schema())
    return await source.users(cursor)


def _check_aligned(used: Schema, current: Schema) -> None:
    difference = misalignment(used, current)
    if difference is not None:
        raise Unprocessable(
            "SchemaNotAligned", f"the schema does not fit the application's users: {difference.cause}", field="schema"
        )


def _selected(user: Record, schema: Schema) -> Record:
    """The user with the properties of the schema alone."""
    return {
        property.name: _selected_value(user[property.name], property.type)
        for property in schema
        if property.name in user
    }


def _selected_value(value: Value, type_: Type) -> Value:
    if isinstance(type_, ObjectType) and isinstance(value, dict):
        return _selected(value, type_)
    if isinstance(type_, ArrayType) and isinstance(value, list):
        return [_selected_value(element, type_.element_type) for element in value]
    if isinstance(type_, MapType) and isinstance(value, dict):
        return {key: _selected_value(element, type_.element_type) for key, element in value.items()}
    return value
