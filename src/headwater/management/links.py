"""Links between sources and the destinations that their events may reach. Both ends show a link."""

from headwater.base.errors import BadRequest
from headwater.catalog import Catalog, Connection
from headwater.connectors.connector import Role
from headwater.management.lookup import find_connection
from headwater.management.names import check_identifier


async def link_connections(catalog: Catalog, workspace: int, source: int, destination: int) -> None:
    """Link two connections; a link that exists changes nothing. Raises BadRequest, NotFound."""
    async with catalog.change() as change:
        one, other = _ends(catalog, workspace, source, destination)
        if other.id not in one.linked_connections:
            change.add_link(one, other)


async def unlink_connections(catalog: Catalog, workspace: int, source: int, destination: int) -> None:
    """Remove a link; a link that does not exist changes nothing. Raises BadRequest, NotFound."""
    async with catalog.change() as change:
        one, other = _ends(catalog, workspace, source, destination)
        if other.id in one.linked_connections:
            change.remove_link(one, other)


def _ends(catalog: Catalog, workspace: int, source: int, destination: int) -> tuple[Connection, Connection]:
    one = find_connection(catalog, workspace, source, field="source")
    check_identifier(destination, "connection identifier", field="destination")
    _check_end(catalog, one, "Source", field="source")
    other = find_connection(catalog, workspace, destination, field="destination")
    _check_end(catalog, other, "Destination", field="destination")
    return one, other


def _check_end(catalog: Catalog, connection: Connection, role: Role, *, field: str) -> None:
    if connection.role != role:
        raise BadRequest(f"connection {connection.id} is not a {role.lower()}", field=field)
    connector = catalog.connectors.get(connection.connector)
    if connector is None or not connector.supports_events(role):
        raise BadRequest(f"connection {connection.id} does not support events", field=field)
