"""Makes the environment of connectors from the settings, for every process that talks to outside systems."""

from headwater.base.clock import Clock
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.contract import OAuthClient
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.origins import Origins
from headwater.server.settings import Settings


def connector_environment(settings: Settings, clock: Clock) -> ConnectorEnvironment:
    """Return the environment. A process whose settings lack the client secret has no OAuth client."""
    clients = {}
    if settings.oauth_sample_oauth_app_client_id is not None and settings.oauth_sample_oauth_app_client_secret:
        clients["sample-oauth-app"] = OAuthClient(
            id=settings.oauth_sample_oauth_app_client_id,
            secret=settings.oauth_sample_oauth_app_client_secret,
            url=settings.oauth_sample_oauth_app_url or "",
        )
    if settings.oauth_hubspot_client_id is not None and settings.oauth_hubspot_client_secret:
        clients["hubspot"] = OAuthClient(
            id=settings.oauth_hubspot_client_id, secret=settings.oauth_hubspot_client_secret
        )
    return ConnectorEnvironment(
        addresses=AddressPolicy.parse(settings.allow_private_destinations),
        clock=clock,
        oauth_clients=clients,
        origins=Origins.of(settings.connector_origins),
        filesystem_root=settings.filesystem_root,
        filesystem_is_shared=settings.filesystem_shared == "1",
        data_folder=settings.applications_dir,
    )
