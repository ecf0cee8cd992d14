"""Opens the capabilities of a connection, and the format of its files."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from headwater.base.errors import Unavailable
from headwater.catalog import Catalog, Connection
from headwater.connectors.connector import Connector, Role
from headwater.connectors.contract import ConnectorContext, Engine, Factory, FileFormat
from headwater.connectors.environment import ConnectorEnvironment

_Capability = TypeVar("_Capability")


@asynccontextmanager
async def open_capability(
    catalog: Catalog,
    connection: Connection,
    environment: ConnectorEnvironment,
    capability: Callable[[Engine], Factory[_Capability] | None],
) -> AsyncIterator[tuple[_Capability, ConnectorContext]]:
    """Yield a capability of a connection, and its context. Raises Unavailable if the connector lacks it."""
    connector = catalog.connectors[connection.connector]
    make = capability(connector.engine)
    if make is None:
        raise Unavailable(f"connector {connector.code} cannot be reached by this version")
    settings = catalog.decrypt_settings(connection)
    access_token = catalog.access_token(connection, environment)
    async with environment.context(connector.code, connection.id, settings, access_token) as context:
        yield make(settings, context), context


def make_format(
    connector: Connector, role: Role, settings: dict[str, Any] | None, context: ConnectorContext
) -> FileFormat:
    """Return the format of files with the settings of a pipeline. Raises Unprocessable with InvalidSettings, and
    Unavailable if it is not installed."""
    make = connector.engine.file_format
    if make is None:
        raise Unavailable(f"files of format {connector.code} cannot be read or written by this version")
    capabilities = connector.capabilities(role)
    declared = None if capabilities is None else capabilities.settings
    return make(None if declared is None else declared.read(settings or {}, "formatSettings"), context)
