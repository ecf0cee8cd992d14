"""Connections of a connector that takes either an authorization or settings."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, open_catalog
from headwater.connectors.addresses import ANY_ADDRESS
from headwater.connectors.connector import OAuthSupport
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.hubspot.settings import HubSpotSettings
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.sample_oauth_app import CONNECTOR
from headwater.management.bootstrap import bootstrap
from headwater.management.connections import CreateConnection, UpdateConnection, create_connection, update_connection
from tests.harness import MovableClock
from tests.management.conftest import KEYRING
from tests.management.test_authorization import Steps
from tests.management.unchanged import refused
from tests.oauthprovider import open_oauth_provider

APP = "choice-app"
SETTINGS = {"accessToken": "the-token"}


@pytest.fixture
async def steps(url: str) -> AsyncIterator[Steps]:
    """The steps of an authorization, with a connector of the provider that has settings too."""
    assert CONNECTOR.source is not None
    source = msgspec.structs.replace(CONNECTOR.source, settings=HubSpotSettings)
    choice = msgspec.structs.replace(CONNECTOR, code=APP, source=source, oauth=OAuthSupport(is_optional=True))
    clock = MovableClock()
    with open_oauth_provider() as provider:
        environment = ConnectorEnvironment(addresses=ANY_ADDRESS, clock=clock, oauth_clients={APP: provider.client})
        connectors = {**CONNECTORS, APP: choice}
        async with open_catalog(
            url, clock=clock, identifiers=Identifiers(), connectors=connectors, keyring=KEYRING
        ) as catalog:
            yield Steps(catalog, environment, provider, (await bootstrap(catalog)).workspace.id)


def create(**members: object) -> CreateConnection:
    return msgspec.structs.replace(CreateConnection(name="Shop", role="Source", connector=APP), **members)


async def authorize(steps: Steps) -> str:
    granted = steps.provider.consent(await steps.page(app=APP))
    return await steps.token(granted["code"], granted["state"], connector=APP)


async def test_a_connection_with_an_account_has_no_settings(steps: Steps) -> None:
    catalog, workspace, token = steps.catalog, steps.workspace, await authorize(steps)
    async with refused(catalog, 400, "BadRequest", "settings"):
        await create_connection(catalog, workspace, create(auth_token=token, settings=SETTINGS))
    made = await create_connection(catalog, workspace, create(auth_token=token))
    assert made.oauth_account is not None and made.sealed_settings is None
    assert await steps.users(made) == steps.provider.behaviour.users
    async with refused(catalog, 400, "BadRequest", "settings"):
        await update_connection(catalog, workspace, made.id, UpdateConnection(name="Shop", settings=SETTINGS))


async def test_a_connection_with_settings_has_no_account(steps: Steps) -> None:
    catalog, workspace = steps.catalog, steps.workspace
    async with refused(catalog, 400, "BadRequest", "settings"):
        await create_connection(catalog, workspace, create())
    made = await create_connection(catalog, workspace, create(settings=SETTINGS))
    assert made.oauth_account is None and made.sealed_settings is not None
    change = UpdateConnection(name="Shop", auth_token=await authorize(steps))
    async with refused(catalog, 400, "BadRequest", "authToken"):
        await update_connection(catalog, workspace, made.id, change)


def test_the_catalogue_offers_it_without_a_client(catalog: Catalog) -> None:
    hubspot = catalog.connectors["hubspot"]
    assert hubspot.available and hubspot.oauth is not None and hubspot.oauth.is_optional
