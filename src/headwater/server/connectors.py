"""Makes the environment of connectors from the settings, for every process that talks to outside systems."""

from headwater.base.clock import Clock
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.contract import OAuthClient
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.origins import Origins
from headwater.server.oauth_apps import OAUTH_APPS, OAUTH_SETTINGS
from headwater.server.settings import Settings


def connector_environment(settings: Settings, clock: Clock) -> ConnectorEnvironment:
    """Return the environment. A process whose settings lack the client secret has no OAuth client."""
    clients = {}
    for app in OAUTH_APPS:
        id_, secret, url = (getattr(settings, f"oauth_{app}_{name}", None) for name in OAUTH_SETTINGS)
        if id_ is not None and secret:
            clients[app.replace("_", "-")] = OAuthClient(id=id_, secret=secret, url=url or "")
    return ConnectorEnvironment(
        addresses=AddressPolicy.parse(settings.allow_private_destinations),
        clock=clock,
        oauth_clients=clients,
        origins=Origins.of(settings.connector_origins),
        filesystem_root=settings.filesystem_root,
        filesystem_is_shared=settings.filesystem_shared == "1",
        data_folder=settings.applications_dir,
    )
