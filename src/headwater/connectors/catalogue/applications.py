"""Applications: users are read from and written to them, and events are sent to some of them.

The settings of an application are the same in both roles.
"""

from typing import Annotated, Final

from headwater.connectors.connector import Terms
from headwater.connectors.describing import application
from headwater.connectors.settings import PRINTABLE, VISIBLE, Settings, Text


class BrevoSettings(Settings, frozen=True, kw_only=True):
    api_key: Annotated[str, Text(1, 255, VISIBLE, secret=True)]


class HubSpotSettings(Settings, frozen=True, kw_only=True):
    access_token: Annotated[str, Text(1, 255, PRINTABLE, secret=True, help="The token of a private app.")]


CONNECTORS: Final = (
    application("brevo", "Brevo", "Marketing", BrevoSettings, writes=("User", "Event")),
    application(
        "hubspot",
        "HubSpot",
        "CRM",
        HubSpotSettings,
        writes=("User",),
        terms=Terms("Contact", "Contacts", "HubSpot ID"),
    ),
)
