"""The two steps of OAuth, before any connector has it: the documented errors, in their order."""

import pytest

from headwater.catalog import Catalog
from headwater.connectors.registry import CONNECTORS
from headwater.management.authorization import authorization_token, authorization_url
from tests.management.unchanged import refused


@pytest.mark.parametrize(
    ("connector", "role", "status", "code", "field"),
    [
        ("", "Source", 404, "NotFound", "connector"),
        ("fax", "?", 404, "NotFound", "connector"),
        ("hubspot", "", 400, "BadRequest", "role"),
        ("hubspot", "source", 400, "BadRequest", "role"),
        ("hubspot", "Source", 400, "BadRequest", "connector"),
    ],
)
async def test_the_page(catalog: Catalog, connector: str, role: str, status: int, code: str, field: str) -> None:
    async with refused(catalog, status, code, field):
        await authorization_url(catalog, connector, role)


@pytest.mark.parametrize(
    ("connector", "auth_code", "status", "code", "field"),
    [
        ("", "", 400, "BadRequest", "connector"),
        ("fax", "", 400, "BadRequest", "authCode"),
        ("fax", "x", 422, "ConnectorNotExist", "connector"),
        ("hubspot", "x", 400, "BadRequest", "connector"),
    ],
)
async def test_the_token(catalog: Catalog, connector: str, auth_code: str, status: int, code: str, field: str) -> None:
    async with refused(catalog, status, code, field):
        await authorization_token(catalog, connector, auth_code)


@pytest.mark.parametrize("connector", CONNECTORS)
async def test_no_connector_has_it(catalog: Catalog, connector: str) -> None:
    async with refused(catalog, 400, "BadRequest", "connector"):
        await authorization_url(catalog, connector, "Source")
    async with refused(catalog, 400, "BadRequest", "connector"):
        await authorization_token(catalog, connector, "x")
