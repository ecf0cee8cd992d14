"""Event write keys, with which SDKs send events. A connection that receives events has from 1 to 20.

They are public, can only send events, and are shown to every caller that may read the connection.
"""

from typing import Final

from headwater.base.errors import BadRequest, HeadwaterError, NotFound, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection
from headwater.connectors.connector import Connector
from headwater.management.lookup import find_connection

MAX_KEYS: Final = 20
"""Maximum keys per connection."""


def new_event_write_key(connector: Connector, identifiers: Identifiers) -> str:
    """Return a new key in the form that the connector's SDKs expect."""
    return identifiers.public_key() if connector.public_key else identifiers.event_write_key()


async def list_event_write_keys(catalog: Catalog, workspace: int, id_: int) -> tuple[str, ...]:
    """Return the keys of a connection in the order of creation. Raises BadRequest, NotFound."""
    connection = find_connection(catalog, workspace, id_)
    _receiving(catalog, connection, BadRequest)
    return connection.event_write_keys


async def create_event_write_key(catalog: Catalog, workspace: int, id_: int) -> str:
    """Add a key to a connection.

    Raises BadRequest; NotFound, also for a connection that receives no events; Unprocessable with
    TooManyEventWriteKeys.
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
    """Remove a key from a connection. A key that does not belong to it changes nothing and is not an error.

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
    """Return the connector of a connection that can have keys. The documented status for other connections differs by
    call."""
    connector = catalog.connectors.get(connection.connector)
    if connector is None or not connector.receives_events(connection.role):
        raise error(f"connection {connection.id} is neither an SDK nor a webhook", field="id")
    return connector
