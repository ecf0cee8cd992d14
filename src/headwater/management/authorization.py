"""Grants access to an application with OAuth: the URL of its consent page, and the exchange of the returned code.

No connector has OAuth, so every call ends with the documented error.
"""

from headwater.base.errors import BadRequest, NotFound
from headwater.catalog import Catalog
from headwater.management.connection_rules import find_connector, parse_role


async def authorization_url(catalog: Catalog, connector: str, role: str) -> str:
    """Return the URL of the page where a person grants access. Raises NotFound for an unknown connector, BadRequest."""
    found = catalog.connectors.get(connector)
    if found is None:
        raise NotFound(f'connector "{connector}" does not exist', field="connector")
    parse_role(role)
    raise BadRequest(f"connector {found.code} does not support OAuth", field="connector")


async def authorization_token(catalog: Catalog, connector: str, auth_code: str) -> str:
    """Return the token with which a connection is created. Raises BadRequest; Unprocessable with ConnectorNotExist."""
    if not connector:
        raise BadRequest("connector is required", field="connector")
    if not auth_code:
        raise BadRequest("authCode is required", field="authCode")
    found = find_connector(catalog, connector)
    raise BadRequest(f"connector {found.code} does not support authorization", field="connector")
