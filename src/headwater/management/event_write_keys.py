"""Event write keys: what SDKs send their events with. A connection that receives events has between 1 and 20.

They are public by nature, can do nothing but send events, and are shown to whoever may read the connection.
"""

from typing import Final

from headwater.base.errors import BadRequest, HeadwaterError, NotFound, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection
from headwater.connectors.connector import Connector
from headwater.management.lookup import find_connection

MAX_KEYS: Final = 20
"""Per connection."""


def new_event_write_key(connector: Connector, identifiers: Identifiers) -> str:
    """A key in the form that the connector's SDKs expect."""
    return identifiers.public_key() if connector.public_key else identifiers.event_write_key()


async def list_event_write_keys(catalog: Catalog, workspace: int, id_: int) -> tuple[str, ...]:
    """The keys of a connection in the order of their creation. Raises BadRequest, NotFound."""
    connection = find_connection(catalog, workspace, id_)
    _receiving(catalog, connection, BadRequest)
    return connection.event_write_keys


async def create_event_write_key(catalog: Catalog, workspace: int, id_: int) -> str:
    """Give a connection one more key.

    Raises BadRequest; NotFound, for a connection that receives no events too; Unprocessable with TooManyEventWriteKeys.
    """
    async with catalog.change() as change:
        connection = find_connection(catalog, workspace, id_)
        connector = _receiving(catalog, connection, NotFound)
        if len(connection.event_write_keys) >= MAX_KEYS:
            raise Unprocessable("TooManyEventWriteKeys", f"connection {id_} has {MAX_KEYS} event write keys already")
        key = new_event_write_key(connector, change.identifiers)
        change.add_event_write_key(connection, key)
    return key


async def delete_event_write_key(catalog: Catalog, workspace: int, id_: int, key: str) -> None:
    """Take a key from a connection. A key that is not its own is no error, and nothing happens.

    Raises BadRequest, NotFound; Unprocessable with SingleEventWriteKey.
    """
    async with catalog.change() as change:
        connection = find_connection(catalog, workspace, id_)
        _receiving(catalog, connection, BadRequest)
        if key not in connection.event_write_keys:
            return
        if len(connection.event_write_keys) == 1:
            raise Unprocessable("SingleEventWriteKey", "the only event write key of a connection cannot be deleted")
        change.remove_event_write_key(connection, key)


def _receiving(catalog: Catalog, connection: Connection, error: type[HeadwaterError]) -> Connector:
    """The connector of a connection that can have keys; the documented status for the others differs by call."""
    connector = catalog.connectors.get(connection.connector)
    if connector is None or not connector.receives_events(connection.role):
        raise error(f"connection {connection.id} is neither an SDK nor a webhook", field="id")
    return connector
