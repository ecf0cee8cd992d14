"""Decides which events a caller may listen to or watch: those of a connection of the caller's own workspace."""

from headwater.base.errors import BadRequest, Unprocessable
from headwater.base.identifiers import MAX_ID
from headwater.catalog import Catalog
from headwater.filters import CheckedFilter, compile_filter
from headwater.observe.live import Selection


def select_events(
    catalog: Catalog, workspace: int, connection_id: int | None, filter_: CheckedFilter | None
) -> Selection:
    """Return the selection of the events of a connection that match a filter.

    For a destination these are the events of the sources that are linked with it at this moment. Raises BadRequest if
    the connection does not support events, and ConnectionNotExist if it is not in the workspace.
    """
    passes = None if filter_ is None else compile_filter(filter_)
    if connection_id is None:
        return Selection(workspace, None, passes)
    return Selection(workspace, _sources(catalog, workspace, connection_id), passes)


def find_destination(catalog: Catalog, workspace: int, connection_id: int | None) -> int | None:
    """Return the connection if it is a destination; None otherwise."""
    connection = None if connection_id is None else catalog.connection(workspace, connection_id)
    return connection.id if connection is not None and connection.role == "Destination" else None


def _sources(catalog: Catalog, workspace: int, connection_id: int) -> frozenset[int]:
    if not 1 <= connection_id <= MAX_ID:
        raise BadRequest(f"connection {connection_id} is not an integer between 1 and {MAX_ID}", field="connection")
    connection = catalog.connection(workspace, connection_id)
    if connection is None:
        raise Unprocessable("ConnectionNotExist", f"connection {connection_id} does not exist", field="connection")
    connector = catalog.connectors.get(connection.connector)
    if connector is None or not connector.supports_events(connection.role):
        raise BadRequest(f"connection {connection_id} does not support events", field="connection")
    return frozenset((connection.id,) if connection.role == "Source" else connection.linked_connections)
