"""Sends custom events to HubSpot, and reads and writes its contacts, through a version of its API with a date of end.

A connection has a service key or the token of a private app in its settings, or an OAuth account.

docs/connectors/hubspot.md has the form of requests.
"""

from typing import Final

from headwater.connectors.connector import OAuthSupport, Terms
from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.hubspot.api import VERSION, check
from headwater.connectors.hubspot.authorization import HubSpotAuthorization
from headwater.connectors.hubspot.events import HubSpotSink
from headwater.connectors.hubspot.settings import HubSpotSettings
from headwater.connectors.hubspot.users import HubSpotContacts

CONNECTOR: Final = application(
    "hubspot",
    "HubSpot",
    "CRM",
    HubSpotSettings,
    writes=("User", "Event"),
    terms=Terms("Contact", "Contacts", "HubSpot ID"),
    engine=Engine(
        user_source=HubSpotContacts,
        user_sink=HubSpotContacts,
        event_sink=HubSpotSink,
        oauth=lambda _settings, context: HubSpotAuthorization(context),
        http_check=check,
    ),
    version=VERSION,
    oauth=OAuthSupport(is_optional=True),
)

__all__ = ["CONNECTOR"]
